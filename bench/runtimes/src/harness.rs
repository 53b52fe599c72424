//! Rounds of measurements: each of one case and one runtime, in a process of its own.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::case::{Append, Case, Echo, Place, Runtime};
use crate::client::Client;
use crate::measure::{self, SystemCalls};
use crate::memory::Aligned;
use crate::table;

/// What of an echo is not counted at the beginning.
const WARMUP: Duration = Duration::from_millis(200);

/// What is to be measured.
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
    pub(crate) directory: PathBuf,
    pub(crate) file_bytes: u64,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) cases: Vec<Case>,
}

/// What one measurement gave, in the units of [`Case::measures`]; no system calls if they cannot be counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) cpu: f64,
    pub(crate) system_calls: Option<f64>,
}

/// All of them, by case and runtime: the index of the first in the plan.
pub(crate) type Measured = BTreeMap<(usize, Runtime), Vec<Figures>>;

/// Measures everything, and prints the table; not all is well if something could not be measured.
pub(crate) fn run(plan: &Plan) -> io::Result<ExitCode> {
    let stopped = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stopped.clone())?;
    }
    let uncounted = measure::can_count().err();
    let appends = plan.cases.iter().any(|case| matches!(case, Case::Append(_)));
    let place = appends.then(|| Directory::make(plan)).transpose()?;
    let harness = Harness {
        plan,
        place,
        counts: uncounted.is_none(),
    };
    let mut measured = Measured::new();
    let mut failures = Vec::new();
    for round in 1..=plan.rounds {
        let mut runtimes = plan.runtimes.clone();
        if round % 2 == 0 {
            runtimes.reverse();
        }
        for (at, &case) in plan.cases.iter().enumerate() {
            eprintln!("round {round} of {}: {case}", plan.rounds);
            for &runtime in &runtimes {
                let figures = harness.measure(runtime, case);
                // What a signal ended has failed, too: it is sent to the whole group, children included.
                if stopped.load(Ordering::Relaxed) {
                    return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped by a signal"));
                }
                match figures {
                    Ok(figures) => measured.entry((at, runtime)).or_default().push(figures),
                    Err(error) => failures.push(format!("{}, {case}: {error}", runtime.name())),
                }
            }
        }
    }
    print!(
        "{}",
        table::shown(plan, &measured, uncounted.as_deref(), &failures)
    );
    Ok(if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

struct Harness<'a> {
    plan: &'a Plan,
    /// Where files are appended to, if any are.
    place: Option<Directory>,
    counts: bool,
}

impl Harness<'_> {
    fn measure(&self, runtime: Runtime, case: Case) -> io::Result<Figures> {
        match case {
            Case::Echo(echo) => self.measure_echo(runtime, echo),
            Case::Append(append) => {
                let place = self.place.as_ref().expect("there is one if there are appends");
                self.measure_append(runtime, append, place)
            }
        }
    }

    fn measure_echo(&self, runtime: Runtime, echo: Echo) -> io::Result<Figures> {
        let mut server = Server::start(runtime, |command| {
            command.arg("echo");
        })?;
        let line = server.line()?;
        let address = line.strip_prefix("ready ").and_then(|rest| rest.parse().ok());
        let address = address.ok_or_else(|| io::Error::other(format!("it said {line:?}")))?;
        let mut client = Client::connect(address, echo)?;
        client.run(WARMUP)?;
        let cpu_before = measure::cpu(server.pid())?;
        let answers = client.run(self.plan.time)?;
        let cpu = measure::cpu(server.pid())? - cpu_before;
        let system_calls = self.count(server.pid(), || Ok(client.run(self.plan.time / 4)?.count))?;
        Ok(Figures {
            rate: answers.count as f64 / answers.time.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / answers.count as f64,
            system_calls,
        })
    }

    fn measure_append(&self, runtime: Runtime, append: Append, directory: &Directory) -> io::Result<Figures> {
        let mut server = Server::start(runtime, |command| {
            let place = match append.place {
                Place::New => "new",
                Place::Old => "old",
            };
            let file = directory.file(append.place);
            command.arg("append").arg(file).arg(place);
            let numbers = [
                self.plan.file_bytes,
                append.block_bytes as u64,
                append.in_flight as u64,
            ];
            command.args(numbers.map(|number| number.to_string()));
        })?;
        server.expect("ready")?;
        let (mut writes, mut time, mut cpu) = (0, Duration::ZERO, Duration::ZERO);
        // A new file may be full long before the time is over: then there is another.
        while time < self.plan.time {
            let cpu_before = measure::cpu(server.pid())?;
            let (more_writes, more_time) = server.window(self.plan.time - time)?;
            cpu += measure::cpu(server.pid())? - cpu_before;
            writes += more_writes;
            time += more_time;
            server.say("next")?;
            server.expect("ready")?;
        }
        let pid = server.pid();
        let system_calls = self.count(pid, || Ok(server.window(self.plan.time / 4)?.0))?;
        let bytes = writes as f64 * append.block_bytes as f64;
        Ok(Figures {
            rate: bytes / 1e6 / time.as_secs_f64(),
            cpu: cpu.as_secs_f64() / (bytes / 1e9),
            system_calls,
        })
    }

    /// The system calls of a process for each of what `work` says that it was.
    fn count(&self, pid: u32, work: impl FnOnce() -> io::Result<u64>) -> io::Result<Option<f64>> {
        if !self.counts {
            return Ok(None);
        }
        let counting = SystemCalls::count(pid)?;
        let times = work()?;
        Ok(Some(counting.stop()? as f64 / times as f64))
    }
}

/// A process that serves one runtime. It ends when this is dropped.
struct Server {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(runtime: Runtime, what: impl FnOnce(&mut Command)) -> io::Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", runtime.name()]);
        what(&mut command);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            unreachable!("both are pipes");
        };
        Ok(Server {
            process,
            input,
            output: BufReader::new(output),
        })
    }

    fn pid(&self) -> u32 {
        self.process.id()
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.input, "{line}")
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!(
                "its process ended: {}",
                self.process.wait()?
            )));
        }
        Ok(line.trim_end().into())
    }

    fn expect(&mut self, expected: &str) -> io::Result<()> {
        match self.line()? {
            line if line == expected => Ok(()),
            line => Err(io::Error::other(format!("it said {line:?}"))),
        }
    }

    /// Lets an append that is ready write for so long; gives its writes and the time that they took.
    fn window(&mut self, time: Duration) -> io::Result<(u64, Duration)> {
        self.say(&format!("go {}", time.as_millis()))?;
        let line = self.line()?;
        let done = || {
            let (writes, nanoseconds) = line.strip_prefix("done ")?.split_once(' ')?;
            let time = Duration::from_nanos(nanoseconds.parse().ok()?);
            Some((writes.parse().ok()?, time))
        };
        done().ok_or_else(|| io::Error::other(format!("it said {line:?}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A new directory for the files, which goes with them.
struct Directory {
    path: PathBuf,
}

impl Directory {
    /// With the old file in it.
    fn make(plan: &Plan) -> io::Result<Directory> {
        let path = plan
            .directory
            .join(format!("millstream-runtimes-{}", std::process::id()));
        let made = fs::create_dir(&path);
        made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        let directory = Directory { path };
        write_old(&directory.file(Place::Old), plan.file_bytes)?;
        Ok(directory)
    }

    fn file(&self, place: Place) -> PathBuf {
        self.path.join(match place {
            Place::New => "new",
            Place::Old => "old",
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("runtimes: {}: {error}", self.path.display());
        }
    }
}

/// The blocks that are written over: direct, too, so that none of them is in the page cache.
fn write_old(path: &Path, file_bytes: u64) -> io::Result<()> {
    let written = || {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_DIRECT)
            .open(path)?;
        let block = Aligned::new(1 << 20);
        for offset in (0..file_bytes).step_by(block.len()) {
            file.write_all_at(&block, offset)?;
        }
        file.sync_all()
    };
    written().map_err(|error| {
        let why = format!(
            "{}: {error} (--directory DIR on a disk that takes O_DIRECT)",
            path.display()
        );
        io::Error::new(error.kind(), why)
    })
}
