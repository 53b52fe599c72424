//! What JoinGroup and SyncGroup are told. An outcome is decided in a step, and told when its turn on its connection
//! comes, which may be long after, behind others that wait.
//!
//! So an outcome holds nothing of the group, which may be large and is told to many: what is told is looked up then. If
//! the group has gone on meanwhile, nobody is told to lead what is over, and whoever asks for an assignment hears of it.

use wire::ErrorCode;

use super::Group;
use crate::group::member::{Opaque, no_bytes};

/// How a JoinGroup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinOutcome {
    pub(crate) error_code: ErrorCode,
    pub(crate) member_id: String,
    /// The one that it is in.
    pub(crate) generation: i32,
    /// It leads, and is told who is there.
    pub(crate) leads: bool,
    /// The leader may leave the assignment as it is.
    pub(crate) skips_assignment: bool,
    /// Whom it shall take for the leader, if not the one that there is.
    pub(crate) other_leader: Option<String>,
}

impl JoinOutcome {
    /// A refusal.
    pub(crate) fn refused(error_code: ErrorCode, member_id: &str) -> JoinOutcome {
        JoinOutcome {
            error_code,
            generation: -1,
            ..JoinOutcome::in_generation(-1, member_id)
        }
    }

    /// It is in that generation, and follows.
    pub(super) fn in_generation(generation: i32, member_id: &str) -> JoinOutcome {
        JoinOutcome {
            error_code: ErrorCode::None,
            member_id: member_id.to_owned(),
            generation,
            leads: false,
            skips_assignment: false,
            other_leader: None,
        }
    }
}

/// How a SyncGroup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncOutcome {
    pub(crate) error_code: ErrorCode,
    pub(crate) member_id: String,
    /// The one whose assignment it gets.
    pub(crate) generation: i32,
}

impl SyncOutcome {
    /// A refusal.
    pub(crate) fn refused(error_code: ErrorCode) -> SyncOutcome {
        SyncOutcome {
            error_code,
            member_id: String::new(),
            generation: -1,
        }
    }
}

/// The answer to a JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) error_code: ErrorCode,
    pub(crate) member_id: String,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    /// For the leader: every member with its instance id and what it says about itself.
    pub(crate) members: Vec<(String, Option<String>, Opaque)>,
}

impl Joined {
    /// A refusal.
    pub(crate) fn refused(error_code: ErrorCode, member_id: &str) -> Joined {
        Joined {
            error_code,
            member_id: member_id.to_owned(),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// The answer to a SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) error_code: ErrorCode,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Opaque,
}

impl Synced {
    /// A refusal.
    pub(crate) fn refused(error_code: ErrorCode) -> Synced {
        Synced {
            error_code,
            protocol_type: None,
            protocol: None,
            assignment: no_bytes(),
        }
    }
}

impl Group {
    /// What a JoinGroup is told that ended so.
    pub(crate) fn joined(&self, outcome: &JoinOutcome) -> Joined {
        let member_id = &outcome.member_id;
        if outcome.error_code != ErrorCode::None {
            return Joined::refused(outcome.error_code, member_id);
        }
        if !self.members.contains_key(member_id) {
            return Joined::refused(ErrorCode::UnknownMemberId, member_id);
        }
        let is_over = outcome.generation != self.generation;
        let leads = outcome.leads && !is_over && self.is_leader(member_id);
        // Who does not learn who is there must not take itself for the leader.
        let leader = self.leader.clone().filter(|leader| leads || leader != member_id);
        Joined {
            error_code: ErrorCode::None,
            member_id: member_id.clone(),
            generation: outcome.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: outcome.other_leader.clone().or(leader).unwrap_or_default(),
            skip_assignment: leads && outcome.skips_assignment,
            members: if leads { self.roll() } else { Vec::new() },
        }
    }

    /// What that takes at most, in bytes.
    pub(crate) fn joined_bytes(&self, outcome: &JoinOutcome) -> usize {
        if outcome.leads { self.generation_bytes() } else { 0 }
    }

    /// What a SyncGroup is told that ended so.
    pub(crate) fn synced(&self, outcome: &SyncOutcome) -> Synced {
        if outcome.error_code != ErrorCode::None {
            return Synced::refused(outcome.error_code);
        }
        match self.members.get(&outcome.member_id) {
            None => Synced::refused(ErrorCode::UnknownMemberId),
            Some(_) if outcome.generation != self.generation => {
                Synced::refused(ErrorCode::RebalanceInProgress)
            }
            Some(member) => Synced {
                error_code: ErrorCode::None,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment().clone(),
            },
        }
    }

    /// What that takes at most, in bytes.
    pub(crate) fn synced_bytes(&self, outcome: &SyncOutcome) -> usize {
        let member = self.members.get(&outcome.member_id);
        member.map_or(0, |member| member.assignment().len())
    }

    /// Every member, for the leader.
    fn roll(&self) -> Vec<(String, Option<String>, Opaque)> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.iter();
        members
            .map(|(id, member)| {
                (
                    id.clone(),
                    member.client.group_instance_id.clone(),
                    member.metadata(protocol),
                )
            })
            .collect()
    }
}
