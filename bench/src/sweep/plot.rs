//! A plot as SVG: something against batch size, a line for each pace, both axes logarithmic.
//!
//! Pure. The picture needs nothing but itself: no script, no font, no address.

use std::fmt::Write;

use crate::arguments::shown_bytes;

/// The picture, in its own units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
/// What is around the lines: left, right, top, bottom. The names of the lines are at the right.
const MARGINS: [f64; 4] = [70.0, 110.0, 40.0, 60.0];
/// Colours that people who see few of them can tell apart (Okabe and Ito), in the order of the lines.
const COLOURS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
];
/// The vertical distance of two names at least.
const NAME_DISTANCE: f64 = 15.0;

/// Lines against batch size.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) y_label: String,
    /// By name: batch sizes in bytes, and values. What is not above 0 has no place on a logarithmic axis.
    pub(crate) lines: Vec<(String, Vec<(u32, f64)>)>,
}

/// Where values are in the picture.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let part = (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        self.from + part * (self.to - self.from)
    }
}

impl Plot {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let [left, right, top, bottom] = MARGINS;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
             <text x=\"{left}\" y=\"22\" font-size=\"15\">{}</text>\n",
            escaped(&self.title)
        );
        let points = || {
            self.lines
                .iter()
                .flat_map(|(_, points)| points)
                .filter(|(_, value)| is_drawn(*value))
        };
        let mut sizes: Vec<u32> = points().map(|(size, _)| *size).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let (Some(first), Some(last)) = (sizes.first(), sizes.last()) else {
            svg.push_str("<text x=\"70\" y=\"80\">nothing was measured</text>\n</svg>\n");
            return svg;
        };
        let values = || points().map(|(_, value)| *value);
        let ticks = ticks(
            values().fold(f64::INFINITY, f64::min),
            values().fold(0.0, f64::max),
        );
        // A single size stands in the middle.
        let spread = if first == last { 2.0 } else { 1.0 };
        let x = Axis {
            low: f64::from(*first) / spread,
            high: f64::from(*last) * spread,
            from: left,
            to: WIDTH - right,
        };
        let y = Axis {
            low: ticks[0],
            high: ticks[ticks.len() - 1],
            from: HEIGHT - bottom,
            to: top,
        };
        for tick in &ticks {
            let at = y.place(*tick);
            let _ = write!(
                svg,
                "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>\n",
                x.to,
                left - 8.0,
                at + 4.0
            );
        }
        for size in &sizes {
            let at = x.place(f64::from(*size));
            let _ = write!(
                svg,
                "<line x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{}\" stroke=\"#eee\"/>\n\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                y.from,
                y.from + 18.0,
                shown_bytes(u64::from(*size))
            );
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">batch size</text>\n\
             <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            f64::midpoint(x.from, x.to),
            HEIGHT - 18.0,
            f64::midpoint(y.from, y.to),
            escaped(&self.y_label)
        );
        self.draw_lines(&mut svg, &x, &y);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_lines(&self, svg: &mut String, x: &Axis, y: &Axis) {
        // Names at the ends of their lines, from top to bottom, none on another.
        let mut names: Vec<(f64, &str, &str)> = Vec::new();
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let drawn = points.iter().filter(|(_, value)| is_drawn(*value));
            let places: Vec<(f64, f64)> = drawn
                .map(|(size, value)| (x.place(f64::from(*size)), y.place(*value)))
                .collect();
            let Some((_, end)) = places.last() else { continue };
            let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
                line.join(" ")
            );
            for (x, y) in &places {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
                );
            }
            names.push((*end, name, colour));
        }
        names.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut above = f64::NEG_INFINITY;
        for (end, name, colour) in names {
            let at = end.max(above + NAME_DISTANCE);
            above = at;
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                x.to + 10.0,
                at + 4.0,
                escaped(name)
            );
        }
    }
}

fn is_drawn(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// 1, 2 and 5 times powers of ten, from the last that is not above `low` to the first that is not below `high`; at
/// least two. Both are above 0.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let mut ticks: Vec<f64> = Vec::new();
    // From a billionth to a thousand billions: whoever measures more or less gets the ends.
    for exponent in -9..=12 {
        for step in [1.0, 2.0, 5.0] {
            let tick = step * 10_f64.powi(exponent);
            // No number has more digits than its tick needs.
            let tick: f64 = format!("{tick:.9}").parse().unwrap_or(tick);
            if tick <= low {
                ticks.clear();
            }
            ticks.push(tick);
            if tick >= high && ticks.len() > 1 {
                return ticks;
            }
        }
    }
    ticks
}

/// Text that means itself in HTML and SVG.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(lines: &[(&str, &[(u32, f64)])]) -> String {
        let lines = lines
            .iter()
            .map(|(name, points)| ((*name).to_owned(), points.to_vec()));
        let plot = Plot {
            title: "p99 <of> all".to_owned(),
            y_label: "ms".to_owned(),
            lines: lines.collect(),
        };
        plot.svg()
    }

    fn circles(svg: &str) -> Vec<(f64, f64)> {
        let value = |line: &str, name: &str| -> f64 {
            let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        (svg.lines().filter(|line| line.starts_with("<circle")))
            .map(|line| (value(line, " cx"), value(line, " cy")))
            .collect()
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        assert_eq!(ticks(0.3, 7.0), [0.2, 0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(ticks(1.0, 1.0), [1.0, 2.0]);
        assert_eq!(ticks(20.0, 50.0), [20.0, 50.0]);
        assert!(ticks(1e-12, 1e15).len() > 2);
    }

    #[test]
    fn every_point_has_its_place_on_logarithmic_axes() {
        let svg = plot(&[
            ("10 %", &[(1_024, 1.0), (4_096, 10.0), (16_384, 100.0)]),
            ("80 %", &[(1_024, 0.0)]),
        ]);
        let circles = circles(&svg);
        // A latency of nothing has no place.
        assert_eq!(circles.len(), 3);
        let (steps_x, steps_y): (Vec<f64>, Vec<f64>) = circles
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0, pair[0].1 - pair[1].1))
            .unzip();
        assert!(
            (steps_x[0] - steps_x[1]).abs() < 0.2 && steps_x[0] > 0.0,
            "{circles:?}"
        );
        assert!(
            (steps_y[0] - steps_y[1]).abs() < 0.2 && steps_y[0] > 0.0,
            "{circles:?}"
        );
        for (x, y) in circles {
            assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y));
        }
        assert!(svg.contains("p99 &lt;of&gt; all") && svg.contains(">4 KiB<") && svg.contains(">100<"));
    }

    #[test]
    fn names_do_not_cover_each_other() {
        let svg = plot(&[("one", &[(1_024, 1.0)]), ("two", &[(1_024, 1.0)])]);
        let at = |name: &str| -> f64 {
            let line = svg
                .lines()
                .find(|line| line.ends_with(&format!(">{name}</text>")))
                .unwrap();
            let (_, rest) = line.split_once(" y=\"").unwrap();
            rest.split('"').next().unwrap().parse().unwrap()
        };
        assert!((at("two") - at("one")).abs() >= NAME_DISTANCE - 0.1);
    }

    #[test]
    fn a_plot_without_a_value_says_so() {
        assert!(plot(&[]).contains("nothing was measured"));
        assert!(plot(&[("one", &[(1_024, f64::NAN)])]).contains("nothing was measured"));
    }
}
