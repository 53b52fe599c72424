//! A broker of our own for one run: a child process on free ports, with a data directory that is removed afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::BenchError;
use crate::leftovers::Leftovers;

/// How often its output is looked at until it is ready: two minutes, for a disk that writes its journals slowly.
const LOOKS: u32 = 2_400;
/// The time between two of these.
const LOOK: Duration = Duration::from_millis(50);
/// What is shown of a broker's last words, in bytes.
const WORDS_BYTES_MAX: usize = 4_096;
/// What its line starts with when clients can connect.
const READY: &str = "millstream ready ";

/// The program that an embedded broker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerProgram {
    /// This very program, which is a broker as well.
    Itself,
    /// The program `millstream` in the directory of this one.
    Beside,
}

impl BrokerProgram {
    fn path(self) -> Result<PathBuf, BenchError> {
        let own = std::env::current_exe().map_err(|error| BenchError::Local {
            doing: "find this program".to_owned(),
            error,
        })?;
        match self {
            BrokerProgram::Itself => Ok(own),
            BrokerProgram::Beside => {
                let path = own.with_file_name("millstream");
                if path.is_file() {
                    Ok(path)
                } else {
                    Err(BenchError::NoBroker { path })
                }
            }
        }
    }
}

/// A broker that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmbeddedBroker {
    /// Its process.
    pub(crate) pid: u32,
    /// A shard of it.
    pub(crate) address: String,
}

impl EmbeddedBroker {
    /// Starts one whose data is in a new directory in `place`; `leftovers` ends it. Blocks until clients can connect.
    pub(crate) fn start(
        program: BrokerProgram,
        place: &Path,
        leftovers: &Leftovers,
    ) -> Result<EmbeddedBroker, BenchError> {
        let program = program.path()?;
        let directory = leftovers.directory(place)?;
        let output = directory.join("output");
        let failed = |doing: &str| {
            let doing = format!("{doing} {}", program.display());
            move |error| BenchError::Local { doing, error }
        };
        #[expect(clippy::disallowed_methods, reason = "an ordinary thread, before the run")]
        let file = std::fs::File::create(&output).map_err(failed("keep the output of"))?;
        let errors = file.try_clone().map_err(failed("keep the output of"))?;
        let mut command = Command::new(&program);
        command
            .args(["start", "--port", "0", "--data-dir"])
            .arg(directory.join("data"))
            // Nobody scrapes it; and what a deleted topic leaves makes room at once.
            .args(["--set", "admin.listen=", "--set", "log.segment.delete.delay.ms=0"])
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors);
        let pid = leftovers.child(|| command.spawn()).map_err(failed("start"))?;
        for _ in 0..LOOKS {
            let words = std::fs::read_to_string(&output).map_err(failed("read the output of"))?;
            if let Some(address) = ready_address(&words) {
                return Ok(EmbeddedBroker { pid, address });
            }
            if leftovers.has_ended(pid) {
                return Err(BenchError::BrokerEnded {
                    words: last_words(&words).to_owned(),
                });
            }
            #[expect(clippy::disallowed_methods, reason = "an ordinary thread, before the run")]
            std::thread::sleep(LOOK);
        }
        Err(BenchError::BrokerSilent {
            waited_s: u64::from(LOOKS) * u64::try_from(LOOK.as_millis()).unwrap_or(0) / 1_000,
        })
    }
}

/// The first address of a broker that says that it is ready. A line that is not whole yet says nothing.
fn ready_address(words: &str) -> Option<String> {
    let whole = &words[..=words.rfind('\n')?];
    let addresses = whole.lines().find_map(|line| line.strip_prefix(READY))?;
    addresses.split(',').next().map(str::to_owned)
}

/// What it says is kept on the disk that it writes to: a full one keeps it silent.
fn last_words(words: &str) -> &str {
    if words.trim().is_empty() {
        return "it said nothing; is its disk full?";
    }
    let mut from = words.len().saturating_sub(WORDS_BYTES_MAX);
    while !words.is_char_boundary(from) {
        from += 1;
    }
    words[from..].trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_ready_when_its_whole_line_is_there() {
        let words = "millstream metrics http://x/\nmillstream ready 127.0.0.1:4001,127.0.0.1:4002\ntry: x\n";
        assert_eq!(ready_address(words), Some("127.0.0.1:4001".to_owned()));
        assert_eq!(ready_address("millstream ready 127.0.0.1:40"), None);
        assert_eq!(ready_address(""), None);
        assert_eq!(last_words(&"ü".repeat(10_000)).len(), WORDS_BYTES_MAX);
        assert_eq!(last_words("\n"), "it said nothing; is its disk full?");
    }

    #[test]
    fn a_missing_broker_is_named_with_the_way_to_get_it() {
        // Test programs are in a directory of their own, without a broker.
        let error = BrokerProgram::Beside.path().unwrap_err().to_string();
        assert!(error.contains("millstream: cargo build --release"), "{error}");
    }
}
