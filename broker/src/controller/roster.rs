//! How far the host is with its start or its stop, for those who look at it from outside.
//!
//! A task of the control thread answers them, whatever the thread is waiting for meanwhile.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ring::channel::{Answer, Receiver, Sender};

use crate::shard::probe::ShardProbe;

/// Where a host is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// It opens its data directory and its metadata.
    #[default]
    Opening,
    /// It makes a journal for each shard.
    Journals,
    /// Its shards listen, and recover their logs.
    Recovering,
    /// All shards accept clients.
    Serving,
    /// Shards finish what is in flight.
    Stopping,
}

/// What a host says of itself.
#[derive(Clone)]
pub struct HostCondition {
    /// Where it is.
    pub stage: Stage,
    /// The way to each of its shards that has a thread.
    pub shards: Vec<Sender<ShardProbe>>,
}

/// What the control thread's tasks share about it.
#[derive(Default)]
pub(crate) struct Roster {
    pub(crate) stage: Cell<Stage>,
    pub(crate) shards: RefCell<Vec<Sender<ShardProbe>>>,
}

/// Answers until nobody asks any more.
pub(crate) async fn answer_probes(mut probes: Receiver<Answer<HostCondition>>, roster: Rc<Roster>) {
    while let Some(answer) = probes.receive().await {
        // Whoever asked may have gone: nobody minds.
        drop(answer.give(HostCondition {
            stage: roster.stage.get(),
            shards: roster.shards.borrow().clone(),
        }));
    }
}
