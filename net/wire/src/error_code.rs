//! Kafka's error codes, up to those of Kafka 4.4.

use std::fmt;

use crate::error::DecodeError;
use crate::primitive::{Reader, Writer};
use crate::schema::{Decode, Encode, Version};

/// One row a code: its name, its number, and whether a client may simply try again.
macro_rules! error_codes {
    ($($(#[$attribute:meta])* $name:ident, $code:literal $(, $retriable:ident)?;)*) => {
        /// What an answer says of what was asked. It prints as Kafka prints it: `NOT_LEADER_OR_FOLLOWER`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(i16)]
        #[allow(missing_docs, reason = "Kafka's own names")]
        pub enum ErrorCode {
            $($(#[$attribute])* $name = $code,)*
        }

        impl ErrorCode {
            /// Every code, in the order of the numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code with this number, if it is known.
            pub const fn from_code(code: i16) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Whether Kafka's clients try again by themselves on this code.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$name => error_codes!(@retriable $($retriable)?),)*
                }
            }

            const fn variant_name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
    (@retriable retriable) => { true };
    (@retriable) => { false };
}

error_codes! {
    UnknownServerError, -1;
    #[default]
    None, 0;
    OffsetOutOfRange, 1;
    CorruptMessage, 2, retriable;
    UnknownTopicOrPartition, 3, retriable;
    InvalidFetchSize, 4;
    LeaderNotAvailable, 5, retriable;
    NotLeaderOrFollower, 6, retriable;
    RequestTimedOut, 7, retriable;
    BrokerNotAvailable, 8;
    ReplicaNotAvailable, 9, retriable;
    MessageTooLarge, 10;
    StaleControllerEpoch, 11;
    OffsetMetadataTooLarge, 12;
    NetworkException, 13, retriable;
    CoordinatorLoadInProgress, 14, retriable;
    CoordinatorNotAvailable, 15, retriable;
    NotCoordinator, 16, retriable;
    InvalidTopicException, 17;
    RecordListTooLarge, 18;
    NotEnoughReplicas, 19, retriable;
    NotEnoughReplicasAfterAppend, 20, retriable;
    InvalidRequiredAcks, 21;
    IllegalGeneration, 22;
    InconsistentGroupProtocol, 23;
    InvalidGroupId, 24;
    UnknownMemberId, 25;
    InvalidSessionTimeout, 26;
    RebalanceInProgress, 27;
    InvalidCommitOffsetSize, 28;
    TopicAuthorizationFailed, 29;
    GroupAuthorizationFailed, 30;
    ClusterAuthorizationFailed, 31;
    InvalidTimestamp, 32;
    UnsupportedSaslMechanism, 33;
    IllegalSaslState, 34;
    UnsupportedVersion, 35;
    TopicAlreadyExists, 36;
    InvalidPartitions, 37;
    InvalidReplicationFactor, 38;
    InvalidReplicaAssignment, 39;
    InvalidConfig, 40;
    NotController, 41, retriable;
    InvalidRequest, 42;
    UnsupportedForMessageFormat, 43;
    PolicyViolation, 44;
    OutOfOrderSequenceNumber, 45;
    DuplicateSequenceNumber, 46;
    InvalidProducerEpoch, 47;
    InvalidTxnState, 48;
    InvalidProducerIdMapping, 49;
    InvalidTransactionTimeout, 50;
    ConcurrentTransactions, 51, retriable;
    TransactionCoordinatorFenced, 52;
    TransactionalIdAuthorizationFailed, 53;
    SecurityDisabled, 54;
    OperationNotAttempted, 55;
    KafkaStorageError, 56, retriable;
    LogDirNotFound, 57;
    SaslAuthenticationFailed, 58;
    UnknownProducerId, 59;
    ReassignmentInProgress, 60;
    DelegationTokenAuthDisabled, 61;
    DelegationTokenNotFound, 62;
    DelegationTokenOwnerMismatch, 63;
    DelegationTokenRequestNotAllowed, 64;
    DelegationTokenAuthorizationFailed, 65;
    DelegationTokenExpired, 66;
    InvalidPrincipalType, 67;
    NonEmptyGroup, 68;
    GroupIdNotFound, 69;
    FetchSessionIdNotFound, 70, retriable;
    InvalidFetchSessionEpoch, 71, retriable;
    ListenerNotFound, 72, retriable;
    TopicDeletionDisabled, 73;
    FencedLeaderEpoch, 74, retriable;
    UnknownLeaderEpoch, 75, retriable;
    UnsupportedCompressionType, 76;
    StaleBrokerEpoch, 77;
    OffsetNotAvailable, 78, retriable;
    MemberIdRequired, 79;
    PreferredLeaderNotAvailable, 80, retriable;
    GroupMaxSizeReached, 81;
    FencedInstanceId, 82;
    EligibleLeadersNotAvailable, 83, retriable;
    ElectionNotNeeded, 84, retriable;
    NoReassignmentInProgress, 85;
    GroupSubscribedToTopic, 86;
    InvalidRecord, 87;
    UnstableOffsetCommit, 88, retriable;
    ThrottlingQuotaExceeded, 89, retriable;
    ProducerFenced, 90;
    ResourceNotFound, 91;
    DuplicateResource, 92;
    UnacceptableCredential, 93;
    InconsistentVoterSet, 94;
    InvalidUpdateVersion, 95;
    FeatureUpdateFailed, 96;
    PrincipalDeserializationFailure, 97;
    SnapshotNotFound, 98;
    PositionOutOfRange, 99;
    UnknownTopicId, 100, retriable;
    DuplicateBrokerRegistration, 101;
    BrokerIdNotRegistered, 102;
    InconsistentTopicId, 103, retriable;
    InconsistentClusterId, 104;
    TransactionalIdNotFound, 105;
    FetchSessionTopicIdError, 106, retriable;
    IneligibleReplica, 107;
    NewLeaderElected, 108;
    OffsetMovedToTieredStorage, 109;
    FencedMemberEpoch, 110;
    UnreleasedInstanceId, 111;
    UnsupportedAssignor, 112;
    StaleMemberEpoch, 113;
    MismatchedEndpointType, 114;
    UnsupportedEndpointType, 115;
    UnknownControllerId, 116;
    UnknownSubscriptionId, 117;
    TelemetryTooLarge, 118;
    InvalidRegistration, 119;
    TransactionAbortable, 120;
    InvalidRecordState, 121;
    ShareSessionNotFound, 122, retriable;
    InvalidShareSessionEpoch, 123, retriable;
    FencedStateEpoch, 124;
    InvalidVoterKey, 125;
    DuplicateVoter, 126;
    VoterNotFound, 127;
    InvalidRegularExpression, 128;
    RebootstrapRequired, 129;
    StreamsInvalidTopology, 130;
    StreamsInvalidTopologyEpoch, 131;
    StreamsTopologyFenced, 132;
    ShareSessionLimitReached, 133, retriable;
    GroupDeletionFailed, 134;
    StreamsTopologyDescriptionUpdateFailed, 135;
    ControllerIdNotRegistered, 136;
}

impl ErrorCode {
    /// The number on the wire.
    #[inline]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether something went wrong.
    #[inline]
    pub const fn is_error(self) -> bool {
        self.code() != 0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for (index, character) in self.variant_name().chars().enumerate() {
            if character.is_ascii_uppercase() && index > 0 {
                f.write_char('_')?;
            }
            f.write_char(character.to_ascii_uppercase())?;
        }
        Ok(())
    }
}

impl Encode for ErrorCode {
    #[inline]
    fn write(&self, writer: &mut Writer, _: Version) {
        writer.i16(self.code());
    }
}

/// A number that we do not know reads as [`ErrorCode::UnknownServerError`], as in Kafka's own clients.
impl Decode<'_> for ErrorCode {
    #[inline]
    fn read(reader: &mut Reader<'_>, _: Version) -> Result<Self, DecodeError> {
        Ok(Self::from_code(reader.i16()?).unwrap_or(Self::UnknownServerError))
    }

    #[inline]
    fn min_size(_: Version) -> usize {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_print_as_kafka_prints_them() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(code.code() + 1), Ok(index));
            assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
        }
        assert_eq!(ErrorCode::ALL.last(), Some(&ErrorCode::ControllerIdNotRegistered));
        assert_eq!(ErrorCode::from_code(137), None);
        assert_eq!(
            ErrorCode::NotLeaderOrFollower.to_string(),
            "NOT_LEADER_OR_FOLLOWER"
        );
        assert_eq!(ErrorCode::default().to_string(), "NONE");
        assert!(ErrorCode::NotLeaderOrFollower.is_retriable() && !ErrorCode::InvalidRequest.is_retriable());
    }
}
