//! A thread of the load generator: its connections, and what it saw, second by second.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use net::client::{Connection, ConnectionOptions};
use ring::channel::{Answer, Awaited, Sender};
use ring::clock::{self, Instant};
use ring::executor::{self, Class, Task};
use ring::timer::sleep_until;

use crate::consume::ConsumeLoad;
use crate::end_to_end::EndToEndLoad;
use crate::error::BenchError;
use crate::produce::ProduceLoad;
use crate::recorder::{Recorder, Seen, Window};
use crate::target::Route;

/// Buffer memory of a thread beside what its connections set aside for answers, in bytes.
const SPARE_MEMORY_BYTES: usize = 16 << 20;

/// What connections carry.
#[derive(Clone)]
pub(crate) enum Load {
    Produce(ProduceLoad),
    Consume(ConsumeLoad),
    EndToEnd(EndToEndLoad),
}

impl Load {
    fn connection_options(&self) -> ConnectionOptions {
        match self {
            Load::Produce(load) => load.connection_options(),
            Load::Consume(load) => load.connection_options(),
            Load::EndToEnd(load) => load.connection_options(),
        }
    }

    /// The memory that a thread with so many routes needs, in bytes.
    pub(crate) fn memory_bytes(&self, routes: usize) -> usize {
        let of_a_route = match self {
            Load::EndToEnd(load) => load.memory_bytes(),
            _ => self.connection_options().memory_bytes(),
        };
        routes * of_a_route + SPARE_MEMORY_BYTES
    }
}

/// What every worker begins with at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// When the first batch is due.
    pub(crate) at: Instant,
    /// What is measured.
    pub(crate) window: Window,
}

/// What a worker tells.
pub(crate) enum Told {
    /// What it saw in the second with this number, from 0 on.
    Second(u64, Seen),
    /// The rest, and when it had done all.
    End(Instant, Seen),
}

/// How a worker and the one who started it talk.
pub(crate) struct Lines {
    /// Answered when all connections stand.
    pub(crate) ready: Answer<Result<(), BenchError>>,
    /// Then waited for.
    pub(crate) start: Awaited<Start>,
    /// Then told, until the end.
    pub(crate) told: Sender<Told>,
}

/// A connection that stands, and what shall travel on it.
pub(crate) struct Link {
    pub(crate) route: Route,
    pub(crate) connection: Connection,
}

/// Runs to the end of the window, and until what is in flight was answered.
pub(crate) async fn work(routes: Vec<Route>, load: Load, lines: Lines) {
    let Lines { ready, start, told } = lines;
    let prepared = prepare(routes, load).await;
    let (outcome, prepared) = match prepared {
        Ok(prepared) => (Ok(()), Some(prepared)),
        Err(error) => (Err(error), None),
    };
    // Nobody waits any more: another worker failed.
    let (Ok(()), Some(prepared)) = (ready.give(outcome), prepared) else {
        return;
    };
    let Ok(start) = start.await else { return };
    let recorder = Rc::new(RefCell::new(Recorder::new(start.window)));
    let tasks = prepared.begin(start, &recorder);
    let ticker = executor::spawn(Class::Latency, tick(start.at, recorder.clone(), told.clone()));
    for task in tasks {
        task.await;
    }
    drop(ticker);
    let rest = recorder.borrow_mut().take();
    // Without a listener there is nothing to tell.
    let _ = told.send(Told::End(clock::now(), rest)).await;
}

/// All that is done before the clock starts.
enum Prepared {
    Produce(crate::produce::Prepared),
    Consume(crate::consume::Prepared),
    EndToEnd(crate::end_to_end::Prepared),
}

impl Prepared {
    fn begin(self, start: Start, recorder: &Rc<RefCell<Recorder>>) -> Vec<Task<()>> {
        match self {
            Prepared::Produce(prepared) => prepared.begin(start, recorder),
            Prepared::Consume(prepared) => prepared.begin(start, recorder),
            Prepared::EndToEnd(prepared) => prepared.begin(start, recorder),
        }
    }
}

async fn prepare(routes: Vec<Route>, load: Load) -> Result<Prepared, BenchError> {
    let options = load.connection_options();
    let mut links = Vec::with_capacity(routes.len());
    for route in routes {
        let connection = Connection::connect(route.address, &options).await?;
        links.push(Link { route, connection });
    }
    Ok(match load {
        Load::Produce(load) => Prepared::Produce(load.prepare(links).await?),
        Load::Consume(load) => Prepared::Consume(load.prepare(links).await?),
        Load::EndToEnd(load) => Prepared::EndToEnd(load.prepare(links).await?),
    })
}

async fn tick(start: Instant, recorder: Rc<RefCell<Recorder>>, told: Sender<Told>) {
    for second in 0_u64.. {
        sleep_until(start + Duration::from_secs(second + 1)).await;
        let seen = recorder.borrow_mut().take();
        if told.send(Told::Second(second, seen)).await.is_err() {
            return;
        }
    }
}
