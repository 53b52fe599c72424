//! What is to be changed on a host, of what can be while it runs. Pure.

use std::path::PathBuf;

use super::condition::{Mend, Reading};
use super::{Host, Profile};

/// A value of the kernel's that is to be another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The condition for whose sake.
    pub condition: String,
    /// The kernel's file, by its usual path.
    pub file: PathBuf,
    /// What is there.
    pub from: String,
    /// What is to be.
    pub to: String,
}

/// What makes the profile's conditions hold: of those that do not, and whose files take what is wanted. Nothing is changed.
pub fn plan(profile: &Profile, host: &Host) -> Vec<Change> {
    let mut changes = Vec::new();
    for requirement in &profile.required {
        let condition = requirement.condition;
        if !matches!(condition.mend, Mend::Set) {
            continue;
        }
        for reading in (condition.read)(host) {
            if requirement.wanted.is_met(&reading.value, host.shards) {
                continue;
            }
            let to = requirement.wanted.target(&reading, host.shards);
            let Reading {
                value: from, file, ..
            } = reading;
            if let (Some(file), Some(to)) = (file, to) {
                changes.push(Change {
                    condition: condition.name.to_owned(),
                    file,
                    from,
                    to,
                });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_what_does_not_hold_and_can_be_changed() {
        let host = Host::of_test(9, 1 << 20);
        host.put("/proc/sys/kernel/osrelease", "5.10");
        host.put("/proc/sys/vm/swappiness", "60");
        host.put("/proc/sys/net/core/somaxconn", "4096");
        host.put("/sys/kernel/mm/transparent_hugepage/enabled", "[always] never");
        for cpu in ["cpu0", "cpu1", "cpu2"] {
            let value = if cpu == "cpu1" { "performance" } else { "powersave" };
            host.put(
                &format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor"),
                value,
            );
        }
        let profile = Profile::parse(
            "test",
            r#"
            description = "of a test"
            [require]
            kernel = { at-least = "6.1", severity = "fatal" }
            swappiness = { at-most = 1, severity = "warning" }
            listen-backlog = { at-least = 1024, severity = "note" }
            transparent-huge-pages = { one-of = ["madvise"], severity = "warning" }
            cpu-governor = { one-of = ["performance"], severity = "warning" }
            "#,
        );
        let planned = plan(&profile.unwrap(), &host);
        let planned: Vec<String> = planned
            .iter()
            .map(|change| {
                format!(
                    "{} {} {} {}",
                    change.condition,
                    change.file.display(),
                    change.from,
                    change.to
                )
            })
            .collect();
        assert_eq!(
            planned,
            [
                "cpu-governor /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor powersave performance",
                "cpu-governor /sys/devices/system/cpu/cpu2/cpufreq/scaling_governor powersave performance",
                "swappiness /proc/sys/vm/swappiness 60 1",
            ]
        );
    }
}
