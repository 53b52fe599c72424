//! Which APIs we speak, in which versions. The one source of it: decoding, ApiVersions and the docs follow this table.

use crate::error::DecodeError;
use crate::schema::Version;

/// The APIs that this room can decode and encode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i16)]
#[allow(missing_docs, reason = "Kafka's own names")]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    DescribeLogDirs = 35,
    CreatePartitions = 37,
    DeleteGroups = 42,
    IncrementalAlterConfigs = 44,
    OffsetDelete = 47,
    DescribeCluster = 60,
    DescribeTopicPartitions = 75,
}

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

/// All that we speak, in the order of the keys.
pub const API_TABLE: &[ApiInfo] = &[
    api(ApiKey::Produce, "Produce", 3, 11, 9),
    api(ApiKey::Fetch, "Fetch", 4, 17, 12),
    api(ApiKey::ListOffsets, "ListOffsets", 1, 7, 6),
    api(ApiKey::Metadata, "Metadata", 0, 12, 9),
    api(ApiKey::OffsetCommit, "OffsetCommit", 2, 9, 8),
    api(ApiKey::OffsetFetch, "OffsetFetch", 1, 9, 6),
    api(ApiKey::FindCoordinator, "FindCoordinator", 0, 6, 3),
    api(ApiKey::JoinGroup, "JoinGroup", 0, 9, 6),
    api(ApiKey::Heartbeat, "Heartbeat", 0, 4, 4),
    api(ApiKey::LeaveGroup, "LeaveGroup", 0, 5, 4),
    api(ApiKey::SyncGroup, "SyncGroup", 0, 5, 4),
    api(ApiKey::DescribeGroups, "DescribeGroups", 0, 6, 5),
    api(ApiKey::ListGroups, "ListGroups", 0, 5, 3),
    api(ApiKey::ApiVersions, "ApiVersions", 0, 4, 3),
    api(ApiKey::CreateTopics, "CreateTopics", 2, 7, 5),
    api(ApiKey::DeleteTopics, "DeleteTopics", 1, 6, 4),
    api(ApiKey::DeleteRecords, "DeleteRecords", 0, 2, 2),
    api(ApiKey::InitProducerId, "InitProducerId", 0, 4, 2),
    api(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, 4),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4, 4),
    api(ApiKey::AlterConfigs, "AlterConfigs", 0, 2, 2),
    api(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4, 2),
    api(ApiKey::CreatePartitions, "CreatePartitions", 0, 3, 2),
    api(ApiKey::DeleteGroups, "DeleteGroups", 0, 2, 2),
    api(
        ApiKey::IncrementalAlterConfigs,
        "IncrementalAlterConfigs",
        0,
        1,
        1,
    ),
    api(ApiKey::OffsetDelete, "OffsetDelete", 0, 0, NEVER),
    api(ApiKey::DescribeCluster, "DescribeCluster", 0, 2, 0),
    api(
        ApiKey::DescribeTopicPartitions,
        "DescribeTopicPartitions",
        0,
        0,
        0,
    ),
];

const fn api(key: ApiKey, name: &'static str, min: i16, max: i16, flexible: i16) -> ApiInfo {
    ApiInfo {
        key,
        name,
        min_version: min,
        max_version: max,
        first_flexible_version: flexible,
    }
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
