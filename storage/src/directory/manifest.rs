//! The manifest: which journals a data directory has. A text file with a checksum, replaced as a whole.

use std::fmt::Write;
use std::path::Path;

use ring::buffer::Pool;

use crate::error::StorageError;
use crate::files::{read_if_there, replace};

/// More journals than any host has cores.
const JOURNALS_MAX: usize = 1_024;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Goes up with each change of the number of shards.
    pub(crate) generation: u64,
    /// [`crate::Layout::number`] of the partitions in them.
    pub(crate) layout: u64,
    /// The journals' ids, by shard.
    pub(crate) journals: Vec<u128>,
}

impl Manifest {
    /// The manifest at `path`; `None` if there is none. One that is empty is damaged: it gets its name when it is whole.
    pub(crate) async fn read(path: &Path, pool: &Pool) -> Result<Option<Manifest>, StorageError> {
        let Some(bytes) = read_if_there(path, pool).await? else {
            return Ok(None);
        };
        let decoded = std::str::from_utf8(&bytes).ok().and_then(decode);
        decoded
            .map(Some)
            .ok_or_else(|| StorageError::corrupt(path, 0, "its lines do not match its checksum"))
    }

    pub(super) async fn write(&self, path: &Path) -> Result<(), StorageError> {
        replace(path, encode(self).into_bytes()).await
    }

    /// The directories of its journals, by shard.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        (0..self.journals.len()).map(|shard| format!("{}-{shard}", self.generation))
    }

    /// Whether the directory `name` holds one of its journals.
    pub(crate) fn lists(&self, name: &str) -> bool {
        self.names().any(|listed| listed == name)
    }
}

fn encode(manifest: &Manifest) -> String {
    let mut text = format!(
        "version=2\ngeneration={}\nlayout={}\n",
        manifest.generation, manifest.layout
    );
    for (shard, id) in manifest.journals.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "journal.{shard}={id:032x}");
    }
    let crc = wire::crc32c(text.as_bytes());
    let _ = writeln!(text, "crc32c={crc:08x}");
    text
}

fn decode(text: &str) -> Option<Manifest> {
    let (body, crc) = text.strip_suffix('\n')?.rsplit_once('\n')?;
    let crc = u32::from_str_radix(crc.strip_prefix("crc32c=")?, 16).ok()?;
    let lines = format!("{body}\n");
    if wire::crc32c(lines.as_bytes()) != crc {
        return None;
    }
    let mut lines = lines.lines();
    let version = lines.next()?.strip_prefix("version=")?;
    let generation = lines.next()?.strip_prefix("generation=")?.parse().ok()?;
    let layout = match version {
        // Before layouts had a number.
        "1" => 0,
        "2" => lines.next()?.strip_prefix("layout=")?.parse().ok()?,
        _ => return None,
    };
    let mut journals = Vec::new();
    for line in lines {
        let (key, id) = line.split_once('=')?;
        let shard: usize = key.strip_prefix("journal.")?.parse().ok()?;
        if shard != journals.len() || shard >= JOURNALS_MAX {
            return None;
        }
        journals.push(u128::from_str_radix(id, 16).ok()?);
    }
    (!journals.is_empty()).then_some(Manifest {
        generation,
        layout,
        journals,
    })
}

/// For the fuzz target: whatever is read is written, and read as the same.
#[cfg(fuzzing)]
pub(crate) fn read_and_write_again(text: &str) {
    if let Some(manifest) = decode(text) {
        assert_eq!(decode(&encode(&manifest)), Some(manifest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_any_change_of_it_is_noticed() {
        let manifest = Manifest {
            generation: 3,
            layout: 5,
            journals: vec![7, u128::MAX],
        };
        let text = encode(&manifest);
        assert_eq!(decode(&text), Some(manifest.clone()));
        assert!(manifest.lists("3-1") && !manifest.lists("3-2") && !manifest.lists("2-0"));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8_lossy(&bytes);
            assert!(
                decode(&changed).is_none_or(|other| other == manifest),
                "byte {at}"
            );
            assert_eq!(decode(&text[..at]), None);
        }
    }

    #[test]
    fn a_manifest_of_the_first_version_is_of_the_first_layout() {
        let body = "version=1\ngeneration=2\njournal.0=00000000000000000000000000000007\n";
        let text = format!("{body}crc32c={:08x}\n", wire::crc32c(body.as_bytes()));
        let expected = Manifest {
            generation: 2,
            layout: 0,
            journals: vec![7],
        };
        assert_eq!(decode(&text), Some(expected));
    }
}
