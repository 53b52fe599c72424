//! The binary `bench`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use millstream_bench::arguments::Arguments;
use millstream_bench::embedded::BrokerProgram;

fn main() -> ExitCode {
    millstream_bench::run::main(Arguments::parse(), BrokerProgram::Beside)
}
