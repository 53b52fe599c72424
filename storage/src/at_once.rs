//! The same step for many partitions, several of them at a time: most of what each takes is waiting for other threads.

use std::cell::RefCell;
use std::rc::Rc;

use ring::executor::{Class, spawn};

use crate::error::StorageError;
use crate::partition::PartitionLog;

/// So many partitions at a time.
const AT_ONCE: usize = 32;

/// Takes the step for each of these. None is begun after an error; the first is returned when those under way have ended.
pub(crate) async fn for_each<S>(logs: &[PartitionLog], step: S) -> Result<(), StorageError>
where
    S: AsyncFn(PartitionLog) -> Result<(), StorageError> + 'static,
{
    let left: Rc<RefCell<Vec<PartitionLog>>> = Rc::new(RefCell::new(logs.iter().rev().cloned().collect()));
    let step = Rc::new(step);
    let workers: Vec<_> = (0..AT_ONCE.min(logs.len()))
        .map(|_| {
            let (left, step) = (left.clone(), step.clone());
            spawn(Class::Throughput, async move {
                loop {
                    let next = left.borrow_mut().pop();
                    let Some(log) = next else { return Ok(()) };
                    let done = step(log).await;
                    if done.is_err() {
                        left.borrow_mut().clear();
                        return done;
                    }
                }
            })
        })
        .collect();
    let mut first = Ok(());
    for worker in workers {
        let ended = worker.await;
        if first.is_ok() {
            first = ended;
        }
    }
    first
}
