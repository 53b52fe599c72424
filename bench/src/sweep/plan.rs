//! Which runs a sweep has: for each batch size one flat out, then one for each rate.
//!
//! Pure.

use std::fmt;

use crate::arguments::shown_bytes;

/// A part of what a batch size gives flat out, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fraction(u32);

impl Fraction {
    /// Reads `50%` or `0.5`; from 0.1 % to 200 %.
    pub(crate) fn parse(text: &str) -> Result<Fraction, String> {
        let (digits, unit) = match text.strip_suffix('%') {
            Some(digits) => (digits.trim_end(), 10.0),
            None => (text, 1_000.0),
        };
        let value: f64 = digits
            .parse()
            .map_err(|_| "a fraction, such as 50% or 0.5".to_owned())?;
        let thousandths = (value * unit).round();
        if (1.0..=2_000.0).contains(&thousandths) {
            Ok(Fraction(thousandths as u32))
        } else {
            Err("from 0.1% to 200% (0.001 to 2)".to_owned())
        }
    }

    /// So much of a rate, in records a second; at least one.
    fn of(self, records_per_s: f64) -> u64 {
        ((records_per_s * f64::from(self.0) / 1_000.0) as u64).max(1)
    }
}

/// As people write it: `50 %`.
impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", f64::from(self.0) / 10.0)
    }
}

/// How fast batches are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are answered: a closed loop.
    FlatOut,
    /// At a part of what flat out gave: an open loop.
    Fraction(Fraction),
    /// At so many records a second: an open loop.
    Rate(u64),
}

impl Pace {
    /// Records a second, after flat out gave so many. `None`: flat out.
    pub(crate) fn records_per_s(self, flat_out: f64) -> Option<u64> {
        match self {
            Pace::FlatOut => None,
            Pace::Fraction(fraction) => Some(fraction.of(flat_out)),
            Pace::Rate(rate) => Some(rate),
        }
    }
}

/// As the table has it.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pace::FlatOut => write!(f, "flat out"),
            Pace::Fraction(fraction) => write!(f, "{fraction}"),
            Pace::Rate(rate) => write!(f, "{rate}/s"),
        }
    }
}

/// A run of the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// A batch at most, in bytes.
    pub batch_bytes: u32,
    /// How fast.
    pub pace: Pace,
}

impl Cell {
    /// Its name, for files: letters, digits and hyphens.
    pub(crate) fn tag(&self) -> String {
        let pace = match self.pace {
            Pace::FlatOut => "flat-out".to_owned(),
            Pace::Fraction(Fraction(thousandths)) => format!("{thousandths}-permille"),
            Pace::Rate(rate) => format!("{rate}-per-s"),
        };
        format!("batch-{}-{pace}", self.batch_bytes)
    }
}

/// As progress has it.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", shown_bytes(self.batch_bytes.into()), self.pace)
    }
}

/// The runs in their order. Batch sizes and paces each once, ascending; flat out goes first, for the fractions need it.
pub fn cells(batch_sizes: &[u32], fractions: &[Fraction], rates: &[u64]) -> Vec<Cell> {
    let (mut sizes, mut fractions, mut rates) = (batch_sizes.to_vec(), fractions.to_vec(), rates.to_vec());
    sizes.sort_unstable();
    sizes.dedup();
    fractions.sort_unstable();
    fractions.dedup();
    rates.sort_unstable();
    rates.dedup();
    let mut cells = Vec::new();
    for batch_bytes in sizes {
        let paces = [Pace::FlatOut].into_iter();
        let paces = paces.chain(fractions.iter().copied().map(Pace::Fraction));
        let paces = paces.chain(rates.iter().copied().map(Pace::Rate));
        cells.extend(paces.map(|pace| Cell { batch_bytes, pace }));
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_percents_or_numbers() {
        let read = ["50%", "0.5", "0.1%", "200 %", "12.5%"].map(|text| Fraction::parse(text).unwrap());
        assert_eq!(read, [500, 500, 1, 2_000, 125].map(Fraction));
        assert_eq!(Fraction(125).to_string(), "12.5 %");
        for text in ["0", "0%", "-1", "201%", "50", "half", "", "%", "NaN", "inf"] {
            assert!(Fraction::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn flat_out_goes_before_the_fractions_of_it() {
        let cells = cells(&[16_384, 1_024, 16_384], &[Fraction(800), Fraction(100)], &[7]);
        let shown: Vec<String> = cells.iter().map(Cell::to_string).collect();
        assert_eq!(
            shown,
            [
                "1 KiB, flat out",
                "1 KiB, 10 %",
                "1 KiB, 80 %",
                "1 KiB, 7/s",
                "16 KiB, flat out",
                "16 KiB, 10 %",
                "16 KiB, 80 %",
                "16 KiB, 7/s",
            ]
        );
        let tags: std::collections::BTreeSet<String> = cells.iter().map(Cell::tag).collect();
        assert_eq!(tags.len(), cells.len());
    }

    #[test]
    fn a_fraction_is_of_what_flat_out_gave() {
        assert_eq!(Pace::Fraction(Fraction(500)).records_per_s(1_000.9), Some(500));
        assert_eq!(Pace::Fraction(Fraction(1)).records_per_s(10.0), Some(1));
        assert_eq!(Pace::Rate(3).records_per_s(1_000.0), Some(3));
        assert_eq!(Pace::FlatOut.records_per_s(1_000.0), None);
    }
}
