//! What client commands print: tables for people, JSON for programs.

use std::borrow::Cow;
use std::fmt::Write;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::CliError;

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct OutputArguments {
    /// A table for people, or JSON for programs
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    output: OutputFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    Table,
    Json,
}

impl OutputArguments {
    /// Whether it is JSON: for commands that print line by line.
    pub(crate) fn is_json(self) -> bool {
        self.output == OutputFormat::Json
    }

    /// What is asked for, with a line break at its end.
    pub(crate) fn text(self, table: impl FnOnce() -> String, document: impl FnOnce() -> Value) -> String {
        match self.output {
            OutputFormat::Table => table(),
            OutputFormat::Json => format!("{:#}\n", document()),
        }
    }
}

/// Text that others have said, such as a name: nothing of it may break a line or reach the terminal as a command.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        Cow::Owned(text.escape_debug().to_string())
    } else {
        Cow::Borrowed(text)
    }
}

/// Columns as wide as their widest cell, two blanks between them.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let cells = |row: &'_ [String; COLUMNS]| row.each_ref().map(|cell| printable(cell).into_owned());
    let rows: Vec<[String; COLUMNS]> = rows.iter().map(cells).collect();
    let length = |cell: &String| cell.chars().count();
    let width = |column: usize| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The text, or a hyphen for none.
pub(crate) fn known(cell: Option<impl ToString>) -> String {
    cell.map_or_else(|| "-".to_owned(), |cell| cell.to_string())
}

/// Writes to standard output. A reader that left (`| head`) ends the command without noise.
pub(crate) fn print(text: &[u8]) -> Result<Printed, CliError> {
    use std::io::{ErrorKind, Write};
    let mut output = std::io::stdout().lock();
    match output.write_all(text).and_then(|()| output.flush()) {
        Ok(()) => Ok(Printed::Yes),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Printed::NobodyReads),
        Err(error) => Err(CliError::Stream {
            doing: "write standard output",
            error,
        }),
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Printed {
    /// It is written.
    Yes,
    /// The reader has left.
    NobodyReads,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_do_not_reach_the_terminal_as_commands() {
        let rows = [
            ["group", "state"].map(str::to_owned),
            ["red\x1b[31m\nStable", "Empty"].map(str::to_owned),
            ["gr\u{fc}n\\", "Empty"].map(str::to_owned),
        ];
        let expected = [
            "group                  state",
            "red\\u{1b}[31m\\nStable  Empty",
            "gr\u{fc}n\\                  Empty",
        ];
        assert_eq!(table(&rows), expected.map(|line| format!("{line}\n")).concat());
    }
}
