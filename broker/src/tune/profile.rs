//! A profile: what it asks of a host, and what it sets, as its file says.

use toml::Value;

use super::condition::{Condition, Measure, find, names, place};
use super::{Host, TuneError};
use crate::config::file::flat;

/// The largest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 64 << 10;

/// The profiles that are in the program, by name, with their text.
static BUNDLED: [(&str, &str); 5] = [
    ("balanced", include_str!("../../../tuning/balanced.toml")),
    ("dev", include_str!("../../../tuning/dev.toml")),
    ("latency", include_str!("../../../tuning/latency.toml")),
    (
        "many-partitions",
        include_str!("../../../tuning/many-partitions.toml"),
    ),
    ("throughput", include_str!("../../../tuning/throughput.toml")),
];

/// What a kind of work asks of a host, and what the broker is set to for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// By what it was asked for: a bundled profile's name, or a path.
    pub name: String,
    /// What it is for, in a line.
    pub description: String,
    pub(super) required: Vec<Requirement>,
    settings: Vec<(String, String)>,
}

/// A line of `[require]`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Requirement {
    pub(super) condition: &'static Condition,
    pub(super) wanted: Wanted,
    pub(super) severity: Severity,
}

/// What a condition must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A version or a number.
    AtLeast(Bound),
    /// A number.
    AtMost(u64),
    /// One of these words: the first is what a plan sets.
    OneOf(Vec<String>),
    /// Words without any of these.
    Without(Vec<String>),
}

/// What a number is held against.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bound {
    Version(u64, u64),
    Number(u64),
    /// As many as the broker has shards.
    Shards,
}

/// What it means if a condition does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The broker does not run.
    Fatal,
    /// It runs, measurably worse.
    Warning,
    /// It may matter; whoever knows the host decides.
    Note,
}

impl Severity {
    /// As it is written in a profile and shown.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Fatal => "fatal",
            Severity::Warning => "warning",
            Severity::Note => "note",
        }
    }
}

/// The profiles that are in the program.
///
/// # Panics
/// If one of them is not a profile: the tests read them all.
pub fn bundled() -> Vec<Profile> {
    let read = |(name, text): &(&str, &str)| Profile::parse(name, text).expect("the tests read it");
    BUNDLED.iter().map(read).collect()
}

impl Profile {
    /// A bundled profile by its name, or that of a file: a path has a `/` or ends in `.toml`.
    ///
    /// # Errors
    /// There is none, or it is not one.
    pub fn load(name: &str) -> Result<Profile, TuneError> {
        let error = |why: String| TuneError::Profile {
            name: name.to_owned(),
            why,
        };
        if !name.contains('/') && !name.ends_with(".toml") {
            let found = BUNDLED.iter().find(|(bundled, _)| *bundled == name);
            let (_, text) = found.ok_or_else(|| {
                let names: Vec<_> = BUNDLED.iter().map(|(name, _)| *name).collect();
                error(format!(
                    "there is none of that name: take one of {}, or give a path, such as ./{name}.toml",
                    names.join(", ")
                ))
            })?;
            return Profile::parse(name, text);
        }
        #[expect(clippy::disallowed_methods, reason = "before any ring thread is there")]
        let bytes = std::fs::read(name).map_err(|why| error(why.to_string()))?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(error(format!("a profile has at most {FILE_BYTES_MAX} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|_| error("it is not UTF-8 text".to_owned()))?;
        Profile::parse(name, &text)
    }

    /// Reads a profile's text.
    ///
    /// # Errors
    /// The first thing in it that is not understood.
    pub(super) fn parse(name: &str, text: &str) -> Result<Profile, TuneError> {
        parse(name, text).map_err(|why| TuneError::Profile {
            name: name.to_owned(),
            why,
        })
    }

    /// What it sets, with the shares of this host that it names as numbers.
    ///
    /// # Errors
    /// A share of what the host does not tell.
    pub fn settings(&self, host: &Host) -> Result<Vec<(String, String)>, TuneError> {
        let settings = self.settings.iter().map(|(name, value)| {
            let value = share_of(host, value).map_err(|why| TuneError::Profile {
                name: self.name.clone(),
                why: format!("setting {name} = \"{value}\": {why}"),
            })?;
            Ok((name.clone(), value))
        });
        settings.collect()
    }
}

/// `cores`, `cores-1` and such, and a per cent of the memory, as numbers; other values as they are.
fn share_of(host: &Host, value: &str) -> Result<String, String> {
    if let Some(spared) = value.strip_prefix("cores") {
        let spared = match spared.strip_prefix('-') {
            Some(spared) => spared.parse().map_err(|_| "cores-N takes a number N")?,
            None if spared.is_empty() => 0,
            None => return Ok(value.to_owned()),
        };
        return Ok(host.cores().saturating_sub(spared).max(1).to_string());
    }
    match value.strip_suffix('%').map(str::parse::<u64>) {
        Some(Ok(percent)) if percent <= 100 => {
            let bytes = host
                .memory_bytes()
                .ok_or("/proc/meminfo does not tell the memory")?;
            Ok((bytes / 100 * percent).to_string())
        }
        Some(_) => Err("a share of the memory is from 0% to 100%".to_owned()),
        None => Ok(value.to_owned()),
    }
}

fn parse(name: &str, text: &str) -> Result<Profile, String> {
    let file: toml::Table = text.parse().map_err(|error| format!("it is not TOML: {error}"))?;
    let mut profile = Profile {
        name: name.to_owned(),
        description: String::new(),
        required: Vec::new(),
        settings: Vec::new(),
    };
    for (key, value) in file {
        match (key.as_str(), value) {
            ("description", Value::String(text)) => profile.description = text,
            ("require", Value::Table(lines)) => {
                for (name, line) in lines {
                    let requirement = requirement(&name, line);
                    profile
                        .required
                        .push(requirement.map_err(|why| format!("[require] {name}: {why}"))?);
                }
            }
            ("broker", Value::Table(lines)) => {
                profile.settings = flat(&lines).map_err(|why| format!("[broker] {why}"))?;
            }
            _ => {
                return Err(format!(
                    "it has '{key}': a profile has description = \"...\", [require] and [broker]"
                ));
            }
        }
    }
    profile.required.sort_by_key(|one| place(one.condition));
    if profile.description.is_empty() {
        return Err("it does not say what it is for: description = \"...\"".to_owned());
    }
    Ok(profile)
}

fn requirement(name: &str, line: Value) -> Result<Requirement, String> {
    let condition =
        find(name).ok_or_else(|| format!("there is no such condition: there are {}", names().join(", ")))?;
    let Value::Table(line) = line else {
        return Err("a table is wanted, such as { at-least = 1, severity = \"warning\" }".to_owned());
    };
    let (mut wanted, mut severity) = (None, None);
    for (key, value) in line {
        match key.as_str() {
            "severity" => severity = Some(severity_of(&value)?),
            _ if wanted.is_some() => return Err(format!("'{key}' stands beside another such word")),
            _ => wanted = Some(self::wanted(condition.measure, &key, &value)?),
        }
    }
    let wanted =
        wanted.ok_or_else(|| format!("it does not say what is wanted: {}", condition.measure.words()))?;
    let severity = severity.ok_or("it does not say how much it matters: severity = \"warning\"")?;
    Ok(Requirement {
        condition,
        wanted,
        severity,
    })
}

fn severity_of(value: &Value) -> Result<Severity, String> {
    let all = [Severity::Fatal, Severity::Warning, Severity::Note];
    let named = all.into_iter().find(|one| value.as_str() == Some(one.name()));
    named.ok_or_else(|| "severity is \"fatal\", \"warning\" or \"note\"".to_owned())
}

fn wanted(measure: Measure, key: &str, value: &Value) -> Result<Wanted, String> {
    let number = |value: &Value| value.as_integer().and_then(|number| u64::try_from(number).ok());
    let wanted = match (measure, key) {
        (Measure::Version, "at-least") => {
            let version = value.as_str().and_then(super::verdict::version);
            version.map(|(major, minor)| Wanted::AtLeast(Bound::Version(major, minor)))
        }
        (Measure::Number, "at-least") if value.as_str() == Some("shards") => {
            Some(Wanted::AtLeast(Bound::Shards))
        }
        (Measure::Number, "at-least") => number(value).map(|number| Wanted::AtLeast(Bound::Number(number))),
        (Measure::Number, "at-most") => number(value).map(Wanted::AtMost),
        (Measure::Word, "one-of") => words(value).map(Wanted::OneOf),
        (Measure::Words, "without") => words(value).map(Wanted::Without),
        _ => None,
    };
    wanted.ok_or_else(|| format!("{key} = {value} is not understood: {}", measure.words()))
}

/// A list of words, with one at least.
fn words(value: &Value) -> Option<Vec<String>> {
    let words = value.as_array()?.iter();
    let words: Option<Vec<String>> = words.map(|word| word.as_str().map(str::to_owned)).collect();
    words.filter(|words| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    const GOOD: &str = r#"
        description = "of a test"
        [require]
        kernel = { at-least = "6.1", severity = "fatal" }
        nic-queues = { at-least = "shards", severity = "note" }
        swappiness = { at-most = 1, severity = "warning" }
        io-scheduler = { one-of = ["none", "noop"], severity = "warning" }
        mount-options = { without = ["discard"], severity = "note" }
        [broker]
        shards = "cores-1"
        memory.bytes = "60%"
        num.partitions = 6
        auto.create.topics.enable = false
    "#;

    fn host() -> Host {
        Host::of_test(7, 100 << 10)
    }

    #[test]
    fn a_profile_says_what_is_asked_and_what_is_set_in_shares_of_the_host() {
        let profile = Profile::parse("test", GOOD).unwrap();
        assert_eq!(profile.description, "of a test");
        let found: Vec<_> = profile
            .required
            .iter()
            .map(|one| (one.condition.name, &one.wanted))
            .collect();
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(
            found,
            [
                ("kernel", &Wanted::AtLeast(Bound::Version(6, 1))),
                ("swappiness", &Wanted::AtMost(1)),
                ("nic-queues", &Wanted::AtLeast(Bound::Shards)),
                ("mount-options", &Wanted::Without(words(&["discard"]))),
                ("io-scheduler", &Wanted::OneOf(words(&["none", "noop"]))),
            ]
        );
        let settings = profile.settings(&host()).unwrap();
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect();
        assert_eq!(
            settings,
            [
                ("auto.create.topics.enable", "false"),
                ("memory.bytes", "61440"),
                ("num.partitions", "6"),
                ("shards", "6"),
            ]
        );
    }

    #[test]
    fn shares_are_of_what_there_is() {
        let host = host();
        for (value, number) in [
            ("cores", Ok("7")),
            ("cores-6", Ok("1")),
            ("cores-99", Ok("1")),
            ("cores-x", Err(())),
            ("coreside", Ok("coreside")),
            ("0%", Ok("0")),
            ("100%", Ok("102400")),
            ("101%", Err(())),
            ("-1%", Err(())),
            ("17", Ok("17")),
        ] {
            let found = share_of(&host, value);
            assert_eq!(found.as_deref().map_err(|_| ()), number, "{value}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_what_there_is() {
        for (text, part) in [
            ("x = [", "not TOML"),
            ("[broker]\n", "what it is for"),
            ("descripton = 'x'", "it has 'descripton'"),
            ("require = 1", "it has 'require'"),
            ("[require]\nkernal = {}", "there are kernel, io-uring, "),
            ("[require]\nkernel = 6", "a table is wanted"),
            ("[require]\nkernel = { at-least = '6.1' }", "how much it matters"),
            ("[require]\nkernel = { severity = 'note' }", "at-least = \"6.1\""),
            (
                "[require]\nkernel = { at-least = '6.1', severity = 'bad' }",
                "\"fatal\", \"warning\"",
            ),
            (
                "[require]\nkernel = { at-least = 'six', severity = 'note' }",
                "is not understood",
            ),
            (
                "[require]\nswappiness = { at-least = 1, at-most = 3 }",
                "beside another",
            ),
            ("[require]\nswappiness = { at-most = -1 }", "is not understood"),
            ("[require]\nio-scheduler = { one-of = [] }", "is not understood"),
            ("[require]\nio-scheduler = { one-of = [1] }", "is not understood"),
            ("[broker]\nx = 1.5", "[broker] setting x is a text"),
        ] {
            let error = Profile::parse("test", text).unwrap_err().to_string();
            assert!(
                error.starts_with("profile test: ") && error.contains(part),
                "{text}: {error}"
            );
        }
        let error = Profile::load("throughout").unwrap_err().to_string();
        assert!(
            error.contains("balanced, dev, latency, many-partitions, throughput"),
            "{error}"
        );
        let error = Profile::load("./no-such.toml").unwrap_err().to_string();
        assert!(
            error.contains("./no-such.toml") && error.contains("No such file"),
            "{error}"
        );
    }

    #[test]
    fn what_is_bundled_can_be_started_with_on_hosts_of_any_size() {
        for (name, text) in &BUNDLED {
            assert_eq!(Profile::load(name).unwrap().name, *name);
            let numbers = text
                .lines()
                .filter(|line| line.contains(" = ") && !line.starts_with('#'));
            assert!(numbers.count() > 2, "{name}");
        }
        for profile in bundled() {
            for (cores, gib) in [(1, 2), (2, 4), (8, 32), (64, 512)] {
                let mut settings = Settings::default();
                let host = Host::of_test(cores, gib << 30);
                settings.take_profile(&profile.settings(&host).unwrap()).unwrap();
                let checked = settings.check();
                assert_eq!(
                    checked,
                    Ok(()),
                    "{} with {cores} cores and {gib} GiB",
                    profile.name
                );
            }
        }
    }
}
