//! Where a partition is led, as error answers carry it (KIP-951).

use crate::schema::message;

message! {
    /// The leader of a partition and its epoch, -1 when not known.
    pub struct LeaderIdAndEpoch {
        [..] leader_id: i32 = -1,
        [..] leader_epoch: i32 = -1,
    }
}

message! {
    /// Where a node listens. It must be what Metadata says, byte for byte: clients reconnect on any difference.
    pub struct NodeEndpoint {
        [..] node_id: i32,
        [..] host: String,
        [..] port: i32,
        [..] rack: Option<String>,
    }
}
