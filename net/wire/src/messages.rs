//! The messages, one file for each API: its line in [`for_each_api!`](crate::for_each_api) names it. Field names are
//! Kafka's.

pub mod leader;

macro_rules! modules {
    ($($name:ident = $key:literal in $module:ident $versions:tt;)*) => {
        $(pub mod $module;)*
    };
}

crate::for_each_api!(modules);
