//! DescribeConfigs (key 32), versions 1-4: configs of topics and of brokers, with where each comes from.
//!
//! A topic's are as they hold where it is asked: brokers may have different defaults. A broker's are asked of any node of
//! its host. What holds for all brokers is only what was changed for all, as in Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use net::Reply;
use wire::ErrorCode;
use wire::messages::describe_configs::{
    ConfigSynonym, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribeConfigsResult, DescribedConfig,
};

use crate::api::resource::{self, Refusal, Resource};
use crate::api::{AnswerBudget, Call, Handled, Refused, Turn, bound_entries, in_turn};
use crate::config::broker::{Source, Synonym};
use crate::config::table::{self, Setting, UpdateMode};
use crate::config::{Settings, topic};
use crate::shard::{LocalTopic, Shard, World};

/// What is asked of a resource's configs.
struct Question<'a> {
    /// The names that are asked for; none: all.
    names: Option<BTreeSet<&'a str>>,
    synonyms: bool,
    documentation: bool,
}

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeConfigsRequest<'_> = call.body()?;
    bound_entries(request.resources.iter().map(|asked| {
        let keys = asked.configuration_keys;
        keys.map_or(1, |keys| keys.len() + 1)
    }))?;
    in_turn(reply(shard, call))
}

async fn reply(shard: Rc<Shard>, call: Call) -> Result<Reply, Refused> {
    let request: DescribeConfigsRequest<'_> = call.body()?;
    let is_known = |asked: &DescribeConfigsResource<'_>, world: &World| {
        asked.resource_type != resource::TOPIC || world.topic(asked.resource_name).is_some()
    };
    let world = shard
        .world_that(|world| request.resources.iter().all(|asked| is_known(&asked, world)))
        .await;
    let mut results = Vec::new();
    let mut of_brokers = BTreeMap::new();
    let mut budget = AnswerBudget::new();
    let mut turn = Turn::default();
    for asked in request.resources.iter() {
        let names = asked.configuration_keys.filter(|keys| !keys.is_empty());
        let question = Question {
            names: names.map(|names| names.iter().collect()),
            synonyms: request.include_synonyms,
            documentation: request.include_documentation,
        };
        let (error_code, error_message, configs) =
            match describe(&shard, &world, &mut of_brokers, &asked, &question) {
                Ok(configs) => (ErrorCode::None, None, configs),
                Err((error_code, message)) => (error_code, Some(message), Vec::new()),
            };
        let message_bytes = error_message.as_ref().map_or(0, String::len);
        budget.take(size_of::<DescribeConfigsResult>() + asked.resource_name.len() + message_bytes)?;
        budget.take(configs.iter().map(bytes_of).sum())?;
        turn.took(4 + configs.len() + asked.configuration_keys.map_or(0, |keys| keys.len()))
            .await;
        results.push(DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.to_owned(),
            configs,
        });
    }
    Ok(call.into_caller().reply(&DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    }))
}

/// The configs of one resource. What holds for each broker is kept in `of_brokers`: a request may name one very often.
fn describe(
    shard: &Shard,
    world: &World,
    of_brokers: &mut BTreeMap<i32, Settings>,
    asked: &DescribeConfigsResource<'_>,
    question: &Question<'_>,
) -> Result<Vec<DescribedConfig>, Refusal> {
    let resource = resource::of(asked.resource_type, asked.resource_name, world, shard.node_id)?;
    Ok(match resource {
        Resource::Topic(topic) => of_topic(topic, &world.settings.all, question),
        Resource::Broker(id) => {
            let (started, changed) = (&shard.settings.started, &world.image.broker_configs);
            let settings = of_brokers
                .entry(id)
                .or_insert_with(|| started.changed_by(changed, id));
            let asked = question.settings();
            asked
                .map(|setting| of_broker(setting, settings, question))
                .collect()
        }
        Resource::AllBrokers => {
            let changed = &world.image.broker_configs.all;
            let settings = question
                .settings()
                .filter(|setting| changed.contains_key(setting.name));
            let configs = settings.map(|setting| {
                let mut config = of_broker(setting, &world.settings.all, question);
                let value = changed.get(setting.name).filter(|_| !setting.is_sensitive());
                config.value = value.map(|value| setting.kind.normal(value));
                config.config_source = Source::AllBrokers as i8;
                config
                    .synonyms
                    .retain(|synonym| synonym.source == config.config_source);
                config
            });
            configs.collect()
        }
    })
}

impl Question<'_> {
    /// The settings of brokers that are asked for, by name.
    fn settings(&self) -> impl Iterator<Item = &'static Setting> {
        let all = if self.names.is_none() { table::all() } else { &[] };
        let named = self.names.iter().flatten().filter_map(|name| table::find(name));
        all.iter().copied().chain(named)
    }
}

fn of_topic(topic: &LocalTopic, settings: &Settings, question: &Question<'_>) -> Vec<DescribedConfig> {
    let own = &*topic::own(&topic.topic);
    let is_asked = |name: &str| question.names.as_ref().is_none_or(|names| names.contains(name));
    let configs = topic::effective_of(is_asked, own, settings).map(|config| {
        let synonyms = if question.synonyms {
            topic::synonyms(&config.name, own, settings)
        } else {
            Vec::new()
        };
        DescribedConfig {
            config_type: topic::type_of(&config.name),
            documentation: topic::documentation(&config.name).filter(|_| question.documentation),
            value: config.value,
            read_only: config.read_only,
            config_source: config.source,
            is_sensitive: config.sensitive,
            synonyms: synonyms.into_iter().map(synonym).collect(),
            name: config.name,
        }
    });
    configs.collect()
}

fn of_broker(setting: &'static Setting, settings: &Settings, question: &Question<'_>) -> DescribedConfig {
    let value = settings.layers(setting).next();
    let source = value.map_or(Source::Default, |(_, origin)| origin.into());
    let value = value.filter(|_| !setting.is_sensitive());
    let synonyms = if question.synonyms {
        settings.synonyms(setting)
    } else {
        Vec::new()
    };
    DescribedConfig {
        name: setting.name.to_owned(),
        value: value.map(|(value, _)| value.to_owned()),
        read_only: setting.mode == UpdateMode::ReadOnly,
        config_source: source as i8,
        is_sensitive: setting.is_sensitive(),
        synonyms: synonyms.into_iter().map(synonym).collect(),
        config_type: setting.kind.type_code(),
        documentation: question.documentation.then(|| setting.described()),
    }
}

/// About what a config takes, in memory and in the answer.
fn bytes_of(config: &DescribedConfig) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let synonyms = config.synonyms.iter();
    let synonyms =
        synonyms.map(|synonym| size_of::<ConfigSynonym>() + synonym.name.len() + text(&synonym.value));
    size_of::<DescribedConfig>()
        + config.name.len()
        + text(&config.value)
        + text(&config.documentation)
        + synonyms.sum::<usize>()
}

fn synonym(synonym: Synonym) -> ConfigSynonym {
    ConfigSynonym {
        name: synonym.name.to_owned(),
        value: synonym.value,
        source: synonym.source as i8,
    }
}
