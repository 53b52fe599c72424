//! The records of `__consumer_offsets`: what a group's coordinator keeps, in Kafka's own format.
//!
//! A key begins with the number of its kind, a value with its version, both `i16`; then fields, encoded as those of
//! messages are (Kafka's `OffsetCommitKey.json`, `GroupMetadataKey.json` and their values). Kinds that we do not keep
//! (those of KIP-848 groups, share groups and streams groups) are told from damage: a log that has them is another
//! coordinator's too.

use crate::array::Array;
use crate::error::{DecodeError, malformed};
use crate::primitive::{Reader, Uuid, Writer};
use crate::schema::{Decode, Encode, Version, message};

/// Kinds of keys. The first two are the same: 0 was written by brokers before 0.8.2.
const OFFSET_COMMIT_LEGACY: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;
/// The version of values that are written. 4 is newer and would say no more: tools of before 2023 (KIP-915) read 3.
const VALUE_VERSION: i16 = 3;
/// The only version that says when an offset expires: as in Kafka, written when its client has said so. It has no leader
/// epoch, which the clients that say so (OffsetCommit before version 5) do not send.
const EXPIRING_VALUE_VERSION: i16 = 1;
/// The newest version of values, and the first with tagged fields.
const VALUE_VERSION_MAX: i16 = 4;

const KEY: Version = Version {
    number: 0,
    flexible: false,
};

message! {
    /// Whose offset it is.
    pub struct OffsetCommitKey<'a> {
        [..] group: &'a str,
        [..] topic: &'a str,
        [..] partition: i32,
    }
}

message! {
    /// A committed offset.
    pub struct OffsetCommitValue<'a> {
        [..] offset: i64,
        [3..] leader_epoch: i32 = -1,
        [..] metadata: &'a str,
        /// When it was committed, in milliseconds since 1970.
        [..] commit_timestamp_ms: i64,
        /// When it expires, if the client said so; -1: as `offsets.retention.minutes` says.
        [1..=1] expire_timestamp_ms: i64 = -1,
        [4.., tag 0] topic_id: Uuid,
    }
}

message! {
    /// Whose state it is.
    pub struct GroupMetadataKey<'a> {
        [..] group: &'a str,
    }
}

message! {
    /// A generation of a group.
    pub struct GroupMetadataValue<'a> {
        [..] protocol_type: &'a str,
        [..] generation: i32,
        [..] protocol: Option<&'a str>,
        [..] leader: Option<&'a str>,
        /// When the group took this state, in milliseconds since 1970; -1: not known.
        [2..] current_state_timestamp_ms: i64 = -1,
        [..] members: Array<'a, GroupMemberValue<'a>>,
    }
}

message! {
    /// A member of a generation.
    pub struct GroupMemberValue<'a> {
        [..] member_id: &'a str,
        [3..] group_instance_id: Option<&'a str>,
        [..] client_id: &'a str,
        [..] client_host: &'a str,
        [1..] rebalance_timeout_ms: i32 = -1,
        [..] session_timeout_ms: i32,
        [..] subscription: &'a [u8],
        [..] assignment: &'a [u8],
    }
}

/// A record of the log. A value of `None` is a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupRecord<'a> {
    /// A committed offset.
    Offset(OffsetCommitKey<'a>, Option<OffsetCommitValue<'a>>),
    /// A group's generation.
    Group(GroupMetadataKey<'a>, Option<GroupMetadataValue<'a>>),
}

impl<'a> GroupRecord<'a> {
    /// Reads a record; `None` if its kind is none of ours.
    ///
    /// # Errors
    /// If it is of our kinds, and not what these look like.
    pub fn decode(key: &'a [u8], value: Option<&'a [u8]>) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(key);
        Ok(Some(match reader.i16()? {
            OFFSET_COMMIT_LEGACY | OFFSET_COMMIT => {
                GroupRecord::Offset(whole(reader, KEY)?, value.map(value_of).transpose()?)
            }
            GROUP_METADATA => GroupRecord::Group(whole(reader, KEY)?, value.map(value_of).transpose()?),
            _ => return Ok(None),
        }))
    }

    /// The record's key and value.
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            GroupRecord::Offset(key, value) => (
                written(OFFSET_COMMIT, key, KEY),
                value.map(|value| {
                    let number = match value.expire_timestamp_ms {
                        -1 => VALUE_VERSION,
                        _ => EXPIRING_VALUE_VERSION,
                    };
                    written(number, &value, version(number))
                }),
            ),
            GroupRecord::Group(key, value) => (
                written(GROUP_METADATA, key, KEY),
                value.map(|value| written(VALUE_VERSION, &value, version(VALUE_VERSION))),
            ),
        }
    }
}

fn version(number: i16) -> Version {
    Version {
        number,
        flexible: number >= VALUE_VERSION_MAX,
    }
}

fn value_of<'a, T: Decode<'a>>(bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.i16()? {
        number @ 0..=VALUE_VERSION_MAX => whole(reader, version(number)),
        _ => malformed("a group record's value has a version that is not known"),
    }
}

fn whole<'a, T: Decode<'a>>(mut reader: Reader<'a>, version: Version) -> Result<T, DecodeError> {
    let value = T::read(&mut reader, version)?;
    reader.expect_end()?;
    Ok(value)
}

fn written(number: i16, value: &impl Encode, version: Version) -> Vec<u8> {
    let mut writer = Writer::flat();
    writer.i16(number);
    value.write(&mut writer, version);
    writer.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committed_offset_has_kafkas_bytes() {
        let key = OffsetCommitKey {
            group: "g",
            topic: "t",
            partition: 2,
        };
        let value = OffsetCommitValue {
            offset: 42,
            leader_epoch: 7,
            metadata: "m",
            commit_timestamp_ms: 1_000,
            ..OffsetCommitValue::default()
        };
        let record = GroupRecord::Offset(key, Some(value));
        let (key, value) = record.encode();
        assert_eq!(key, [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
        let expected = [
            0, 3, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0, 7, 0, 1, b'm', 0, 0, 0, 0, 0, 0, 3, 0xe8,
        ];
        assert_eq!(value.as_deref(), Some(&expected[..]));
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record)));
        let Ok(Some(GroupRecord::Offset(_, None))) = GroupRecord::decode(&key, None) else {
            panic!("no value is a tombstone");
        };
    }

    #[test]
    fn a_generation_comes_back_as_it_was_written() {
        let members = [GroupMemberValue {
            member_id: "m-1",
            group_instance_id: Some("i"),
            client_id: "c",
            client_host: "/127.0.0.1",
            rebalance_timeout_ms: 60_000,
            session_timeout_ms: 10_000,
            subscription: b"topics",
            assignment: b"partitions",
        }];
        let value = GroupMetadataValue {
            protocol_type: "consumer",
            generation: 5,
            protocol: Some("range"),
            leader: Some("m-1"),
            current_state_timestamp_ms: 99,
            members: Array::from_slice(&members),
        };
        let record = GroupRecord::Group(GroupMetadataKey { group: "g" }, Some(value));
        let (key, value) = record.encode();
        assert_eq!(key, [0, 2, 0, 1, b'g']);
        assert_eq!(GroupRecord::decode(&key, value.as_deref()), Ok(Some(record)));
    }

    #[test]
    fn every_version_of_a_value_is_read() {
        let key = [0, 0, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2];
        let (offset, time) = (7i64.to_be_bytes(), 9i64.to_be_bytes());
        let of = |version: u8, parts: &[&[u8]]| [&[0, version], &parts.concat()[..]].concat();
        let values = [
            of(0, &[&offset, &[0, 0], &time]),
            of(1, &[&offset, &[0, 0], &time, &time]),
            of(2, &[&offset, &[0, 0], &time]),
            of(3, &[&offset, &[0, 0, 0, 4], &[0, 0], &time]),
            of(4, &[&offset, &[0, 0, 0, 4], &[1], &time, &[0]]),
            of(4, &[&offset, &[0, 0, 0, 4], &[1], &time, &[1, 0, 16], &[5; 16]]),
        ];
        for value in values {
            let Ok(Some(GroupRecord::Offset(_, Some(read)))) = GroupRecord::decode(&key, Some(&value)) else {
                panic!("version {} is not read", value[1]);
            };
            assert_eq!((read.offset, read.commit_timestamp_ms), (7, 9));
            assert_eq!(read.leader_epoch, if value[1] < 3 { -1 } else { 4 });
        }
    }

    #[test]
    fn other_kinds_are_not_damage_and_damage_is_not_another_kind() {
        assert_eq!(GroupRecord::decode(&[0, 3, 1, 2], None), Ok(None));
        assert_eq!(GroupRecord::decode(&[0xff, 0xff], Some(b"?")), Ok(None));
        let key = [0, 2, 0, 1, b'g'];
        for (key, value) in [
            (&key[..4], None),
            (&key[..1], None),
            (&[0, 2, 0, 1, b'g', 0][..], None),
            (&key[..], Some(&[0, 5][..])),
            (&key[..], Some(&[0, 3, 0][..])),
        ] {
            assert!(GroupRecord::decode(key, value).is_err(), "{key:?} {value:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut random = crate::differential::Random(7);
        for _ in 0..20_000 {
            let mut bytes = |kinds: usize| {
                let length = random.below(96);
                let mut bytes = vec![0, random.below(kinds) as u8];
                bytes.extend((0..length).map(|_| random.below(256) as u8 & random.below(256) as u8));
                bytes
            };
            let (key, value) = (bytes(4), bytes(6));
            if let Ok(Some(GroupRecord::Group(_, Some(value)))) = GroupRecord::decode(&key, Some(&value)) {
                for member in value.members {
                    std::hint::black_box(member);
                }
            }
        }
    }
}
