//! `millstream`: the process. Reads the command line, starts the control thread, and turns signals into a clean stop.
//!
//! Everything that may block an ordinary thread is here. Must never touch the log.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use bench::embedded::BrokerProgram;
use clap::Parser;
use millstream::admin::{self, AdminOptions};
use millstream::cli::{
    self, CliError, Command, CommandLine, StartArguments, run_cluster, run_config, run_group, run_log,
    run_topic, run_tune,
};
use millstream::config::{FILE_BYTES_MAX, Settings, table};
use millstream::controller::host::{self, HostOptions};
use millstream::tune::{self, Host, Profile};
use ring::channel::{Sender, bounded, oneshot};
use ring::thread::ThreadOptions;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Each shard allocates and frees on its own thread, small things, millions of times a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let ran = match CommandLine::parse().command() {
        Command::Start(arguments) => prepare(&arguments).and_then(serve),
        Command::Topic(arguments) => return client(run_topic(arguments)),
        Command::Group(arguments) => return client(run_group(arguments)),
        Command::Config(arguments) => return client(run_config(arguments)),
        Command::Cluster(arguments) => return client(run_cluster(arguments)),
        Command::Log(arguments) => return run_log(arguments),
        Command::Tune(arguments) => return run_tune(arguments),
        Command::Bench(arguments) => return bench::run::main(arguments, BrokerProgram::Itself),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millstream: {error}");
            ExitCode::FAILURE
        }
    }
}

/// How a client command ended.
fn client(ran: Result<(), CliError>) -> ExitCode {
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

/// The settings, from defaults, profile, file, `--set` and flags; a later source wins.
fn prepare(arguments: &StartArguments) -> Result<HostOptions, String> {
    let mut settings = Settings::default();
    let this_host = |directories: &[PathBuf], shards| Host::new(Path::new("/"), directories, shards);
    let profile = arguments.profile.as_deref().map(Profile::load).transpose();
    let profile = profile.map_err(|error| error.to_string())?;
    if let Some(profile) = &profile {
        let shares = profile
            .settings(&this_host(&[], 1))
            .map_err(|error| error.to_string())?;
        settings
            .take_profile(&shares)
            .map_err(|error| format!("profile {}: {error}", profile.name))?;
    }
    if let Some(path) = &arguments.config {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        #[expect(clippy::disallowed_methods, reason = "before any ring thread is there")]
        let bytes = std::fs::read(path).map_err(|error| named(&error))?;
        if bytes.len() > FILE_BYTES_MAX {
            return Err(named(&format!(
                "a configuration file has at most {FILE_BYTES_MAX} bytes"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|_| named(&"it is not UTF-8 text"))?;
        settings.take_file(&text).map_err(|error| named(&error))?;
    }
    for assignment in &arguments.set {
        settings
            .take_assignment(assignment)
            .map_err(|error| error.to_string())?;
    }
    let log_directories = log_directories(arguments, &settings)?;
    let names: Vec<_> = log_directories
        .iter()
        .map(|directory| directory.to_string_lossy())
        .collect();
    let flags = [
        (&table::LOG_DIRS, Some(names.join(","))),
        (&table::HOST, arguments.host.clone()),
        (&table::PORT, arguments.port.map(|port| port.to_string())),
        (&table::SHARDS, arguments.shards.map(|shards| shards.to_string())),
    ];
    for (setting, value) in flags {
        if let Some(value) = value {
            settings
                .take_flag(setting, &value)
                .map_err(|error| error.to_string())?;
        }
    }
    settings.check().map_err(|error| error.to_string())?;
    if let Some(bytes) = this_host(&[], 1).memory_bytes() {
        settings.check_memory(bytes).map_err(|error| error.to_string())?;
    }
    if let Some(profile) = &profile {
        let shards = settings.integer(&table::SHARDS).unsigned_abs();
        let verdicts = tune::check(profile, &this_host(&log_directories, shards));
        for line in verdicts
            .iter()
            .filter_map(|verdict| cli::complaint(&profile.name, verdict))
        {
            eprintln!("millstream: {line}");
        }
    }
    // As many as it may use at once, of those that it was given: taskset and containers give some.
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    Ok(HostOptions {
        settings,
        log_directories,
        given_up_directory: arguments.give_up_directory,
        cpus: ring::thread::allowed_cpus().into_iter().take(cpus).collect(),
        descriptors: ring::descriptors::raise_limit()
            .map_err(|error| format!("cannot raise the limit of open files: {error}"))?,
    })
}

/// The log directories, by the flag, or else `log.dirs`, or else ./data. Clients are told of them, who do not know where this
/// process was started.
fn log_directories(arguments: &StartArguments, settings: &Settings) -> Result<Vec<PathBuf>, String> {
    let set = settings.log_directories().into_iter().map(PathBuf::from);
    let mut given = match &arguments.data_dir[..] {
        [] => set.collect(),
        flags => flags.to_vec(),
    };
    if given.is_empty() {
        given.push(PathBuf::from("data"));
    }
    let absolute = given.iter().map(|path| {
        std::path::absolute(path).map_err(|error| format!("cannot tell where {} is: {error}", path.display()))
    });
    absolute.collect()
}

/// Starts the control thread, says when clients can connect, and waits for its end.
fn serve(options: HostOptions) -> Result<(), String> {
    // What goes wrong outside (clients, accepts) is told in lines on standard error, whose writers bound their rate.
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .with_max_level(tracing::Level::WARN)
        .init();
    let (probes, probed) = bounded(admin::PROBES_MAX);
    let admin_address = options
        .settings
        .admin_address()
        .map_err(|error| error.to_string())?;
    if let Some(listen) = admin_address {
        let lags_max = options.settings.usize(&table::METRICS_LAG_PARTITIONS_MAX);
        let address = admin::start(AdminOptions { listen, lags_max }, probes)?;
        // Before clients can connect, so that the start can be watched.
        let _nobody_reads = writeln!(std::io::stdout(), "millstream metrics http://{address}/metrics");
    }
    let (stop, stopped) = bounded(1);
    let signals = Signals::new([SIGTERM, SIGINT]).map_err(|error| format!("cannot take signals: {error}"))?;
    let (ready, is_ready) = oneshot();
    let outcome: Arc<OnceLock<Result<Vec<String>, String>>> = Arc::default();
    let told = outcome.clone();
    let thread = ThreadOptions {
        name: "control".to_owned(),
        cpu: None,
        memory_bytes: options.control_memory_bytes(),
        prefault: false, // nobody waits for it
        disks: options.disks(),
    };
    let control = ring::thread::spawn(thread, move || async move {
        let ended = host::run(options, stopped, ready, probed).await;
        let _set_once = told.set(ended);
    });
    let control = control.map_err(|error| error.to_string())?;
    watch_signals(signals, stop);
    if let Ok(addresses) = is_ready.wait_blocking() {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let mut out = std::io::stdout();
        let first = &addresses[0];
        // Nobody may be reading, which is no reason not to serve.
        let _ = writeln!(out, "millstream ready {}", addresses.join(","));
        let _ = writeln!(out, "try: echo hello | kcat -b {first} -P -t greetings");
        let _ = out.flush();
    }
    control.join_blocking();
    match outcome.get() {
        Some(Ok(lines)) => {
            for line in lines {
                eprintln!("millstream stopped {line}");
            }
            Ok(())
        }
        Some(Err(error)) => Err(error.clone()),
        None => Err("the control thread ended without a word".to_owned()),
    }
}

/// The first SIGTERM or SIGINT asks for a clean stop, the second ends the process as the signal would have.
fn watch_signals(mut signals: Signals, stop: Sender<()>) {
    /// What shells add to a signal's number.
    const BY_SIGNAL: i32 = 128;
    #[expect(
        clippy::disallowed_methods,
        reason = "it blocks for signals, which no ring thread may"
    )]
    std::thread::spawn(move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            if is_stopping {
                std::process::exit(BY_SIGNAL + signal);
            }
            is_stopping = true;
            // Full or gone means that it is ending already.
            let _ = stop.try_send(());
        }
    });
}
