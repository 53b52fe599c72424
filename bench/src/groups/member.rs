//! A member of a group: joins, is given partitions, sends heartbeats and commits, and joins again when it is told to.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use net::client::{ClientError, Connection, ConnectionOptions};
use ring::clock;
use ring::timer::{sleep, sleep_until};
use wire::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use wire::messages::join_group::{JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse};
use wire::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, LeavingMember};
use wire::messages::offset_commit::{
    OffsetCommitPartition, OffsetCommitRequest, OffsetCommitResponse, OffsetCommitTopic,
};
use wire::messages::offset_fetch::{
    OffsetFetchGroup, OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic,
};
use wire::messages::sync_group::{SyncGroupAssignment, SyncGroupRequest, SyncGroupResponse};
use wire::{Array, ErrorCode};

use super::GroupsArguments;
use super::ledger::Ledger;
use super::protocol::{PROTOCOL, PROTOCOL_TYPE, assigned, assignment, subscription};

/// The longest answer, in bytes: what a leader is told of its members.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Longer than any rebalance.
const TIMEOUT_MS: u64 = 600_000;
/// How long members are waited for in a rebalance, in milliseconds: Kafka's max.poll.interval.ms.
const REBALANCE_TIMEOUT_MS: i32 = 300_000;
/// How soon a member asks again when the coordinator is not ready.
const RETRY: Duration = Duration::from_millis(100);

/// The versions that a member speaks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    pub(super) join: i16,
    pub(super) sync: i16,
    pub(super) heartbeat: i16,
    pub(super) leave: i16,
    pub(super) commit: i16,
    pub(super) fetch: i16,
}

/// See the module.
pub(super) struct Member {
    pub(super) arguments: Rc<GroupsArguments>,
    pub(super) group: String,
    pub(super) number: u32,
    pub(super) address: SocketAddr,
    pub(super) versions: Versions,
    pub(super) ledger: Rc<Ledger>,
}

/// Its place in a generation.
struct Place {
    generation: i32,
    partitions: Vec<i32>,
}

pub(super) fn connection_options() -> ConnectionOptions {
    ConnectionOptions {
        client_id: crate::CLIENT_ID.to_owned(),
        requests_in_flight_max: 1,
        answer_bytes_max: ANSWER_BYTES_MAX,
        timeout_ms: TIMEOUT_MS,
    }
}

impl Member {
    /// Until it is told to end, or something fails.
    pub(super) async fn live(self) {
        if let Err(error) = self.live_or_fail().await {
            self.ledger
                .fail(format!("{}, member {}: {error}", self.group, self.number));
        }
    }

    async fn live_or_fail(&self) -> Result<(), Failed> {
        self.ledger.connects();
        let connected = Connection::connect(self.address, &connection_options()).await;
        self.ledger.connected();
        let connection = connected?;
        let mut member_id = String::new();
        let mut last = Vec::new();
        while !self.ledger.is_over() {
            let Some(place) = self.join(&connection, &mut member_id).await? else {
                sleep(RETRY).await;
                continue;
            };
            let generation = place.generation;
            self.ledger
                .assigned(self.number, generation, place.partitions.clone());
            last = self.stay(&connection, &mut member_id, place).await?;
        }
        self.find(&connection, &last).await?;
        self.leave(&connection, &member_id).await
    }

    /// One rebalance: the member's place in the generation, or `None` if it is to try again.
    async fn join(&self, connection: &Connection, member_id: &mut String) -> Result<Option<Place>, Failed> {
        let metadata = subscription(&self.arguments.topic);
        let protocols = [JoinGroupProtocol {
            name: PROTOCOL,
            metadata: &metadata,
        }];
        let request = JoinGroupRequest {
            group_id: &self.group,
            session_timeout_ms: self.arguments.session_timeout_ms,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            member_id,
            protocol_type: PROTOCOL_TYPE,
            protocols: Array::from_slice(&protocols),
            ..JoinGroupRequest::default()
        };
        let joined: JoinGroupResponse = connection.call(self.versions.join, &request).await?;
        match joined.error_code {
            ErrorCode::None => *member_id = joined.member_id.clone(),
            ErrorCode::MemberIdRequired => {
                *member_id = joined.member_id;
                return Ok(None);
            }
            error => return self.again("JoinGroup", error, member_id),
        }
        let leads = joined.leader == joined.member_id;
        let mut assignments = Vec::new();
        if leads {
            self.ledger.leads(self.number, joined.generation_id);
            let count = joined.members.len();
            for (place, member) in joined.members.iter().enumerate() {
                let all = 0..self.arguments.partitions;
                let theirs: Vec<i32> = all
                    .filter(|partition| *partition as usize % count == place)
                    .collect();
                assignments.push((
                    member.member_id.clone(),
                    assignment(&self.arguments.topic, &theirs),
                ));
            }
        }
        let assignments: Vec<SyncGroupAssignment<'_>> = assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupAssignment {
                member_id,
                assignment,
            })
            .collect();
        let request = SyncGroupRequest {
            group_id: &self.group,
            generation_id: joined.generation_id,
            member_id,
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(PROTOCOL),
            assignments: Array::from_slice(&assignments),
            ..SyncGroupRequest::default()
        };
        let synced: SyncGroupResponse = connection.call(self.versions.sync, &request).await?;
        match synced.error_code {
            ErrorCode::None => Ok(Some(Place {
                generation: joined.generation_id,
                partitions: assigned(&synced.assignment.0).map_err(|error| connection.malformed(error))?,
            })),
            error => self.again("SyncGroup", error, member_id),
        }
    }

    /// Heartbeats and commits, until the group rebalances or all is over. What it had.
    async fn stay(
        &self,
        connection: &Connection,
        member_id: &mut String,
        place: Place,
    ) -> Result<Vec<i32>, Failed> {
        let Place {
            generation,
            partitions,
        } = place;
        let heartbeat = Duration::from_millis(self.arguments.heartbeat_interval_ms);
        let commit = match self.arguments.commit_interval_ms {
            0 => None,
            every => Some(Duration::from_millis(every)),
        };
        let now = clock::now();
        // Members are not in step: all of them at once would measure the generator's burst, which no fleet makes.
        let share = f64::from(hash(&self.group, self.number)) / f64::from(u32::MAX);
        let mut next_heartbeat = now + heartbeat.mul_f64(share);
        let mut next_commit = commit.map(|every| now + every.mul_f64(share));
        while !self.ledger.is_over() {
            let next = next_commit.map_or(next_heartbeat, |next| next.min(next_heartbeat));
            sleep_until(next).await;
            let error = if next_commit == Some(next) {
                next_commit = commit.map(|every| next + every);
                self.commit(connection, member_id, generation, &partitions)
                    .await?
            } else {
                next_heartbeat = next + heartbeat;
                let request = HeartbeatRequest {
                    group_id: &self.group,
                    generation_id: generation,
                    member_id,
                    ..HeartbeatRequest::default()
                };
                let beaten: HeartbeatResponse = connection.call(self.versions.heartbeat, &request).await?;
                beaten.error_code
            };
            match error {
                ErrorCode::None => {}
                ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => break,
                error => {
                    self.again("Heartbeat or OffsetCommit", error, member_id)?;
                    break;
                }
            }
        }
        Ok(partitions)
    }

    async fn commit(
        &self,
        connection: &Connection,
        member_id: &str,
        generation: i32,
        partitions: &[i32],
    ) -> Result<ErrorCode, Failed> {
        let most = match self.arguments.commit_partitions {
            0 => partitions.len(),
            most => most.min(partitions.len()),
        };
        let partitions = &partitions[..most];
        if partitions.is_empty() {
            return Ok(ErrorCode::None);
        }
        let offset = self.ledger.next_offset();
        let each = partitions.iter().map(|partition| OffsetCommitPartition {
            partition: *partition,
            committed_offset: offset,
            committed_metadata: Some(""),
            ..OffsetCommitPartition::default()
        });
        let each: Vec<OffsetCommitPartition<'_>> = each.collect();
        let topics = [OffsetCommitTopic {
            name: &self.arguments.topic,
            partitions: Array::from_slice(&each),
        }];
        let request = OffsetCommitRequest {
            group_id: &self.group,
            generation_id: generation,
            member_id,
            topics: Array::from_slice(&topics),
            ..OffsetCommitRequest::default()
        };
        let sent = clock::now();
        let committed: OffsetCommitResponse = connection.call(self.versions.commit, &request).await?;
        let latency = clock::now() - sent;
        let codes = committed.topics.iter().flat_map(|topic| &topic.partitions);
        let mut codes = codes.map(|partition| partition.error_code);
        let error = codes.find(|code| code.is_error()).unwrap_or(ErrorCode::None);
        if error == ErrorCode::None {
            let latency_ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
            self.ledger.committed(partitions, offset, latency_ns);
        }
        Ok(error)
    }

    /// What it committed must be there.
    async fn find(&self, connection: &Connection, partitions: &[i32]) -> Result<(), Failed> {
        let topics = [OffsetFetchTopic {
            name: &self.arguments.topic,
            partition_indexes: Array::from_slice(partitions),
        }];
        let groups = [OffsetFetchGroup {
            group_id: &self.group,
            topics: Some(Array::from_slice(&topics)),
            ..OffsetFetchGroup::default()
        }];
        let request = OffsetFetchRequest {
            group_id: &self.group,
            topics: Some(Array::from_slice(&topics)),
            groups: Array::from_slice(&groups),
            ..OffsetFetchRequest::default()
        };
        let found: OffsetFetchResponse = connection.call(self.versions.fetch, &request).await?;
        let topics = found
            .groups
            .iter()
            .flat_map(|group| &group.topics)
            .chain(&found.topics);
        for partition in topics.flat_map(|topic| &topic.partitions) {
            self.ledger
                .found(&self.group, partition.partition, partition.committed_offset);
        }
        Ok(())
    }

    async fn leave(&self, connection: &Connection, member_id: &str) -> Result<(), Failed> {
        let members = [LeavingMember {
            member_id,
            ..LeavingMember::default()
        }];
        let request = LeaveGroupRequest {
            group_id: &self.group,
            member_id,
            members: Array::from_slice(&members),
        };
        let _left: LeaveGroupResponse = connection.call(self.versions.leave, &request).await?;
        Ok(())
    }

    /// What a client does with an error: joins again, under another id if this one is not known, or gives up.
    fn again(
        &self,
        what: &'static str,
        error: ErrorCode,
        member_id: &mut String,
    ) -> Result<Option<Place>, Failed> {
        match error {
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => Ok(None),
            ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable => Ok(None),
            ErrorCode::UnknownMemberId => {
                // A member that is alive and was taken for dead is what must not be: but the machine may have stood still.
                eprintln!(
                    "{}, member {}: {what}: it is not known any more",
                    self.group, self.number
                );
                member_id.clear();
                Ok(None)
            }
            error => Err(Failed::Refused { what, error }),
        }
    }
}

/// A number that differs between members.
fn hash(group: &str, number: u32) -> u32 {
    // FNV-1a.
    let bytes = group.bytes().chain(number.to_le_bytes());
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// Why a member ended before its time.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{what} was refused: {error}")]
    Refused { what: &'static str, error: ErrorCode },
}
