//! What shards ask of the control thread.
//!
//! Every request carries its answer. An answer is given after every shard has installed what came of the request.

use std::ops::Range;

use ring::channel::Answer;
use wire::ErrorCode;

use crate::shard::context::DirectoryFailure;

/// A question to the control thread.
pub enum ControllerRequest {
    /// Creates topics. One result for each, in order.
    CreateTopics {
        /// What is wanted. No name twice.
        topics: Vec<NewTopic>,
        /// Only say what would come of it.
        validate_only: bool,
        /// The results.
        answer: Answer<Vec<CreatedTopic>>,
    },
    /// Deletes topics. One result for each, in order.
    DeleteTopics {
        /// Which.
        topics: Vec<TopicReference>,
        /// The results.
        answer: Answer<Vec<DeletedTopic>>,
    },
    /// Creates those of the topics that are not there, with the broker's defaults. One result for each, in order;
    /// no error when the topic is there afterwards.
    EnsureTopics {
        /// Their names.
        names: Vec<String>,
        /// The results.
        answer: Answer<Vec<(String, ErrorCode)>>,
    },
    /// Adds partitions to topics. One result for each, in order.
    CreatePartitions {
        /// Which, and how many. No name twice.
        topics: Vec<MorePartitions>,
        /// Only say what would come of it.
        validate_only: bool,
        /// The results.
        answer: Answer<Vec<Altered>>,
    },
    /// Changes configs of topics and brokers. One result for each, in order.
    AlterConfigs {
        /// Which, and what. None twice.
        resources: Vec<ResourceConfigs>,
        /// Only say what would come of it.
        validate_only: bool,
        /// The results.
        answer: Answer<Vec<Altered>>,
    },
    /// A shard's log in a log directory takes no more writes.
    DirectoryFailed(DirectoryFailure),
    /// Leases a block of producer ids, which nobody ever had.
    ProducerIds {
        /// The block.
        answer: Answer<Result<Range<i64>, ErrorCode>>,
    },
}

/// A topic that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1: `num.partitions`, or as many as are assigned.
    pub partitions: i32,
    /// How many replicas; -1: `default.replication.factor`, or as many as are assigned.
    pub replication_factor: i16,
    /// The nodes of each partition, when the client chooses them.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Configs; `None` asks for the default.
    pub configs: Vec<(String, Option<String>)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// The name that was asked for.
    pub name: String,
    /// Its id; 0 if it was not created.
    pub id: u128,
    /// Why not, or none.
    pub error_code: ErrorCode,
    /// Why not, for people.
    pub error_message: Option<String>,
    /// How many partitions; -1 if it was not created.
    pub partitions: i32,
    /// How many replicas; -1 if it was not created.
    pub replication_factor: i16,
    /// The configs that hold for it.
    pub configs: Vec<CreatedConfig>,
}

/// A config that holds for a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedConfig {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Where the value is from: Kafka's DescribeConfigs sources (1 the topic, 2 changed for the broker,
    /// 3 changed for all brokers, 4 what the broker was started with, 5 default).
    pub source: i8,
    /// Whether it can be changed.
    pub read_only: bool,
    /// Whether the value is a secret.
    pub sensitive: bool,
}

/// How a client names a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicReference {
    /// By name.
    Name(String),
    /// By id.
    Id(u128),
}

/// What came of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// The topic's name, where it is known.
    pub name: Option<String>,
    /// The topic's id, where it is known.
    pub id: u128,
    /// Why it is not deleted, or none.
    pub error_code: ErrorCode,
    /// Why not, for people.
    pub error_message: Option<String>,
}

/// A topic that shall have more partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MorePartitions {
    /// Its name.
    pub topic: String,
    /// How many it shall have in all.
    pub count: i32,
    /// The nodes of each new partition, when the client chooses them.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// What has configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by node id.
    Broker(i32),
    /// All brokers that do not say otherwise.
    AllBrokers,
}

/// Other configs for a topic or a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceConfigs {
    /// Whose.
    pub resource: ConfigResource,
    /// What is not named gets its default again.
    pub replaces_all: bool,
    /// What is changed.
    pub changes: Vec<ConfigChange>,
}

/// A change of one config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The config.
    pub name: String,
    /// What is done with it.
    pub operation: ConfigOperation,
    /// The value; none for a deletion.
    pub value: Option<String>,
}

/// What is done with a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOperation {
    /// It gets the value.
    Set,
    /// It gets its default again.
    Delete,
    /// The values are added to a list.
    Append,
    /// The values are taken out of a list.
    Subtract,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Altered {
    /// Why it was not made, or none.
    pub error_code: ErrorCode,
    /// Why not, for people.
    pub error_message: Option<String>,
}

impl Altered {
    /// Whether it was made.
    pub(crate) fn of(decided: Result<(), (ErrorCode, String)>) -> Altered {
        let (error_code, error_message) = match decided {
            Ok(()) => (ErrorCode::None, None),
            Err((error_code, message)) => (error_code, Some(message)),
        };
        Altered {
            error_code,
            error_message,
        }
    }
}
