//! The host: what the kernel tells of it in `/proc` and `/sys`.

use std::path::{Path, PathBuf};

use bench::environment::mount_of;

/// A host to look at.
#[derive(Debug)]
pub struct Host {
    /// Where its `/proc` and `/sys` are.
    root: PathBuf,
    /// The log directories, absolute; what is above one that is not there yet stands for it.
    directories: Vec<PathBuf>,
    cores: u64,
    /// How many the broker has, or would have.
    pub(super) shards: u64,
}

/// A directory's file system and device.
pub(super) struct Disk {
    /// ext4, xfs and such.
    pub(super) file_system: String,
    /// Of its mount and of the file system, separated by commas.
    pub(super) options: String,
    /// Of the device: a path below `/sys`, such as `/sys/dev/block/259:1`.
    block: PathBuf,
}

impl Host {
    /// The host that has `/proc` and `/sys` below `root`, and whose broker has these log directories and so many shards.
    pub fn new(root: &Path, directories: &[PathBuf], shards: u64) -> Host {
        let directories = directories.iter().map(|directory| {
            let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            let there = absolute.ancestors().find_map(|path| path.canonicalize().ok());
            there.unwrap_or(absolute)
        });
        Host {
            root: root.to_owned(),
            directories: directories.collect(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64),
            shards,
        }
    }

    /// The same with so many shards.
    pub fn with_shards(mut self, shards: u64) -> Host {
        self.shards = shards;
        self
    }

    /// Cores that the process may use.
    pub(super) fn cores(&self) -> u64 {
        self.cores
    }

    /// The memory that the process may use, in bytes: the machine's, or what its control groups leave it.
    pub fn memory_bytes(&self) -> Option<u64> {
        let told = self.text("/proc/meminfo")?;
        let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        let groups = self.text("/proc/self/cgroup").unwrap_or_default();
        let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
        let above = Path::new(group.unwrap_or("/")).ancestors();
        let limits = above.filter_map(|group| {
            let file = format!("/sys/fs/cgroup{}/memory.max", group.display()).replace("//", "/");
            self.text(&file)?.parse().ok()
        });
        Some(limits.fold(kib << 10, u64::min))
    }

    /// A file's text without the blanks around it.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = std::fs::read_to_string(self.place(path.as_ref())).ok()?;
        Some(text.trim().to_owned())
    }

    /// Where a file of `/proc` or `/sys` is, by its usual path.
    pub(super) fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where a file of the kernel's settings is, links and `..` resolved. Root writes there, and a record of what was
    /// changed may be another's work: nothing else is given.
    ///
    /// # Errors
    /// It is not there, or it is no file of `/proc/sys` or `/sys`.
    pub(super) fn kernel_file(&self, path: &Path) -> Result<PathBuf, String> {
        let resolved = |path: &Path| self.place(path).canonicalize();
        let found = resolved(path).map_err(|error| error.to_string())?;
        let mut places = ["/proc/sys", "/sys"]
            .iter()
            .filter_map(|place| resolved(place.as_ref()).ok());
        match places.any(|place| found.starts_with(place)) {
            true => Ok(found),
            false => Err("it is no setting of the kernel's, which are in /proc/sys and /sys".to_owned()),
        }
    }

    /// The names in a directory, in their order; none, if it cannot be read.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.place(Path::new(path)));
        let names = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Whether the path is there.
    pub(super) fn has(&self, path: &str) -> bool {
        self.place(Path::new(path)).exists()
    }

    /// The disks of the log directories, each once.
    pub(super) fn disks(&self) -> Vec<Disk> {
        let mounts = self.text("/proc/self/mountinfo").unwrap_or_default();
        let mut disks: Vec<Disk> = Vec::new();
        for directory in &self.directories {
            let Some(mount) = mount_of(&mounts, &directory.to_string_lossy()) else {
                continue;
            };
            let block = Path::new("/sys/dev/block").join(&mount.device);
            if disks.iter().any(|disk| disk.block == block) {
                continue;
            }
            disks.push(Disk {
                file_system: mount.kind,
                options: mount.options,
                block,
            });
        }
        disks
    }

    /// A file of the disk's queue; a partition has that of the whole disk, one directory above it.
    pub(super) fn queue_file(&self, disk: &Disk, name: &str) -> Option<PathBuf> {
        let own = disk.block.join("queue").join(name);
        let of_disk = disk.block.join("../queue").join(name);
        [own, of_disk].into_iter().find(|path| self.place(path).exists())
    }

    /// One of a test, with so many cores and bytes of memory.
    #[cfg(test)]
    pub(super) fn of_test(cores: u64, memory_bytes: u64) -> Host {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static HOSTS: AtomicUsize = AtomicUsize::new(0);
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("millstream-host-{}-{number}", std::process::id()));
        let mut host = Host::new(&root, &[], cores);
        host.cores = cores;
        host.put(
            "/proc/meminfo",
            &format!("MemTotal:  {} kB\nMemFree: 1 kB\n", memory_bytes >> 10),
        );
        host
    }

    /// Of the same place, with other log directories.
    #[cfg(test)]
    pub(super) fn with_directories(&self, directories: &[PathBuf]) -> Host {
        Host::new(&self.root, directories, self.shards)
    }

    /// Makes a file of a test's host.
    #[cfg(test)]
    #[expect(clippy::disallowed_methods, reason = "a test on an ordinary thread")]
    pub(super) fn put(&self, path: &str, text: &str) {
        let place = self.place(Path::new(path));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::write(place, text).unwrap();
    }
}

/// What a test has made is gone with its host.
#[cfg(test)]
impl Drop for Host {
    fn drop(&mut self) {
        if self.root.starts_with(std::env::temp_dir()) {
            let _it_has_files = std::fs::remove_dir_all(&self.root);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_control_groups_leave() {
        let host = Host::of_test(3, 8 << 30);
        assert_eq!(host.memory_bytes(), Some(8 << 30));
        host.put("/proc/self/cgroup", "0::/a.slice/b.service\n");
        host.put("/sys/fs/cgroup/a.slice/b.service/memory.max", "max\n");
        assert_eq!(host.memory_bytes(), Some(8 << 30));
        host.put("/sys/fs/cgroup/a.slice/memory.max", "1073741824\n");
        assert_eq!(host.memory_bytes(), Some(1 << 30));
        host.put("/sys/fs/cgroup/a.slice/b.service/memory.max", "4294967296\n");
        assert_eq!(host.memory_bytes(), Some(1 << 30));
        host.put("/sys/fs/cgroup/memory.max", "1048576\n");
        assert_eq!(host.memory_bytes(), Some(1 << 20));
    }

    #[test]
    fn a_directory_that_is_not_there_yet_is_on_the_disk_of_what_is_above_it() {
        let root = Host::of_test(4, 1 << 20);
        root.put(
            "/proc/self/mountinfo",
            "24 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n30 24 254:0 / /x rw - ext4 /dev/vda rw\n",
        );
        let at = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
            root.with_directories(&paths)
        };
        let host = at(&["/no-such-directory/of/a/log", "/other"]);
        let disks = host.disks();
        assert_eq!(disks.len(), 1, "both are on one");
        assert_eq!(
            (&disks[0].file_system[..], &disks[0].options[..]),
            ("ext4", "rw,relatime,rw,discard")
        );
        assert_eq!(host.queue_file(&disks[0], "scheduler"), None);
        root.put("/sys/dev/block/queue/scheduler", "none");
        root.put("/sys/dev/block/254:0/partition", "1");
        let found = host.queue_file(&disks[0], "scheduler").unwrap();
        assert_eq!(found, Path::new("/sys/dev/block/254:0/../queue/scheduler"));
    }
}
