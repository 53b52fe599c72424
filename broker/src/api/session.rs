//! Fetch sessions (KIP-227): which partitions a consumer follows, so that each request names only what changed.
//!
//! Pure: the clock and chance come in as arguments. Promises Kafka's rules: epochs count up from 1, a request that
//! names a session and epoch 0 replaces it, an answer leaves out the partitions that have nothing new, and partitions
//! that gave records go to the end of the line. Bounded twice: by sessions, and by the partitions of them all. A name
//! that no topic can have is in no session: it may be long, and would be kept.

use std::collections::BTreeMap;
use std::rc::Rc;

use wire::ErrorCode;

/// The epoch that asks for a new session.
pub(crate) const INITIAL_EPOCH: i32 = 0;
/// The epoch that asks for no session, and ends the one that is named.
pub(crate) const FINAL_EPOCH: i32 = -1;
/// The id of no session.
pub(crate) const NO_SESSION: i32 = 0;
/// Partitions in all the sessions of a shard. At about 150 bytes each, less than 40 MiB of its state.
pub(crate) const PARTITIONS_MAX: usize = 250_000;
/// A session unused for so long makes room for any other, and one older makes room for a larger one (Kafka's
/// `MIN_INCREMENTAL_FETCH_SESSION_EVICTION_MS`).
const EVICTION_MS: i64 = 120_000;
/// The longest name of a topic.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// How a request names a topic: by name up to version 12, by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    /// The name.
    Name(Rc<str>),
    /// The id.
    Id(u128),
}

/// What a consumer wants of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interest {
    /// The topic.
    pub(crate) topic: TopicKey,
    /// The partition.
    pub(crate) partition: i32,
    /// The leader epoch that the consumer knows, -1 for none.
    pub(crate) current_leader_epoch: i32,
    /// Where to read from.
    pub(crate) fetch_offset: i64,
    /// The epoch of the last record that it has, -1 for none.
    pub(crate) last_fetched_epoch: i32,
    /// Bytes to return at most.
    pub(crate) max_bytes: i32,
}

/// What decides whether a partition must be in an incremental answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The high watermark of the answer, -1 with an error.
    pub(crate) high_watermark: i64,
    /// The log start offset of the answer.
    pub(crate) log_start_offset: i64,
    /// Whether records are returned.
    pub(crate) has_records: bool,
    /// Whether there is an error, or the epochs diverge: what the consumer must hear of in any case.
    pub(crate) must_be_told: bool,
}

/// What a request amounts to, once its session is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Read the request's own partitions; `create` a session for them afterwards.
    Full { interests: Vec<Interest>, create: bool },
    /// Read the session's partitions.
    Incremental {
        session_id: i32,
        epoch: i32,
        interests: Vec<Interest>,
    },
}

impl Interest {
    /// Whether its topic's name is no longer than a topic's can be.
    fn has_short_name(&self) -> bool {
        match &self.topic {
            TopicKey::Name(name) => name.len() <= TOPIC_NAME_BYTES_MAX,
            TopicKey::Id(_) => true,
        }
    }
}

impl Plan {
    /// The partitions to read, in order.
    pub(crate) fn interests(&self) -> &[Interest] {
        match self {
            Plan::Full { interests, .. } | Plan::Incremental { interests, .. } => interests,
        }
    }
}

/// What the answer says of the session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// An error for the whole answer: no partitions then.
    pub(crate) error: ErrorCode,
    /// The session's id, or [`NO_SESSION`].
    pub(crate) session_id: i32,
    /// For each interest of the plan whether it belongs into the answer.
    pub(crate) included: Vec<bool>,
}

/// The sessions of a shard.
pub(crate) struct SessionCache {
    slots: usize,
    partitions_max: usize,
    partitions: usize,
    sessions: BTreeMap<i32, Session>,
}

struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    created_ms: i64,
    used_ms: i64,
    /// By turn: the order of reading.
    line: BTreeMap<u64, Followed>,
    turn_of: BTreeMap<(TopicKey, i32), u64>,
    next_turn: u64,
}

struct Followed {
    interest: Interest,
    high_watermark: i64,
    log_start_offset: i64,
}

impl SessionCache {
    /// An empty cache of at most `slots` sessions that follow at most `partitions_max` partitions together.
    pub(crate) fn new(slots: usize, partitions_max: usize) -> SessionCache {
        SessionCache {
            slots,
            partitions_max,
            partitions: 0,
            sessions: BTreeMap::new(),
        }
    }

    /// Sessions held now.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Partitions that the session follows; none if there is no such session.
    pub(crate) fn followed_by(&self, session_id: i32) -> usize {
        self.sessions
            .get(&session_id)
            .map_or(0, |session| session.line.len())
    }

    /// Begins a request.
    ///
    /// # Errors
    /// The code for the whole answer: the session is not there, its epoch is another, or it names topics otherwise.
    pub(crate) fn begin(
        &mut self,
        session_id: i32,
        epoch: i32,
        uses_topic_ids: bool,
        interests: Vec<Interest>,
        forgotten: Vec<(TopicKey, i32)>,
        now_ms: i64,
    ) -> Result<Plan, ErrorCode> {
        let are_short = interests.iter().all(Interest::has_short_name);
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            self.remove(session_id);
            return Ok(Plan::Full {
                interests,
                create: epoch == INITIAL_EPOCH && are_short,
            });
        }
        let Some(session) = self.sessions.get_mut(&session_id) else {
            return Err(ErrorCode::FetchSessionIdNotFound);
        };
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if !are_short {
            // The consumer starts anew, and gets no session.
            self.remove(session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        let before = session.line.len();
        for interest in &interests {
            session.follow(interest.clone());
        }
        for key in forgotten {
            session.forget(&key);
        }
        session.epoch = next_epoch(epoch);
        session.used_ms = now_ms;
        let after = session.line.len();
        let plan = Plan::Incremental {
            session_id,
            epoch: session.epoch,
            interests: session
                .line
                .values()
                .map(|followed| followed.interest.clone())
                .collect(),
        };
        self.partitions = self.partitions - before + after;
        if after == 0 {
            self.remove(session_id);
            return Ok(Plan::Full {
                interests,
                create: false,
            });
        }
        if self.partitions > self.partitions_max {
            // Too much is followed: the consumer starts anew and gets no session.
            self.remove(session_id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        Ok(plan)
    }

    /// Ends a request: `seen` holds what was read for each of the plan's interests. `random` names new sessions.
    pub(crate) fn finish(
        &mut self,
        plan: &Plan,
        seen: &[Seen],
        uses_topic_ids: bool,
        now_ms: i64,
        random: impl FnMut() -> u64,
    ) -> Outcome {
        match plan {
            Plan::Full { interests, create } => Outcome {
                error: ErrorCode::None,
                session_id: if *create {
                    self.create(interests, seen, uses_topic_ids, now_ms, random)
                } else {
                    NO_SESSION
                },
                included: vec![true; interests.len()],
            },
            Plan::Incremental {
                session_id,
                epoch,
                interests,
            } => {
                let session = self.sessions.get_mut(session_id);
                let Some(session) = session.filter(|session| session.epoch == *epoch) else {
                    return Outcome {
                        error: ErrorCode::InvalidFetchSessionEpoch,
                        session_id: *session_id,
                        included: vec![false; interests.len()],
                    };
                };
                let pairs = interests.iter().zip(seen);
                Outcome {
                    error: ErrorCode::None,
                    session_id: *session_id,
                    included: pairs
                        .map(|(interest, seen)| session.must_answer(interest, seen))
                        .collect(),
                }
            }
        }
    }

    fn create(
        &mut self,
        interests: &[Interest],
        seen: &[Seen],
        uses_topic_ids: bool,
        now_ms: i64,
        mut random: impl FnMut() -> u64,
    ) -> i32 {
        if self.sessions.len() >= self.slots && !self.evict(interests.len(), now_ms) {
            return NO_SESSION;
        }
        let mut session = Session {
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids,
            created_ms: now_ms,
            used_ms: now_ms,
            line: BTreeMap::new(),
            turn_of: BTreeMap::new(),
            next_turn: 0,
        };
        for (interest, seen) in interests.iter().zip(seen) {
            session.follow(interest.clone());
            session.must_answer(interest, seen);
        }
        if self.partitions + session.line.len() > self.partitions_max {
            return NO_SESSION;
        }
        let id = loop {
            let id = (random() & 0x7fff_ffff) as i32;
            if id != NO_SESSION && !self.sessions.contains_key(&id) {
                break id;
            }
        };
        self.partitions += session.line.len();
        self.sessions.insert(id, session);
        id
    }

    /// Makes room: the session unused for the longest, if for long enough; else an old one that follows less.
    fn evict(&mut self, partitions: usize, now_ms: i64) -> bool {
        let stalest = self.sessions.iter().min_by_key(|(_, session)| session.used_ms);
        if let Some((&id, session)) = stalest
            && now_ms.saturating_sub(session.used_ms) > EVICTION_MS
        {
            self.remove(id);
            return true;
        }
        let old = self
            .sessions
            .iter()
            .filter(|(_, session)| now_ms.saturating_sub(session.created_ms) > EVICTION_MS);
        if let Some((&id, session)) = old.min_by_key(|(_, session)| session.line.len())
            && session.line.len() <= partitions
        {
            self.remove(id);
            return true;
        }
        false
    }

    fn remove(&mut self, session_id: i32) {
        if let Some(session) = self.sessions.remove(&session_id) {
            self.partitions -= session.line.len();
        }
    }
}

impl Session {
    fn follow(&mut self, interest: Interest) {
        let key = (interest.topic.clone(), interest.partition);
        if let Some(followed) = self.turn_of.get(&key).and_then(|turn| self.line.get_mut(turn)) {
            followed.interest = interest;
            return;
        }
        self.turn_of.insert(key, self.next_turn);
        self.line.insert(
            self.next_turn,
            Followed {
                interest,
                high_watermark: -1,
                log_start_offset: -1,
            },
        );
        self.next_turn += 1;
    }

    fn forget(&mut self, key: &(TopicKey, i32)) {
        if let Some(turn) = self.turn_of.remove(key) {
            self.line.remove(&turn);
        }
    }

    /// Whether the partition belongs into the answer; remembers what the consumer then knows.
    fn must_answer(&mut self, interest: &Interest, seen: &Seen) -> bool {
        let key = (interest.topic.clone(), interest.partition);
        let Some(turn) = self.turn_of.get_mut(&key) else {
            return false;
        };
        let Some(mut followed) = self.line.remove(turn) else {
            return false;
        };
        let moved = followed.high_watermark != seen.high_watermark
            || followed.log_start_offset != seen.log_start_offset;
        // After an error the high watermark counts as unknown, so that its end is told as well.
        followed.high_watermark = if seen.must_be_told {
            -1
        } else {
            seen.high_watermark
        };
        followed.log_start_offset = seen.log_start_offset;
        if seen.has_records {
            *turn = self.next_turn;
            self.next_turn += 1;
        }
        self.line.insert(*turn, followed);
        moved || seen.has_records || seen.must_be_told
    }
}

/// Epochs count from 1 to the greatest `i32`, then from 1 again.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).filter(|next| *next > 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING_NEW: Seen = Seen {
        high_watermark: 0,
        log_start_offset: 0,
        has_records: false,
        must_be_told: false,
    };
    const RECORDS: Seen = Seen {
        high_watermark: 9,
        has_records: true,
        ..NOTHING_NEW
    };

    fn interest(partition: i32) -> Interest {
        Interest {
            topic: TopicKey::Id(7),
            partition,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 1_000,
        }
    }

    fn create(cache: &mut SessionCache, partitions: i32, now_ms: i64) -> i32 {
        let interests = (0..partitions).map(interest).collect();
        let plan = cache
            .begin(NO_SESSION, INITIAL_EPOCH, true, interests, vec![], now_ms)
            .unwrap();
        let seen = vec![NOTHING_NEW; plan.interests().len()];
        let mut next = cache.len() as u64 + now_ms as u64 * 1_000;
        let outcome = cache.finish(&plan, &seen, true, now_ms, || {
            next += 1;
            next
        });
        assert_eq!(outcome.error, ErrorCode::None);
        assert!(outcome.included.iter().all(|included| *included));
        outcome.session_id
    }

    fn go_on(cache: &mut SessionCache, id: i32, epoch: i32, seen: &[Seen]) -> (Vec<i32>, Vec<bool>) {
        let plan = cache.begin(id, epoch, true, vec![], vec![], 0).unwrap();
        let partitions = plan
            .interests()
            .iter()
            .map(|interest| interest.partition)
            .collect();
        let outcome = cache.finish(&plan, seen, true, 0, || unreachable!());
        assert_eq!((outcome.error, outcome.session_id), (ErrorCode::None, id));
        (partitions, outcome.included)
    }

    #[test]
    fn an_incremental_answer_leaves_out_what_has_nothing_new() {
        let mut cache = SessionCache::new(10, 100);
        let id = create(&mut cache, 3, 0);
        assert_ne!(id, NO_SESSION);
        let (partitions, included) = go_on(&mut cache, id, 1, &[NOTHING_NEW, RECORDS, NOTHING_NEW]);
        assert_eq!((partitions, included), (vec![0, 1, 2], vec![false, true, false]));
        // The one that gave records is read last the next time.
        let (partitions, included) = go_on(&mut cache, id, 2, &[NOTHING_NEW; 3]);
        assert_eq!(partitions, [0, 2, 1]);
        assert_eq!(included, [false, false, true], "its high watermark is 0 again");
    }

    #[test]
    fn an_error_is_told_and_so_is_its_end() {
        let mut cache = SessionCache::new(10, 100);
        let id = create(&mut cache, 1, 0);
        let error = Seen {
            high_watermark: -1,
            log_start_offset: -1,
            has_records: false,
            must_be_told: true,
        };
        for (epoch, seen, told) in [
            (1, error, true),
            (2, error, true),
            (3, NOTHING_NEW, true),
            (4, NOTHING_NEW, false),
        ] {
            assert_eq!(go_on(&mut cache, id, epoch, &[seen]).1, [told], "epoch {epoch}");
        }
    }

    #[test]
    fn a_request_changes_adds_and_forgets_partitions() {
        let mut cache = SessionCache::new(10, 100);
        let id = create(&mut cache, 3, 0);
        let mut changed = interest(1);
        changed.fetch_offset = 55;
        let plan = cache
            .begin(
                id,
                1,
                true,
                vec![changed.clone(), interest(9)],
                vec![(TopicKey::Id(7), 0)],
                0,
            )
            .unwrap();
        assert_eq!(plan.interests(), [changed, interest(2), interest(9)]);
        let all = [1, 2, 9].map(|partition| (TopicKey::Id(7), partition)).to_vec();
        let plan = cache.begin(id, 2, true, vec![], all, 0).unwrap();
        assert_eq!(
            plan,
            Plan::Full {
                interests: vec![],
                create: false
            }
        );
        assert_eq!((cache.len(), cache.partitions), (0, 0));
    }

    #[test]
    fn sessions_and_epochs_that_are_not_there_are_refused() {
        let mut cache = SessionCache::new(10, 100);
        let id = create(&mut cache, 1, 0);
        let mut begin = |id, epoch, ids| cache.begin(id, epoch, ids, vec![], vec![], 0).err();
        assert_eq!(begin(id ^ 1, 1, true), Some(ErrorCode::FetchSessionIdNotFound));
        assert_eq!(
            begin(NO_SESSION, 1, true),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        assert_eq!(begin(id, 2, true), Some(ErrorCode::InvalidFetchSessionEpoch));
        assert_eq!(
            begin(id, i32::MIN, true),
            Some(ErrorCode::InvalidFetchSessionEpoch)
        );
        assert_eq!(begin(id, 1, false), Some(ErrorCode::FetchSessionTopicIdError));
        assert_eq!(begin(id, 1, true), None);
        assert_eq!(
            begin(id, 1, true),
            Some(ErrorCode::InvalidFetchSessionEpoch),
            "a request sent twice"
        );
    }

    #[test]
    fn a_second_request_in_flight_makes_the_first_ones_answer_an_error() {
        let mut cache = SessionCache::new(10, 100);
        let id = create(&mut cache, 1, 0);
        let first = cache.begin(id, 1, true, vec![], vec![], 0).unwrap();
        let second = cache.begin(id, 2, true, vec![], vec![], 0).unwrap();
        let outcome = cache.finish(&first, &[RECORDS], true, 0, || unreachable!());
        assert_eq!(outcome.error, ErrorCode::InvalidFetchSessionEpoch);
        let outcome = cache.finish(&second, &[RECORDS], true, 0, || unreachable!());
        assert_eq!((outcome.error, outcome.included), (ErrorCode::None, vec![true]));
    }

    #[test]
    fn a_full_request_ends_the_session_that_it_names() {
        let mut cache = SessionCache::new(10, 100);
        let id = create(&mut cache, 2, 0);
        let plan = cache
            .begin(id, FINAL_EPOCH, true, vec![interest(0)], vec![], 0)
            .unwrap();
        assert_eq!(cache.len(), 0);
        let outcome = cache.finish(&plan, &[RECORDS], true, 0, || unreachable!());
        assert_eq!((outcome.session_id, outcome.included), (NO_SESSION, vec![true]));
    }

    #[test]
    fn the_cache_is_bounded_by_sessions_and_by_partitions() {
        let mut cache = SessionCache::new(2, 10);
        let first = create(&mut cache, 4, 0);
        let second = create(&mut cache, 4, 1);
        assert_eq!(create(&mut cache, 1, 2), NO_SESSION, "no slot, and none is old");
        // The first is in use, the second stale.
        let later_ms = EVICTION_MS + 2;
        cache.begin(first, 1, true, vec![], vec![], later_ms).unwrap();
        assert_eq!(
            create(&mut cache, 7, later_ms),
            NO_SESSION,
            "too many partitions in all"
        );
        assert_ne!(create(&mut cache, 5, later_ms), NO_SESSION);
        assert_eq!(
            cache.begin(second, 1, true, vec![], vec![], 0).err(),
            Some(ErrorCode::FetchSessionIdNotFound)
        );
        // An old session makes room for a larger one, not for a smaller.
        assert_eq!(create(&mut cache, 3, later_ms), NO_SESSION);
        assert_ne!(create(&mut cache, 4, later_ms), NO_SESSION);
        assert_eq!(cache.len(), 2);
        assert!(cache.partitions <= 10);
    }

    #[test]
    fn growing_past_the_bound_ends_the_session() {
        let mut cache = SessionCache::new(2, 3);
        let id = create(&mut cache, 3, 0);
        let grown = cache.begin(id, 1, true, vec![interest(3)], vec![], 0);
        assert_eq!(grown, Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!((cache.len(), cache.partitions), (0, 0));
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_in_no_session() {
        let named = |bytes: usize| Interest {
            topic: TopicKey::Name("t".repeat(bytes).into()),
            ..interest(0)
        };
        let mut cache = SessionCache::new(2, 10);
        for (bytes, creates) in [(249, true), (250, false)] {
            let plan = cache.begin(NO_SESSION, INITIAL_EPOCH, false, vec![named(bytes)], vec![], 0);
            let interests = vec![named(bytes)];
            assert_eq!(
                plan,
                Ok(Plan::Full {
                    interests,
                    create: creates
                })
            );
        }
        let id = create(&mut cache, 1, 0);
        let grown = cache.begin(id, 1, true, vec![named(250)], vec![], 0);
        assert_eq!(grown, Err(ErrorCode::FetchSessionIdNotFound));
        assert_eq!((cache.len(), cache.partitions), (0, 0));
    }

    #[test]
    fn epochs_wrap_to_one() {
        assert_eq!(next_epoch(0), 1);
        assert_eq!(next_epoch(i32::MAX), 1);
    }
}
