//! The configuration file: TOML, with Kafka's dotted names in `[kafka]` and ours in `[millstream]`.

use crate::config::ConfigError;
use crate::config::table::Table;

/// The largest file that is read, in bytes: far more than all settings with comments.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// Every key of the file, with its table and its value as text.
pub(crate) fn parse(text: &str) -> Result<Vec<(Table, String, String)>, ConfigError> {
    let file: toml::Table = text
        .parse()
        .map_err(|error| ConfigError::Form(format!("the configuration file is not TOML: {error}")))?;
    let mut found = Vec::new();
    for (name, content) in &file {
        let table = match name.as_str() {
            "kafka" => Table::Kafka,
            "millstream" => Table::Millstream,
            _ => {
                return Err(ConfigError::Form(format!(
                    "the configuration file has [{name}]: settings stand in the tables [kafka] and [millstream]"
                )));
            }
        };
        let toml::Value::Table(content) = content else {
            return Err(ConfigError::Form(format!(
                "'{name}' in the configuration file is a table, [{name}]"
            )));
        };
        found.extend(
            flat(content)?
                .into_iter()
                .map(|(name, value)| (table, name, value)),
        );
    }
    Ok(found)
}

/// Every key of a table of settings, with its value as text.
pub(crate) fn flat(content: &toml::Table) -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Vec::new();
    flatten("", content, &mut found)?;
    Ok(found)
}

/// TOML reads `num.partitions = 3` as a table in a table: this puts the names together again.
fn flatten(
    prefix: &str,
    content: &toml::Table,
    found: &mut Vec<(String, String)>,
) -> Result<(), ConfigError> {
    for (key, value) in content {
        let name = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        let value = match value {
            toml::Value::Table(inner) => {
                flatten(&name, inner, found)?;
                continue;
            }
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) => {
                return Err(ConfigError::Form(format!(
                    "setting {name} is a text, an integer, or true or false"
                )));
            }
        };
        found.push((name, value));
    }
    Ok(())
}
