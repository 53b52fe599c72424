//! What a process took: its CPU from /proc, its system calls from perf.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// proc_pid_stat(5) counts in hundredths of a second, on every architecture of Linux that this runs on.
const TICK: Duration = Duration::from_millis(10);

/// User and system time of a process, with all its threads; also those of the kernel that work for its ring.
pub(crate) fn cpu(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat: {stat}")))?;
    Ok(TICK * ticks)
}

/// utime and stime: the 14th and the 15th field. The second is a name in brackets, and may hold anything.
fn ticks(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Counts the system calls of a process: `perf stat` of it, for as long as a `cat` runs that we hold the ends of. What
/// `cat` gives back says that the counting has begun; without its input it ends, and perf with it. To count slows
/// system calls down: CPU is measured at another time.
pub(crate) struct SystemCalls {
    perf: Child,
}

impl SystemCalls {
    pub(crate) fn count(pid: u32) -> io::Result<SystemCalls> {
        let perf = Command::new("perf")
            .args([
                "stat",
                "-x",
                ",",
                "-e",
                "raw_syscalls:sys_enter",
                "-p",
                &pid.to_string(),
            ])
            .args(["--", "cat"])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let perf = perf.map_err(|error| io::Error::new(error.kind(), format!("perf: {error}")))?;
        let mut counting = SystemCalls { perf };
        let mut byte = [b'\n'];
        // perf that refuses has closed its ends.
        let sent = counting.perf.stdin.as_mut().map(|input| input.write_all(&byte));
        let begun = (counting.perf.stdout.as_mut()).map(|output| output.read_exact(&mut byte));
        match (sent, begun) {
            (Some(Ok(())), Some(Ok(()))) => Ok(counting),
            _ => Err(io::Error::other(format!("perf: {}", counting.end()?))),
        }
    }

    /// The calls since then.
    pub(crate) fn stop(mut self) -> io::Result<u64> {
        let text = self.end()?;
        counted(&text).ok_or_else(|| io::Error::other(format!("perf: {text}")))
    }

    fn end(&mut self) -> io::Result<String> {
        drop(self.perf.stdin.take());
        let mut text = String::new();
        if let Some(errors) = self.perf.stderr.as_mut() {
            errors.read_to_string(&mut text)?;
        }
        self.perf.wait()?;
        Ok(text.trim().into())
    }
}

impl Drop for SystemCalls {
    fn drop(&mut self) {
        drop(self.perf.stdin.take());
        let _ = self.perf.wait();
    }
}

/// `12345,,raw_syscalls:sys_enter,...` among what perf has to say.
fn counted(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let (count, rest) = line.split_once(',')?;
        rest.contains("raw_syscalls:sys_enter")
            .then(|| count.parse().ok())?
    })
}

/// Whether system calls can be counted here; else why not.
pub(crate) fn can_count() -> Result<(), String> {
    let tried = SystemCalls::count(std::process::id()).and_then(|counting| {
        // This is one.
        std::fs::metadata("/proc/self")?;
        counting.stop()
    });
    tried.map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_process_may_hold_anything() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 5 5 20 0 1 0 100 1000 10";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn perf_says_a_number_or_none() {
        assert_eq!(
            counted("a warning, of some kind\n1595586,,raw_syscalls:sys_enter,776846048,100.00,,"),
            Some(1_595_586)
        );
        assert_eq!(counted("<not counted>,,raw_syscalls:sys_enter,0,100.00,,"), None);
        assert_eq!(counted("No permission to enable raw_syscalls:sys_enter"), None);
    }
}
