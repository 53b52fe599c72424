//! One HTML page that shows a sweep: environment, plots, table, notes, JSON. It loads nothing, so that it can be kept and
//! sent.
//!
//! Pure.

use std::fmt::Write;

use super::plan::Pace;
use super::plot::{Plot, escaped};
use super::table::{LEGEND, Sweep};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}
td:first-child,th:first-child,td:nth-child(2),th:nth-child(2),td:last-child,th:last-child{text-align:left}
.environment td{white-space:normal}.environment td:first-child{white-space:nowrap;color:#666}
.first td{border-top:2px solid #999}.table{overflow-x:auto}svg{max-width:50rem;width:100%;height:auto}
pre{overflow-x:auto;background:#f6f6f6;padding:1rem}.stopped{color:#a00}";

/// p99 against batch size, at each rate.
pub(super) fn latency_plot(sweep: &Sweep) -> Plot {
    let series = sweep.series(|pace| pace != Pace::FlatOut, |report| report.latency_ms(0.99));
    Plot {
        title: "p99 of the latency against batch size, by load".to_owned(),
        y_label: "p99, ms".to_owned(),
        lines: series
            .into_iter()
            .map(|(pace, points)| (pace.to_string(), points))
            .collect(),
    }
}

fn throughput_plot(sweep: &Sweep) -> Plot {
    let series = sweep.series(|pace| pace == Pace::FlatOut, crate::report::Report::mb_per_s);
    Plot {
        title: "Throughput against batch size, flat out".to_owned(),
        y_label: "MB/s".to_owned(),
        lines: series
            .into_iter()
            .map(|(pace, points)| (pace.to_string(), points))
            .collect(),
    }
}

/// The page.
pub(super) fn html(sweep: &Sweep) -> String {
    let environment = sweep.environment();
    let (rows, notes) = sweep.rows();
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>p99 against batch size</title>\n<style>\n{STYLE}\n</style>\n\
         <h1>p99 against batch size</h1>\n<table class=\"environment\">\n"
    );
    for (name, value) in &environment {
        let _ = writeln!(
            page,
            "<tr><td>{}<td style=\"text-align:left\">{}",
            escaped(name),
            escaped(value)
        );
    }
    page.push_str("</table>\n");
    if let Some(stopped) = &sweep.stopped {
        let _ = writeln!(page, "<p class=\"stopped\">{}", escaped(stopped));
    }
    for plot in [latency_plot(sweep), throughput_plot(sweep)] {
        page.push_str(&plot.svg());
    }
    page.push_str("<h2>All runs</h2>\n<div class=\"table\"><table>\n");
    let mut batch = None;
    for (number, row) in rows.iter().enumerate() {
        let (cell, class) = match number {
            0 => ("th", ""),
            _ if batch.replace(&row[0]) != Some(&row[0]) => ("td", " class=\"first\""),
            _ => ("td", ""),
        };
        let _ = write!(page, "<tr{class}>");
        for text in row {
            let _ = write!(page, "<{cell}>{}", escaped(text));
        }
        page.push('\n');
    }
    let _ = writeln!(page, "</table></div>\n<p>{}", escaped(LEGEND));
    if !notes.is_empty() {
        page.push_str("<h2>Notes</h2>\n");
        for (number, note) in (1..).zip(&notes) {
            let _ = writeln!(page, "<p>[{number}] {}", escaped(note));
        }
    }
    let _ = writeln!(
        page,
        "<details><summary>JSON</summary><pre>{}</pre></details>\n</html>",
        escaped(&format!("{:#}", sweep.to_json()))
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::table::tests::sweep;

    #[test]
    fn a_page_shows_everything_and_loads_nothing() {
        let mut sweep = sweep();
        sweep.results[1].report.own_cpu_s = Some(0.95);
        let page = html(&sweep);
        // What brokers and hosts call themselves is text, not markup.
        for part in [
            "a &quot;CPU&quot; &lt;1&gt;",
            "&lt;b&gt;:9092",
            "id &amp; co",
            "flushed before it is acknowledged",
            "<td>64 KiB<td>80 %<td>",
            "[1] this client used 95 %",
            "&quot;batch_bytes&quot;: 65536",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        // The plot has the lines of both loads, with a point for each size; flat out is in the other one.
        let (latency, throughput) = page.split_once("Throughput against").unwrap();
        assert_eq!(
            (
                latency.matches("<circle").count(),
                throughput.matches("<circle").count()
            ),
            (4, 2)
        );
        let addresses = page.matches("http").count();
        assert_eq!(
            addresses,
            page.matches("http://www.w3.org/2000/svg").count(),
            "an address that is loaded"
        );
        for tag in ["<script", "<link", "<img", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(tag), "{tag}");
        }
    }
}
