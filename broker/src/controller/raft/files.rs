//! The files of `<data-dir>/metadata/`: whole reads within a bound, and replacement that a power cut does not halve. And waiting
//! for room on the disk: a write that found none is as if it had not been tried.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ring::buffer::{Pool, Slice};
use ring::directory;
use ring::file::{Durability, File, OpenOptions};

use crate::controller::raft::{MetadataError, path_in};

/// A read at a time, in bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// A read at a time in a file that has a bad block, in bytes.
const BLOCK_BYTES: usize = 4_096;
/// Of the thread's budget, in bytes: a few reads at a time.
const POOL_BYTES: usize = 4 * CHUNK_BYTES;
/// What found the disk full is tried again after this.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Clone)]
pub(crate) struct Files {
    directory: PathBuf,
    pool: Pool,
    /// Whether a full disk is waited for; else it is an error.
    waits_for_room: Rc<Cell<bool>>,
}

impl Files {
    /// Opens the directory, and makes it if it is missing.
    pub(crate) async fn open(directory: PathBuf) -> Result<Files, MetadataError> {
        let pool = Pool::new("metadata", POOL_BYTES).map_err(|error| {
            MetadataError::io("take memory to read", &directory, std::io::Error::other(error))
        })?;
        let made = directory::create_all(&directory).await;
        made.map_err(|error| MetadataError::io("make", &directory, error))?;
        // Names that an earlier process made may not be durable yet: nothing is built on them before they are.
        for flushed in directory.parent().into_iter().chain([&*directory]) {
            let synced = directory::sync(flushed).await;
            synced.map_err(|error| MetadataError::io("flush", flushed, error))?;
        }
        Ok(Files {
            directory,
            pool,
            waits_for_room: Rc::default(),
        })
    }

    /// To say whether a full disk is waited for: not at first.
    pub(crate) fn waits_for_room(&self) -> Rc<Cell<bool>> {
        self.waits_for_room.clone()
    }

    /// Makes the attempt, and as long as it finds the disk full, or can open no file, another one.
    pub(crate) async fn when_there_is_room<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, MetadataError>,
    ) -> Result<T, MetadataError> {
        let mut is_told = false;
        loop {
            let made = attempt().await;
            if let Err(error) = &made
                && error.may_pass()
                && self.waits_for_room.get()
            {
                if !is_told {
                    let (what, end, remedy) = if error.is_short_of_descriptors() {
                        (
                            "no file can be opened",
                            "one can",
                            "Raise `ulimit -n` or fs.file-max",
                        )
                    } else {
                        (
                            "the disk is full",
                            "it has room",
                            "Delete records, or enlarge the volume",
                        )
                    };
                    eprintln!(
                        "millstream: {what}: {error}. Topics, configs and ids for idempotent producers wait until {end}; \
                         records are served. {remedy}"
                    );
                }
                is_told = true;
                ring::timer::sleep(FULL_RETRY).await;
                continue;
            }
            if is_told && made.is_ok() {
                eprintln!("millstream: metadata can be written again");
            }
            return made;
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        path_in(&self.directory, name)
    }

    pub(crate) async fn exists(&self, name: &str) -> Result<bool, MetadataError> {
        let path = self.path(name);
        let exists = directory::exists(&path).await;
        exists.map_err(|error| MetadataError::io("look for", &path, error))
    }

    /// Opens a file that is there, for reading and writing.
    pub(crate) async fn file(&self, name: &str) -> Result<File, MetadataError> {
        let path = self.path(name);
        let options = OpenOptions {
            read: true,
            write: true,
            ..OpenOptions::default()
        };
        let opened = File::open(&path, options).await;
        opened.map_err(|error| MetadataError::io("open", &path, error))
    }

    /// All bytes of a file that has at most `bytes_max`. A block that the device cannot read comes as zeroes: a power
    /// cut may leave one where a write was under way, and checksums tell that from one that was acknowledged.
    pub(crate) async fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, MetadataError> {
        let path = self.path(name);
        let failed = |error| MetadataError::io("read", &path, error);
        let file = self.file(name).await?;
        let length = file.len().await.map_err(failed)?;
        if length > bytes_max {
            let why = format!("it has {length} bytes, and {bytes_max} is the most that is ever written");
            return Err(MetadataError::corrupt(&path, bytes_max, why));
        }
        let mut bytes = Vec::new();
        let mut chunk = CHUNK_BYTES;
        let mut buffer =
            (self.pool.take(CHUNK_BYTES).await).map_err(|error| failed(std::io::Error::other(error)))?;
        while (bytes.len() as u64) < length {
            let at = bytes.len() as u64;
            let (mut read, returned) = file.read_exact_at(buffer, 0..chunk, at).await;
            buffer = returned;
            if read.is_err() && chunk > BLOCK_BYTES {
                chunk = BLOCK_BYTES;
                continue;
            }
            if read.is_err() {
                let left = usize::try_from(length - at).unwrap_or(BLOCK_BYTES);
                buffer[..BLOCK_BYTES].fill(0);
                read = Ok(left.min(BLOCK_BYTES));
            }
            let count = read.map_err(failed)?;
            if count == 0 {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        Ok(bytes)
    }

    /// Makes `bytes` the content of the file, durably: after a power cut it is the old file or the new one.
    pub(crate) async fn replace(&self, name: &str, bytes: Vec<u8>) -> Result<File, MetadataError> {
        let bytes = Slice::from(bytes);
        self.when_there_is_room(async || self.replace_now(name, bytes.clone()).await)
            .await
    }

    async fn replace_now(&self, name: &str, bytes: Slice) -> Result<File, MetadataError> {
        let (path, temporary) = (self.path(name), self.path(&format!("{name}.tmp")));
        let options = OpenOptions {
            read: true,
            write: true,
            create: true,
            truncate: true,
            ..OpenOptions::default()
        };
        let at = |action: &'static str, path: &Path| {
            let path = path.to_path_buf();
            move |error| MetadataError::io(action, &path, error)
        };
        let file = File::open(&temporary, options)
            .await
            .map_err(at("open", &temporary))?;
        let written = file.write_all_at(vec![bytes], 0, Durability::Completed).await;
        written.map_err(at("write", &temporary))?;
        file.sync_all().await.map_err(at("flush", &temporary))?;
        let renamed = directory::rename(&temporary, &path).await;
        renamed.map_err(at("rename", &temporary))?;
        let synced = directory::sync(&self.directory).await;
        synced.map_err(at("flush", &self.directory))?;
        Ok(file)
    }
}
