//! JoinGroup and SyncGroup: requests that wait, first for what comes of them and then for their turn to be told of it.
//!
//! Owns what they hold meanwhile: their names, which are taken from the memory for what waits if they are long. While
//! that is full, requests with long names are refused; nothing else is. What is told is looked up when it is told.

use std::future::Future;
use std::rc::Rc;

use ring::local::{Taker, oneshot};
use wire::ErrorCode;

use super::{Coordinator, Inner, Reply, now};
use crate::group::machine::{
    Event, Group, JoinOutcome, JoinRequest, Joined, SyncOutcome, SyncRequest, Synced, Token,
};
use crate::group::memory::{Charge, text_bytes};

/// Names of no more bytes are small.
const SMALL_BYTES: usize = 2 << 10;

/// A JoinGroup or a SyncGroup that was begun.
pub(crate) struct Waiting<T> {
    coordinator: Rc<Coordinator>,
    group: String,
    /// Which of the groups that have had the name; none, if it was refused at once.
    token: Option<Token>,
    outcome: Taker<T>,
    _charge: Charge,
}

impl Coordinator {
    /// JoinGroup. The answer comes when the group's next generation begins, or at once.
    pub(crate) fn join(self: &Rc<Self>, group: &str, mut join: JoinRequest) -> Waiting<JoinOutcome> {
        let (giver, taker) = oneshot();
        let mut inner = self.inner.borrow_mut();
        let known = [&join.member_id, &join.new_member_id];
        let bytes = waiting_bytes(group, known[usize::from(join.member_id.is_empty())]);
        let is_new = !inner.groups.live().contains_key(group);
        let refusal = match self.ready_to_wait(&inner, bytes) {
            Err(error) => Some(error),
            Ok(()) if is_new && !join.member_id.is_empty() && !inner.is_known(group) => {
                Some(ErrorCode::UnknownMemberId)
            }
            Ok(()) => None,
        };
        if let Some(error_code) = refusal {
            let told = if bytes == 0 { &join.member_id } else { "" };
            giver.give(JoinOutcome::refused(error_code, told));
            return Waiting::refused(self, taker);
        }
        let waiter = inner.park(Reply::Join(giver));
        join.room_bytes = inner.groups.room();
        if is_new {
            let machine = inner.groups.growth_of_machine(group);
            join.room_bytes = join.room_bytes.saturating_sub(machine);
            inner.groups.begin(group, Group::new(self.rules, now()));
        }
        let token = inner.token_of(group);
        self.step(&mut inner, group, Event::Join(waiter, join));
        Waiting::new(self, group, token, taker, bytes)
    }

    /// SyncGroup. The answer comes when the leader's assignment is durable, or at once.
    pub(crate) fn sync(self: &Rc<Self>, group: &str, mut sync: SyncRequest) -> Waiting<SyncOutcome> {
        let (giver, taker) = oneshot();
        let mut inner = self.inner.borrow_mut();
        let bytes = waiting_bytes(group, &sync.member.member_id);
        let refusal = match self.ready_to_wait(&inner, bytes) {
            Err(error) => Some(error),
            Ok(()) if !inner.groups.live().contains_key(group) => Some(ErrorCode::UnknownMemberId),
            Ok(()) => None,
        };
        if let Some(error_code) = refusal {
            giver.give(SyncOutcome::refused(error_code));
            return Waiting::refused(self, taker);
        }
        let waiter = inner.park(Reply::Sync(giver));
        sync.room_bytes = inner.groups.room();
        let token = inner.token_of(group);
        self.step(&mut inner, group, Event::Sync(waiter, sync));
        Waiting::new(self, group, token, taker, bytes)
    }

    /// Whether what comes of a request may be written, and its names of so many bytes that count may wait. One that is
    /// refused here finds the coordinator again and asks again, as every client does.
    fn ready_to_wait(&self, inner: &Inner, bytes: usize) -> Result<(), ErrorCode> {
        inner.ready_to_write()?;
        if bytes > 0 && self.memory.waiting.room() == 0 {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(())
    }
}

impl<T> Waiting<T> {
    /// One of the group, with names of so many bytes that count: clients that make many requests wait, for what comes of
    /// them or for their turn, shall not fill the heap.
    fn new(
        coordinator: &Rc<Coordinator>,
        group: &str,
        token: Option<Token>,
        outcome: Taker<T>,
        bytes: usize,
    ) -> Waiting<T> {
        let mut charge = Charge::new(coordinator.memory.waiting.clone());
        charge.change(0, bytes);
        Waiting {
            coordinator: coordinator.clone(),
            group: group.to_owned(),
            token,
            outcome,
            _charge: charge,
        }
    }

    /// One that was refused at once, and holds nothing.
    fn refused(coordinator: &Rc<Coordinator>, outcome: Taker<T>) -> Waiting<T> {
        Waiting::new(coordinator, "", None, outcome, 0)
    }

    /// Shows the group, if it still is the one that was asked.
    fn look<R>(&self, look: impl FnOnce(Option<&Group>) -> R) -> Result<R, ErrorCode> {
        self.coordinator.look(&self.group, |live, _| {
            let is_same = |live: &&Group| {
                let token = self.token.as_ref();
                token.is_some_and(|token| Rc::ptr_eq(token, live.token()))
            };
            look(live.filter(is_same))
        })
    }
}

impl Waiting<JoinOutcome> {
    /// What has come of it already.
    #[cfg(test)]
    pub(crate) fn answered(&mut self) -> Option<JoinOutcome> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut self.outcome).poll(&mut context) {
            std::task::Poll::Ready(outcome) => outcome,
            std::task::Poll::Pending => None,
        }
    }

    /// The answer, when there is one, and room for it: `has_room` is asked for so many bytes. None, if the coordinator
    /// has gone.
    pub(crate) async fn told<F: Future<Output = ()>>(
        mut self,
        has_room: impl FnOnce(usize) -> F,
    ) -> Option<Joined> {
        let outcome = (&mut self.outcome).await?;
        if outcome.error_code != ErrorCode::None {
            return Some(Joined::refused(outcome.error_code, &outcome.member_id));
        }
        let bytes = self.look(|live| live.map_or(0, |live| live.joined_bytes(&outcome)));
        has_room(bytes.unwrap_or(0)).await;
        let gone = || Joined::refused(ErrorCode::UnknownMemberId, &outcome.member_id);
        let joined = self.look(|live| live.map_or_else(gone, |live| live.joined(&outcome)));
        Some(joined.unwrap_or_else(|error| Joined::refused(error, &outcome.member_id)))
    }
}

impl Waiting<SyncOutcome> {
    /// Likewise.
    pub(crate) async fn told<F: Future<Output = ()>>(
        mut self,
        has_room: impl FnOnce(usize) -> F,
    ) -> Option<Synced> {
        let outcome = (&mut self.outcome).await?;
        if outcome.error_code != ErrorCode::None {
            return Some(Synced::refused(outcome.error_code));
        }
        let bytes = self.look(|live| live.map_or(0, |live| live.synced_bytes(&outcome)));
        has_room(bytes.unwrap_or(0)).await;
        let gone = || Synced::refused(ErrorCode::UnknownMemberId);
        let synced = self.look(|live| live.map_or_else(gone, |live| live.synced(&outcome)));
        Some(synced.unwrap_or_else(Synced::refused))
    }
}

/// What a request takes of the memory for what waits, with these names: one that is small takes
/// nothing, since the number of requests bounds those, and a member that waits is counted with its group.
fn waiting_bytes(group: &str, member_id: &str) -> usize {
    // The id is in the outcome as well, and may be that of another leader, which is as long.
    let names = text_bytes(group) + 2 * text_bytes(member_id);
    names.saturating_sub(SMALL_BYTES)
}
