//! Who sends what where: partitions are dealt out to clients, and a client has a connection to each node it needs.
//!
//! Pure.

use std::collections::BTreeMap;

use crate::schedule::Share;

/// A connection of a client to a node, and what travels on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The number of the client, from 0 on.
    pub client: usize,
    /// The node.
    pub node_id: i32,
    /// The client's partitions that the node leads. Never empty.
    pub partitions: Vec<i32>,
    /// Its part of the rate.
    pub share: Share,
}

/// Deals the partitions, of which `leaders` holds the leaders, out to `clients`. With fewer partitions than clients,
/// several clients send to one partition.
pub fn lanes(leaders: &[i32], clients: usize) -> Vec<Lane> {
    let mut lanes = Vec::new();
    for client in 0..clients {
        let mut by_node: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (partition, leader) in (0..).zip(leaders) {
            let is_mine = if clients <= leaders.len() {
                partition % clients == client
            } else {
                client % leaders.len() == partition
            };
            if is_mine {
                let partition = i32::try_from(partition).expect("partitions are numbered by i32");
                by_node.entry(*leader).or_default().push(partition);
            }
        }
        lanes.extend(by_node.into_iter().map(|(node_id, its)| (client, node_id, its)));
    }
    let whole = lanes.iter().map(|(.., partitions)| partitions.len() as u64).sum();
    let mut before = 0;
    let lanes = lanes.into_iter().map(|(client, node_id, partitions)| {
        let part = partitions.len() as u64;
        let share = Share { part, whole, before };
        before += part;
        Lane {
            client,
            node_id,
            partitions,
            share,
        }
    });
    lanes.collect()
}

/// Deals lanes out to threads, in turn. A thread without a lane is left out.
pub fn deal<T>(lanes: Vec<T>, threads: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = Vec::new();
    for (index, lane) in lanes.into_iter().enumerate() {
        match dealt.get_mut(index % threads) {
            Some(thread) => thread.push(lane),
            None => dealt.push(vec![lane]),
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(lanes: &[Lane]) -> Vec<(i32, &[i32])> {
        lanes
            .iter()
            .map(|lane| (lane.node_id, &lane.partitions[..]))
            .collect()
    }

    #[test]
    fn a_client_has_one_connection_to_each_leader() {
        let lanes = lanes(&[1000, 1001, 1000, 1001], 1);
        assert_eq!(shape(&lanes), [(1000, &[0, 2][..]), (1001, &[1, 3])]);
        assert_eq!(
            lanes[1].share,
            Share {
                part: 2,
                whole: 4,
                before: 2
            }
        );
    }

    #[test]
    fn every_partition_belongs_to_one_client() {
        let leaders = [1, 2, 1, 2, 1, 2];
        for clients in 1..=6 {
            let lanes = lanes(&leaders, clients);
            let mut all: Vec<i32> = lanes.iter().flat_map(|lane| lane.partitions.clone()).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2, 3, 4, 5], "{clients} clients");
        }
    }

    #[test]
    fn more_clients_than_partitions_share_them() {
        let lanes = lanes(&[7, 8], 5);
        assert_eq!(
            shape(&lanes),
            [(7, &[0][..]), (8, &[1]), (7, &[0]), (8, &[1]), (7, &[0])]
        );
        assert_eq!(
            lanes[4].share,
            Share {
                part: 1,
                whole: 5,
                before: 4
            }
        );
        let clients: Vec<usize> = lanes.iter().map(|lane| lane.client).collect();
        assert_eq!(clients, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn threads_get_lanes_in_turn() {
        assert_eq!(deal(vec![1, 2, 3, 4, 5], 2), [vec![1, 3, 5], vec![2, 4]]);
        assert_eq!(deal(vec![1], 4), [vec![1]]);
    }
}
