//! What holds of what a profile asks for, and what mends the rest. Pure.

use super::condition::{Condition, Mend, Reading};
use super::profile::{Bound, Requirement, Wanted};
use super::{Host, Profile, Severity};

/// Whether a host is what a line of a profile asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The condition's name.
    pub condition: &'static str,
    /// What is asked for.
    pub required: String,
    /// What there is; none, if the host does not tell.
    pub current: Option<String>,
    /// What it means if it does not hold.
    pub severity: Severity,
    /// Whether it holds; none, if the host does not tell.
    pub holds: Option<bool>,
    /// The command that mends it, or else what to do; none where nothing is to be.
    pub mend: Option<String>,
}

/// Holds the host against the profile. Nothing is changed.
pub fn check(profile: &Profile, host: &Host) -> Vec<Verdict> {
    profile
        .required
        .iter()
        .map(|one| judge(one, &(one.condition.read)(host), host.shards))
        .collect()
}

fn judge(requirement: &Requirement, readings: &[Reading], shards: u64) -> Verdict {
    let Requirement {
        condition,
        wanted,
        severity,
    } = requirement;
    let wrong: Vec<&Reading> = readings
        .iter()
        .filter(|reading| !wanted.is_met(&reading.value, shards))
        .collect();
    let mut values: Vec<&str> = readings.iter().map(|reading| reading.value.as_str()).collect();
    values.dedup();
    Verdict {
        condition: condition.name,
        required: wanted.words(shards),
        current: (!values.is_empty()).then(|| values.join(" ")),
        severity: *severity,
        holds: (!readings.is_empty()).then_some(wrong.is_empty()),
        mend: wrong
            .first()
            .map(|first| mend(condition, wanted, first, wrong.len() - 1, shards)),
    }
}

/// What mends it, for this reading and so many others.
fn mend(condition: &Condition, wanted: &Wanted, reading: &Reading, others: usize, shards: u64) -> String {
    let bare = match wanted {
        Wanted::OneOf(words) | Wanted::Without(words) => words.join(", "),
        Wanted::AtLeast(bound) => bound.text(shards),
        Wanted::AtMost(number) => number.to_string(),
    };
    let (Mend::Set, Some(file)) = (&condition.mend, &reading.file) else {
        return match condition.mend {
            Mend::Say(words) => words.replace("{}", &bare),
            Mend::Set => format!("set it to {bare}"),
        };
    };
    let file = file.display();
    match wanted.target(reading, shards) {
        Some(value) if others == 0 => format!("echo {value} > {file}"),
        Some(value) => format!("echo {value} > {file}, and {others} more: see `millstream tune plan`"),
        None => format!("this host offers {} alone in {file}", reading.choices.join(", ")),
    }
}

impl Wanted {
    /// Whether the value is what is wanted. One that is not understood is not.
    pub(super) fn is_met(&self, value: &str, shards: u64) -> bool {
        match self {
            Wanted::AtLeast(Bound::Version(major, minor)) => version(value) >= Some((*major, *minor)),
            Wanted::AtLeast(Bound::Number(least)) => number(value) >= Some(*least),
            Wanted::AtLeast(Bound::Shards) => number(value) >= Some(shards),
            Wanted::AtMost(most) => number(value).is_some_and(|number| number <= *most),
            Wanted::OneOf(words) => words.iter().any(|word| word == value),
            Wanted::Without(words) => !value
                .split(',')
                .any(|found| words.iter().any(|word| word == found)),
        }
    }

    /// What to put into the reading's file; none, if it does not take what is wanted.
    pub(super) fn target(&self, reading: &Reading, shards: u64) -> Option<String> {
        let takes = |word: &&String| reading.choices.is_empty() || reading.choices.contains(word);
        match self {
            Wanted::AtLeast(bound) => Some(bound.text(shards)),
            Wanted::AtMost(number) => Some(number.to_string()),
            Wanted::OneOf(words) => words.iter().find(takes).cloned(),
            Wanted::Without(_) => None,
        }
    }

    fn words(&self, shards: u64) -> String {
        match self {
            Wanted::AtLeast(bound) => format!("at least {}", bound.text(shards)),
            Wanted::AtMost(number) => format!("at most {number}"),
            Wanted::OneOf(words) => words.join(" or "),
            Wanted::Without(words) => format!("no {}", words.join(", ")),
        }
    }
}

impl Bound {
    fn text(&self, shards: u64) -> String {
        match self {
            Bound::Version(major, minor) => format!("{major}.{minor}"),
            Bound::Number(number) => number.to_string(),
            Bound::Shards => shards.to_string(),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    if text == "unlimited" {
        return Some(u64::MAX);
    }
    text.parse().ok()
}

/// The first two numbers of a version, such as `6.18.5-host`.
pub(super) fn version(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split('.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse().ok()
    });
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::condition::find;

    fn requirement(name: &str, wanted: Wanted) -> Requirement {
        Requirement {
            condition: find(name).unwrap(),
            wanted,
            severity: Severity::Warning,
        }
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn reading(text: &str) -> Reading {
        Reading::of_text(text, "/f".as_ref())
    }

    #[test]
    fn what_is_wanted_is_met_or_not() {
        let least = |number| Wanted::AtLeast(Bound::Number(number));
        let kernel = || Wanted::AtLeast(Bound::Version(6, 1));
        for (wanted, value, is_met) in [
            (kernel(), "6.18.5-host", true),
            (kernel(), "6.1", true),
            (kernel(), "5.15.0", false),
            (kernel(), "7.0", true),
            (kernel(), "six", false),
            (kernel(), "6", false),
            (least(65_536), "65536", true),
            (least(65_536), "1024", false),
            (least(65_536), "unlimited", true),
            (least(0), "many", false),
            (Wanted::AtLeast(Bound::Shards), "4", true),
            (Wanted::AtLeast(Bound::Shards), "3", false),
            (Wanted::AtMost(1), "1", true),
            (Wanted::AtMost(1), "60", false),
            (Wanted::AtMost(1), "", false),
            (Wanted::OneOf(words(&["none", "noop"])), "noop", true),
            (Wanted::OneOf(words(&["none", "noop"])), "non", false),
            (Wanted::Without(words(&["discard"])), "rw,nodiscard", true),
            (Wanted::Without(words(&["discard"])), "rw,discard", false),
        ] {
            assert_eq!(wanted.is_met(value, 4), is_met, "{wanted:?}: {value}");
        }
    }

    #[test]
    fn what_does_not_hold_comes_with_what_mends_it() {
        let pages = requirement("transparent-huge-pages", Wanted::OneOf(words(&["madvise"])));
        let found = judge(&pages, &[reading("[always] madvise never")], 2);
        assert_eq!(
            found,
            Verdict {
                condition: "transparent-huge-pages",
                required: "madvise".to_owned(),
                current: Some("always".to_owned()),
                severity: Severity::Warning,
                holds: Some(false),
                mend: Some("echo madvise > /f".to_owned()),
            }
        );
        let found = judge(&pages, &[reading("[always] never")], 2);
        assert_eq!(
            found.mend.as_deref(),
            Some("this host offers always, never alone in /f")
        );
        let found = judge(&pages, &[reading("always [madvise] never")], 2);
        assert_eq!((found.holds, found.mend), (Some(true), None));
        let found = judge(&pages, &[], 2);
        assert_eq!((found.holds, found.current, found.mend), (None, None, None));
        let queues = requirement("nic-queues", Wanted::AtLeast(Bound::Shards));
        let found = judge(&queues, &[reading("1")], 2);
        assert_eq!(
            (&found.required[..], found.mend.as_deref()),
            ("at least 2", Some("ethtool -L DEVICE combined 2"))
        );
    }

    #[test]
    fn one_of_several_that_is_wrong_is_wrong() {
        let governor = requirement("cpu-governor", Wanted::OneOf(words(&["performance"])));
        let readings = ["powersave", "performance", "powersave"].map(reading);
        let found = judge(&governor, &readings, 2);
        assert_eq!(found.holds, Some(false));
        assert_eq!(found.current.as_deref(), Some("powersave performance powersave"));
        let mend = found.mend.unwrap();
        assert_eq!(
            mend,
            "echo performance > /f, and 1 more: see `millstream tune plan`"
        );
    }
}
