//! Whether the process lives, and whether it is ready for clients: pure.

use crate::controller::roster::Stage;
use crate::shard::probe::ShardCondition;

/// Whether all threads answer; what does not, a line for each.
///
/// # Errors
/// If one does not: nothing but a restart helps then.
pub(super) fn liveness(stage: Option<Stage>, shards: &[Option<ShardCondition>]) -> Result<(), Vec<String>> {
    let mut dead = Vec::new();
    if stage.is_none() {
        dead.push("the control thread does not answer".to_owned());
    }
    let silent = shards.iter().enumerate().filter(|(_, shard)| shard.is_none());
    dead.extend(silent.map(|(number, _)| format!("shard {number} does not answer")));
    if dead.is_empty() { Ok(()) } else { Err(dead) }
}

/// Whether every client is served; what is missing, a line for each.
///
/// # Errors
/// If something is missing.
pub(super) fn readiness(stage: Option<Stage>, shards: &[Option<ShardCondition>]) -> Result<(), Vec<String>> {
    let mut missing = Vec::new();
    match stage {
        None => missing.push("the control thread does not answer".to_owned()),
        Some(Stage::Serving) => {}
        Some(Stage::Opening) => missing.push("starting: the metadata is being opened".to_owned()),
        Some(Stage::Journals) => missing.push("starting: the journals are being prepared".to_owned()),
        Some(Stage::Recovering) => missing.push("starting: the shards recover their logs".to_owned()),
        Some(Stage::Stopping) => missing.push("the broker is stopping".to_owned()),
    }
    for (number, shard) in shards.iter().enumerate() {
        let lacks = match shard {
            None => "does not answer".to_owned(),
            Some(ShardCondition {
                failure: Some(failure),
                ..
            }) => format!("is fenced: {failure}"),
            Some(shard) if !shard.is_recovered => "recovers its log".to_owned(),
            Some(shard) if !shard.is_serving => "does not accept clients".to_owned(),
            Some(_) => continue,
        };
        missing.push(format!("shard {number} {lacks}"));
    }
    if stage == Some(Stage::Serving) && shards.is_empty() {
        missing.push("there are no shards".to_owned());
    }
    if missing.is_empty() { Ok(()) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving() -> ShardCondition {
        ShardCondition {
            is_recovered: true,
            is_serving: true,
            failure: None,
        }
    }

    #[test]
    fn ready_is_only_a_host_whose_shards_all_serve() {
        let ready = readiness(Some(Stage::Serving), &[Some(serving()), Some(serving())]);
        assert_eq!(ready, Ok(()));
        let fenced = ShardCondition {
            failure: Some("its disk is gone".to_owned()),
            ..serving()
        };
        let recovering = ShardCondition::default();
        let silent_port = ShardCondition {
            is_serving: false,
            ..serving()
        };
        for (shard, lacks) in [
            (None, "shard 1 does not answer"),
            (Some(fenced), "shard 1 is fenced: its disk is gone"),
            (Some(recovering), "shard 1 recovers its log"),
            (Some(silent_port), "shard 1 does not accept clients"),
        ] {
            let missing = readiness(Some(Stage::Serving), &[Some(serving()), shard]);
            assert_eq!(missing, Err(vec![lacks.to_owned()]));
        }
        for stage in [
            Stage::Opening,
            Stage::Journals,
            Stage::Recovering,
            Stage::Stopping,
        ] {
            assert!(readiness(Some(stage), &[Some(serving())]).is_err(), "{stage:?}");
        }
        assert!(readiness(None, &[Some(serving())]).is_err());
        assert!(readiness(Some(Stage::Serving), &[]).is_err());
    }

    #[test]
    fn alive_is_whatever_answers_also_before_it_is_ready() {
        let recovering = Some(ShardCondition::default());
        assert_eq!(liveness(Some(Stage::Opening), &[]), Ok(()));
        assert_eq!(
            liveness(Some(Stage::Recovering), &[recovering.clone(), recovering.clone()]),
            Ok(())
        );
        let dead = liveness(None, &[recovering, None]).expect_err("two threads are silent");
        assert_eq!(
            dead,
            ["the control thread does not answer", "shard 1 does not answer"]
        );
    }
}
