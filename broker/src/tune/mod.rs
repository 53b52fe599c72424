//! What a host must be for a profile, and what the broker is set to there: `tuning/*.toml`.
//!
//! Owns profiles, the conditions that they name, and what is changed on a host for them. It reads and writes `/proc` and
//! `/sys` as an ordinary program does, before any ring thread is there. Must never change what a plan did not list, nor
//! anything without having written down how it was.

mod applied;
mod change;
mod condition;
mod host;
mod profile;
mod verdict;

pub use self::applied::{Applied, Reverted};
pub use self::change::{Change, plan};
pub use self::host::Host;
pub use self::profile::{Profile, Severity, bundled};
pub use self::verdict::{Verdict, check};

/// Why something cannot be found out or done: what, where and what to do next.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TuneError {
    /// The profile cannot be had, or is not one.
    #[error("profile {name}: {why}")]
    Profile {
        /// Its name, or its file.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// What was changed cannot be written down or read back.
    #[error("cannot {doing} {file}: {why}")]
    Record {
        /// A verb.
        doing: &'static str,
        /// The file of what was changed.
        file: String,
        /// Why not, and what to do.
        why: String,
    },
    /// A file of the kernel does not take the value.
    #[error("cannot set {file} to {value}: {why}")]
    Refused {
        /// The file.
        file: String,
        /// What was to be there.
        value: String,
        /// Why not, and what to do.
        why: String,
    },
}
