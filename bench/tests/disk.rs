//! `bench disk`: in the simulator, and told to stop.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream_bench::disk::plan::Subject;
use millstream_bench::disk::table::DiskReport;
use millstream_bench::disk::{DiskArguments, run_here};
use millstream_bench::error::BenchError;
use ring::directory;
use ring::simulator::{DiskOperation, Injection, Simulator};

const PLACE: &str = "/bench";

/// Runs it on a simulated disk of so many MiB, and gives what is left in its directory, too.
fn ask(
    disk_mib: u64,
    faults: &[Injection],
    only: &[Subject],
) -> (Result<DiskReport, BenchError>, Vec<(String, u64)>) {
    let mut simulator = Simulator::new(5);
    let host = simulator.host(disk_mib << 20);
    for fault in faults {
        simulator.inject(host, fault.clone());
    }
    let arguments = DiskArguments {
        directory: PathBuf::new(),
        file_mib: 16,
        seconds: 1,
        only: only.to_vec(),
        json: false,
    };
    let report = simulator.run(host, 256 << 20, Duration::from_secs(600), || async move {
        directory::create_all(Path::new(PLACE)).await.unwrap();
        run_here(&arguments, Path::new(PLACE)).await
    });
    (report.unwrap(), simulator.files(host))
}

#[test]
fn every_question_is_answered_and_nothing_is_left() {
    let (report, files) = ask(256, &[], &[]);
    let report = report.unwrap();
    assert_eq!(report.answers.len(), 38, "{report}");
    for answer in &report.answers {
        assert!(answer.writes() > 0 && answer.mb_per_s() > 0.0, "{report}");
    }
    assert_eq!(files, []);
}

#[test]
fn a_disk_that_has_not_enough_room_is_not_filled() {
    let (report, files) = ask(32, &[], &[]);
    let error = report.unwrap_err();
    assert!(matches!(error, BenchError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains("a smaller --file-mib"), "{error}");
    assert_eq!(files, []);
}

#[test]
fn a_disk_with_an_error_has_no_figures_and_nothing_is_left() {
    for (path, operation, after) in [
        ("old", DiskOperation::Write, 3),
        ("old", DiskOperation::Write, 200),
        ("new", DiskOperation::Write, 2),
        ("old", DiskOperation::Sync, 1),
        ("new", DiskOperation::Sync, 0),
    ] {
        let fault = Injection {
            operation,
            path_contains: path.to_owned(),
            after,
            times: 1,
            errno: 5,
        };
        let (report, files) = ask(256, std::slice::from_ref(&fault), &[Subject::Bandwidth]);
        let error = report
            .err()
            .unwrap_or_else(|| panic!("{fault:?} was not noticed"));
        assert!(matches!(error, BenchError::Local { .. }), "{error}");
        assert_eq!(files, [], "{fault:?}");
    }
}

/// A directory on the disk that the tests are built on: a direct write needs a disk.
fn place(name: &str) -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _not_there = std::fs::remove_dir_all(&place);
    std::fs::create_dir_all(&place).unwrap();
    place
}

fn start(place: &Path, options: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["disk", "--directory"]).arg(place).args(options);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn is_empty(place: &Path) -> bool {
    std::fs::read_dir(place).unwrap().next().is_none()
}

#[test]
fn an_interrupted_run_leaves_nothing() {
    for signal in ["INT", "TERM"] {
        let place = place(&format!("interrupted-{signal}"));
        let mut child = start(&place, &["--file-mib", "64", "--seconds", "600"]);
        let has_written = || {
            let mut found = std::fs::read_dir(&place).unwrap().flatten();
            found.any(|directory| directory.path().join("old").exists())
        };
        while !has_written() {
            assert!(child.try_wait().unwrap().is_none(), "it ended early");
            std::thread::sleep(Duration::from_millis(10));
        }
        // The shell's own: not every Debian has the program.
        let command = format!("kill -s {signal} {}", child.id());
        let sent = Command::new("sh").args(["-c", &command]).status();
        assert!(sent.unwrap().success());
        let status = child.wait().unwrap();
        let code = if signal == "INT" { 130 } else { 143 };
        assert_eq!(status.code(), Some(code));
        assert!(is_empty(&place), "{signal} left something in {}", place.display());
    }
}

#[test]
fn a_run_on_this_disk_leaves_nothing_and_prints_json() {
    let place = place("whole");
    let child = start(
        &place,
        &[
            "--file-mib",
            "16",
            "--seconds",
            "1",
            "--only",
            "commit",
            "--only",
            "flush",
            "--json",
        ],
    );
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["answers"].as_array().unwrap().len(), 8);
    assert!(json["host"]["kernel"].is_string(), "{json}");
    assert!(is_empty(&place));
}
