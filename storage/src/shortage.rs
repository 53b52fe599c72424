//! Whether there was too little of something lately.

use std::cell::Cell;
use std::time::Duration;

use ring::clock::Instant;

/// How long a shortage is spoken of: longer than whoever can help takes to look again.
const RECENT: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    noted: Cell<Option<Instant>>,
}

impl Shortage {
    /// There is too little, now.
    pub(crate) fn note(&self) {
        self.noted.set(Some(ring::clock::now()));
    }

    /// Whether there was too little within the last seconds.
    pub(crate) fn is_recent(&self) -> bool {
        self.noted
            .get()
            .is_some_and(|noted| ring::clock::now() - noted <= RECENT)
    }
}
