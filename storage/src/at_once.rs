//! The same step for many partitions, several of them at a time: most of what each takes is waiting for other threads.

use std::cell::RefCell;
use std::rc::Rc;

use ring::executor::{Class, spawn};

use crate::error::StorageError;

/// So many at a time.
const AT_ONCE: usize = 32;

/// Takes the step for each of these. None is begun after an error; when those under way have ended, an error is returned: one
/// that does not pass if there is one, because only what passes may be tried again.
pub(crate) async fn for_each<T, S>(all: &[T], step: S) -> Result<(), StorageError>
where
    T: Clone + 'static,
    S: AsyncFn(T) -> Result<(), StorageError> + 'static,
{
    let left: Rc<RefCell<Vec<T>>> = Rc::new(RefCell::new(all.iter().rev().cloned().collect()));
    let step = Rc::new(step);
    let workers: Vec<_> = (0..AT_ONCE.min(all.len()))
        .map(|_| {
            let (left, step) = (left.clone(), step.clone());
            spawn(Class::Throughput, async move {
                loop {
                    let next = left.borrow_mut().pop();
                    let Some(one) = next else { return Ok(()) };
                    let done = step(one).await;
                    if done.is_err() {
                        left.borrow_mut().clear();
                        return done;
                    }
                }
            })
        })
        .collect();
    let mut worst = None;
    for worker in workers {
        if let Err(error) = worker.await
            && worst.as_ref().is_none_or(StorageError::may_pass)
        {
            worst = Some(error);
        }
    }
    worst.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use ring::simulator::Simulator;

    use super::*;

    /// What comes of steps that end like this, and how many were begun.
    fn after(steps: Vec<Option<io::ErrorKind>>) -> (Option<bool>, usize) {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let ended = simulator.run(host, 1 << 20, Duration::from_secs(60), move || async move {
            let begun = Rc::new(RefCell::new(0));
            let counted = begun.clone();
            let step = async move |how: Option<io::ErrorKind>| {
                *counted.borrow_mut() += 1;
                ring::timer::sleep(Duration::from_millis(1)).await;
                how.map_or(Ok(()), |kind| {
                    Err(StorageError::io("write", "/file".as_ref())(kind.into()))
                })
            };
            let ended = for_each(&steps, step).await;
            (ended.err().map(|error| error.is_no_space()), *begun.borrow())
        });
        ended.expect("it ends")
    }

    #[test]
    fn all_are_done_and_the_error_that_must_not_be_tried_again_is_told() {
        const FULL: Option<io::ErrorKind> = Some(io::ErrorKind::StorageFull);
        const BROKEN: Option<io::ErrorKind> = Some(io::ErrorKind::Other);
        assert_eq!(after(Vec::new()), (None, 0));
        assert_eq!(after(vec![None; 100]), (None, 100));
        assert_eq!(after(vec![None, FULL, None]), (Some(true), 3));
        // Whichever ends first.
        for at in 0..8 {
            let mut steps = vec![FULL; 8];
            steps[at] = BROKEN;
            assert_eq!(after(steps), (Some(false), 8), "{at}");
        }
        let mut steps = vec![None; 100];
        steps[0] = BROKEN;
        let (error, begun) = after(steps);
        assert!(error == Some(false) && begun < 100, "{begun}");
    }
}
