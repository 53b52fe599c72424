//! Which APIs we speak, in which versions. The one source of it: keys, modules, decoding, ApiVersions and the broker's
//! handlers follow the table, [`for_each_api!`](crate::for_each_api).

use crate::error::DecodeError;
use crate::schema::Version;

/// One API and the versions of it that we speak, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiInfo {
    /// The API.
    pub key: ApiKey,
    /// Kafka's name for it.
    pub name: &'static str,
    /// The oldest version that we speak.
    pub min_version: i16,
    /// The newest version that we speak.
    pub max_version: i16,
    /// The first version with compact lengths and tagged fields (KIP-482).
    pub first_flexible_version: i16,
}

/// The oldest Produce version to *advertise*. Versions 0 to 2 are refused all the same, but a librdkafka that does not
/// see them listed sends everything uncompressed (KAFKA-18659).
pub const PRODUCE_ADVERTISED_MIN_VERSION: i16 = 0;

/// For an API that has no flexible version.
const NEVER: i16 = i16::MAX;

/// The table of APIs: a line for each, in the order of the keys. It names the API's module: here, in
/// [`messages`](crate::messages), that is what the API is in bytes; in a broker the one of the same name is what it does.
///
/// Hands the table to a macro, and so whatever lists APIs follows it. What a line says of versions is one token to a
/// macro that does not ask for it.
///
/// ```
/// macro_rules! modules {
///     ($($name:ident = $key:literal in $module:ident $versions:tt;)*) => {
///         [$((wire::ApiKey::$name, stringify!($module)),)*]
///     };
/// }
/// let modules = wire::for_each_api!(modules);
/// assert!(modules.contains(&(wire::ApiKey::DescribeLogDirs, "describe_log_dirs")));
/// ```
#[macro_export]
macro_rules! for_each_api {
    ($callback:ident) => {
        $callback! {
            Produce = 0 in produce (versions 3 to 11, flexible from 9);
            Fetch = 1 in fetch (versions 4 to 17, flexible from 12);
            ListOffsets = 2 in list_offsets (versions 1 to 7, flexible from 6);
            Metadata = 3 in metadata (versions 0 to 12, flexible from 9);
            OffsetCommit = 8 in offset_commit (versions 2 to 9, flexible from 8);
            OffsetFetch = 9 in offset_fetch (versions 1 to 9, flexible from 6);
            FindCoordinator = 10 in find_coordinator (versions 0 to 6, flexible from 3);
            JoinGroup = 11 in join_group (versions 0 to 9, flexible from 6);
            Heartbeat = 12 in heartbeat (versions 0 to 4, flexible from 4);
            LeaveGroup = 13 in leave_group (versions 0 to 5, flexible from 4);
            SyncGroup = 14 in sync_group (versions 0 to 5, flexible from 4);
            DescribeGroups = 15 in describe_groups (versions 0 to 6, flexible from 5);
            ListGroups = 16 in list_groups (versions 0 to 5, flexible from 3);
            ApiVersions = 18 in api_versions (versions 0 to 4, flexible from 3);
            CreateTopics = 19 in create_topics (versions 2 to 7, flexible from 5);
            DeleteTopics = 20 in delete_topics (versions 1 to 6, flexible from 4);
            DeleteRecords = 21 in delete_records (versions 0 to 2, flexible from 2);
            InitProducerId = 22 in init_producer_id (versions 0 to 4, flexible from 2);
            OffsetForLeaderEpoch = 23 in offset_for_leader_epoch (versions 2 to 4, flexible from 4);
            DescribeConfigs = 32 in describe_configs (versions 1 to 4, flexible from 4);
            AlterConfigs = 33 in alter_configs (versions 0 to 2, flexible from 2);
            DescribeLogDirs = 35 in describe_log_dirs (versions 1 to 4, flexible from 2);
            CreatePartitions = 37 in create_partitions (versions 0 to 3, flexible from 2);
            DeleteGroups = 42 in delete_groups (versions 0 to 2, flexible from 2);
            IncrementalAlterConfigs = 44 in incremental_alter_configs (versions 0 to 1, flexible from 1);
            OffsetDelete = 47 in offset_delete (versions 0 to 0, flexible from NEVER);
            DescribeCluster = 60 in describe_cluster (versions 0 to 2, flexible from 0);
            DescribeTopicPartitions = 75 in describe_topic_partitions (versions 0 to 0, flexible from 0);
        }
    };
}

macro_rules! api_table {
    ($($name:ident = $key:literal in $module:ident
        (versions $min:literal to $max:literal, flexible from $flexible:expr);)*) => {
        /// The APIs that this room can decode and encode.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "Kafka's own names")]
        pub enum ApiKey {
            $($name = $key,)*
        }

        /// All that we speak, in the order of the keys.
        pub const API_TABLE: &[ApiInfo] = &[
            $(ApiInfo {
                key: ApiKey::$name,
                name: stringify!($name),
                min_version: $min,
                max_version: $max,
                first_flexible_version: $flexible,
            },)*
        ];
    };
}

for_each_api!(api_table);

impl ApiKey {
    /// The API with this key, if we speak it.
    #[inline]
    pub fn from_code(code: i16) -> Option<Self> {
        API_TABLE.iter().map(|api| api.key).find(|key| key.code() == code)
    }

    /// The key on the wire.
    #[inline]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Its row of the table.
    pub const fn info(self) -> &'static ApiInfo {
        let mut index = 0;
        while API_TABLE[index].key as i16 != self as i16 {
            index += 1;
        }
        &API_TABLE[index]
    }
}

impl ApiInfo {
    /// What a version number means for this API.
    #[inline]
    pub fn version(&self, number: i16) -> Result<Version, DecodeError> {
        if number < self.min_version || number > self.max_version {
            return Err(DecodeError::UnsupportedVersion {
                api_key: self.key.code(),
                version: number,
            });
        }
        Ok(Version {
            number,
            flexible: number >= self.first_flexible_version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_finds_its_own_row() {
        for row in API_TABLE {
            assert_eq!(row.key.info(), row);
            assert_eq!(ApiKey::from_code(row.key.code()), Some(row.key));
            assert!(row.min_version <= row.max_version);
            assert!(row.version(row.min_version).is_ok() && row.version(row.max_version).is_ok());
            assert!(row.version(row.min_version - 1).is_err() && row.version(row.max_version + 1).is_err());
        }
        assert!(API_TABLE.is_sorted_by_key(|row| row.key.code()));
        assert_eq!(ApiKey::from_code(-1), None);
        assert_eq!(ApiKey::from_code(4), None);
    }
}
