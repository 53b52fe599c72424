//! CPU time of processes of this host, from `/proc/PID/stat` (proc_pid_stat(5)).

/// Ticks of a second in `/proc`: USER_HZ, which is 100 on every architecture that Linux runs us on.
const TICKS_PER_S: f64 = 100.0;

/// User and system time of a process and all its threads so far, in seconds; `None` if there is no such process.
/// It reads a file that the kernel makes up on the spot, so that it may be called on a ring thread that waits.
pub fn process_seconds(pid: u32) -> Option<f64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Of this process.
pub fn own_seconds() -> Option<f64> {
    process_seconds(std::process::id())
}

/// Fields 14 and 15. The name in field 2 may hold spaces and parentheses: count from the last one.
fn parse(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 250 125 0 0 20 0 1 0 5 0 0";
        assert_eq!(parse(stat), Some(3.75));
        assert_eq!(parse("42 (a"), None);
        assert_eq!(parse("42 (a) S 1"), None);
    }

    #[test]
    fn our_own_time_is_known() {
        assert!(own_seconds().is_some());
    }
}
