//! CPU time of processes of this host, from `/proc/PID/stat` (proc_pid_stat(5)), and of all of them, from `/proc/stat`
//! (proc_stat(5)).

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

/// Of everything that this host ran so far, in seconds: not idle, not waiting for a disk; a virtual host's also without
/// what others took from it.
pub fn host_seconds() -> Option<f64> {
    parse_host(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// User, nice, system, idle, iowait, irq, softirq: all but idle and iowait.
fn parse_host(stat: &str) -> Option<f64> {
    let fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace();
    let fields: Result<Vec<u64>, _> = fields.take(7).map(str::parse).collect();
    let [user, nice, system, _, _, irq, softirq] = fields.ok()?[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq) as f64 / TICKS_PER_S)
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
    fn a_hosts_time_is_what_it_worked() {
        let stat = "cpu  100 20 300 99999 5555 4 6 77 0 0\ncpu0 1 2 3\n";
        assert_eq!(parse_host(stat), Some(4.3));
        assert_eq!(parse_host("cpu 1 2"), None);
        assert_eq!(parse_host(""), None);
    }

    #[test]
    fn our_own_time_is_known() {
        assert!(own_seconds().is_some());
        assert!(host_seconds() >= own_seconds());
    }
}
