//! The name of a partition's log, the same for the whole of its life.

use std::fmt;

/// A partition of one incarnation of a topic: a topic that is deleted and created again has another id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicPartition {
    /// The topic's id (KIP-516), never 0.
    pub topic_id: u128,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{}", self.topic_id, self.partition)
    }
}

/// Kafka's form of an id: URL-safe base64 without padding.
pub fn to_base64(id: u128) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(22);
    for index in 0..22 {
        // 22 digits are 132 bits: the last digit has four zero bits at its end.
        let shift = 122 - 6 * index;
        let digit = if shift >= 0 { id >> shift } else { id << -shift };
        text.push(DIGITS[(digit & 63) as usize] as char);
    }
    text
}

/// The id in Kafka's form.
pub fn from_base64(text: &str) -> Option<u128> {
    if text.len() != 22 {
        return None;
    }
    let mut id = 0_u128;
    for (index, digit) in text.bytes().enumerate() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        id = if index < 21 {
            id << 6 | u128::from(value)
        } else {
            id << 2 | u128::from(value >> 4)
        };
    }
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_kafkas_form() {
        // Python: base64.urlsafe_b64encode(bytes(range(16))).
        let id = u128::from_be_bytes(std::array::from_fn(|index| index as u8));
        assert_eq!(to_base64(id), "AAECAwQFBgcICQoLDA0ODw");
        for id in [0, 1, u128::MAX, id] {
            assert_eq!(from_base64(&to_base64(id)), Some(id));
        }
        assert_eq!(from_base64("short"), None);
    }
}
