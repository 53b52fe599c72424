//! The configuration: one table of settings, and their values with where each came from.
//!
//! Defaults, then the profile, then the file, then `--set`, then flags, then what is changed while a broker runs: a later source wins.
//! Nothing is read from the outside here: the command line gives texts, this room says what they mean. Must never let a
//! key that does nothing pass in silence.

pub mod broker;
pub(crate) mod file;
mod kept;
pub(crate) mod log;
mod nearest;
pub mod table;
pub mod topic;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::broker::BrokerConfigs;
use crate::config::table::{SETTINGS, Setting, Table, UpdateMode};
use crate::partition::leader::{AppendRules, TimestampType, is_compacting};

pub use self::file::FILE_BYTES_MAX;

/// A batch's base offset and length: what Kafka's limits leave out of a batch's size, in bytes.
const LOG_OVERHEAD_BYTES: i64 = 12;
/// A batch takes at most this part of the journal.
const JOURNAL_BATCHES_MIN: i64 = 8;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The table.
    Default,
    /// The profile.
    Profile,
    /// The configuration file.
    File,
    /// `--set`.
    Set,
    /// A flag of its own.
    Flag,
    /// Changed for all brokers while they ran.
    AllBrokers,
    /// Changed for this broker while it ran.
    Broker,
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::Profile => "profile",
            Origin::File => "configuration file",
            Origin::Set => "--set",
            Origin::Flag => "command line",
            Origin::AllBrokers => "changed for all brokers",
            Origin::Broker => "changed for this broker",
        }
    }
}

/// What is wrong with a configuration, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No such setting.
    #[error("unknown setting '{name}' ({origin}){}", did_you_mean(.nearest.as_deref()))]
    Unknown {
        /// As it was given.
        name: String,
        /// Where.
        origin: &'static str,
        /// A setting that may have been meant.
        nearest: Option<String>,
    },
    /// A setting of Kafka that does nothing here.
    #[error(
        "Kafka's setting '{name}' ({origin}) is known but not honoured yet: leave it out, so that nobody relies on it"
    )]
    NotHonoured {
        /// Its name.
        name: String,
        /// Where.
        origin: &'static str,
    },
    /// A value that the setting cannot have.
    #[error("setting {name}={value} ({origin}): {why}")]
    Value {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
        /// Where.
        origin: &'static str,
        /// What it may be.
        why: String,
    },
    /// A text that is not what it should be.
    #[error("{0}")]
    Form(String),
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(String),
}

fn did_you_mean(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

/// All settings with their values.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What differs from the defaults.
    values: BTreeMap<&'static str, (String, Origin)>,
    /// What was changed while the broker ran: for it alone, and for all.
    changed: [BTreeMap<&'static str, String>; 2],
}

impl Settings {
    /// Takes what a profile sets: names and values.
    ///
    /// # Errors
    /// The first key or value that is wrong.
    pub fn take_profile(&mut self, settings: &[(String, String)]) -> Result<(), ConfigError> {
        for (name, value) in settings {
            self.put(find(name, Origin::Profile)?, value, Origin::Profile)?;
        }
        Ok(())
    }

    /// Takes a configuration file's text: TOML with the tables `[kafka]` and `[millstream]`.
    ///
    /// # Errors
    /// The first key that is wrong.
    pub fn take_file(&mut self, text: &str) -> Result<(), ConfigError> {
        for (table, name, value) in file::parse(text)? {
            let setting = find(&name, Origin::File)?;
            if setting.table != table {
                return Err(ConfigError::Form(format!(
                    "setting {name} belongs in the table [{}] of the configuration file, not in [{}]",
                    setting.table.name(),
                    table.name()
                )));
            }
            self.put(setting, &value, Origin::File)?;
        }
        Ok(())
    }

    /// Takes `KEY=VALUE`.
    ///
    /// # Errors
    /// A key or value that is wrong.
    pub fn take_assignment(&mut self, assignment: &str) -> Result<(), ConfigError> {
        let (name, value) = assignment.split_once('=').ok_or_else(|| {
            ConfigError::Form(format!(
                "--set takes KEY=VALUE, such as num.partitions=6, not '{assignment}'"
            ))
        })?;
        self.put(find(name.trim(), Origin::Set)?, value, Origin::Set)
    }

    /// Takes a flag's value.
    ///
    /// # Errors
    /// A value that the setting cannot have.
    pub fn take_flag(&mut self, setting: &'static Setting, value: &str) -> Result<(), ConfigError> {
        self.put(setting, value, Origin::Flag)
    }

    /// These settings with what was changed for the node, and for all, while they ran. What cannot be changed, or cannot
    /// be a value (another version kept it), is left out.
    pub(crate) fn changed_by(&self, configs: &BrokerConfigs, node_id: i32) -> Settings {
        let layer = |configs: Option<&BTreeMap<String, String>>| {
            let configs = configs.into_iter().flatten();
            let good = configs.filter_map(|(name, value)| {
                let setting = table::find(name)?;
                let is_good = setting.mode != UpdateMode::ReadOnly && setting.kind.check(value).is_ok();
                is_good.then(|| (setting.name, setting.kind.normal(value)))
            });
            good.collect()
        };
        Settings {
            values: self.values.clone(),
            changed: [layer(configs.of(Some(node_id))), layer(configs.of(None))],
        }
    }

    /// Whether batches fit the segments and the journal.
    ///
    /// # Errors
    /// Which settings do not go together.
    fn check_sizes(&self) -> Result<(), String> {
        let batch = self.integer(&table::MESSAGE_MAX_BYTES);
        self.fits_journal("message.max.bytes", batch)?;
        let segment = self.integer(&table::LOG_SEGMENT_BYTES);
        if batch > segment {
            return Err(format!(
                "message.max.bytes={batch} does not fit log.segment.bytes={segment}"
            ));
        }
        Ok(())
    }

    /// Checks what no single value shows.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`].
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_logs().map_err(ConfigError::Conflict)?;
        let (shortest, longest) = (
            self.integer(&table::GROUP_MIN_SESSION_TIMEOUT_MS),
            self.integer(&table::GROUP_MAX_SESSION_TIMEOUT_MS),
        );
        if shortest > longest {
            return Err(ConfigError::Conflict(format!(
                "group.min.session.timeout.ms={shortest} is more than group.max.session.timeout.ms={longest}"
            )));
        }
        let per_shard = self.memory_bytes() / self.integer(&table::SHARDS);
        let least = self.shard_memory_bytes_min();
        if per_shard < least {
            return Err(ConfigError::Conflict(format!(
                "memory.bytes={} leaves {per_shard} bytes to each of {} shards, and one needs {least} with {} log \
                 directories and journal.bytes={}: give memory.bytes={} or more, start fewer shards, or make the journals smaller \
                 before the first start",
                self.memory_bytes(),
                self.integer(&table::SHARDS),
                self.log_directories_count(),
                self.integer(&table::JOURNAL_BYTES),
                least * self.integer(&table::SHARDS)
            )));
        }
        self.listen_address()?;
        self.advertised_host()?;
        let ports = self.shard_ports()?;
        if let Some(admin) = self.admin_address()?
            && admin.port() != 0
            && ports.contains(&admin.port())
        {
            return Err(ConfigError::Conflict(format!(
                "port {} is the port of a shard, and by admin.listen={} that of metrics and health: set another \
                 admin.listen",
                admin.port(),
                self.text(&table::ADMIN_LISTEN)
            )));
        }
        Ok(())
    }

    /// Checks that a host of so many bytes of memory has what a start is to take of it: a kernel promises more than there is, and
    /// ends the process, or another, when it is asked for.
    ///
    /// # Errors
    /// [`ConfigError::Conflict`].
    pub fn check_memory(&self, host_bytes: u64) -> Result<(), ConfigError> {
        let bytes = self.memory_bytes();
        if !self.boolean(&table::MEMORY_PREFAULT) || bytes.unsigned_abs() <= host_bytes {
            return Ok(());
        }
        Err(ConfigError::Conflict(format!(
            "memory.prefault takes all of memory.bytes={bytes} at the start, and this process may use {host_bytes}: give fewer, \
             or start without memory.prefault"
        )))
    }

    /// `memory.bytes`; its default is more when so many shards need more.
    pub(crate) fn memory_bytes(&self) -> i64 {
        let given = self.integer(&table::MEMORY_BYTES);
        match self.origin(&table::MEMORY_BYTES) {
            Origin::Default => given.max(self.shard_memory_bytes_min() * self.integer(&table::SHARDS)),
            _ => given,
        }
    }

    /// `log.dirs`; none, if nothing says where the log is.
    pub fn log_directories(&self) -> Vec<&str> {
        table::list(self.text(&table::LOG_DIRS)).collect()
    }

    fn log_directories_count(&self) -> i64 {
        (self.log_directories().len() as i64).max(1)
    }

    /// What a shard needs, in bytes: its logs, beside a listener that takes at most six sixteenths, groups that take one,
    /// and some to spare.
    fn shard_memory_bytes_min(&self) -> i64 {
        let journal = self.integer(&table::JOURNAL_BYTES).unsigned_abs();
        let log = i64::try_from(storage::log_memory_bytes_min(journal)).unwrap_or(i64::MAX / 8);
        let log = log.saturating_mul(self.log_directories_count()).min(i64::MAX / 8);
        let all = (log + (2 << 20)) / 9 * 16 + (1 << 20);
        all.max(table::SHARD_MEMORY_BYTES_MIN)
    }

    /// The address that shards listen on.
    ///
    /// # Errors
    /// `host` is not an address: names are not resolved, since they may have several.
    pub fn listen_address(&self) -> Result<IpAddr, ConfigError> {
        let host = match self.text(&table::HOST) {
            "localhost" => "127.0.0.1",
            host => host,
        };
        host.parse().map_err(|_| {
            ConfigError::Conflict(format!(
                "host={host} is not an IP address: give one of this machine's, such as 127.0.0.1, or 0.0.0.0 for all \
                 (advertised.host takes a name)"
            ))
        })
    }

    /// Where metrics and health are served, if they are. A host that takes free ports takes one for them as well, unless
    /// another was given.
    ///
    /// # Errors
    /// `admin.listen` is not an address and a port.
    pub fn admin_address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        let text = self.text(&table::ADMIN_LISTEN);
        if text.is_empty() {
            return Ok(None);
        }
        let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
        let mut address: SocketAddr = numeric.parse().map_err(|_| {
            ConfigError::Conflict(format!(
                "admin.listen={text} is not an IP address and a port: give one such as 127.0.0.1:9644, or nothing for no \
                 metrics"
            ))
        })?;
        if self.origin(&table::ADMIN_LISTEN) == Origin::Default && self.integer(&table::PORT) == 0 {
            address.set_port(0);
        }
        Ok(Some(address))
    }

    /// The host that clients are told to connect to.
    ///
    /// # Errors
    /// `host` stands for all addresses, and `advertised.host` names none of them.
    pub fn advertised_host(&self) -> Result<&str, ConfigError> {
        match self.text(&table::ADVERTISED_HOST) {
            "" => {}
            name => return Ok(name),
        }
        let address = self.listen_address()?;
        if address.is_unspecified() {
            return Err(ConfigError::Conflict(format!(
                "host={address} is no address that clients can connect to: set advertised.host to a name or address \
                 by which they reach this host"
            )));
        }
        Ok(self.text(&table::HOST))
    }

    /// The port of each shard: `port` for the first, `shard.port.base` and its number for the others; all 0 (any free
    /// port) when `port` is 0.
    ///
    /// # Errors
    /// A port that two shards would have, or that does not exist.
    pub fn shard_ports(&self) -> Result<Vec<u16>, ConfigError> {
        let port = self.integer(&table::PORT);
        let shards = self.integer(&table::SHARDS);
        let base = match self.integer(&table::SHARD_PORT_BASE) {
            0 => port + table::SHARD_PORT_DISTANCE,
            base => base,
        };
        let ports = (0..shards).map(|shard| match (port, shard) {
            (0, _) => Ok(0),
            (port, 0) => Ok(port),
            (port, shard) if base + shard == port => Err(ConfigError::Conflict(format!(
                "port {port} is the port of shard 0 and, by shard.port.base={base}, of shard {shard}: \
                 set another shard.port.base"
            ))),
            (_, shard) => Ok(base + shard),
        });
        let ports = ports.map(|port| {
            let port = port?;
            u16::try_from(port).map_err(|_| {
                ConfigError::Conflict(format!(
                    "a shard would listen on port {port}, which does not exist: set a lower shard.port.base"
                ))
            })
        });
        ports.collect()
    }

    /// An integer setting.
    pub fn integer(&self, setting: &'static Setting) -> i64 {
        let value = self.text(setting);
        value
            .parse()
            .expect("an integer setting was checked when it was taken")
    }

    /// A boolean setting.
    pub fn boolean(&self, setting: &'static Setting) -> bool {
        self.text(setting) == "true"
    }

    /// A setting as text; empty when it has no value.
    pub fn text(&self, setting: &'static Setting) -> &str {
        self.layers(setting).next().map_or("", |(value, _)| value)
    }

    /// Where a setting's value came from.
    pub fn origin(&self, setting: &'static Setting) -> Origin {
        self.layers(setting)
            .next()
            .map_or(Origin::Default, |(_, origin)| origin)
    }

    /// The values of a setting, the one that holds first.
    pub(crate) fn layers(&self, setting: &'static Setting) -> impl Iterator<Item = (&str, Origin)> {
        let changed = |layer: usize, origin| {
            let value = self.changed[layer].get(setting.name);
            value.map(|value| (value.as_str(), origin))
        };
        let started = self.values.get(setting.name);
        let layers = [
            changed(0, Origin::Broker),
            changed(1, Origin::AllBrokers),
            started.map(|(value, origin)| (value.as_str(), *origin)),
            setting.default.map(|value| (value, Origin::Default)),
        ];
        layers.into_iter().flatten()
    }

    /// `num.partitions`.
    pub(crate) fn num_partitions(&self) -> i32 {
        self.i32(&table::NUM_PARTITIONS)
    }

    /// `default.replication.factor`.
    pub(crate) fn default_replication_factor(&self) -> i16 {
        i16::try_from(self.integer(&table::DEFAULT_REPLICATION_FACTOR)).expect("within the setting's range")
    }

    /// `offsets.topic.num.partitions`.
    pub(crate) fn offsets_topic_num_partitions(&self) -> i32 {
        self.i32(&table::OFFSETS_TOPIC_NUM_PARTITIONS)
    }

    /// From how many bytes on a partition's part of a group commit is written to its segment at once.
    pub(crate) fn direct_bytes_min(&self) -> usize {
        self.usize(&table::JOURNAL_DIRECT_MIN_BYTES)
    }

    /// `log.segment.delete.delay.ms`.
    pub(crate) fn file_delete_delay(&self) -> Duration {
        Duration::from_millis(self.integer(&table::LOG_SEGMENT_DELETE_DELAY_MS).unsigned_abs())
    }

    /// `producer.id.expiration.ms`.
    pub(crate) fn producer_expiration(&self) -> Duration {
        Duration::from_millis(self.integer(&table::PRODUCER_ID_EXPIRATION_MS).unsigned_abs())
    }

    /// What may be appended to a topic that does not say otherwise.
    pub fn append_rules(&self) -> AppendRules {
        AppendRules {
            max_message_bytes: self.usize(&table::MESSAGE_MAX_BYTES),
            segment_bytes: self.usize(&table::LOG_SEGMENT_BYTES),
            timestamp_type: if self.text(&table::LOG_MESSAGE_TIMESTAMP_TYPE) == "LogAppendTime" {
                TimestampType::LogAppend
            } else {
                TimestampType::Create
            },
            timestamp_before_max_ms: self.integer(&table::LOG_MESSAGE_TIMESTAMP_BEFORE_MAX_MS),
            timestamp_after_max_ms: self.integer(&table::LOG_MESSAGE_TIMESTAMP_AFTER_MAX_MS),
            is_compacted: is_compacting(self.text(&table::LOG_CLEANUP_POLICY)),
            recompression: self.compression().recompression(),
        }
    }

    /// Whether a batch of so many bytes fits the journal, where every batch rides.
    pub(crate) fn fits_journal(&self, name: &str, batch_bytes: i64) -> Result<(), String> {
        let journal = self.integer(&table::JOURNAL_BYTES);
        let most = journal / JOURNAL_BATCHES_MIN + LOG_OVERHEAD_BYTES;
        let most_of_any = storage::LARGEST_RECORD_MAX as i64 + LOG_OVERHEAD_BYTES;
        if batch_bytes > most_of_any {
            return Err(format!(
                "{name}={batch_bytes} is more than {most_of_any}, the most that any journal takes: lower {name}"
            ));
        }
        if batch_bytes > most {
            return Err(format!(
                "{name}={batch_bytes} is more than {most}, an eighth of journal.bytes={journal}: \
                 raise journal.bytes or lower {name}"
            ));
        }
        Ok(())
    }

    /// An integer setting whose range is that of a port, a count or a 32-bit size.
    pub fn i32(&self, setting: &'static Setting) -> i32 {
        i32::try_from(self.integer(setting)).expect("within the setting's range")
    }

    /// An integer setting whose range has nothing negative.
    pub fn usize(&self, setting: &'static Setting) -> usize {
        usize::try_from(self.integer(setting)).expect("within the setting's range")
    }

    fn put(&mut self, setting: &'static Setting, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let value = value.trim();
        setting.kind.check(value).map_err(|why| ConfigError::Value {
            name: setting.name.to_owned(),
            value: value.to_owned(),
            origin: origin.name(),
            why,
        })?;
        self.values
            .insert(setting.name, (setting.kind.normal(value), origin));
        Ok(())
    }
}

fn find(name: &str, origin: Origin) -> Result<&'static Setting, ConfigError> {
    let found = table::find(name);
    if let Some(setting) = found.filter(|setting| setting.is_used) {
        return Ok(setting);
    }
    let (name, origin) = (name.to_owned(), origin.name());
    if found.is_some() {
        return Err(ConfigError::NotHonoured { name, origin });
    }
    let names = SETTINGS.iter().map(|setting| setting.name);
    let nearest = nearest::nearest(&name, names).map(str::to_owned);
    Err(ConfigError::Unknown {
        name,
        origin,
        nearest,
    })
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Kafka => "kafka",
            Table::Millstream => "millstream",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(assignments: &[&str]) -> Result<Settings, ConfigError> {
        let mut settings = Settings::default();
        for assignment in assignments {
            settings.take_assignment(assignment)?;
        }
        settings.check()?;
        Ok(settings)
    }

    #[test]
    fn the_defaults_go_together() {
        Settings::default().check().expect("defaults that go together");
    }

    #[test]
    fn the_book_has_every_setting_as_it_is() {
        let book = include_str!("../../../docs/run.md");
        for setting in SETTINGS {
            let (name, what) = (setting.name, setting.documentation);
            let default = setting.default.unwrap_or_default();
            let row = format!("| `{name}` | {default} | {what} |\n");
            assert!(book.contains(&row), "docs/run.md lacks this row:\n{row}");
        }
        for config in topic::effective(&BTreeMap::new(), &Settings::default()) {
            let name = format!("`{}`", config.name);
            assert!(
                book.contains(&name),
                "docs/run.md does not name the topic config {name}"
            );
        }
    }

    #[test]
    fn the_book_names_the_settings_that_take_effect_while_a_broker_runs() {
        let book = include_str!("../../../docs/run.md");
        let (_, behind) = book.split_once("These take effect at once:").expect("a list");
        let (list, _) = behind.split_once(". ").expect("its end");
        let named: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
        let used = table::all().iter();
        let used = used.filter(|setting| setting.is_used && setting.mode != UpdateMode::ReadOnly);
        assert_eq!(named, used.map(|setting| setting.name).collect::<Vec<_>>());
    }

    #[test]
    fn the_defaults_go_together_for_any_number_of_shards() {
        for shards in 1..=64 {
            let mut settings = Settings::default();
            settings
                .take_assignment(&format!("shards={shards}"))
                .expect("a good setting");
            assert_eq!(settings.check(), Ok(()), "{shards} shards");
            let log = settings.memory_bytes() / shards * 9 / 16;
            let least = storage::log_memory_bytes_min(settings.integer(&table::JOURNAL_BYTES).unsigned_abs());
            assert!(log > least as i64, "{shards} shards");
        }
        for too_much in ["shards=5", "log.dirs=/a,/b,/c"] {
            let mut settings = Settings::default();
            settings.take_assignment(too_much).expect("a good setting");
            assert_eq!(settings.check(), Ok(()), "{too_much}");
            let given = "memory.bytes=1073741824";
            settings.take_assignment(given).expect("a good setting");
            let error = settings.check().expect_err("too little").to_string();
            assert!(error.contains("give memory.bytes="), "{error}");
        }
    }

    #[test]
    fn what_a_start_takes_of_the_memory_has_to_be_there() {
        let mut settings = Settings::default();
        let mut set = |assignment| {
            settings
                .take_assignment(assignment)
                .map(|()| settings.check_memory(1 << 30))
        };
        assert_eq!(set("memory.bytes=2147483648"), Ok(Ok(())), "it may never need it");
        let refused = set("memory.prefault=true").expect("a good setting");
        let error = refused.expect_err("there is half of it").to_string();
        assert!(
            error.contains("memory.bytes=2147483648") && error.contains("1073741824"),
            "{error}"
        );
        assert_eq!(set("memory.bytes=1073741824"), Ok(Ok(())));
    }

    #[test]
    fn a_later_source_wins() {
        let mut settings = Settings::default();
        settings
            .take_file(
                "[kafka]\nnum.partitions = 3\nauto.create.topics.enable = false\n[millstream]\nshards = 4",
            )
            .expect("a good file");
        assert_eq!(settings.num_partitions(), 3);
        assert_eq!(settings.origin(&table::NUM_PARTITIONS), Origin::File);
        settings
            .take_assignment("num.partitions=5")
            .expect("a good setting");
        assert_eq!(settings.num_partitions(), 5);
        settings.take_flag(&table::SHARDS, "1").expect("a good flag");
        assert_eq!(settings.integer(&table::SHARDS), 1);
        assert!(!settings.boolean(&table::AUTO_CREATE_TOPICS_ENABLE));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error = settings(&["num.partition=3"]).expect_err("refused").to_string();
        assert!(error.contains("did you mean 'num.partitions'"), "{error}");
        let error = settings(&["colour=blue"]).expect_err("refused").to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_key_that_would_do_nothing_is_refused() {
        let error = settings(&["log.preallocate=true"]).expect_err("refused");
        assert!(matches!(error, ConfigError::NotHonoured { .. }), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for wrong in [
            "num.partitions=0",
            "num.partitions=many",
            "num.partitions=99999999999999999999",
            "auto.create.topics.enable=maybe",
            "log.message.timestamp.type=Never",
            "journal.bytes=1048576",
            "port=70000",
            "host=",
            "host=somewhere",
            "host=0.0.0.0",
            "num.partitions",
        ] {
            assert!(settings(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_batch_that_the_journal_cannot_hold_is_a_conflict_that_names_both() {
        settings(&["journal.bytes=8388608"]).expect("Kafka's default batch fits the smallest journal");
        let error = settings(&["journal.bytes=8388608", "message.max.bytes=2000000"]);
        let error = error.expect_err("refused").to_string();
        assert!(error.contains("2000000") && error.contains("8388608"), "{error}");
        let large = ["journal.bytes=268435456", "message.max.bytes=16777229"];
        let error = settings(&large).expect_err("refused").to_string();
        assert!(error.contains("16777228") && !error.contains("raise"), "{error}");
    }

    #[test]
    fn ports_do_not_overlap() {
        let ports = |assignments: &[&str]| settings(assignments).map(|settings| settings.shard_ports());
        assert_eq!(ports(&["shards=3"]), Ok(Ok(vec![9092, 19093, 19094])));
        assert_eq!(ports(&["shards=2", "port=0"]), Ok(Ok(vec![0, 0])));
        let error = ports(&["shards=2", "shard.port.base=9091"]).expect_err("refused");
        assert!(error.to_string().contains("port 9092"), "{error}");
        assert!(ports(&["shards=2", "port=60000"]).is_err());
    }

    #[test]
    fn metrics_have_a_place_of_their_own() {
        let admin = |assignments: &[&str]| settings(assignments)?.admin_address();
        let at = |text: &str| Ok(Some(text.parse().expect("an address")));
        assert_eq!(admin(&[]), at("127.0.0.1:9644"));
        assert_eq!(admin(&["port=0"]), at("127.0.0.1:0"));
        assert_eq!(
            admin(&["port=0", "admin.listen=127.0.0.1:9644"]),
            at("127.0.0.1:9644")
        );
        assert_eq!(admin(&["admin.listen=localhost:1"]), at("127.0.0.1:1"));
        assert_eq!(admin(&["admin.listen=[::1]:9644"]), at("[::1]:9644"));
        assert_eq!(admin(&["admin.listen="]), Ok(None));
        for wrong in ["9644", "127.0.0.1", "broker.example.net:9644", "127.0.0.1:70000"] {
            let error = admin(&[&format!("admin.listen={wrong}")])
                .expect_err(wrong)
                .to_string();
            assert!(
                error.contains(wrong) && error.contains("127.0.0.1:9644"),
                "{error}"
            );
        }
        let error = admin(&["shards=2", "admin.listen=0.0.0.0:19093"])
            .expect_err("refused")
            .to_string();
        assert!(error.contains("port 19093"), "{error}");
    }

    #[test]
    fn a_file_is_refused_with_the_reason() {
        for (text, part) in [
            ("num.partitions = 3", "[kafka]"),
            ("[kafka]\nshards = 3", "[millstream]"),
            ("[kafka]\nnum.partitions = 1.5", "num.partitions"),
            ("[kafka]\nnum.partitions = [1]", "num.partitions"),
            ("[kafka", "TOML"),
            ("[broker]\na = 1", "[broker]"),
        ] {
            let error = Settings::default().take_file(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
