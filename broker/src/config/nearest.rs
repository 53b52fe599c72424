//! The name that was probably meant.

/// The nearest of `names` to `wanted`, if it is near enough to be a slip: at most a third of it differs.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // What is far too long is no slip, and the distance costs the product of the lengths.
    const LENGTH_MAX: usize = 100;
    if wanted.len() > LENGTH_MAX {
        return None;
    }
    let distances = names.map(|name| (distance(wanted, name), name));
    distances
        .min()
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

/// Levenshtein's distance: insertions, deletions and replacements of bytes that lead from one to the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, byte) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, wanted) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(byte != wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let names = || ["num.partitions", "log.segment.bytes", "port"].into_iter();
        assert_eq!(nearest("num.partition", names()), Some("num.partitions"));
        assert_eq!(nearest("log.segments.byte", names()), Some("log.segment.bytes"));
        assert_eq!(nearest("prot", names()), None);
        assert_eq!(nearest("por", names()), Some("port"));
        assert_eq!(nearest(&"x".repeat(1_000_000), names()), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
