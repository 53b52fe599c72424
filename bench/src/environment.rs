//! Where something was measured: the CPU, the kernel, the disk and the file system of this host.
//!
//! What the kernel tells in `/proc` and `/sys`; what it does not tell is left out. Ordinary threads only.

use std::path::Path;

use serde_json::{Map, Value};

/// Names and values, in the order in which people read them.
pub type Facts = Vec<(&'static str, String)>;

/// For programs: names have no blanks.
pub(crate) fn to_json(facts: &Facts) -> Value {
    let facts = (facts.iter()).map(|(name, value)| (name.replace(' ', "_"), Value::from(value.as_str())));
    Value::Object(facts.collect::<Map<_, _>>())
}

/// The host itself.
pub fn host() -> Facts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let usable = std::thread::available_parallelism().map_or(0, usize::from);
    let mut facts: Facts = Vec::new();
    if let Some(model) = cpu_model(&cpuinfo) {
        facts.push(("cpu", format!("{model}, {usable} usable")));
    }
    if is_virtual(&cpuinfo) {
        facts.push((
            "machine",
            "virtual: others may share its CPUs and its disk".to_owned(),
        ));
    }
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if !governor.trim().is_empty() {
        facts.push(("governor", governor.trim().to_owned()));
    }
    if let Some(kib) = field(&read("/proc/meminfo"), "MemTotal") {
        let kib: u64 = kib.trim_end_matches(" kB").parse().unwrap_or(0);
        facts.push(("memory", format!("{:.1} GiB", kib as f64 / f64::from(1 << 20))));
    }
    let kernel = read("/proc/sys/kernel/osrelease");
    facts.push(("kernel", format!("Linux {}", kernel.trim())));
    let load = read("/proc/loadavg");
    if let Some(minute) = load.split_whitespace().next() {
        facts.push((
            "load before",
            format!("{minute}, a minute's average; near 0 on an idle host"),
        ));
    }
    facts
}

/// The file system and the disk that hold a directory.
pub fn disk_of(directory: &Path) -> Facts {
    let Ok(directory) = directory.canonicalize() else {
        return Facts::new();
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let Some(mount) = mount_of(&mounts, &directory.to_string_lossy()) else {
        return Facts::new();
    };
    let mut facts = vec![
        ("directory", directory.display().to_string()),
        (
            "file system",
            format!("{} on {}, {}", mount.kind, mount.source, mount.options),
        ),
    ];
    let block = Path::new("/sys/dev/block").join(&mount.device);
    // A partition has the queue of the whole disk, one directory above it.
    let read = |name: &str| {
        let of_disk = std::fs::read_to_string(block.join(name));
        let text = of_disk.or_else(|_| std::fs::read_to_string(block.join("..").join(name)));
        text.ok()
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    };
    let parts = [
        ("", read("device/model")),
        (
            "",
            read("queue/rotational")
                .map(|is| if is == "1" { "rotational" } else { "not rotational" }.to_owned()),
        ),
        ("write cache: ", read("queue/write_cache")),
        (
            "FUA: ",
            read("queue/fua").map(|is| if is == "1" { "yes" } else { "no" }.to_owned()),
        ),
        ("scheduler: ", read("queue/scheduler")),
    ];
    let parts = parts
        .into_iter()
        .filter_map(|(label, value)| Some(format!("{label}{}", value?)));
    let disk = parts.collect::<Vec<_>>().join(", ");
    if !disk.is_empty() {
        facts.push(("disk", disk));
    }
    facts
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    // x86 has a name; Arm has numbers.
    let named = field(cpuinfo, "model name").or_else(|| field(cpuinfo, "CPU part"));
    named.map(str::to_owned)
}

fn is_virtual(cpuinfo: &str) -> bool {
    field(cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"))
}

/// The value of the first `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then_some(value.trim())
    })
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// MAJOR:MINOR of its device.
    pub device: String,
    /// Its file system: ext4, xfs and such.
    pub kind: String,
    /// What is mounted, as the mounter said it.
    pub source: String,
    /// Of the mount, then of the file system, separated by commas; what both have is there twice.
    pub options: String,
}

/// The mount that holds a path: of those that are above it the deepest, and of two in one place the later.
pub fn mount_of(mountinfo: &str, path: &str) -> Option<Mount> {
    let mut deepest: Option<(usize, Mount)> = None;
    for line in mountinfo.lines() {
        let Some((place, of_kind)) = line.split_once(" - ") else {
            continue;
        };
        let place: Vec<&str> = place.split(' ').collect();
        let of_kind: Vec<&str> = of_kind.split(' ').collect();
        let (&[_, _, device, _, point, options, ..], &[kind, source, of_file_system, ..]) =
            (&place[..], &of_kind[..])
        else {
            continue;
        };
        let point = unescaped(point);
        let is_above = Path::new(path).starts_with(&point);
        if is_above && deepest.as_ref().is_none_or(|(length, _)| *length <= point.len()) {
            let mount = Mount {
                device: device.to_owned(),
                kind: kind.to_owned(),
                source: unescaped(source),
                options: format!("{options},{of_file_system}"),
            };
            deepest = Some((point.len(), mount));
        }
    }
    deepest.map(|(_, mount)| mount)
}

/// Blanks are written as `\040`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                bytes.push(code);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 24 0:26 / /tmp rw,nosuid - tmpfs tmpfs rw,size=1g
41 24 259:3 / /srv/my\\040data rw,noatime - xfs /dev/nvme0n1p3 rw
42 24 259:4 / /srv/my\\040data rw,nobarrier - xfs /dev/nvme0n1p4 rw
a line that says nothing
";

    #[test]
    fn a_path_is_on_the_deepest_mount_above_it() {
        let device = |path: &str| mount_of(MOUNTS, path).unwrap().device;
        assert_eq!(device("/var/lib"), "254:0");
        assert_eq!(device("/tmp/x"), "0:26");
        assert_eq!(device("/tmpx"), "254:0");
        let mount = mount_of(MOUNTS, "/srv/my data/kafka").unwrap();
        assert_eq!(
            (&mount.device[..], &mount.options[..]),
            ("259:4", "rw,nobarrier,rw")
        );
        assert_eq!((&mount.kind[..], &mount.source[..]), ("xfs", "/dev/nvme0n1p4"));
        assert_eq!(mount_of("", "/"), None);
    }

    #[test]
    fn a_cpu_has_its_name_and_a_virtual_machine_says_so() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu hypervisor\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("Some CPU @ 2 GHz"));
        assert!(is_virtual(cpuinfo));
        assert!(!is_virtual("flags : fpu"));
        assert_eq!(cpu_model(""), None);
    }

    #[test]
    fn this_host_is_known() {
        assert!(
            host()
                .iter()
                .any(|(name, value)| *name == "kernel" && value.len() > "Linux ".len())
        );
        // A mount wherever the tests run: the root of a chroot is none.
        assert!(
            disk_of(Path::new("/proc"))
                .iter()
                .any(|(name, _)| *name == "file system")
        );
        assert!(disk_of(Path::new("/does/not/exist")).is_empty());
    }
}
