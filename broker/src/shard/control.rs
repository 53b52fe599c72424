//! A shard's client of the control thread: what a request asks of the cluster's metadata.
//!
//! Every wait is bounded. A full queue and a late answer are REQUEST_TIMED_OUT, which clients retry; a control thread
//! that is gone means that the process is stopping.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use ring::channel::{Answer, Awaited, Sender};
use ring::executor::{Class, spawn};
use ring::local::Semaphore;
use wire::ErrorCode;

use crate::controller::request::{
    Altered, ControllerRequest, CreatedTopic, DeletedTopic, MorePartitions, NewTopic, ResourceConfigs,
    TopicReference,
};

/// The longest that a client may make us wait for its admin request, and what we wait for our own.
pub(crate) const CONTROL_WAIT_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub(crate) struct Control {
    requests: Sender<ControllerRequest>,
    /// Producer ids of the block leased last that are not given out yet.
    producer_ids: Cell<(i64, i64)>,
    /// One lease at a time: ids are never used twice, but a block dropped is a block lost.
    leasing: Semaphore,
}

impl Control {
    pub(crate) fn new(requests: Sender<ControllerRequest>) -> Control {
        Control {
            requests,
            producer_ids: Cell::new((0, 0)),
            leasing: Semaphore::new(1),
        }
    }

    /// Creates topics, or only says what would come of it. One result for each, in order.
    pub(crate) async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<CreatedTopic>, ErrorCode> {
        self.ask(timeout, |answer| ControllerRequest::CreateTopics {
            topics,
            validate_only,
            answer,
        })
        .await
    }

    /// Deletes topics. One result for each, in order.
    pub(crate) async fn delete_topics(
        &self,
        topics: Vec<TopicReference>,
        timeout: Duration,
    ) -> Result<Vec<DeletedTopic>, ErrorCode> {
        self.ask(timeout, |answer| ControllerRequest::DeleteTopics {
            topics,
            answer,
        })
        .await
    }

    /// Creates those of the topics that are not there, with the broker's defaults. An error for each that is not
    /// there afterwards either.
    pub(crate) async fn ensure_topics(
        &self,
        names: Vec<String>,
    ) -> Result<Vec<(String, ErrorCode)>, ErrorCode> {
        self.ask(CONTROL_WAIT_MAX, |answer| ControllerRequest::EnsureTopics {
            names,
            answer,
        })
        .await
    }

    /// Adds partitions to topics, or only says what would come of it. One result for each, in order.
    pub(crate) async fn create_partitions(
        &self,
        topics: Vec<MorePartitions>,
        validate_only: bool,
        timeout: Duration,
    ) -> Result<Vec<Altered>, ErrorCode> {
        self.ask(timeout, |answer| ControllerRequest::CreatePartitions {
            topics,
            validate_only,
            answer,
        })
        .await
    }

    /// Changes configs of topics and brokers, or only says what would come of it. One result for each, in order.
    pub(crate) async fn alter_configs(
        &self,
        resources: Vec<ResourceConfigs>,
        validate_only: bool,
    ) -> Result<Vec<Altered>, ErrorCode> {
        self.ask(CONTROL_WAIT_MAX, |answer| ControllerRequest::AlterConfigs {
            resources,
            validate_only,
            answer,
        })
        .await
    }

    /// A producer id that no producer ever had.
    pub(crate) async fn producer_id(self: &Rc<Self>) -> Result<i64, ErrorCode> {
        // On a task of its own: whoever asks may not be polled for long, and others wait for the same lease.
        let (giver, taker) = ring::local::oneshot();
        let control = self.clone();
        let leasing = async move { giver.give(control.next_producer_id().await) };
        spawn(Class::Latency, leasing).detach();
        taker.await.unwrap_or(Err(ErrorCode::BrokerNotAvailable))
    }

    async fn next_producer_id(&self) -> Result<i64, ErrorCode> {
        let _one_at_a_time = self.leasing.acquire(1).await;
        let (mut next, mut end) = self.producer_ids.get();
        if next >= end {
            let lease = |answer| ControllerRequest::ProducerIds { answer };
            let block: Range<i64> = self.ask(CONTROL_WAIT_MAX, lease).await??;
            (next, end) = (block.start, block.end);
            if next >= end {
                return Err(ErrorCode::UnknownServerError);
            }
        }
        self.producer_ids.set((next + 1, end));
        Ok(next)
    }

    /// Tells the control thread of something that it does not answer. It may wait for this shard at the moment.
    pub(crate) fn tell(&self, news: ControllerRequest) {
        let requests = self.requests.clone();
        spawn(Class::Background, async move {
            // Who is gone is stopping.
            let _ = requests.send(news).await;
        })
        .detach();
    }

    async fn ask<T: Send + 'static>(
        &self,
        timeout: Duration,
        request: impl FnOnce(Answer<T>) -> ControllerRequest,
    ) -> Result<T, ErrorCode> {
        let (answer, awaited): (Answer<T>, Awaited<T>) = ring::channel::oneshot();
        if self.requests.try_send(request(answer)).is_err() {
            return Err(ErrorCode::RequestTimedOut);
        }
        match ring::timer::timeout(timeout.min(CONTROL_WAIT_MAX), awaited).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_gone)) => Err(ErrorCode::BrokerNotAvailable),
            Err(_elapsed) => Err(ErrorCode::RequestTimedOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Poll;

    use ring::simulator::Simulator;

    use super::*;

    #[test]
    fn who_asks_for_a_producer_id_and_is_not_polled_stops_nobody() {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let ended = simulator.run(host, 1 << 20, Duration::from_secs(60), || async {
            let (sender, mut asked) = ring::channel::bounded(8);
            let control = Rc::new(Control::new(sender));
            let mut first = pin!(control.producer_id());
            std::future::poll_fn(|context| {
                assert!(first.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
            let other = control.clone();
            let second = spawn(Class::Latency, async move { other.producer_id().await });
            let Some(ControllerRequest::ProducerIds { answer }) = asked.receive().await else {
                panic!("a lease is asked for");
            };
            answer.give(Ok(5..7)).expect("somebody waits");
            assert_eq!(second.await, Ok(6));
            assert_eq!(first.await, Ok(5));
        });
        ended.expect("the second gets its id while the first stands still");
    }
}
