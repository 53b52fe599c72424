//! `millstream tune` on a host that a test has made up, and a start with a profile, as an operator would type them.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test crate: its items are nobody's interface, and a failed unwrap is a failed test"
)]

mod process;

use std::path::{Path, PathBuf};
use std::process::Command;

use process::Broker;

const PROFILE: &str = r#"
description = "of a test"
[require]
kernel = { at-least = "99.0", severity = "note" }
swappiness = { at-most = 1, severity = "warning" }
transparent-huge-pages = { one-of = ["madvise", "never"], severity = "warning" }
[broker]
num.partitions = 7
shards = "cores"
memory.bytes = "50%"
"#;

/// A directory with a profile, and the files of a host that is not as the profile asks; gone with it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("millstream-tune-{}-{name}", std::process::id()));
        let place = Place(path);
        for (file, text) in [
            ("profile.toml", PROFILE),
            ("proc/meminfo", "MemTotal: 4194304 kB\n"),
            ("proc/sys/kernel/osrelease", "6.1.0\n"),
            ("proc/sys/vm/swappiness", "60\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "never\n"),
        ] {
            let file = place.0.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn swappiness(&self) -> String {
        std::fs::read_to_string(self.0.join("proc/sys/vm/swappiness"))
            .unwrap()
            .trim()
            .to_owned()
    }

    /// `millstream tune VERB --profile ... MORE` on that host: its exit code, and what it prints on either stream.
    fn tune(&self, verb: &str, more: &[&str]) -> (Option<i32>, String, String) {
        let mut arguments = vec!["tune".to_owned(), verb.to_owned()];
        arguments.extend(["--profile".to_owned(), self.path("profile.toml")]);
        arguments.extend(["--host-root".to_owned(), self.path("")]);
        if ["apply", "revert"].contains(&verb) {
            arguments.extend(["--record".to_owned(), self.path("run/tuned.json")]);
        }
        arguments.extend(more.iter().map(|&word| word.to_owned()));
        millstream(&arguments)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn millstream(arguments: &[String]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_host_is_checked_changed_as_planned_and_changed_back() {
    let place = Place::new("apply");
    let profile = place.path("profile.toml");
    let (code, printed, errors) = place.tune("check", &[]);
    assert_eq!((code, &errors[..]), (Some(1), ""), "{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    let row = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(row(lines[0]), "condition required current severity holds");
    assert_eq!(row(lines[1]), "kernel at least 99.0 6.1.0 note no");
    assert_eq!(
        row(lines[2]),
        "transparent-huge-pages madvise or never never warning yes"
    );
    assert_eq!(row(lines[3]), "swappiness at most 1 60 warning no");
    let mend = format!(
        "warning: swappiness is 60, and profile {profile} asks for at most 1: echo 1 > /proc/sys/vm/swappiness"
    );
    assert_eq!(lines[5], mend);
    assert_eq!(lines.len(), 6);

    let (code, printed, _) = place.tune("plan", &["--output", "json"]);
    assert_eq!(code, Some(0));
    let planned = "[\n  {\n    \"condition\": \"swappiness\",\n    \"file\": \"/proc/sys/vm/swappiness\",\n    \"from\": \"60\",\n    \"to\": \"1\"\n  }\n]\n";
    assert_eq!(printed, planned);
    assert_eq!(place.swappiness(), "60");

    let (code, printed, errors) = place.tune("apply", &[]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        printed.starts_with("/proc/sys/vm/swappiness: 60 -> 1\n"),
        "{printed}"
    );
    assert!(
        printed.contains(&format!("tune revert --profile {profile}")),
        "{printed}"
    );
    assert_eq!(place.swappiness(), "1");
    let (_, printed, _) = place.tune("plan", &[]);
    assert_eq!(printed, "nothing is to be changed\n");

    let (code, printed, errors) = place.tune("revert", &[]);
    assert_eq!(
        (code, &printed[..]),
        (Some(0), "/proc/sys/vm/swappiness: 60 again\n"),
        "{errors}"
    );
    assert_eq!(place.swappiness(), "60");
    let (code, printed, _) = place.tune("revert", &[]);
    assert_eq!((code, &printed[..]), (Some(0), "nothing was applied\n"));
}

#[test]
fn what_cannot_be_found_out_is_not_taken_for_good_or_wrong() {
    let place = Place::new("unknown");
    std::fs::remove_file(place.0.join("proc/sys/vm/swappiness")).unwrap();
    let (_, printed, _) = place.tune("check", &[]);
    assert!(
        printed.contains("swappiness              at most 1         -        warning   -"),
        "{printed}"
    );
    let refused = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let (code, printed, errors) = millstream(&arguments);
        assert_eq!(printed, "");
        assert!(!errors.contains("panicked"), "{errors}");
        (code, errors)
    };
    let (code, errors) = refused(&["tune", "check", "--profile", "fast"]);
    assert!(
        code == Some(2) && errors.contains("throughput"),
        "{code:?} {errors}"
    );
    let (code, errors) = refused(&["tune", "plan", "--profile", "./none.toml"]);
    assert!(
        code == Some(1) && errors.contains("./none.toml"),
        "{code:?} {errors}"
    );
}

#[test]
fn the_profiles_are_named_and_checked_on_this_host() {
    let arguments = ["tune", "list"].map(str::to_owned);
    let (code, printed, _) = millstream(&arguments);
    assert_eq!(code, Some(0));
    let names: Vec<&str> = printed
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(
        names,
        ["balanced", "dev", "latency", "many-partitions", "throughput"]
    );
    for name in names {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tuning/{name}.toml"));
        assert!(file.exists(), "{name}");
        let arguments = ["tune", "check", "--output", "json", "--profile", name].map(str::to_owned);
        let (code, printed, errors) = millstream(&arguments);
        // Whatever this host is: it is told, and no broker is needed.
        assert!(
            matches!(code, Some(0 | 1)) && errors.is_empty(),
            "{name}: {errors}"
        );
        assert!(printed.contains("\"condition\": \"io-uring\""), "{printed}");
    }
}

#[test]
fn a_start_takes_a_profiles_settings_and_says_what_is_wrong_with_the_host() {
    let place = Place::new("start");
    let profile = place.path("profile.toml");
    let broker = Broker::start_restartable_with(&["--profile", &profile, "--set", "memory.bytes=1073741824"]);
    let arguments = ["config", "get", "broker", "1000", "--brokers", broker.address()].map(str::to_owned);
    let (code, printed, errors) = millstream(&arguments);
    assert_eq!(code, Some(0), "{errors}");
    let value = |name: &str| {
        let line = printed
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(1))
            .map(str::to_owned)
    };
    assert_eq!(value("num.partitions").as_deref(), Some("7"), "{printed}");
    assert_eq!(value("memory.bytes").as_deref(), Some("1073741824"), "--set wins");
    let said = broker.stop();
    let kernel = format!("and profile {profile} asks for at least 99.0: install Linux 99.0 or a later one\n");
    assert!(
        said.contains("millstream: note: kernel is ") && said.contains(&kernel),
        "{said}"
    );
}
