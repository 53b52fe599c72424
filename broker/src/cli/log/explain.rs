//! `millstream log explain`.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};
use storage::inspect::{self, CopyState, Explained, ExplainedPartition, ExplainedShard, Replay};

use super::{LogError, Place, Verdict};
use crate::cli::output::{OutputArguments, print, table};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) async fn run(arguments: ExplainArguments) -> Result<Verdict, LogError> {
    let ExplainArguments { place, output } = arguments;
    let explained = inspect::explain(&place.data_dir, &place.partitions).await?;
    let text = if output.is_json() {
        let lines = explained
            .shards
            .iter()
            .map(|shard| format!("{}\n", document(shard, &explained)));
        lines.collect()
    } else {
        words(&explained)
    };
    print(text.as_bytes())?;
    let is_refused = explained.shards.iter().any(is_refused);
    Ok(if is_refused { Verdict::Ill } else { Verdict::Well })
}

fn is_refused(shard: &ExplainedShard) -> bool {
    shard.refusal.is_some()
        || shard
            .partitions
            .iter()
            .any(|partition| partition.refusal.is_some())
}

fn words(explained: &Explained) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    if let Some(holder) = &explained.in_use_by {
        let _ = writeln!(
            text,
            "process {holder} uses the directory, so a start would be refused. This is what it would find if that process \
             were killed at the moment of the look:"
        );
    }
    for shard in &explained.shards {
        shard_words(&mut text, shard);
    }
    let _ = match explained.shards.iter().filter(|shard| is_refused(shard)).count() {
        0 => writeln!(
            text,
            "The journals and the segments' lengths would let it start. The cluster's metadata was not looked at."
        ),
        count => writeln!(
            text,
            "The start would be refused: shards {count}. `millstream log check` looks at everything."
        ),
    };
    text
}

fn shard_words(text: &mut String, shard: &ExplainedShard) {
    let ExplainedShard {
        shard: number,
        journal,
        journal_bytes,
        start_epoch,
        ..
    } = shard;
    let _ = writeln!(
        text,
        "shard {number}: {journal}, bytes {journal_bytes}, starts so far {start_epoch}"
    );
    for copy in shard.superblocks.iter().chain(&shard.checkpoints) {
        let CopyState {
            name,
            generation,
            is_used,
            why,
        } = copy;
        let used = if *is_used { "used" } else { "not used" };
        let generation =
            generation.map_or_else(String::new, |generation| format!(" generation {generation}"));
        let _ = writeln!(text, "  {name}:{generation} {used}: {why}");
    }
    if let Some(replay) = &shard.replay {
        replay_words(text, replay);
    }
    if !shard.partitions.is_empty() {
        let header = [
            "partition",
            "log start",
            "end by checkpoint",
            "end after replay",
            "segments",
            "batches only in journal",
            "bytes only in journal",
        ];
        let mut rows = vec![header.map(str::to_owned)];
        rows.extend(shard.partitions.iter().map(row));
        for line in table(&rows).lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    let refusals = shard
        .partitions
        .iter()
        .filter_map(|partition| partition.refusal.as_ref());
    for refusal in shard.refusal.iter().chain(refusals) {
        let _ = writeln!(text, "  refused: {refusal}");
    }
}

fn replay_words(text: &mut String, replay: &Replay) {
    let Replay {
        from_seq,
        from_position,
        next_seq,
        next_position,
        records,
        bytes,
        batches,
        torn,
    } = replay;
    let _ = match records {
        0 => writeln!(
            text,
            "  replay: nothing, the checkpoint has all; the next record is {next_seq}, at byte {next_position}"
        ),
        _ => writeln!(
            text,
            "  replay: records {from_seq} to {}, from byte {from_position} to byte {next_position}: records {records}, bytes \
             {bytes}, batches {batches}",
            next_seq - 1
        ),
    };
    for (seq, position) in torn {
        let _ = writeln!(
            text,
            "  torn: record {seq} at byte {position}, of which nobody was told: it is cut"
        );
    }
}

fn row(partition: &ExplainedPartition) -> [String; 7] {
    [
        partition.name.clone(),
        partition.log_start_offset.to_string(),
        partition.checkpoint_end_offset.to_string(),
        partition.end_offset.to_string(),
        partition.segments.to_string(),
        partition.journal_batches.to_string(),
        partition.journal_bytes.to_string(),
    ]
}

fn document(shard: &ExplainedShard, explained: &Explained) -> Value {
    let copy = |copy: &CopyState| {
        json!({
            "name": copy.name,
            "generation": copy.generation,
            "is_used": copy.is_used,
            "why": copy.why,
        })
    };
    let replay = shard.replay.as_ref().map(|replay| {
        let torn = |(seq, position): &(u64, u64)| json!({"seq": seq, "position": position});
        json!({
            "from_seq": replay.from_seq,
            "from_position": replay.from_position,
            "next_seq": replay.next_seq,
            "next_position": replay.next_position,
            "records": replay.records,
            "bytes": replay.bytes,
            "batches": replay.batches,
            "torn": replay.torn.iter().map(torn).collect::<Vec<_>>(),
        })
    });
    let partition = |partition: &ExplainedPartition| {
        json!({
            "partition": partition.name,
            "topic_id": partition.topic_id,
            "log_start_offset": partition.log_start_offset,
            "checkpoint_end_offset": partition.checkpoint_end_offset,
            "end_offset": partition.end_offset,
            "segments": partition.segments,
            "journal_batches": partition.journal_batches,
            "journal_bytes": partition.journal_bytes,
            "refusal": partition.refusal,
        })
    };
    json!({
        "type": "shard",
        "shard": shard.shard,
        "in_use_by": explained.in_use_by,
        "journal": shard.journal,
        "journal_bytes": shard.journal_bytes,
        "start_epoch": shard.start_epoch,
        "superblocks": shard.superblocks.iter().map(copy).collect::<Vec<_>>(),
        "checkpoints": shard.checkpoints.iter().map(copy).collect::<Vec<_>>(),
        "replay": replay,
        "refusal": shard.refusal,
        "partitions": shard.partitions.iter().map(partition).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_in_words() {
        let copy = |name: &str, is_used| CopyState {
            name: name.to_owned(),
            generation: Some(7),
            is_used,
            why: "it is so".to_owned(),
        };
        let partition = ExplainedPartition {
            name: "orders-0".to_owned(),
            topic_id: String::new(),
            log_start_offset: 3,
            checkpoint_end_offset: 10,
            end_offset: 14,
            segments: 2,
            journal_batches: 4,
            journal_bytes: 400,
            refusal: None,
        };
        let mut explained = Explained {
            in_use_by: None,
            shards: vec![ExplainedShard {
                shard: 0,
                journal: "journals/1-0/journal".to_owned(),
                journal_bytes: 8_192,
                start_epoch: 1,
                superblocks: vec![copy("superblock A", true)],
                checkpoints: vec![copy("journals/1-0/checkpoint-0", false)],
                replay: Some(Replay {
                    from_seq: 5,
                    from_position: 4_096,
                    next_seq: 9,
                    next_position: 8_192,
                    records: 4,
                    bytes: 4_096,
                    batches: 4,
                    torn: vec![(9, 8_192)],
                }),
                refusal: None,
                partitions: vec![partition],
            }],
        };
        let text = words(&explained);
        assert_eq!(
            text,
            "shard 0: journals/1-0/journal, bytes 8192, starts so far 1\n\
             \x20 superblock A: generation 7 used: it is so\n\
             \x20 journals/1-0/checkpoint-0: generation 7 not used: it is so\n\
             \x20 replay: records 5 to 8, from byte 4096 to byte 8192: records 4, bytes 4096, batches 4\n\
             \x20 torn: record 9 at byte 8192, of which nobody was told: it is cut\n\
             \x20 partition  log start  end by checkpoint  end after replay  segments  batches only in journal  bytes only in journal\n\
             \x20 orders-0   3          10                 14                2         4                        400\n\
             The journals and the segments' lengths would let it start. The cluster's metadata was not looked at.\n"
        );
        explained.shards[0].partitions[0].refusal = Some("too short".to_owned());
        assert!(words(&explained).contains("refused: too short\nThe start would be refused: shards 1."));
    }
}
