//! What was changed on a host, written down before it is, so that it can be taken back.
//!
//! The record is JSON in a file that is gone after a boot, as the changes are. It is written before the first change and
//! removed after the last one is taken back: who is stopped between can go on from either end.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::condition::Reading;
use super::{Change, Host, TuneError};

/// The largest record that is read, in bytes: thousands of CPUs fit.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// The changes for a profile that hold on a host now.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    file: PathBuf,
    /// The profile's name.
    pub profile: String,
    /// The first value of each file, and what was put there.
    changes: Vec<Change>,
}

/// What became of a change that was to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverted {
    /// It is as it was before.
    Back(Change),
    /// Somebody has put something else there since, which is left.
    Left(Change, String),
    /// The kernel's file is gone, as that of a disk that was taken out.
    Gone(Change),
}

impl Applied {
    /// Reads the record; none, if nothing is applied.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn read(file: &Path) -> Result<Option<Applied>, TuneError> {
        #[expect(clippy::disallowed_methods, reason = "no ring thread is there")]
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(record_error("read", file, &error)),
        };
        let found = (bytes.len() <= RECORD_BYTES_MAX).then(|| parse(&bytes)).flatten();
        let (profile, changes) = found.ok_or_else(|| {
            record_error(
                "read",
                file,
                &"it is not what `tune apply` writes. Undo the changes by hand, and remove it",
            )
        })?;
        Ok(Some(Applied {
            file: file.to_owned(),
            profile,
            changes,
        }))
    }

    /// Makes the changes for a profile, one after the other; `done` is told of each. With an earlier record of that
    /// profile, what was there before that stays what comes back.
    ///
    /// # Errors
    /// Another profile is applied; the record cannot be written; or a file does not take its value: then `revert` takes
    /// back what was changed before.
    pub fn apply(
        host: &Host,
        file: &Path,
        profile: &str,
        changes: &[Change],
        mut done: impl FnMut(&Change),
    ) -> Result<(), TuneError> {
        let mut applied = Applied::read(file)?.unwrap_or_else(|| Applied {
            file: file.to_owned(),
            profile: profile.to_owned(),
            changes: Vec::new(),
        });
        applied.expect_profile(profile)?;
        for change in changes {
            match applied
                .changes
                .iter_mut()
                .find(|earlier| earlier.file == change.file)
            {
                Some(earlier) => earlier.to.clone_from(&change.to),
                None => applied.changes.push(change.clone()),
            }
        }
        applied.write()?;
        for change in changes {
            set(host, &change.file, &change.to)?;
            done(change);
        }
        Ok(())
    }

    /// Whether it is this profile that is applied.
    ///
    /// # Errors
    /// It is another.
    pub fn expect_profile(&self, profile: &str) -> Result<(), TuneError> {
        if self.profile == profile {
            return Ok(());
        }
        Err(TuneError::Profile {
            name: profile.to_owned(),
            why: format!(
                "{0} is applied: `millstream tune revert --profile {0}` first",
                self.profile
            ),
        })
    }

    /// Takes the changes back, the last one first, and removes the record; `done` is told of each.
    ///
    /// # Errors
    /// A file does not take its value, or the record cannot be removed: it stays, and all of it can be done again.
    pub fn revert(self, host: &Host, mut done: impl FnMut(&Reverted)) -> Result<(), TuneError> {
        for change in self.changes.iter().rev() {
            let there = host
                .text(&change.file)
                .map(|text| Reading::of_text(&text, &change.file).value);
            let outcome = match there {
                None => Reverted::Gone(change.clone()),
                Some(value) if value == change.to || value == change.from => {
                    if value != change.from {
                        set(host, &change.file, &change.from)?;
                    }
                    Reverted::Back(change.clone())
                }
                Some(value) => Reverted::Left(change.clone(), value),
            };
            done(&outcome);
        }
        #[expect(clippy::disallowed_methods, reason = "no ring thread is there")]
        std::fs::remove_file(&self.file).map_err(|error| record_error("remove", &self.file, &error))
    }

    /// Whole or not at all: a rename puts it in the place of the one before.
    #[expect(clippy::disallowed_methods, reason = "no ring thread is there")]
    fn write(&self) -> Result<(), TuneError> {
        let changes = self.changes.iter().map(|change| {
            json!({
                "condition": change.condition,
                "file": change.file.to_string_lossy(),
                "from": change.from,
                "to": change.to,
            })
        });
        let document = json!({ "profile": self.profile, "changes": changes.collect::<Vec<_>>() });
        let beside = self.file.with_extension("new");
        let directory = self.file.parent().map_or(Ok(()), std::fs::create_dir_all);
        directory
            .and_then(|()| std::fs::write(&beside, format!("{document:#}\n")))
            .and_then(|()| std::fs::rename(&beside, &self.file))
            .map_err(|error| record_error("write", &self.file, &error))
    }
}

fn record_error(doing: &'static str, file: &Path, why: &dyn std::fmt::Display) -> TuneError {
    TuneError::Record {
        doing,
        file: file.display().to_string(),
        why: why.to_string(),
    }
}

fn parse(bytes: &[u8]) -> Option<(String, Vec<Change>)> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let text = |value: &Value, key: &str| value.get(key)?.as_str().map(str::to_owned);
    let changes = document.get("changes")?.as_array()?.iter().map(|change| {
        Some(Change {
            condition: text(change, "condition")?,
            file: text(change, "file")?.into(),
            from: text(change, "from")?,
            to: text(change, "to")?,
        })
    });
    Some((text(&document, "profile")?, changes.collect::<Option<_>>()?))
}

/// Puts a value into a kernel's file, and looks whether it is there.
fn set(host: &Host, file: &Path, value: &str) -> Result<(), TuneError> {
    let refused = |why: String| TuneError::Refused {
        file: file.display().to_string(),
        value: value.to_owned(),
        why,
    };
    let place = host.kernel_file(file).map_err(refused)?;
    #[expect(clippy::disallowed_methods, reason = "no ring thread is there")]
    std::fs::write(place, value).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => refused(format!(
            "{error}. Run it as root, on the host and not in a container"
        )),
        _ => refused(error.to_string()),
    })?;
    let there = host.text(file).map(|text| Reading::of_text(&text, file).value);
    match there {
        Some(there) if there == value => Ok(()),
        there => Err(refused(format!(
            "the kernel took it and has {} now",
            there.as_deref().unwrap_or("nothing")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWAPPINESS: &str = "/proc/sys/vm/swappiness";
    const BACKLOG: &str = "/proc/sys/net/core/somaxconn";

    fn change(file: &str, from: &str, to: &str) -> Change {
        Change {
            condition: "c".to_owned(),
            file: file.into(),
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    /// A host of a test with both files, and where its record goes.
    fn host(number: u64) -> (Host, PathBuf) {
        let host = Host::of_test(number, 1 << 21);
        host.put(SWAPPINESS, "60\n");
        host.put(BACKLOG, "128\n");
        let record = host.place(Path::new("/run/millstream/tuned.json"));
        #[expect(clippy::disallowed_methods, reason = "a test on an ordinary thread")]
        let _not_there = std::fs::remove_file(&record);
        (host, record)
    }

    fn values(host: &Host) -> [Option<String>; 2] {
        [host.text(SWAPPINESS), host.text(BACKLOG)]
    }

    fn both(first: &str, second: &str) -> [Option<String>; 2] {
        [Some(first.to_owned()), Some(second.to_owned())]
    }

    #[test]
    fn what_is_applied_is_taken_back_also_when_it_was_applied_twice() {
        let (host, record) = host(20);
        let mut told = 0;
        let changes = [change(SWAPPINESS, "60", "10"), change(BACKLOG, "128", "1024")];
        Applied::apply(&host, &record, "p", &changes[..1], |_| told += 1).unwrap();
        assert_eq!(values(&host), both("10", "128"));
        // The same profile, which asks for more by now.
        let more = [change(SWAPPINESS, "10", "1"), changes[1].clone()];
        Applied::apply(&host, &record, "p", &more, |_| told += 1).unwrap();
        assert_eq!((values(&host), told), (both("1", "1024"), 3));
        let applied = Applied::read(&record).unwrap().unwrap();
        let mut outcomes = Vec::new();
        applied
            .revert(&host, |outcome| outcomes.push(outcome.clone()))
            .unwrap();
        assert_eq!(values(&host), both("60", "128"));
        assert_eq!(
            outcomes,
            [
                Reverted::Back(change(BACKLOG, "128", "1024")),
                Reverted::Back(change(SWAPPINESS, "60", "1"))
            ]
        );
        assert_eq!(Applied::read(&record), Ok(None));
    }

    #[test]
    fn what_somebody_else_has_changed_since_is_left() {
        let (host, record) = host(21);
        let gone = "/sys/block/sdz/queue/scheduler";
        host.put(gone, "mq-deadline");
        let changes = [
            change(SWAPPINESS, "60", "1"),
            change(BACKLOG, "128", "1024"),
            change(gone, "mq-deadline", "none"),
        ];
        Applied::apply(&host, &record, "p", &changes, |_| {}).unwrap();
        host.put(SWAPPINESS, "30");
        #[expect(clippy::disallowed_methods, reason = "a test on an ordinary thread")]
        std::fs::remove_file(host.place(Path::new(gone))).unwrap();
        let mut outcomes = Vec::new();
        let applied = Applied::read(&record).unwrap().unwrap();
        applied
            .revert(&host, |outcome| outcomes.push(outcome.clone()))
            .unwrap();
        assert_eq!(values(&host), both("30", "128"));
        let [first, second, third] = changes;
        assert_eq!(
            outcomes,
            [
                Reverted::Gone(third),
                Reverted::Back(second),
                Reverted::Left(first, "30".to_owned())
            ]
        );
    }

    #[test]
    fn what_was_changed_before_a_file_refused_is_written_down() {
        let (host, record) = host(22);
        // A directory takes no value, whoever asks.
        host.put("/proc/sys/vm/refuses/x", "");
        let changes = [
            change(SWAPPINESS, "60", "1"),
            change("/proc/sys/vm/refuses", "0", "1"),
        ];
        let error = Applied::apply(&host, &record, "p", &changes, |_| {})
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot set /proc/sys/vm/refuses to 1: "),
            "{error}"
        );
        assert_eq!(values(&host), both("1", "128"));
        Applied::read(&record)
            .unwrap()
            .unwrap()
            .revert(&host, |_| {})
            .unwrap();
        assert_eq!(values(&host), both("60", "128"));
    }

    #[test]
    fn a_kernel_that_took_a_value_and_has_another_is_not_believed() {
        let (host, record) = host(25);
        // Of which the word in brackets is the value.
        let changes = [change(SWAPPINESS, "60", "[1] 2")];
        let error = Applied::apply(&host, &record, "p", &changes, |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("the kernel took it and has 1 now"),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_setting_of_the_kernels_is_not_written_whatever_a_record_says() {
        let (host, record) = host(26);
        host.put("/etc/passwd", "new");
        host.put("/proc/self/x", "new");
        std::os::unix::fs::symlink(
            host.place(Path::new("/etc/passwd")),
            host.place(Path::new("/proc/sys/vm/link")),
        )
        .unwrap();
        for file in [
            "/etc/passwd",
            "/proc/self/x",
            "/proc/sys/vm/../../../etc/passwd",
            "/proc/sys/vm/link",
        ] {
            let applied = Applied {
                file: record.clone(),
                profile: "p".to_owned(),
                changes: vec![change(file, "old", "new")],
            };
            let error = applied.revert(&host, |_| {}).unwrap_err().to_string();
            assert!(error.contains("no setting of the kernel's"), "{file}: {error}");
            assert_eq!(host.text("/etc/passwd").as_deref(), Some("new"), "{file}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_written_changes_nothing() {
        let (host, _) = host(23);
        let record = host.place(Path::new("/proc/sys/vm/swappiness/record.json"));
        let error =
            Applied::apply(&host, &record, "p", &[change(SWAPPINESS, "60", "1")], |_| {}).unwrap_err();
        assert!(error.to_string().contains("swappiness/record.json"), "{error}");
        assert_eq!(values(&host), both("60", "128"));
    }

    #[test]
    fn one_profile_is_applied_at_a_time_and_a_record_is_one_or_none() {
        let (host, record) = host(24);
        Applied::apply(&host, &record, "p", &[change(SWAPPINESS, "60", "1")], |_| {}).unwrap();
        let error = Applied::apply(&host, &record, "q", &[change(BACKLOG, "128", "1")], |_| {}).unwrap_err();
        assert!(error.to_string().contains("tune revert --profile p"), "{error}");
        assert_eq!(values(&host), both("1", "128"));
        for wrong in [
            "",
            "{",
            "[]",
            r#"{"profile":"p"}"#,
            r#"{"profile":"p","changes":[{"file":"/f"}]}"#,
        ] {
            host.put("/run/millstream/tuned.json", wrong);
            let error = Applied::read(&record).unwrap_err().to_string();
            assert!(
                error.contains("tuned.json") && error.contains("remove it"),
                "{error}"
            );
        }
    }
}
