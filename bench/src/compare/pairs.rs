//! Pairs of runs, and the ratio of one side to the other.
//!
//! Pure. A pair's two runs follow each other, so that what disturbs the host for longer disturbs both; the next pair has
//! them in the other order. The median of the pairs' ratios is what counts.

use std::fmt;

/// The sides in the order in which pair number `pair`, from 0 on, runs them: 0 is A, 1 is B.
pub fn order(pair: u32) -> [usize; 2] {
    if pair.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

/// A median, and between which values it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The value in the middle; of an even number, half way between the two.
    pub median: f64,
    /// The lowest.
    pub lowest: f64,
    /// The highest.
    pub highest: f64,
}

impl Spread {
    /// Of these values; `None` if there are none, or one is no number.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Spread {
            median,
            lowest: values[0],
            highest: values[values.len() - 1],
        })
    }

    /// Each pair's first divided by its second.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Spread> {
        Spread::of(pairs.into_iter().map(|(over, under)| over / under))
    }
}

/// As tables have it: `median (lowest-highest)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Spread {
            median,
            lowest,
            highest,
        } = self;
        write!(f, "{median:.digits$} ({lowest:.digits$}-{highest:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_take_turns_in_going_first() {
        let firsts: Vec<usize> = (0..4).map(|pair| order(pair)[0]).collect();
        assert_eq!(firsts, [0, 1, 0, 1]);
        assert!((0..4).all(|pair| order(pair)[0] != order(pair)[1]));
    }

    #[test]
    fn the_median_is_of_the_pairs_ratios_and_not_a_ratio_of_medians() {
        // The host was slow in the third pair: its ratio is as good as the others.
        let pairs = [(10.0, 5.0), (12.0, 4.0), (1.0, 0.4)];
        let spread = Spread::of_ratios(pairs).unwrap();
        assert_eq!((spread.median, spread.lowest, spread.highest), (2.5, 2.0, 3.0));
        assert_eq!(spread.to_string(), "2.50 (2.00-3.00)");
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }

    #[test]
    fn nothing_has_no_median() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of_ratios([(1.0, 0.0)]), None);
        assert_eq!(Spread::of_ratios([(0.0, 0.0)]), None);
    }
}
