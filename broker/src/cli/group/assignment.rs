//! The partitions in a consumer's assignment. Pure.
//!
//! Assignments of the protocol type `consumer` begin with `version i16, topics [name string, partitions [i32]]` in every
//! version (`ConsumerProtocolAssignment.json`); what follows is not looked at.

use wire::{DecodeError, Reader};

/// A name's length, and a list's.
const TOPIC_BYTES_MIN: usize = 6;
const PARTITION_BYTES: usize = 4;

/// The topics and partitions, in their order; an empty assignment has none.
pub(super) fn partitions_of(assignment: &[u8]) -> Result<Vec<(String, i32)>, DecodeError> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(assignment);
    let _version = reader.i16()?;
    let topics = reader.nullable_array_count(false, TOPIC_BYTES_MIN)?.unwrap_or(0);
    let mut assigned = Vec::new();
    for _ in 0..topics {
        let name = reader.nullable_string(false)?.unwrap_or_default();
        let partitions = reader.nullable_array_count(false, PARTITION_BYTES)?.unwrap_or(0);
        for _ in 0..partitions {
            assigned.push((name.to_owned(), reader.i32()?));
        }
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_whatever_follows_them() {
        let assignment = [
            0, 3, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0xff, 0xff,
        ];
        let expected = vec![("a".to_owned(), 0), ("a".to_owned(), 5)];
        assert_eq!(partitions_of(&assignment), Ok(expected));
        assert_eq!(partitions_of(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_assignment_is_not_taken_for_one() {
        for assignment in [
            &[0][..],
            &[0, 0],
            &[0, 0, 0x7f, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0, 0, 1, 0, 1, b'a', 0x7f, 0xff, 0xff, 0xff],
        ] {
            assert!(partitions_of(assignment).is_err(), "{assignment:?}");
        }
    }
}
