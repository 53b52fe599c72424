//! The conditions that a profile may name: how each is read, and what mends it.

use std::path::{Path, PathBuf};

use ring::thread::{ThreadOptions, spawn};

use super::Host;

/// Something of a host that a broker's speed, or its life, hangs on.
#[derive(Debug)]
pub(super) struct Condition {
    /// Its name in profiles.
    pub(super) name: &'static str,
    pub(super) measure: Measure,
    /// Empty, if the host does not tell.
    pub(super) read: fn(&Host) -> Vec<Reading>,
    pub(super) mend: Mend,
}

/// A condition is what it is called.
impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.name == other.name
    }
}

impl Eq for Condition {}

/// What a condition's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Version,
    Number,
    Word,
    /// Separated by commas.
    Words,
}

impl Measure {
    /// What a profile may ask of it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Measure::Version => "at-least = \"6.1\"",
            Measure::Number => "at-least = 1, at-least = \"shards\" or at-most = 1",
            Measure::Word => "one-of = [\"a\", \"b\"]",
            Measure::Words => "without = [\"a\", \"b\"]",
        }
    }
}

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) value: String,
    /// The kernel's file that has it; none if it is no file's.
    pub(super) file: Option<PathBuf>,
    /// What else could be there, if the file says so.
    pub(super) choices: Vec<String>,
}

/// What to do about a condition that does not hold.
#[derive(Debug)]
pub(super) enum Mend {
    /// Its files take another value while the host runs.
    Set,
    /// This, with `{}` for what is wanted.
    Say(&'static str),
}

/// The order is the one in which they are shown.
static CONDITIONS: [Condition; 15] = [
    Condition {
        name: "kernel",
        measure: Measure::Version,
        read: |host| file(host, "/proc/sys/kernel/osrelease"),
        mend: Mend::Say("install Linux {} or a later one"),
    },
    Condition {
        name: "io-uring",
        measure: Measure::Word,
        read: io_uring,
        mend: Mend::Say(
            "do what the error says: sysctl kernel.io_uring_disabled=0, or let the container's seccomp profile pass it",
        ),
    },
    Condition {
        name: "open-files",
        measure: Measure::Number,
        read: open_files,
        mend: Mend::Say("ulimit -n {}, as root, before the start; or LimitNOFILE={} in the service's unit"),
    },
    Condition {
        name: "cpu-governor",
        measure: Measure::Word,
        read: governors,
        mend: Mend::Set,
    },
    Condition {
        name: "clocksource",
        measure: Measure::Word,
        read: clocksource,
        mend: Mend::Set,
    },
    Condition {
        name: "isolated-cores",
        measure: Measure::Number,
        read: isolated_cores,
        mend: Mend::Say("isolcpus=managed_irq,domain,1-{} on the kernel's command line"),
    },
    Condition {
        name: "irq-balance",
        measure: Measure::Word,
        read: irq_balance,
        mend: Mend::Say("systemctl disable --now irqbalance"),
    },
    Condition {
        name: "transparent-huge-pages",
        measure: Measure::Word,
        read: |host| file(host, "/sys/kernel/mm/transparent_hugepage/enabled"),
        mend: Mend::Set,
    },
    Condition {
        name: "swappiness",
        measure: Measure::Number,
        read: |host| file(host, "/proc/sys/vm/swappiness"),
        mend: Mend::Set,
    },
    Condition {
        name: "listen-backlog",
        measure: Measure::Number,
        read: |host| file(host, "/proc/sys/net/core/somaxconn"),
        mend: Mend::Set,
    },
    Condition {
        name: "nic-queues",
        measure: Measure::Number,
        read: nic_queues,
        mend: Mend::Say("ethtool -L DEVICE combined {}"),
    },
    Condition {
        name: "file-system",
        measure: Measure::Word,
        read: |host| of_disks(host, |disk| Some(disk.file_system.clone())),
        mend: Mend::Say("put the log on a disk of its own, with one of {}"),
    },
    Condition {
        name: "mount-options",
        measure: Measure::Words,
        read: |host| of_disks(host, |disk| Some(disk.options.clone())),
        mend: Mend::Say("take {} out of /etc/fstab, and mount it again"),
    },
    Condition {
        name: "io-scheduler",
        measure: Measure::Word,
        read: schedulers,
        mend: Mend::Set,
    },
    Condition {
        name: "write-cache",
        measure: Measure::Word,
        read: write_caches,
        mend: Mend::Say(
            "put the log on a disk with power-loss protection, which has no cache that forgets, or on one with FUA",
        ),
    },
];

/// The condition of that name.
pub(super) fn find(name: &str) -> Option<&'static Condition> {
    CONDITIONS.iter().find(|condition| condition.name == name)
}

/// All names.
pub(super) fn names() -> Vec<&'static str> {
    CONDITIONS.iter().map(|condition| condition.name).collect()
}

/// Its place among those that are shown.
pub(super) fn place(condition: &Condition) -> usize {
    CONDITIONS.iter().take_while(|other| *other != condition).count()
}

impl Reading {
    fn said(value: impl Into<String>) -> Reading {
        Reading {
            value: value.into(),
            file: None,
            choices: Vec::new(),
        }
    }

    /// What a kernel's file says: its text, or of several words the one in brackets.
    pub(super) fn of_text(text: &str, file: &Path) -> Reading {
        let words: Vec<&str> = text.split_whitespace().collect();
        let bare = |word: &str| word.trim_matches(['[', ']']).to_owned();
        let chosen = words.iter().find(|word| word.starts_with('['));
        Reading {
            value: chosen.map_or_else(|| text.trim().to_owned(), |word| bare(word)),
            file: Some(file.to_owned()),
            choices: chosen.map_or_else(Vec::new, |_| words.iter().map(|word| bare(word)).collect()),
        }
    }
}

fn file(host: &Host, path: impl AsRef<Path>) -> Vec<Reading> {
    let text = host.text(&path);
    text.map(|text| Reading::of_text(&text, path.as_ref()))
        .into_iter()
        .collect()
}

/// The one proof: a ring that was made, with every operation that a shard asks for.
fn io_uring(_: &Host) -> Vec<Reading> {
    let options = ThreadOptions {
        name: "probe".to_owned(),
        ..ThreadOptions::default()
    };
    let value = match spawn(options, || async {}) {
        Ok(thread) => {
            thread.join_blocking();
            "usable".to_owned()
        }
        Err(error) => error.to_string(),
    };
    vec![Reading::said(value)]
}

/// The hard limit: a start raises its own to it.
fn open_files(host: &Host) -> Vec<Reading> {
    let limits = host.text("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    hard.map(Reading::said).into_iter().collect()
}

fn governors(host: &Host) -> Vec<Reading> {
    let cpus = host.names("/sys/devices/system/cpu");
    let cpus = cpus
        .iter()
        .filter(|name| name.strip_prefix("cpu").is_some_and(is_number));
    cpus.flat_map(|cpu| {
        file(
            host,
            format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"),
        )
    })
    .collect()
}

fn clocksource(host: &Host) -> Vec<Reading> {
    let place = "/sys/devices/system/clocksource/clocksource0";
    let mut found = file(host, format!("{place}/current_clocksource"));
    let available = host
        .text(format!("{place}/available_clocksource"))
        .unwrap_or_default();
    for reading in &mut found {
        reading.choices = available.split_whitespace().map(str::to_owned).collect();
    }
    found
}

fn isolated_cores(host: &Host) -> Vec<Reading> {
    let listed = host.text("/sys/devices/system/cpu/isolated");
    let counted = listed.and_then(|listed| count_of(&listed));
    counted
        .map(|count| Reading::said(count.to_string()))
        .into_iter()
        .collect()
}

/// How many a list of CPUs has, such as `1-3,7`.
fn count_of(list: &str) -> Option<u64> {
    let mut count = 0;
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

fn irq_balance(host: &Host) -> Vec<Reading> {
    let processes = host.names("/proc");
    let mut processes = processes.iter().filter(|name| is_number(name)).peekable();
    if processes.peek().is_none() {
        return Vec::new();
    }
    let runs = processes.any(|pid| host.text(format!("/proc/{pid}/comm")).as_deref() == Some("irqbalance"));
    vec![Reading::said(if runs { "running" } else { "stopped" })]
}

/// Of the network card with the most queues: a device stands behind it, which none does behind `lo` or a bridge.
fn nic_queues(host: &Host) -> Vec<Reading> {
    let cards = host.names("/sys/class/net");
    let cards = cards
        .iter()
        .filter(|card| host.has(&format!("/sys/class/net/{card}/device")));
    let queues = cards.map(|card| {
        let queues = host.names(&format!("/sys/class/net/{card}/queues"));
        queues.iter().filter(|name| name.starts_with("rx-")).count()
    });
    queues
        .max()
        .map(|most| Reading::said(most.to_string()))
        .into_iter()
        .collect()
}

fn schedulers(host: &Host) -> Vec<Reading> {
    let disks = host.disks();
    let files = disks.iter().filter_map(|disk| host.queue_file(disk, "scheduler"));
    files.flat_map(|path| file(host, path)).collect()
}

/// Whether a disk forgets what it has taken when the power goes, and whether a write can say that it must not.
fn write_caches(host: &Host) -> Vec<Reading> {
    let disks = host.disks();
    let cache = |disk| {
        let text = |name| host.text(host.queue_file(disk, name)?);
        let cache = text("write_cache")?;
        let has_fua = text("fua").as_deref() == Some("1");
        Some(match has_fua && cache == "write back" {
            true => "write back with FUA".to_owned(),
            false => cache,
        })
    };
    disks.iter().filter_map(cache).map(Reading::said).collect()
}

fn of_disks(host: &Host, value: fn(&super::host::Disk) -> Option<String>) -> Vec<Reading> {
    host.disks().iter().filter_map(value).map(Reading::said).collect()
}

fn is_number(text: impl AsRef<str>) -> bool {
    let text = text.as_ref();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(host: &Host, name: &str) -> Vec<String> {
        let readings = (find(name).unwrap().read)(host);
        readings.into_iter().map(|reading| reading.value).collect()
    }

    #[test]
    fn what_a_host_does_not_tell_is_not_guessed() {
        let host = Host::of_test(5, 1 << 20);
        for condition in CONDITIONS.iter().filter(|condition| condition.name != "io-uring") {
            assert_eq!(values(&host, condition.name), [""; 0], "{}", condition.name);
        }
    }

    #[test]
    fn each_is_read_as_the_kernel_writes_it() {
        let host = Host::of_test(6, 1 << 20);
        for (path, text) in [
            ("/proc/sys/kernel/osrelease", "6.18.5-host\n"),
            (
                "/proc/self/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n",
            ),
            (
                "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "/sys/devices/system/cpu/cpu10/cpufreq/scaling_governor",
                "performance\n",
            ),
            ("/sys/devices/system/cpu/cpufreq/scaling_governor", "of no CPU\n"),
            (
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet\n",
            ),
            (
                "/sys/devices/system/clocksource/clocksource0/available_clocksource",
                "tsc hpet\n",
            ),
            ("/sys/devices/system/cpu/isolated", "1-3,7\n"),
            ("/proc/1/comm", "init\n"),
            ("/proc/77/comm", "irqbalance\n"),
            (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "always [madvise] never\n",
            ),
            ("/proc/sys/vm/swappiness", "60\n"),
            ("/sys/class/net/lo/queues/rx-0/x", ""),
            ("/sys/class/net/lo/queues/rx-1/x", ""),
            ("/sys/class/net/eth0/device/x", ""),
            ("/sys/class/net/eth0/queues/rx-0/x", ""),
            ("/sys/class/net/eth0/queues/tx-0/x", ""),
        ] {
            host.put(path, text);
        }
        for (name, expected) in [
            ("kernel", &["6.18.5-host"][..]),
            ("open-files", &["524288"]),
            ("cpu-governor", &["powersave", "performance"]),
            ("clocksource", &["hpet"]),
            ("isolated-cores", &["4"]),
            ("irq-balance", &["running"]),
            ("transparent-huge-pages", &["madvise"]),
            ("swappiness", &["60"]),
            ("nic-queues", &["1"]),
        ] {
            assert_eq!(values(&host, name), expected, "{name}");
        }
        let pages = (find("transparent-huge-pages").unwrap().read)(&host);
        assert_eq!(pages[0].choices, ["always", "madvise", "never"]);
        let clock = (find("clocksource").unwrap().read)(&host);
        assert_eq!(clock[0].choices, ["tsc", "hpet"]);
        host.put("/sys/devices/system/cpu/isolated", "\n");
        assert_eq!(values(&host, "isolated-cores"), ["0"]);
        assert_eq!(count_of("3-1"), None);
    }

    #[test]
    fn a_cache_that_writes_can_go_around_is_told_from_one_that_they_cannot() {
        let root = Host::of_test(9, 1 << 20);
        root.put("/proc/self/mountinfo", "24 1 254:0 / / rw - ext4 /dev/vda rw\n");
        let host = root.with_directories(&["/no-such-directory".into()]);
        for (cache, fua, expected) in [
            ("write back", "0", "write back"),
            ("write back", "1", "write back with FUA"),
            ("write through", "0", "write through"),
            ("write through", "1", "write through"),
        ] {
            root.put("/sys/dev/block/254:0/queue/write_cache", cache);
            root.put("/sys/dev/block/254:0/queue/fua", fua);
            assert_eq!(values(&host, "write-cache"), [expected], "{cache} {fua}");
        }
    }

    #[test]
    fn rings_are_usable_where_the_tests_run() {
        assert_eq!(values(&Host::of_test(8, 1 << 20), "io-uring"), ["usable"]);
    }
}
