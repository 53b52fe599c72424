//! Kafka's 128-bit id: topic ids, directory ids.

use std::fmt;
use std::str::FromStr;

/// A 128-bit id, sixteen bytes as on the wire. It prints as Kafka prints it: 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// The id that means "none".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the id that means "none".
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let bits = u128::from_be_bytes(self.0);
        for index in 0..22u32 {
            // 22 characters carry 132 bits: the last one ends in four zero bits.
            let sextet = if index < 21 {
                bits >> (128 - 6 * (index + 1))
            } else {
                bits << 4
            };
            f.write_char(char::from(ALPHABET[(sextet & 0x3f) as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an id: 22 characters of URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id is 22 characters of A-Z, a-z, 0-9, - and _")]
pub struct ParseUuidError;

impl FromStr for Uuid {
    type Err = ParseUuidError;

    fn from_str(text: &str) -> Result<Self, ParseUuidError> {
        let text: &[u8; 22] = text.as_bytes().try_into().map_err(|_| ParseUuidError)?;
        let mut bits = 0u128;
        for (index, character) in text.iter().enumerate() {
            let sextet = ALPHABET
                .iter()
                .position(|c| c == character)
                .ok_or(ParseUuidError)? as u128;
            if index < 21 {
                bits = bits << 6 | sextet;
            } else if sextet & 0x0f == 0 {
                bits = bits << 2 | sextet >> 4;
            } else {
                return Err(ParseUuidError);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_kafka_prints_them_and_parse_back() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let one = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let bytes = Uuid(*b"\xff\xfe\x01\x02\x03abcdefghij\x80");
        assert_eq!(bytes.to_string().parse(), Ok(bytes));
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAB".parse::<Uuid>(), Err(ParseUuidError));
        assert_eq!("short".parse::<Uuid>(), Err(ParseUuidError));
    }
}
