//! Text in columns, for reports.
//!
//! Pure.

/// Rows in columns: the first `left` columns begin at their left edge, the others, which are numbers, end at their right
/// one, but for the last.
pub(crate) fn columns<const COLUMNS: usize>(rows: &[[String; COLUMNS]], left: usize) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < left || column == COLUMNS - 1 {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A name and a value on each line.
pub(crate) fn labelled(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = facts
        .iter()
        .map(|(name, value)| format!("{name:<width$}  {value}\n"));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_at_the_right() {
        let rows = [["a", "b", "c"], ["long", "1000", "note"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows, 1), "a        b  c\nlong  1000  note\n");
        assert_eq!(
            labelled(&[("a", "1".to_owned()), ("bcd", "2".to_owned())]),
            "a    1\nbcd  2\n"
        );
    }
}
