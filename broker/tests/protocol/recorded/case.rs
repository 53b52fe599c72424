//! A request as bytes, and what it is called.

use wire::ApiKey;

pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) key: i16,
    pub(super) version: i16,
    pub(super) bytes: Vec<u8>,
}

/// Big-endian fields, one after the other.
#[derive(Clone, Default)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl Bytes {
    pub(super) fn i8(mut self, value: i8) -> Bytes {
        self.0.push(value as u8);
        self
    }

    pub(super) fn i16(mut self, value: i16) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i32(mut self, value: i32) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn i64(mut self, value: i64) -> Bytes {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Bytes {
        self.0.extend(bytes);
        self
    }

    pub(super) fn string(self, text: &str) -> Bytes {
        self.i16(i16::try_from(text.len()).unwrap()).raw(text.as_bytes())
    }

    pub(super) fn byte_string(self, bytes: &[u8]) -> Bytes {
        self.i32(i32::try_from(bytes.len()).unwrap()).raw(bytes)
    }

    /// An array that holds these, one after the other.
    pub(super) fn array(self, items: &[Bytes]) -> Bytes {
        let count = i32::try_from(items.len()).unwrap();
        items.iter().fold(self.i32(count), |all, item| all.raw(&item.0))
    }

    /// A string or the length of an array, of a flexible version: short ones only.
    pub(super) fn compact(self, text: &str) -> Bytes {
        self.i8(i8::try_from(text.len() + 1).unwrap())
            .raw(text.as_bytes())
    }
}

pub(super) fn bytes() -> Bytes {
    Bytes::default()
}

pub(super) fn case(name: &'static str, key: i16, version: i16, body: Bytes) -> Case {
    let flexible = ApiKey::from_code(key).is_some_and(|key| {
        let info = key.info();
        version >= info.first_flexible_version && key != ApiKey::ApiVersions
    });
    let mut frame = bytes().i16(key).i16(version).i32(1).i16(-1);
    if flexible {
        frame = frame.i8(0);
    }
    let frame = [frame.0, body.0].concat();
    Case {
        name,
        key,
        version,
        bytes: bytes().i32(i32::try_from(frame.len()).unwrap()).raw(&frame).0,
    }
}
