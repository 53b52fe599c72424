//! What a start makes sure of in a partition's files before anybody writes to them.
//!
//! Owns two questions: whether they hold what the checkpoint says, and what of them is only reserved. Who merely looks at a
//! directory asks the first alone. Must never cut a file whose journal somebody else may write to: what is reserved by the
//! end that was read may be acknowledged by now.

use std::path::PathBuf;

use ring::directory;
use ring::file::{File, OpenOptions};

use super::PartitionLog;
use super::migrate::RESERVED_BYTES_MAX;
use crate::error::StorageError;
use crate::files::{SegmentFiles, log_path};
use crate::segment::file_stem;

impl PartitionLog {
    /// Checks that the segments' files hold what the checkpoint says, and gives back what an earlier life has reserved much of.
    /// The journal must have been replayed to its end, and nobody else may write to it.
    pub(crate) async fn check_and_cut_files(&self) -> Result<(), StorageError> {
        let newest_bytes = self.check_files(i64::MIN).await?;
        self.cut_what_is_much(newest_bytes).await
    }

    /// Checks that the segments' files hold what was written to them; changes nothing. A recovery that migrates must do so first: a file
    /// that is missing would be made anew, with a hole. What holds only records before `start` may be gone: an earlier
    /// life may have removed it, and not come to a checkpoint.
    pub(crate) async fn check_files(&self, start: i64) -> Result<u64, StorageError> {
        let shared = &self.partition.shared;
        let directory = self.directory();
        let newest = self.newest_segment();
        if let Some(newest) = newest {
            // The disk is asked for many partitions at once; they are listed one after the other, from memory then.
            let _ = directory::exists(&log_path(&directory, newest)).await;
        }
        let names = match directory::list(&directory).await {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(StorageError::io("list", &directory)(error)),
        };
        self.find_replaced(&names);
        let expected: Vec<(PathBuf, u32, bool)> = {
            let state = self.partition.state.borrow();
            let all = &state.segments.all;
            let ends = all.iter().skip(1).map(|next| next.base_offset);
            let on_disk = all
                .iter()
                .zip(ends.chain([state.migrated.next_offset]))
                .filter(|(segment, end)| segment.migrated > 0 && *end > start);
            on_disk
                .map(|(segment, _)| {
                    let files = SegmentFiles::of(segment, &directory);
                    (
                        files.path("log"),
                        segment.on_disk(shared.block_bytes),
                        segment.is_sealed,
                    )
                })
                .collect()
        };
        for (path, bytes, is_sealed) in expected {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let found = names.binary_search_by(|entry| entry.name.as_str().cmp(&name));
            let found = found.map_or(0, |at| names[at].bytes);
            if found < u64::from(bytes) || (is_sealed && found != u64::from(bytes)) {
                let what = format!("it has {found} bytes, and {bytes} were written to it");
                return Err(StorageError::corrupt(&path, found, what));
            }
        }
        let newest = newest.map(file_stem).and_then(|stem| {
            names
                .iter()
                .find(|entry| entry.name.strip_suffix(".log") == Some(&stem))
        });
        Ok(newest.map_or(0, |newest| newest.bytes))
    }

    /// Its base offset.
    fn newest_segment(&self) -> Option<i64> {
        let state = self.partition.state.borrow();
        state.segments.all.last().map(|newest| newest.base_offset)
    }

    /// Gives back what an earlier life has reserved. The journal must have been replayed to its end: what it says is
    /// there has to stay.
    pub(crate) async fn cut_reserved(&self) -> Result<(), StorageError> {
        match self.end_of_newest() {
            Some((segment_base, end)) => self.cut(segment_base, end).await,
            None => Ok(()),
        }
    }

    /// The same, if it is more than migrations reserve; the newest segment's file was found to have so many bytes.
    async fn cut_what_is_much(&self, found: u64) -> Result<(), StorageError> {
        match self.end_of_newest() {
            Some((segment_base, end)) if found > end + RESERVED_BYTES_MAX => {
                self.cut(segment_base, end).await
            }
            Some(_) => {
                self.partition.state.borrow_mut().migrated.reserved = found;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Cuts the file of a segment, if it is there and longer.
    pub(super) async fn cut(&self, segment_base: i64, end: u64) -> Result<(), StorageError> {
        self.partition.shared.assert_writable();
        let path = log_path(&self.directory(), segment_base);
        let options = OpenOptions {
            read: true,
            write: true,
            ..OpenOptions::default()
        };
        let file = match File::open(&path, options).await {
            Ok(file) => file,
            // Everything of it is in the journal.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StorageError::io("open", &path)(error)),
        };
        if file.len().await.map_err(StorageError::io("look at", &path))? > end {
            file.set_len(end).await.map_err(StorageError::io("cut", &path))?;
        }
        Ok(())
    }
}
