//! `millstream log dump`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value as Json, json};
use storage::inspect::{self, Cut, DumpOptions, Fact, Go, Value};

use super::{LogError, Verdict};
use crate::cli::CliError;
use crate::cli::output::{OutputArguments, Printed, print, printable};

#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DumpArguments {
    /// Segments, indexes, journals, checkpoints, or directories of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Print the records of batches, too
    #[arg(long)]
    records: bool,
    /// Bytes of a key or value that are shown at most
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    output: OutputArguments,
}

pub(super) async fn run(arguments: DumpArguments) -> Result<Verdict, LogError> {
    let DumpArguments {
        paths,
        records,
        limit,
        output,
    } = arguments;
    let options = DumpOptions {
        records,
        bytes_max: limit,
    };
    let is_json = output.is_json();
    let mut failed: Option<CliError> = None;
    let mut has_left = false;
    for path in paths {
        let mut sink = |fact: Fact| {
            let text = if is_json {
                format!("{}\n", document(&fact))
            } else {
                line(&fact)
            };
            match print(text.as_bytes()) {
                Ok(Printed::Yes) => Go::On,
                Ok(Printed::NobodyReads) => {
                    has_left = true;
                    Go::Stop
                }
                Err(error) => {
                    failed = Some(error);
                    Go::Stop
                }
            }
        };
        inspect::dump(&path, options, &mut sink).await?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if has_left {
            break;
        }
    }
    Ok(Verdict::Well)
}

fn line(fact: &Fact) -> String {
    let mut line = format!("{:indent$}{}:", "", fact.kind, indent = 2 * fact.depth);
    for (name, value) in &fact.fields {
        let value = match value {
            Value::Signed(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
            Value::Text(text) => printable(text).into_owned(),
            Value::Bytes(None) => "null".to_owned(),
            Value::Bytes(Some(cut)) => quoted(cut),
        };
        line.push_str(&format!(" {name}={value}"));
    }
    line.push('\n');
    line
}

/// Bytes of a client's, between quotation marks; and how many there are, if not all are shown.
fn quoted(cut: &Cut) -> String {
    let escaped = match std::str::from_utf8(&cut.shown) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => cut.shown.escape_ascii().to_string(),
    };
    let more = if cut.bytes > cut.shown.len() {
        format!("...({} bytes)", cut.bytes)
    } else {
        String::new()
    };
    format!("\"{escaped}\"{more}")
}

fn document(fact: &Fact) -> Json {
    let mut object = Map::new();
    object.insert("type".to_owned(), json!(fact.kind));
    for (name, value) in &fact.fields {
        let value = match value {
            Value::Signed(number) => json!(number),
            Value::Unsigned(number) => json!(number),
            Value::Flag(flag) => json!(flag),
            Value::Text(text) => json!(text),
            Value::Bytes(None) => Json::Null,
            Value::Bytes(Some(cut)) => match std::str::from_utf8(&cut.shown) {
                Ok(text) => json!({"text": text, "bytes": cut.bytes}),
                Err(_) => json!({"escaped": cut.shown.escape_ascii().to_string(), "bytes": cut.bytes}),
            },
        };
        object.insert((*name).to_owned(), value);
    }
    Json::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_wrote_cannot_move_the_cursor() {
        let cut = |shown: &[u8], bytes| {
            Value::Bytes(Some(Cut {
                shown: shown.to_vec(),
                bytes,
            }))
        };
        let fact = Fact {
            depth: 2,
            kind: "record",
            fields: vec![
                ("offset", Value::Signed(-7)),
                ("key", Value::Bytes(None)),
                ("value", cut(b"a\x1b[2J\"", 9)),
                ("raw", cut(b"\xff\x00", 2)),
                ("topic", Value::Text("a\nb".to_owned())),
            ],
        };
        assert_eq!(
            line(&fact),
            "    record: offset=-7 key=null value=\"a\\u{1b}[2J\\\"\"...(9 bytes) raw=\"\\xff\\x00\" topic=a\\nb\n"
        );
        assert_eq!(
            document(&fact).to_string(),
            r#"{"key":null,"offset":-7,"raw":{"bytes":2,"escaped":"\\xff\\x00"},"topic":"a\nb","type":"record","value":{"bytes":9,"text":"a\u001b[2J\""}}"#
        );
    }
}
