//! Which APIs we speak, in which versions. The one source of it: decoding, ApiVersions and the docs follow this table.

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

/// Declares the APIs: a line for each, in the order of the keys.
macro_rules! apis {
    ($($name:ident = $key:literal, versions $min:literal to $max:literal, flexible from $flexible:expr;)*) => {
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

apis! {
    Produce = 0, versions 3 to 11, flexible from 9;
    Fetch = 1, versions 4 to 17, flexible from 12;
    ListOffsets = 2, versions 1 to 7, flexible from 6;
    Metadata = 3, versions 0 to 12, flexible from 9;
    OffsetCommit = 8, versions 2 to 9, flexible from 8;
    OffsetFetch = 9, versions 1 to 9, flexible from 6;
    FindCoordinator = 10, versions 0 to 6, flexible from 3;
    JoinGroup = 11, versions 0 to 9, flexible from 6;
    Heartbeat = 12, versions 0 to 4, flexible from 4;
    LeaveGroup = 13, versions 0 to 5, flexible from 4;
    SyncGroup = 14, versions 0 to 5, flexible from 4;
    DescribeGroups = 15, versions 0 to 6, flexible from 5;
    ListGroups = 16, versions 0 to 5, flexible from 3;
    ApiVersions = 18, versions 0 to 4, flexible from 3;
    CreateTopics = 19, versions 2 to 7, flexible from 5;
    DeleteTopics = 20, versions 1 to 6, flexible from 4;
    DeleteRecords = 21, versions 0 to 2, flexible from 2;
    InitProducerId = 22, versions 0 to 4, flexible from 2;
    OffsetForLeaderEpoch = 23, versions 2 to 4, flexible from 4;
    DescribeConfigs = 32, versions 1 to 4, flexible from 4;
    AlterConfigs = 33, versions 0 to 2, flexible from 2;
    DescribeLogDirs = 35, versions 1 to 4, flexible from 2;
    CreatePartitions = 37, versions 0 to 3, flexible from 2;
    DeleteGroups = 42, versions 0 to 2, flexible from 2;
    IncrementalAlterConfigs = 44, versions 0 to 1, flexible from 1;
    OffsetDelete = 47, versions 0 to 0, flexible from NEVER;
    DescribeCluster = 60, versions 0 to 2, flexible from 0;
    DescribeTopicPartitions = 75, versions 0 to 0, flexible from 0;
}

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
