//! Sends batches, and reads them back over a second connection of the same thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use net::client::{Connection, ConnectionOptions};
use ring::executor::{self, Class, Task};

use crate::consume::{self, ConsumeLoad};
use crate::error::BenchError;
use crate::produce::{self, Ending, ProduceLoad};
use crate::read_back::ReadBack;
use crate::recorder::Recorder;
use crate::target::Route;
use crate::worker::{Link, Start};

/// What to send, and how to read it.
#[derive(Debug, Clone)]
pub(crate) struct EndToEndLoad {
    pub(crate) produce: ProduceLoad,
    pub(crate) consume: ConsumeLoad,
    /// The version of Fetch to speak, by node.
    pub(crate) fetch_versions: BTreeMap<i32, i16>,
}

/// Two connections for each route, ready to go.
pub(crate) struct Prepared {
    in_flight: u32,
    produce: produce::Prepared,
    consume: consume::Prepared,
    /// Of the nodes, in the order of the routes.
    brokers: Vec<String>,
}

impl EndToEndLoad {
    /// Of the connection that sends.
    pub(crate) fn connection_options(&self) -> ConnectionOptions {
        self.produce.connection_options()
    }

    /// Of both connections of a route, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.produce.connection_options().memory_bytes() + self.consume.connection_options().memory_bytes()
    }

    /// `links` are those that send.
    pub(crate) async fn prepare(self, links: Vec<Link>) -> Result<Prepared, BenchError> {
        let options = self.consume.connection_options();
        let mut readers = Vec::with_capacity(links.len());
        for link in &links {
            let route = Route {
                api_version: self.fetch_versions[&link.route.lane.node_id],
                ..link.route.clone()
            };
            let connection = Connection::connect(route.address, &options).await?;
            readers.push(Link { route, connection });
        }
        let brokers = links.iter().map(|link| link.route.broker()).collect();
        let in_flight = self.produce.in_flight;
        // Which waits until the leaders serve the topic: its ends are known then.
        let produce = self.produce.prepare(links).await?;
        let consume = self.consume.prepare(readers).await?;
        Ok(Prepared {
            in_flight,
            produce,
            consume,
            brokers,
        })
    }
}

impl Prepared {
    /// Starts senders and readers.
    pub(crate) fn begin(self, start: Start, recorder: &Rc<RefCell<Recorder>>) -> Vec<Task<()>> {
        let read_backs = self
            .brokers
            .iter()
            .map(|_| ReadBack::new(self.in_flight, recorder));
        let read_backs: Vec<Rc<ReadBack>> = read_backs.collect();
        let ending = |place: usize| Ending::Read(read_backs[place].clone());
        let mut tasks = self.produce.begin_each(start, recorder, ending);
        let readings = self.consume.readings(start, recorder);
        for ((reading, read_back), broker) in readings.into_iter().zip(&read_backs).zip(self.brokers) {
            let read_back = read_back.clone();
            tasks.push(executor::spawn(Class::Latency, async move {
                reading.read_back(&read_back).await;
                read_back.end(&broker);
            }));
        }
        tasks
    }
}
