//! How a Kafka struct is declared: once, with `message!`, which writes both directions.
//!
//! ```text
//! message! {
//!     /// What it is.
//!     pub struct Example<'a> {                      // <'a>: borrowed (requests); none: owned (responses);
//!                                                   // <R>: owned, with record data behind the handle R
//!         [..] acks: i16,                           // in every version
//!         [3..] transactional_id: Option<&'a str>,  // since version 3; Option is Kafka's null
//!         [8..=10] include: bool = true,            // in versions 8 to 10; the value that stands for absence
//!         [.., null 12..] name: Option<&'a str>,    // in every version; may be null since version 12
//!         [12.., tag 0] cluster_id: Option<String>, // a tagged field; written only when it is not its default
//!     }
//! }
//! ```
//! A field that its version does not have keeps its default on reading and is left out on writing.

use crate::error::{DecodeError, malformed};
use crate::primitive::{ByteString, Reader, Uuid, Writer};

/// A version of an API, with what follows from it: whether its encoding is the flexible one (compact lengths and
/// tagged fields, KIP-482).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The API version.
    pub number: i16,
    /// Whether lengths are compact and structs end in tagged fields.
    pub flexible: bool,
}

/// Written in Kafka's encoding.
pub trait Encode {
    /// Appends the value.
    fn write(&self, writer: &mut Writer, version: Version);
}

/// Read from Kafka's encoding, borrowing from the frame.
pub trait Decode<'a>: Sized {
    /// Reads one value.
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, DecodeError>;

    /// The fewest bytes that a value takes in this version. It bounds the count of an array.
    fn min_size(version: Version) -> usize;
}

/// Types with a null: strings, byte fields, arrays.
pub trait EncodeNullable {
    /// Appends the value, or null.
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version);
}

/// Types with a null: strings, byte fields, arrays.
pub trait DecodeNullable<'a>: Sized {
    /// The bytes that the length takes.
    const LENGTH_SIZE: usize = 4;

    /// Reads one value, or null.
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError>;
}

impl<T: EncodeNullable> Encode for T {
    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        T::write_nullable(Some(self), writer, version);
    }
}

impl<'a, T: DecodeNullable<'a>> Decode<'a> for T {
    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        match T::read_nullable(reader, version)? {
            Some(value) => Ok(value),
            None => malformed("a field that may not be null is null"),
        }
    }

    #[inline]
    fn min_size(version: Version) -> usize {
        if version.flexible { 1 } else { T::LENGTH_SIZE }
    }
}

impl<T: EncodeNullable> Encode for Option<T> {
    #[inline]
    fn write(&self, writer: &mut Writer, version: Version) {
        T::write_nullable(self.as_ref(), writer, version);
    }
}

impl<'a, T: DecodeNullable<'a>> Decode<'a> for Option<T> {
    #[inline]
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        T::read_nullable(reader, version)
    }

    #[inline]
    fn min_size(version: Version) -> usize {
        T::min_size(version)
    }
}

/// A struct with a null, which a byte before it tells: negative for null, 1 for a struct. (A type that has a null
/// of its own needs no such byte: for those there is `Option`.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NullableStruct<T>(pub Option<T>);

impl<T> Default for NullableStruct<T> {
    #[inline]
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Encode> Encode for NullableStruct<T> {
    fn write(&self, writer: &mut Writer, version: Version) {
        match &self.0 {
            None => writer.i8(-1),
            Some(value) => {
                writer.i8(1);
                value.write(writer, version);
            }
        }
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for NullableStruct<T> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, DecodeError> {
        if reader.i8()? < 0 {
            return Ok(Self(None));
        }
        T::read(reader, version).map(|value| Self(Some(value)))
    }

    #[inline]
    fn min_size(_: Version) -> usize {
        1
    }
}

/// Types of a fixed size, read and written by the methods of these names.
macro_rules! fixed_size {
    ($($type:ty, $method:ident, $size:literal;)*) => {$(
        impl Encode for $type {
            #[inline]
            fn write(&self, writer: &mut Writer, _: Version) {
                writer.$method(*self);
            }
        }

        impl<'a> Decode<'a> for $type {
            #[inline]
            fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self, DecodeError> {
                reader.$method()
            }

            #[inline]
            fn min_size(_: Version) -> usize {
                $size
            }
        }
    )*};
}

fixed_size! {
    bool, bool, 1;
    i8, i8, 1;
    i16, i16, 2;
    i32, i32, 4;
    i64, i64, 8;
    Uuid, uuid, 16;
}

impl EncodeNullable for &str {
    #[inline]
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.nullable_string(value.copied(), version.flexible);
    }
}

impl<'a> DecodeNullable<'a> for &'a str {
    const LENGTH_SIZE: usize = 2;

    #[inline]
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        reader.nullable_string(version.flexible)
    }
}

impl EncodeNullable for String {
    #[inline]
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.nullable_string(value.map(String::as_str), version.flexible);
    }
}

impl<'a> DecodeNullable<'a> for String {
    const LENGTH_SIZE: usize = 2;

    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        Ok(reader.nullable_string(version.flexible)?.map(str::to_owned))
    }
}

impl EncodeNullable for &[u8] {
    #[inline]
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.nullable_bytes(value.copied(), version.flexible);
    }
}

impl<'a> DecodeNullable<'a> for &'a [u8] {
    #[inline]
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        reader.nullable_bytes(version.flexible)
    }
}

impl EncodeNullable for ByteString {
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.nullable_bytes(value.map(|bytes| &bytes.0[..]), version.flexible);
    }
}

impl<'a> DecodeNullable<'a> for ByteString {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        Ok(reader.nullable_bytes(version.flexible)?.map(Self::from))
    }
}

impl<T: Encode> EncodeNullable for Vec<T> {
    fn write_nullable(value: Option<&Self>, writer: &mut Writer, version: Version) {
        writer.length(value.map(Self::len), version.flexible);
        for element in value.into_iter().flatten() {
            element.write(writer, version);
        }
    }
}

impl<'a, T: Decode<'a>> DecodeNullable<'a> for Vec<T> {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>, DecodeError> {
        let Some(count) = reader.nullable_array_count(version.flexible, T::min_size(version))? else {
            return Ok(None);
        };
        let mut elements = Self::new(); // grows with what was read, never by the count that was claimed
        for _ in 0..count {
            elements.push(T::read(reader, version)?);
        }
        Ok(Some(elements))
    }
}

/// For a field that may be null only in other versions.
#[inline]
pub(crate) fn read_not_null<'a, T: Decode<'a>>(
    reader: &mut Reader<'a>,
    version: Version,
) -> Result<Option<T>, DecodeError> {
    T::read(reader, version).map(Some)
}

/// For a field that may be null only in other versions: its null is written as the empty value.
#[inline]
pub(crate) fn write_not_null<T: Encode + Default>(value: &Option<T>, writer: &mut Writer, version: Version) {
    match value {
        Some(value) => value.write(writer, version),
        None => T::default().write(writer, version),
    }
}

/// Declares a struct and both directions of its encoding. The notation is in this file's header.
macro_rules! message {
    ($(#[$meta:meta])* pub struct $name:ident<$life:lifetime> { $($body:tt)* }) => {
        $crate::schema::message!(@struct [$(#[$meta])* #[derive(Copy)]] $name [<$life>] { $($body)* });
        $crate::schema::message!(@write [impl<$life> $crate::schema::Encode for $name<$life>] { $($body)* });
        $crate::schema::message!(@read $life [impl<$life> $crate::schema::Decode<$life> for $name<$life>] { $($body)* });
        $crate::schema::message!(@sample [$name<'static>] { $($body)* });
    };
    ($(#[$meta:meta])* pub struct $name:ident<$records:ident> { $($body:tt)* }) => {
        $crate::schema::message!(@struct [$(#[$meta])*] $name [<$records>] { $($body)* });
        $crate::schema::message!(@write
            [impl<$records: AsRef<[u8]> + PartialEq> $crate::schema::Encode for $name<$records>] { $($body)* });
        $crate::schema::message!(@read 'a
            [impl<'a, $records: From<&'a [u8]>> $crate::schema::Decode<'a> for $name<$records>] { $($body)* });
        $crate::schema::message!(@sample [$name<&'static [u8]>] { $($body)* });
    };
    ($(#[$meta:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $crate::schema::message!(@struct [$(#[$meta])*] $name [] { $($body)* });
        $crate::schema::message!(@write [impl $crate::schema::Encode for $name] { $($body)* });
        $crate::schema::message!(@read 'a [impl<'a> $crate::schema::Decode<'a> for $name] { $($body)* });
        $crate::schema::message!(@sample [$name] { $($body)* });
    };

    (@struct [$($meta:tt)*] $name:ident [$($generics:tt)*] {
        $($(#[$doc:meta])* [$($spec:tt)*] $field:ident: $type:ty $(= $default:expr)?,)*
    }) => {
        $($meta)*
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs, reason = "most fields are Kafka's own, named as Kafka names them")]
        pub struct $name $($generics)* {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $($generics)* Default for $name $($generics)* {
            #[inline]
            fn default() -> Self {
                Self { $($field: $crate::schema::message!(@default $($default)?),)* }
            }
        }
    };
    (@default) => { Default::default() };
    (@default $default:expr) => { $default };

    (@write [$($head:tt)*] {
        $($(#[$doc:meta])* [$($spec:tt)*] $field:ident: $type:ty $(= $default:expr)?,)*
    }) => {
        $($head)* {
            #[inline]
            #[allow(unused_mut, reason = "not every struct has tagged fields")]
            fn write(&self, writer: &mut $crate::primitive::Writer, version: $crate::schema::Version) {
                $($crate::schema::message!(@write_field [$($spec)*] self.$field, writer, version);)*
                if version.flexible {
                    let mut tags = $crate::primitive::TaggedFields::of(writer);
                    $($crate::schema::message!(@write_tag [$($spec)*] self, $field, tags, version);)*
                    tags.finish(writer);
                }
            }
        }
    };
    (@write_field [$versions:expr] $value:expr, $writer:ident, $version:ident) => {
        if std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number) {
            $crate::schema::Encode::write(&$value, $writer, $version);
        }
    };
    (@write_field [$versions:expr, null $null:expr] $value:expr, $writer:ident, $version:ident) => {
        if std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number) {
            if std::ops::RangeBounds::<i16>::contains(&($null), &$version.number) {
                $crate::schema::Encode::write(&$value, $writer, $version);
            } else {
                $crate::schema::write_not_null(&$value, $writer, $version);
            }
        }
    };
    (@write_field [$versions:expr, tag $tag:literal] $value:expr, $writer:ident, $version:ident) => {};
    (@write_tag [$versions:expr, tag $tag:literal] $self:ident, $field:ident, $tags:ident, $version:ident) => {
        if std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number)
            && $self.$field != Self::default().$field
        {
            $tags.put($tag, |writer| $crate::schema::Encode::write(&$self.$field, writer, $version));
        }
    };
    (@write_tag [$($spec:tt)*] $self:ident, $field:ident, $tags:ident, $version:ident) => {};

    (@read $life:lifetime [$($head:tt)*] {
        $($(#[$doc:meta])* [$($spec:tt)*] $field:ident: $type:ty $(= $default:expr)?,)*
    }) => {
        $($head)* {
            #[inline]
            fn read(
                reader: &mut $crate::primitive::Reader<$life>,
                version: $crate::schema::Version,
            ) -> Result<Self, $crate::error::DecodeError> {
                let mut value = Self::default();
                $($crate::schema::message!(@read_field [$($spec)*] value.$field, reader, version);)*
                if version.flexible {
                    for _ in 0..reader.tagged_field_count()? {
                        let (_tag, mut _field) = reader.tagged_field()?;
                        $($crate::schema::message!(@read_tag [$($spec)*] value.$field, _tag, _field, version);)*
                    }
                }
                Ok(value)
            }

            #[inline]
            fn min_size(version: $crate::schema::Version) -> usize {
                usize::from(version.flexible) $(+ $crate::schema::message!(@min_size [$($spec)*] $type, version))*
            }
        }
    };
    (@read_field [$versions:expr] $value:expr, $reader:ident, $version:ident) => {
        if std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number) {
            $value = $crate::schema::Decode::read($reader, $version)?;
        }
    };
    (@read_field [$versions:expr, null $null:expr] $value:expr, $reader:ident, $version:ident) => {
        if std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number) {
            $value = if std::ops::RangeBounds::<i16>::contains(&($null), &$version.number) {
                $crate::schema::Decode::read($reader, $version)?
            } else {
                $crate::schema::read_not_null($reader, $version)?
            };
        }
    };
    (@read_field [$versions:expr, tag $tag:literal] $value:expr, $reader:ident, $version:ident) => {};
    (@read_tag [$versions:expr, tag $number:literal] $value:expr, $tag:ident, $field:ident, $version:ident) => {
        if $tag == $number && std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number) {
            $value = $crate::schema::Decode::read(&mut $field, $version)?;
            $field.expect_end()?;
        }
    };
    (@read_tag [$($spec:tt)*] $value:expr, $tag:ident, $field:ident, $version:ident) => {};
    (@min_size [$versions:expr, tag $tag:literal] $type:ty, $version:ident) => { 0 };
    (@min_size [$versions:expr $(, null $null:expr)?] $type:ty, $version:ident) => {
        if std::ops::RangeBounds::<i16>::contains(&($versions), &$version.number) {
            <$type as $crate::schema::Decode>::min_size($version)
        } else {
            0
        }
    };

    (@sample [$($type:tt)*] {
        $($(#[$doc:meta])* [$($spec:tt)*] $field:ident: $field_type:ty $(= $default:expr)?,)*
    }) => {
        #[cfg(test)]
        impl $crate::differential::Sample for $($type)* {
            fn sample(random: &mut $crate::differential::Random) -> Self {
                Self { $($field: $crate::schema::message!(@sample_field [$($spec)*] $field, random),)* }
            }
        }
    };
    (@sample_field [$versions:expr, tag $tag:literal] $field:ident, $random:ident) => {
        if $random.one_in(2) { Self::default().$field } else { $crate::differential::Sample::sample($random) }
    };
    (@sample_field [$($spec:tt)*] $field:ident, $random:ident) => {
        $crate::differential::Sample::sample($random)
    };
}
pub(crate) use message;
