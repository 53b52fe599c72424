//! The disk by itself: what it keeps, what it may lose, and what it refuses.

use super::*;

const OLD: Tear = Tear {
    new: 0.0,
    unreadable: 0.0,
};
const MIXED: Tear = Tear {
    new: 0.5,
    unreadable: 0.2,
};
const BUFFERED: OpenOptions = OpenOptions {
    read: true,
    write: true,
    create: true,
    create_new: false,
    truncate: false,
    direct: false,
};
const DIRECT: OpenOptions = OpenOptions {
    direct: true,
    ..BUFFERED
};

#[repr(align(4096))]
struct Block([u8; BLOCK_BYTES]);

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A disk with the durably named, empty file `/f`, open as 1.
fn disk_with_file() -> (Disk, Chance) {
    let mut disk = Disk::new(1 << 30);
    disk.open(1, Path::new("/f"), DIRECT).unwrap();
    let point = disk.submit_flush();
    disk.sync_directory(Path::new("/"), point).unwrap();
    (disk, Chance::new(9))
}

fn write(disk: &mut Disk, byte: u8, offset: u64, durable: bool) {
    let block = [Block([byte; BLOCK_BYTES])];
    let mut chance = Chance::new(0);
    assert_eq!(
        disk.write(1, &block, usize::MAX, offset, durable, &mut chance)
            .unwrap(),
        BLOCK_BYTES
    );
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_was_flushed_survives_and_what_was_not_may_not() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (mut disk, _) = disk_with_file();
        write(&mut disk, 1, 0, false);
        let point = disk.submit_flush();
        disk.sync(1, point).unwrap();
        write(&mut disk, 2, 0, false);
        disk.tear(MIXED, &mut Chance::new(seed));
        match disk.contents(Path::new("/f")) {
            Ok(bytes) => {
                assert_eq!(bytes.len(), BLOCK_BYTES);
                assert!(bytes.iter().all(|&byte| byte == 1 || byte == 2));
                seen.insert(bytes[0]);
            }
            Err(bad) => {
                assert_eq!(bad.raw_os_error(), Some(libc::EIO));
                seen.insert(0);
            }
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_flush_does_not_cover_a_write_that_completed_after_its_submission() {
    let (mut disk, mut chance) = disk_with_file();
    write(&mut disk, 1, 0, true);
    let point = disk.submit_flush();
    write(&mut disk, 2, 0, false);
    disk.sync(1, point).unwrap();
    disk.tear(OLD, &mut chance);
    assert_eq!(disk.contents(Path::new("/f")).unwrap()[0], 1);
}

#[test]
fn a_durable_write_survives_with_its_size_and_covers_no_other() {
    for seed in 0..100 {
        let (mut disk, _) = disk_with_file();
        write(&mut disk, 1, 0, false);
        write(&mut disk, 2, 4096, true);
        disk.tear(OLD, &mut Chance::new(seed));
        let bytes = disk.contents(Path::new("/f")).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[4096]), (8192, 0, 2));
    }
}

#[test]
fn unflushed_growth_shows_old_blocks_of_this_disk() {
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let (mut disk, mut chance) = disk_with_file();
        disk.leave_stale_blocks(&[77; 4 * PAGE_BYTES]);
        write(&mut disk, 1, 0, false);
        disk.tear(OLD, &mut Chance::new(seed));
        let bytes = disk.contents(Path::new("/f")).unwrap();
        seen.insert(bytes.first().copied());
        assert!(bytes.is_empty() || bytes[0] != 1);
        assert_eq!(
            disk.read(1, &mut [0; 16], 0, &mut chance)
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EBADF)
        );
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [None, Some(0), Some(77)]);
}

#[test]
fn durably_allocated_space_shows_zeroes_and_never_old_blocks() {
    for seed in 0..100 {
        let (mut disk, _) = disk_with_file();
        disk.leave_stale_blocks(&[77; 4 * PAGE_BYTES]);
        disk.allocate(1, 0..1 << 16, Allocate::Extend).unwrap();
        let point = disk.submit_flush();
        disk.sync(1, point).unwrap();
        write(&mut disk, 1, 8192, false);
        disk.tear(OLD, &mut Chance::new(seed));
        assert_eq!(disk.contents(Path::new("/f")).unwrap(), vec![0; 1 << 16]);
    }
}

#[test]
fn unflushed_allocation_and_truncation_may_be_undone() {
    let mut lengths = BTreeSet::new();
    for seed in 0..200 {
        let (mut disk, _) = disk_with_file();
        write(&mut disk, 1, 0, true);
        write(&mut disk, 1, 4096, true);
        disk.set_length(1, 100).unwrap();
        disk.allocate(1, 0..1 << 15, Allocate::Extend).unwrap();
        disk.tear(OLD, &mut Chance::new(seed));
        let bytes = disk.contents(Path::new("/f")).unwrap();
        assert_eq!(bytes[..100], [1; 100]);
        if bytes.len() == 8192 {
            assert!(bytes.iter().all(|&byte| byte == 1));
        } else {
            assert!(bytes[100..].iter().all(|&byte| byte == 0));
        }
        lengths.insert(bytes.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [100, 8192, 1 << 15]);
}

#[test]
fn a_new_file_without_its_directory_flushed_may_vanish_with_all_that_was_flushed_in_it() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let mut disk = Disk::new(1 << 30);
        disk.open(1, Path::new("/f"), DIRECT).unwrap();
        write(&mut disk, 1, 0, true);
        let point = disk.submit_flush();
        disk.sync(1, point).unwrap();
        disk.tear(OLD, &mut Chance::new(seed));
        let exists = disk.exists(Path::new("/f")).unwrap();
        if exists {
            assert_eq!(disk.contents(Path::new("/f")).unwrap(), [1; BLOCK_BYTES]);
        }
        outcomes.insert(exists);
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn syncfs_covers_everything_that_had_completed() {
    for seed in 0..50 {
        let mut disk = Disk::new(1 << 30);
        disk.create_all(Path::new("/d/e")).unwrap();
        disk.open(1, Path::new("/d/e/f"), DIRECT).unwrap();
        write(&mut disk, 1, 0, false);
        let point = disk.submit_flush();
        write(&mut disk, 2, 4096, false);
        disk.sync_file_system(Path::new("/"), point).unwrap();
        disk.tear(OLD, &mut Chance::new(seed));
        let bytes = disk.contents(Path::new("/d/e/f")).unwrap();
        assert_eq!(bytes[..4096], [1; 4096]);
        assert!(bytes[4096..].iter().all(|&byte| byte != 2));
    }
}

#[test]
fn syncfs_covers_no_other_file_system() {
    for (synced, expected) in [("/one", 1), ("/other/deep", 2)] {
        let mut disk = Disk::new(1 << 30);
        disk.create_all(Path::new("/one")).unwrap();
        disk.create_all(Path::new("/other/deep")).unwrap();
        disk.open(1, Path::new("/other/f"), DIRECT).unwrap();
        write(&mut disk, 1, 0, false);
        let point = disk.submit_flush();
        disk.sync_file_system(Path::new("/"), point).unwrap();
        write(&mut disk, 2, 0, false);
        let point = disk.submit_flush();
        disk.sync_file_system(Path::new(synced), point).unwrap();
        disk.tear(OLD, &mut Chance::new(3));
        assert_eq!(
            disk.contents(Path::new("/other/f")).unwrap()[0],
            expected,
            "{synced}"
        );
    }
}

#[test]
fn a_failed_flush_is_not_mended_by_one_that_succeeds() {
    let (mut disk, mut chance) = disk_with_file();
    write(&mut disk, 1, 0, true);
    write(&mut disk, 2, 0, false);
    let point = disk.submit_flush();
    disk.fail_sync(1, point);
    let point = disk.submit_flush();
    disk.sync(1, point).unwrap();
    assert_eq!(disk.contents(Path::new("/f")).unwrap()[0], 2);
    disk.tear(OLD, &mut chance);
    assert_eq!(disk.contents(Path::new("/f")).unwrap()[0], 1);
}

#[test]
fn a_full_disk_takes_what_fits_and_removal_makes_room() {
    let mut disk = Disk::new(3 * PAGE_BYTES as u64);
    let mut chance = Chance::new(0);
    disk.open(1, Path::new("/f"), BUFFERED).unwrap();
    let bytes = vec![1; 4 * PAGE_BYTES];
    let written = disk
        .write(1, &[&bytes], usize::MAX, 100, false, &mut chance)
        .unwrap();
    assert_eq!(written, 3 * PAGE_BYTES - 100);
    assert_eq!(
        errno(disk.write(1, &[&bytes], usize::MAX, 3 * 4096, false, &mut chance)),
        Some(libc::ENOSPC)
    );
    assert_eq!(
        errno(disk.allocate(1, 0..1 << 20, Allocate::KeepSize)),
        Some(libc::ENOSPC)
    );
    disk.open(2, Path::new("/g"), BUFFERED).unwrap();
    assert_eq!(
        errno(disk.write(2, &[&bytes], 1, 0, false, &mut chance)),
        Some(libc::ENOSPC)
    );
    disk.remove_file(Path::new("/f")).unwrap();
    assert_eq!(
        errno(disk.write(2, &[&bytes], 1, 0, false, &mut chance)),
        Some(libc::ENOSPC),
        "still open"
    );
    disk.close(1);
    assert_eq!(disk.write(2, &[&bytes], 1, 0, false, &mut chance).unwrap(), 1);
    disk.set_bytes(1 << 20);
    assert_eq!(disk.bytes_free(), (1 << 20) - 4096);
}

#[test]
fn direct_access_asks_for_alignment() {
    let (mut disk, mut chance) = disk_with_file();
    write(&mut disk, 1, 0, false);
    let block = Block([0; BLOCK_BYTES]);
    assert_eq!(
        errno(disk.write(1, &[&block.0[..512]], usize::MAX, 0, false, &mut chance)),
        Some(libc::EINVAL)
    );
    assert_eq!(
        errno(disk.write(1, &[&block], usize::MAX, 512, false, &mut chance)),
        Some(libc::EINVAL)
    );
    let mut out = Block([0; BLOCK_BYTES]);
    assert_eq!(
        errno(disk.read(1, &mut out.0[..100], 0, &mut chance)),
        Some(libc::EINVAL)
    );
    assert_eq!(disk.read(1, &mut out.0, 0, &mut chance).unwrap(), BLOCK_BYTES);
    assert_eq!(disk.read(1, &mut out.0, 4096, &mut chance).unwrap(), 0);
}

#[test]
fn a_buffered_read_may_be_older_than_a_direct_write() {
    let (mut disk, mut chance) = disk_with_file();
    disk.set_stale_cache(1.0);
    disk.open(2, Path::new("/f"), BUFFERED).unwrap();
    write(&mut disk, 1, 0, false);
    let mut out = [0; 10];
    disk.read(2, &mut out, 0, &mut chance).unwrap();
    write(&mut disk, 2, 0, false);
    write(&mut disk, 2, 4096, false);
    disk.read(2, &mut out, 0, &mut chance).unwrap();
    assert_eq!(out, [1; 10]);
    disk.read(2, &mut out, 4096, &mut chance).unwrap();
    assert_eq!(out, [0; 10], "read-ahead past the end had cached the page");
    disk.close(1);
    disk.open(3, Path::new("/f"), DIRECT).unwrap();
    let mut block = Block([0; BLOCK_BYTES]);
    disk.read(3, &mut block.0, 0, &mut chance).unwrap();
    assert_eq!(block.0[0], 2);
}

#[test]
fn rot_and_bad_sectors_hit_flushed_data_too() {
    let (mut disk, mut chance) = disk_with_file();
    write(&mut disk, 1, 0, true);
    assert!(disk.flip_bit(Path::new("/f"), 5, 7).unwrap());
    assert!(!disk.flip_bit(Path::new("/f"), 5000, 7).unwrap());
    disk.tear(OLD, &mut chance);
    assert_eq!(disk.contents(Path::new("/f")).unwrap()[4..7], [1, 0x81, 1]);
    assert!(disk.make_unreadable(Path::new("/f"), 600).unwrap());
    assert_eq!(errno(disk.contents(Path::new("/f"))), Some(libc::EIO));
}

#[test]
fn locks_end_with_their_handle() {
    let (mut disk, _) = disk_with_file();
    disk.open(2, Path::new("/f"), BUFFERED).unwrap();
    assert!(disk.try_lock(1).unwrap() && disk.try_lock(1).unwrap());
    assert!(!disk.try_lock(2).unwrap());
    disk.close(1);
    assert!(disk.try_lock(2).unwrap());
}

#[test]
fn a_removed_file_stays_readable_while_open_and_its_blocks_come_back_stale() {
    let (mut disk, mut chance) = disk_with_file();
    write(&mut disk, 5, 0, true);
    disk.remove_file(Path::new("/f")).unwrap();
    let point = disk.submit_flush();
    disk.sync_directory(Path::new("/"), point).unwrap();
    let mut out = Block([0; BLOCK_BYTES]);
    assert_eq!(disk.read(1, &mut out.0, 0, &mut chance).unwrap(), BLOCK_BYTES);
    disk.close(1);
    let point = disk.submit_flush();
    disk.sync_directory(Path::new("/"), point).unwrap();
    assert!(disk.files().is_empty());
    assert_eq!(disk.stale.give(&mut chance).unwrap().bytes()[0], 5);
}

/// What a file must hold: now, and (as far as that is certain) after a power cut.
#[derive(Default)]
struct Expected {
    now: Vec<u8>,
    durable: BTreeMap<usize, u8>,
    /// A flush failed since the last power cut: the next ones vouch for nothing.
    is_doubtful: bool,
}

impl Expected {
    fn check(&self, bytes: &[u8], wanted: impl Iterator<Item = (usize, u8)>, seed: u64) {
        for (page, byte) in wanted {
            let found = &bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
            assert!(
                found.iter().all(|&found| found == byte),
                "seed {seed}: page {page} is not {byte}"
            );
        }
    }
}

#[test]
fn any_sequence_of_operations_shows_what_was_written_and_keeps_what_was_flushed() {
    for seed in 0..300 {
        let (mut disk, _) = disk_with_file();
        disk.leave_stale_blocks(&[250; 8 * PAGE_BYTES]);
        let mut chance = Chance::new(seed);
        let mut expected = Expected::default();
        for handle in 2..60 {
            let page = chance.index(12);
            let value = 1 + chance.below(200) as u8;
            match chance.below(8) {
                0..3 => {
                    let durable = chance.happens(0.5);
                    write(&mut disk, value, (page * PAGE_BYTES) as u64, durable);
                    expected.now.resize(expected.now.len().max(page + 1), 0);
                    expected.now[page] = value;
                    expected.durable.remove(&page);
                    if durable {
                        expected.durable.insert(page, value);
                    }
                }
                3 => {
                    let pages = chance.index(14);
                    disk.set_length(1, (pages * PAGE_BYTES) as u64).unwrap();
                    expected.now.resize(pages, 0);
                    expected.durable.retain(|page, _| *page < pages);
                }
                4 => {
                    let range = page as u64 * 4096..(page as u64 + 2) * 4096;
                    disk.allocate(1, range, Allocate::Extend).unwrap();
                    expected.now.resize(expected.now.len().max(page + 2), 0);
                }
                5 => {
                    let point = disk.submit_flush();
                    disk.sync(1, point).unwrap();
                    if !expected.is_doubtful {
                        expected.durable = expected.now.iter().copied().enumerate().collect();
                    }
                }
                6 => {
                    let point = disk.submit_flush();
                    disk.fail_sync(1, point);
                    expected.is_doubtful = true;
                }
                _ => {
                    disk.tear(MIXED, &mut chance);
                    disk.open(handle * 100, Path::new("/f"), DIRECT).unwrap();
                    disk.close(1);
                    disk.open(1, Path::new("/f"), DIRECT).unwrap();
                    let bytes = disk.length(1).unwrap() as usize;
                    expected.is_doubtful = false;
                    expected.now.clear();
                    for page in 0..bytes / PAGE_BYTES {
                        let mut block = Block([0; BLOCK_BYTES]);
                        let read = disk.read(1, &mut block.0, (page * PAGE_BYTES) as u64, &mut chance);
                        let is_bad = read.is_err() || block.0.iter().any(|byte| *byte != block.0[0]);
                        if let Some(&byte) = expected.durable.get(&page) {
                            assert!(
                                !is_bad && block.0[0] == byte,
                                "seed {seed}: page {page} is not {byte}"
                            );
                        }
                        if is_bad {
                            // Torn: made whole, so that the next round has something to compare with.
                            write(&mut disk, 0, (page * PAGE_BYTES) as u64, true);
                        }
                        expected.now.push(if is_bad { 0 } else { block.0[0] });
                    }
                    let lost = expected
                        .durable
                        .keys()
                        .next_back()
                        .is_some_and(|last| *last >= bytes / PAGE_BYTES);
                    assert!(!lost, "seed {seed}: the end was durable");
                    expected.durable = expected.now.iter().copied().enumerate().collect();
                }
            }
            let bytes = disk.contents(Path::new("/f")).unwrap();
            assert_eq!(bytes.len(), expected.now.len() * PAGE_BYTES, "seed {seed}");
            expected.check(&bytes, expected.now.iter().copied().enumerate(), seed);
            assert!(disk.bytes_free() <= 1 << 30);
        }
    }
}
