//! Who waits for room in the log, in order. Owns the queue: as many as there are connections at most, since none that waits is
//! read from. Must never look at what is appended, nor hold anything that a migration needs, which makes the room.

use std::time::Duration;

use ring::clock::{self, Instant};
use ring::local::{Permit, Semaphore, Signal, SignalWait};
use ring::timer::timeout;

use crate::error::AppendError;

/// How long nobody may look whether there is room, though nobody was told: readers give memory back without a word.
pub const ROOM_RETRY: Duration = Duration::from_millis(20);

/// The queue of a shard. First come first served: without it whoever comes when there is room takes it, and one that
/// has waited long finds none again and again.
pub(crate) struct RoomQueue {
    turns: Semaphore,
    room: Signal,
}

impl RoomQueue {
    /// Of those who wait for `room`.
    pub(crate) fn new(room: Signal) -> RoomQueue {
        RoomQueue {
            turns: Semaphore::new(1),
            room,
        }
    }

    /// Calls `attempt` until it is not refused for want of room, or it is `deadline`: at once if nobody waits, else
    /// when it is its turn. Who waits for segments to be sealed lets those go first that end none.
    ///
    /// # Errors
    /// What `attempt` said last, or [`AppendError::JournalFull`] if its turn did not come.
    pub(crate) async fn append<T>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let room = self.room.wait();
        match self.try_now(false, &mut attempt) {
            // In a box, so that what waits is not a part of every request.
            Err(refused @ (AppendError::JournalFull | AppendError::BacklogFull)) => {
                Box::pin(self.append_later(deadline, attempt, refused, room)).await
            }
            outcome => outcome,
        }
    }

    /// Tries, for who has its turn, or if nobody waits for one.
    fn try_now<T>(
        &self,
        has_turn: bool,
        attempt: &mut impl FnMut() -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let may_try = has_turn || self.turns.available() > 0;
        if may_try {
            attempt()
        } else {
            Err(AppendError::JournalFull)
        }
    }

    /// After it was refused, `room` being waited for since before that.
    async fn append_later<T>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> Result<T, AppendError>,
        mut refused: AppendError,
        mut room: SignalWait,
    ) -> Result<T, AppendError> {
        let mut turn: Option<Permit> = None;
        loop {
            let left = deadline - clock::now();
            if left.is_zero() {
                return Err(refused);
            }
            if matches!(refused, AppendError::JournalFull) && turn.is_none() {
                turn = timeout(left, self.turns.acquire(1)).await.ok();
            } else {
                if matches!(refused, AppendError::BacklogFull) {
                    turn = None;
                }
                let _ = timeout(left.min(ROOM_RETRY), room).await;
            }
            room = self.room.wait();
            refused = match self.try_now(turn.is_some(), &mut attempt) {
                Err(refused @ (AppendError::JournalFull | AppendError::BacklogFull)) => refused,
                outcome => return outcome,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use ring::executor::{Class, Task, spawn};
    use ring::simulator::Simulator;

    use super::*;

    fn simulate<Fut: Future<Output = ()> + 'static>(test: impl FnOnce() -> Fut + Send + 'static) {
        let mut simulator = Simulator::new(1);
        let host = simulator.host(1 << 20);
        let ended = simulator.run(host, 1 << 20, Duration::from_secs(60), test);
        assert_eq!(ended, Some(()), "it hangs");
    }

    /// A log with room for so many more.
    struct Log {
        room_for: Cell<usize>,
        queue: RoomQueue,
        room: Signal,
        /// Who appended, in order.
        took: RefCell<Vec<usize>>,
    }

    impl Log {
        fn full() -> Rc<Log> {
            let room = Signal::new();
            Rc::new(Log {
                room_for: Cell::new(0),
                queue: RoomQueue::new(room.clone()),
                room,
                took: RefCell::default(),
            })
        }

        fn try_append(&self, who: usize) -> Result<(), AppendError> {
            let left = self
                .room_for
                .get()
                .checked_sub(1)
                .ok_or(AppendError::JournalFull)?;
            self.room_for.set(left);
            self.took.borrow_mut().push(who);
            Ok(())
        }

        /// Somebody who appends as soon as there is room.
        fn comes(self: &Rc<Log>, who: usize) -> Task<Result<(), AppendError>> {
            let log = self.clone();
            spawn(Class::Latency, async move {
                log.queue.append(patience(), || log.try_append(who)).await
            })
        }

        fn make_room(&self, room_for: usize) {
            self.room_for.set(room_for);
            self.room.notify_all();
        }
    }

    fn patience() -> Instant {
        clock::now() + Duration::from_secs(10)
    }

    fn hurry() -> Instant {
        clock::now() + Duration::from_millis(50)
    }

    async fn a_while() {
        ring::timer::sleep(Duration::from_millis(100)).await;
    }

    #[test]
    fn whoever_came_first_appends_first_and_newcomers_do_not_pass() {
        simulate(|| async {
            let log = Log::full();
            let mut tasks = Vec::new();
            for who in 0..20 {
                tasks.push(log.comes(who));
                a_while().await;
            }
            for who in 20..40 {
                log.make_room(1);
                // There is room, and it is for the first of those who wait.
                tasks.push(log.comes(who));
                a_while().await;
            }
            log.make_room(100);
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(*log.took.borrow(), (0..40).collect::<Vec<_>>());
        });
    }

    #[test]
    fn who_waits_for_its_own_segments_holds_nobody_up() {
        simulate(|| async {
            let log = Log::full();
            log.make_room(1);
            let is_behind = Rc::new(Cell::new(true));
            let behind = spawn(Class::Latency, {
                let (log, is_behind) = (log.clone(), is_behind.clone());
                async move {
                    let attempt = || match is_behind.get() {
                        true => Err(AppendError::BacklogFull),
                        false => log.try_append(0),
                    };
                    log.queue.append(patience(), attempt).await
                }
            });
            a_while().await;
            log.queue.append(patience(), || log.try_append(1)).await.unwrap();
            // Nor when it was its turn for the journal.
            let other = log.comes(2);
            a_while().await;
            log.make_room(2);
            other.await.unwrap();
            is_behind.set(false);
            behind.await.unwrap();
            assert_eq!(*log.took.borrow(), [1, 2, 0]);
        });
    }

    #[test]
    fn patience_ends_and_leaves_the_queue_to_the_others() {
        simulate(|| async {
            let log = Log::full();
            let patient = log.comes(0);
            a_while().await;
            let refused = log.queue.append(hurry(), || log.try_append(1)).await;
            assert!(matches!(refused, Err(AppendError::JournalFull)));
            log.make_room(1);
            patient.await.unwrap();
            let refused = log.queue.append(hurry(), || log.try_append(2)).await;
            assert!(matches!(refused, Err(AppendError::JournalFull)));
            log.make_room(1);
            log.queue.append(hurry(), || log.try_append(3)).await.unwrap();
            assert_eq!(*log.took.borrow(), [0, 3]);
        });
    }

    #[test]
    fn memory_that_comes_back_without_a_word_is_found() {
        simulate(|| async {
            let log = Log::full();
            let waiting = log.comes(0);
            a_while().await;
            log.room_for.set(1);
            let waited = timeout(2 * ROOM_RETRY, waiting).await;
            waited.expect("looked").unwrap();
        });
    }
}
