//! Whether a disk has room for what is about to be written. A full disk is not what is measured, and may end a broker.

use std::path::Path;

use ring::directory;

use crate::arguments::WorkloadArguments;
use crate::cluster::ClusterFacts;
use crate::error::BenchError;

/// Room that a run must find on a broker's disk, beside what it writes, in bytes: journals, indexes, a margin.
const MARGIN_BYTES: u64 = 1 << 30;
/// A run that is faster than the one that its size was told by writes more.
const FASTER: f64 = 1.5;

/// Fails if the file system of this directory has not so many bytes, or does not tell.
pub(crate) async fn look(directory: &Path, wanted_bytes: u64, hint: &'static str) -> Result<(), BenchError> {
    let volume = directory::volume(directory).await;
    let usable_bytes = volume.map(|volume| volume.usable_bytes).map_err(|error| {
        let doing = format!("ask for the size of {}", directory.display());
        BenchError::Local { doing, error }
    })?;
    if usable_bytes < wanted_bytes {
        return Err(BenchError::NoRoom {
            directory: directory.into(),
            usable_bytes,
            wanted_bytes,
            hint,
        });
    }
    Ok(())
}

/// Fails if a broker that is on this host has no room for a run. `bytes_per_s` is what one flat out reached; 0: there was
/// none yet.
pub(crate) async fn look_for_a_run(
    cluster: &ClusterFacts,
    workload: &WorkloadArguments,
    rate: Option<u64>,
    bytes_per_s: f64,
) -> Result<(), BenchError> {
    let Some(directory) = &cluster.log_directory else {
        return Ok(());
    };
    let bytes = bytes_per_s_at_most(workload, rate, bytes_per_s) * workload.run_seconds() as f64;
    let hint = ", fewer --seconds, or a lower rate";
    match look(directory.as_ref(), bytes as u64 + MARGIN_BYTES, hint).await {
        Err(error @ BenchError::NoRoom { .. }) => Err(error),
        // What cannot be looked at is not looked at.
        _ => Ok(()),
    }
}

/// No rate makes a broker faster than it is.
fn bytes_per_s_at_most(workload: &WorkloadArguments, rate: Option<u64>, reached: f64) -> f64 {
    let asked = rate.map(|rate| rate as f64 * workload.records.bytes_on_average());
    match asked {
        Some(asked) if reached > 0.0 => asked.min(reached * FASTER),
        Some(asked) => asked,
        None => reached * FASTER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use ring::simulator::Simulator;
    use std::collections::BTreeMap;
    use std::time::Duration;

    /// The options, as a command of its own.
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        workload: WorkloadArguments,
    }

    /// Whether a run of four seconds may begin on an empty disk of 4 GiB.
    fn has_room(rate: Option<u64>, bytes_per_s: f64) -> Result<(), BenchError> {
        let line = ["run", "--record-size=1000", "--seconds=3", "--warmup-seconds=1"];
        let workload = Line::try_parse_from(line).unwrap().workload;
        let cluster = ClusterFacts {
            bootstrap: "127.0.0.1:9092".to_owned(),
            cluster_id: None,
            nodes: 1,
            replicas: 1,
            configs: BTreeMap::new(),
            log_directory: Some("/log".to_owned()),
        };
        let mut simulator = Simulator::new(1);
        let host = simulator.host(4 << 30);
        let looked = simulator.run(host, 1 << 20, Duration::from_secs(1), move || async move {
            directory::create_all("/log".as_ref()).await.unwrap();
            look_for_a_run(&cluster, &workload, rate, bytes_per_s).await
        });
        looked.unwrap()
    }

    #[test]
    fn a_run_that_would_fill_the_disk_does_not_begin() {
        assert!(has_room(None, 100e6).is_ok());
        let error = has_room(None, 900e6).unwrap_err();
        assert!(matches!(error, BenchError::NoRoom { .. }), "{error}");
        assert!(error.to_string().contains("fewer --seconds"), "{error}");
        // Nobody knows what the first run will write, if it has no rate.
        assert!(has_room(None, 0.0).is_ok());
        assert!(has_room(Some(1_000_000), 0.0).is_err());
        // A rate that is not reached writes no more than what is.
        assert!(has_room(Some(1_000_000), 100e6).is_ok());
        assert!(has_room(Some(100_000), 900e6).is_ok());
    }
}
