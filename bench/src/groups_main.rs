//! The binary `bench-groups`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use millstream_bench::groups::GroupsArguments;

fn main() -> ExitCode {
    millstream_bench::groups::main(GroupsArguments::parse())
}
