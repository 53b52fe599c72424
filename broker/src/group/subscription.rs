//! The topics in a consumer's own words about itself: the one thing that a coordinator reads of them. Pure.
//!
//! The metadata of the protocol type `consumer` begins with `version i16, topics [string]` in every version
//! (`ConsumerProtocolSubscription.json`); what follows is not looked at.

use std::collections::BTreeSet;

use wire::{DecodeError, Reader};

use crate::group::machine::{Group, State};

/// The protocol type of consumers.
pub(crate) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";
/// A string's length.
const STRING_BYTES_MIN: usize = 2;

/// The topics that the members of a stable group of consumers are subscribed to; `None` if that cannot be told.
pub(crate) fn subscribed_topics(group: &Group) -> Option<BTreeSet<String>> {
    if group.protocol_type() != Some(CONSUMER_PROTOCOL_TYPE) {
        return None;
    }
    if group.state() == State::Empty {
        return Some(BTreeSet::new());
    }
    let protocol = group.protocol()?;
    let mut topics = BTreeSet::new();
    for member in group.members().values() {
        topics.extend(topics_of(&member.metadata(protocol)).ok()?);
    }
    Some(topics)
}

fn topics_of(metadata: &[u8]) -> Result<Vec<String>, DecodeError> {
    let mut reader = Reader::new(metadata);
    let _version = reader.i16()?;
    let count = reader.nullable_array_count(false, STRING_BYTES_MIN)?.unwrap_or(0);
    let mut topics = Vec::new();
    for _ in 0..count {
        topics.push(reader.nullable_string(false)?.unwrap_or_default().to_owned());
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_whatever_follows_them() {
        let metadata = [0, 3, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xde, 0xad];
        assert_eq!(topics_of(&metadata), Ok(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(topics_of(&[0, 0, 0, 0, 0, 0]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_subscription_is_not_taken_for_one() {
        for metadata in [
            &[][..],
            &[0, 0],
            &[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1, b'a'],
            &[0, 0, 0, 0, 0, 1, 0, 9, b'a'],
        ] {
            assert!(topics_of(metadata).is_err(), "{metadata:?}");
        }
    }
}
