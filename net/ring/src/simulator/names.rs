//! The names of a simulated file system: directories, what is in them, and what of it would survive a power cut.
//!
//! A name lives in its directory, not in its file. Making, renaming and removing one is durable only after a flush of
//! the directory. Within one directory a rename is atomic; across two each half needs its own directory's flush.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use super::chance::Chance;
use super::page::NEVER;

/// The number of a file or a directory.
pub(super) type Number = u64;

const ROOT: Number = 0;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Directory(Number),
    File(Number),
}

#[derive(Debug, Default)]
struct Directory {
    current: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// Changes of one directory that are seen together or not at all.
#[derive(Debug, Clone)]
struct Change {
    sequence: u64,
    directory: Number,
    names: Vec<(String, Option<Node>)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Names {
    directories: BTreeMap<Number, Directory>,
    pending: Vec<Change>,
}

impl Names {
    /// An empty root.
    pub(super) fn new() -> Names {
        Names {
            directories: BTreeMap::from([(ROOT, Directory::default())]),
            pending: Vec::new(),
        }
    }

    pub(super) fn resolve(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Directory(ROOT);
        for name in parts(path)? {
            let Node::Directory(number) = node else {
                return Err(error(libc::ENOTDIR));
            };
            let entries = &self.directories[&number].current;
            node = *entries.get(name).ok_or_else(|| error(libc::ENOENT))?;
        }
        Ok(node)
    }

    /// The directory at `path`.
    pub(super) fn directory(&self, path: &Path) -> io::Result<Number> {
        match self.resolve(path)? {
            Node::Directory(number) => Ok(number),
            Node::File(_) => Err(error(libc::ENOTDIR)),
        }
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&self, directory: Number) -> impl Iterator<Item = (&String, Node)> {
        self.directories[&directory]
            .current
            .iter()
            .map(|(name, node)| (name, *node))
    }

    /// Gives a new file or directory the name `path`, which is free.
    pub(super) fn add(&mut self, path: &Path, node: Node, sequence: u64) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        if let Node::Directory(number) = node {
            self.directories.insert(number, Directory::default());
        }
        self.change(parent, vec![(name, Some(node))], sequence);
        Ok(())
    }

    /// rename(2). Returns what `to` named before.
    pub(super) fn rename(&mut self, from: &Path, to: &Path, sequence: u64) -> io::Result<Option<Node>> {
        let node = self.resolve(from)?;
        let (from_parent, from_name) = self.parent(from)?;
        let (to_parent, to_name) = self.parent(to)?;
        let replaced = self.directories[&to_parent].current.get(&to_name).copied();
        match (node, replaced) {
            (_, Some(same)) if same == node => return Ok(None),
            (Node::File(_), Some(Node::Directory(_))) => return Err(error(libc::EISDIR)),
            (Node::Directory(_), Some(Node::File(_))) => return Err(error(libc::ENOTDIR)),
            (Node::Directory(_), Some(Node::Directory(number)))
                if !self.directories[&number].current.is_empty() =>
            {
                return Err(error(libc::ENOTEMPTY));
            }
            (Node::Directory(number), _) if self.is_within(to_parent, number) => {
                return Err(error(libc::EINVAL));
            }
            _ => {}
        }
        if from_parent == to_parent {
            self.change(
                from_parent,
                vec![(from_name, None), (to_name, Some(node))],
                sequence,
            );
        } else {
            self.change(to_parent, vec![(to_name, Some(node))], sequence);
            self.change(from_parent, vec![(from_name, None)], sequence);
        }
        Ok(replaced)
    }

    /// unlink(2). Returns the file.
    pub(super) fn remove_file(&mut self, path: &Path, sequence: u64) -> io::Result<Number> {
        let Node::File(number) = self.resolve(path)? else {
            return Err(error(libc::EISDIR));
        };
        let (parent, name) = self.parent(path)?;
        self.change(parent, vec![(name, None)], sequence);
        Ok(number)
    }

    /// Removes a directory and all below it, one name after the other. Returns the files.
    pub(super) fn remove_all(&mut self, path: &Path, sequence: u64) -> io::Result<Vec<Number>> {
        let top = self.directory(path)?;
        let (parent, name) = self.parent(path)?;
        let mut files = Vec::new();
        let mut left = vec![top];
        while let Some(directory) = left.pop() {
            let names: Vec<_> = self
                .list(directory)
                .map(|(name, node)| (name.clone(), node))
                .collect();
            for (name, node) in names {
                match node {
                    Node::Directory(number) => left.push(number),
                    Node::File(number) => files.push(number),
                }
                self.change(directory, vec![(name, None)], sequence);
            }
        }
        self.change(parent, vec![(name, None)], sequence);
        Ok(files)
    }

    /// A flush of the directories that are meant, submitted at `point`, has completed.
    pub(super) fn settle(&mut self, is_meant: impl Fn(Number) -> bool, point: u64) {
        let is_meant = |change: &Change| is_meant(change.directory);
        let is_covered = |change: &Change| is_meant(change) && change.sequence <= point;
        let Some(last) = self.pending.iter().rposition(is_covered) else {
            return;
        };
        let mut position = 0;
        let directories = &mut self.directories;
        self.pending.retain(|change| {
            // A file system commits what came before with it, even what an earlier flush failed to.
            let settles = position <= last && is_meant(change);
            position += 1;
            if settles && let Some(directory) = directories.get_mut(&change.directory) {
                apply(&mut directory.durable, &change.names);
            }
            !settles
        });
    }

    /// A flush of the directories that are meant, submitted at `point`, has failed: what it should have covered stays
    /// uncertain.
    pub(super) fn give_up(&mut self, is_meant: impl Fn(Number) -> bool, point: u64) {
        for change in &mut self.pending {
            if is_meant(change.directory) && change.sequence <= point {
                change.sequence = NEVER;
            }
        }
    }

    /// The power goes: of what was not flushed, either everything up to some moment survives, or each change on its
    /// own. Returns how many changes did not.
    pub(super) fn tear(&mut self, chance: &mut Chance) -> u64 {
        let in_order = chance.happens(0.5);
        let survivors = chance.index(self.pending.len() + 1);
        let keep = [0.0, 0.5, 1.0][chance.index(3)];
        let mut lost = 0;
        for (position, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            let survives = if in_order {
                position < survivors
            } else {
                chance.happens(keep)
            };
            if !survives {
                lost += 1;
            } else if let Some(directory) = self.directories.get_mut(&change.directory) {
                apply(&mut directory.durable, &change.names);
            }
        }
        for directory in self.directories.values_mut() {
            directory.current.clone_from(&directory.durable);
        }
        let reachable = self.reachable_directories();
        self.directories.retain(|number, _| reachable.contains(number));
        lost
    }

    /// Every file that has a name, or may have one after a power cut.
    pub(super) fn files(&self) -> BTreeSet<Number> {
        let directories = self.directories.values();
        let named =
            directories.flat_map(|directory| directory.current.values().chain(directory.durable.values()));
        let pending = self
            .pending
            .iter()
            .flat_map(|change| change.names.iter().filter_map(|(_, node)| node.as_ref()));
        named
            .chain(pending)
            .filter_map(|node| match node {
                Node::File(number) => Some(*number),
                Node::Directory(_) => None,
            })
            .collect()
    }

    /// Files and directories of the file systems that `path` is not in: each directory of the root is one of its own.
    pub(super) fn elsewhere(&self, path: &Path) -> io::Result<BTreeSet<Number>> {
        let Some(top) = parts(path)?.first().copied() else {
            return Ok(BTreeSet::new());
        };
        let others = self.list(ROOT).filter(|(name, _)| *name != top);
        let mut left: Vec<Node> = others.map(|(_, node)| node).collect();
        let mut elsewhere = BTreeSet::new();
        while let Some(node) = left.pop() {
            match node {
                Node::File(number) => drop(elsewhere.insert(number)),
                Node::Directory(number) => {
                    elsewhere.insert(number);
                    left.extend(self.list(number).map(|(_, node)| node));
                }
            }
        }
        Ok(elsewhere)
    }

    /// Every file that can be reached now, with its path.
    pub(super) fn walk(&self) -> Vec<(String, Number)> {
        let mut files = Vec::new();
        let mut left = vec![(String::new(), ROOT)];
        while let Some((path, directory)) = left.pop() {
            for (name, node) in self.list(directory) {
                let path = format!("{path}/{name}");
                match node {
                    Node::Directory(number) => left.push((path, number)),
                    Node::File(number) => files.push((path, number)),
                }
            }
        }
        files.sort();
        files
    }

    fn change(&mut self, directory: Number, names: Vec<(String, Option<Node>)>, sequence: u64) {
        let entries = self
            .directories
            .get_mut(&directory)
            .expect("a resolved directory is there");
        apply(&mut entries.current, &names);
        self.pending.push(Change {
            sequence,
            directory,
            names,
        });
    }

    /// The directory that holds `path`'s last part, and that part.
    fn parent(&self, path: &Path) -> io::Result<(Number, String)> {
        let parts = parts(path)?;
        let (name, _) = parts.split_last().ok_or_else(|| error(libc::EBUSY))?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        Ok((self.directory(parent)?, (*name).to_owned()))
    }

    /// Whether `directory` is `top` or below it.
    fn is_within(&self, directory: Number, top: Number) -> bool {
        let mut left = vec![top];
        while let Some(number) = left.pop() {
            if number == directory {
                return true;
            }
            left.extend(self.list(number).filter_map(|(_, node)| match node {
                Node::Directory(number) => Some(number),
                Node::File(_) => None,
            }));
        }
        false
    }

    fn reachable_directories(&self) -> BTreeSet<Number> {
        let mut reachable = BTreeSet::new();
        let mut left = vec![ROOT];
        while let Some(number) = left.pop() {
            if reachable.insert(number) {
                left.extend(self.list(number).filter_map(|(_, node)| match node {
                    Node::Directory(number) => Some(number),
                    Node::File(_) => None,
                }));
            }
        }
        reachable
    }
}

fn apply(entries: &mut BTreeMap<String, Node>, names: &[(String, Option<Node>)]) {
    for (name, node) in names {
        match node {
            Some(node) => {
                entries.insert(name.clone(), *node);
            }
            None => {
                entries.remove(name);
            }
        }
    }
}

/// The names of a path. Every process works in the root.
fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => parts.push(name.to_str().ok_or_else(|| error(libc::EINVAL))?),
            Component::ParentDir | Component::Prefix(_) => return Err(error(libc::EINVAL)),
        }
    }
    Ok(parts)
}

pub(super) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &Names, path: &str) -> bool {
        names.resolve(Path::new(path)).is_ok()
    }

    #[test]
    fn a_name_survives_only_with_its_directory_flushed() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let mut names = Names::new();
            names.add(Path::new("/a"), Node::File(1), 1).unwrap();
            names.settle(|number| number == ROOT, 1);
            names.add(Path::new("/b"), Node::File(2), 2).unwrap();
            names.tear(&mut Chance::new(seed));
            assert!(found(&names, "/a"));
            outcomes.insert(found(&names, "/b"));
        }
        assert_eq!(
            outcomes.len(),
            2,
            "an unflushed name is sometimes lost, and sometimes not"
        );
    }

    #[test]
    fn a_rename_within_a_directory_is_never_half_seen() {
        for seed in 0..100 {
            let mut names = Names::new();
            names.add(Path::new("/old"), Node::File(1), 1).unwrap();
            names.add(Path::new("/new"), Node::File(2), 2).unwrap();
            names.settle(|_| true, 2);
            assert_eq!(
                names.rename(Path::new("/new"), Path::new("/old"), 3).unwrap(),
                Some(Node::File(1))
            );
            names.tear(&mut Chance::new(seed));
            let old = names.resolve(Path::new("/old")).unwrap();
            assert_eq!(old == Node::File(1), found(&names, "/new"), "seed {seed}");
        }
    }

    #[test]
    fn what_is_below_a_lost_directory_is_lost() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let mut names = Names::new();
            names.add(Path::new("/d"), Node::Directory(1), 1).unwrap();
            names.add(Path::new("/d/f"), Node::File(2), 2).unwrap();
            names.settle(|number| number == 1, 2);
            names.tear(&mut Chance::new(seed));
            assert_eq!(found(&names, "/d"), found(&names, "/d/f"));
            outcomes.insert(found(&names, "/d"));
        }
        assert_eq!(outcomes.len(), 2);
    }

    #[test]
    fn a_removal_that_was_not_flushed_may_come_back() {
        let mut outcomes = BTreeSet::new();
        for seed in 0..50 {
            let mut names = Names::new();
            names.add(Path::new("/f"), Node::File(1), 1).unwrap();
            names.settle(|_| true, 1);
            assert_eq!(names.remove_file(Path::new("/f"), 2).unwrap(), 1);
            assert!(!found(&names, "/f"));
            assert!(names.files().contains(&1));
            names.tear(&mut Chance::new(seed));
            outcomes.insert(found(&names, "/f"));
        }
        assert_eq!(outcomes.len(), 2);
    }

    #[test]
    fn a_failed_flush_vouches_for_nothing_and_the_next_one_neither() {
        let mut survived = 0;
        for seed in 0..50 {
            let mut names = Names::new();
            names.add(Path::new("/f"), Node::File(1), 1).unwrap();
            names.give_up(|_| true, 1);
            names.settle(|_| true, 1);
            names.tear(&mut Chance::new(seed));
            survived += u32::from(found(&names, "/f"));
        }
        assert!((1..50).contains(&survived), "{survived}");
    }

    #[test]
    fn refusals_are_those_of_a_real_file_system() {
        let mut names = Names::new();
        names.add(Path::new("/d"), Node::Directory(1), 1).unwrap();
        names.add(Path::new("/d/f"), Node::File(2), 1).unwrap();
        let kind = |result: io::Result<Node>| result.unwrap_err().raw_os_error();
        assert_eq!(kind(names.resolve(Path::new("/x"))), Some(libc::ENOENT));
        assert_eq!(kind(names.resolve(Path::new("/d/f/x"))), Some(libc::ENOTDIR));
        assert_eq!(
            names.remove_file(Path::new("/d"), 1).unwrap_err().raw_os_error(),
            Some(libc::EISDIR)
        );
        let into_itself = names.rename(Path::new("/d"), Path::new("/d/e"), 1);
        assert_eq!(into_itself.unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(names.remove_all(Path::new("/d"), 1).unwrap(), [2]);
        assert!(!found(&names, "/d"));
    }
}
