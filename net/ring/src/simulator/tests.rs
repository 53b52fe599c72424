//! What the simulated world does, seen through the public interface.

mod agreement;
mod disk;
mod journal;
mod network;
mod scheduling;

use std::cell::Cell;
use std::sync::{Arc, Mutex};

/// A log that simulated tasks write and the test reads.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<u64>>>);

impl Notes {
    fn add(&self, note: u64) {
        self.0.lock().unwrap().push(note);
    }

    fn all(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }
}

/// Notes when it is dropped.
struct NotesDrop(Notes, Cell<u64>);

impl Drop for NotesDrop {
    fn drop(&mut self) {
        self.0.add(self.1.get());
    }
}
