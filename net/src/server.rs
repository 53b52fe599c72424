//! Accepts connections.

use std::future::Future;
use std::rc::Rc;

use ring::local::Signal;
use ring::socket::TcpListener;

use crate::{Limits, Service};

/// Serves connections until `shutdown` is notified (which counts from this call on); then accepts no more, begins no
/// more requests, sends the answers of those in flight, and ends. Takes [`Limits::memory_bytes`] of the thread's budget.
///
/// # Panics
/// If the thread's budget has less left.
pub fn serve<S: Service>(
    listener: TcpListener,
    limits: Rc<Limits>,
    service: Rc<S>,
    shutdown: Signal,
) -> impl Future<Output = ()> {
    let stop = shutdown.wait();
    async move {
        let _ = (listener, limits, service);
        stop.await;
        todo!("this hour")
    }
}
