//! What is measured, and of whom.

use std::fmt;

use clap::ValueEnum;

/// Whose echo and append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Runtime {
    Ours,
    Glommio,
    Compio,
    Tokio,
}

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Runtime::Ours => "ours",
            Runtime::Glommio => "glommio",
            Runtime::Compio => "compio",
            Runtime::Tokio => "tokio",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    Echo,
    Append,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Echo(Echo),
    Append(Append),
}

/// Requests that are answered with themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Echo {
    pub(crate) request_bytes: usize,
    pub(crate) connections: usize,
    /// Requests on each connection that have no answer yet.
    pub(crate) in_flight: usize,
}

/// Direct writes one behind the other, and fdatasync after every [`FLUSH_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Append {
    pub(crate) block_bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Place {
    /// Behind the end of a new file.
    New,
    /// Over blocks that were written before, again and again.
    Old,
}

/// Written before each fdatasync.
pub(crate) const FLUSH_BYTES: u64 = 16 << 20;

/// All cases of these subjects, in the table's order.
pub(crate) fn all(subjects: &[Subject]) -> Vec<Case> {
    let mut cases = Vec::new();
    if subjects.contains(&Subject::Echo) {
        // 64 in flight on each of 16 connections only of the small ones: of the large ones that would be 1 MiB a
        // connection, more than sockets hold, and a client that blocks would wait for itself.
        for (request_bytes, shapes) in [
            (100, &[(1, 1), (16, 4), (16, 64)][..]),
            (16 << 10, &[(1, 1), (16, 4)]),
        ] {
            cases.extend(shapes.iter().map(|&(connections, in_flight)| {
                Case::Echo(Echo {
                    request_bytes,
                    connections,
                    in_flight,
                })
            }));
        }
    }
    if subjects.contains(&Subject::Append) {
        for block_bytes in [64 << 10, 1 << 20] {
            for place in [Place::New, Place::Old] {
                cases.extend([1, 4].map(|in_flight| {
                    Case::Append(Append {
                        block_bytes,
                        in_flight,
                        place,
                    })
                }));
            }
        }
    }
    cases
}

impl Case {
    /// What its three figures are: the rate, the CPU, the system calls.
    pub(crate) fn measures(self) -> [&'static str; 3] {
        match self {
            Case::Echo(_) => ["requests/s", "server CPU µs a request", "system calls a request"],
            Case::Append(_) => ["MB/s", "CPU s/GB", "system calls a write"],
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Case::Echo(echo) => {
                let size = Bytes(echo.request_bytes);
                match (echo.connections, echo.in_flight) {
                    (1, 1) => write!(f, "echo of {size}, one connection, one in flight"),
                    (connections, each) => write!(
                        f,
                        "echo of {size}, {connections} connections, {each} in flight on each"
                    ),
                }
            }
            Case::Append(append) => {
                let place = match append.place {
                    Place::New => "extending",
                    Place::Old => "over old blocks",
                };
                let size = Bytes(append.block_bytes);
                write!(f, "append of {size}, {place}, {} in flight", append.in_flight)
            }
        }
    }
}

struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % (1 << 20) == 0 => write!(f, "{} MiB", bytes >> 20),
            bytes if bytes % (1 << 10) == 0 => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{bytes} bytes"),
        }
    }
}
