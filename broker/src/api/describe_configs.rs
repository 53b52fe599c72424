//! DescribeConfigs (key 32), versions 1-4: configs of topics and of brokers, with where each comes from.
//!
//! Every shard of a host shows the host's settings: they are its configuration file's, and none can be changed while it
//! runs.

use std::rc::Rc;

use wire::ErrorCode;
use wire::messages::describe_configs::{
    ConfigSynonym, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribeConfigsResult, DescribedConfig,
};

use crate::api::resource::{self, Resource};
use crate::api::{AnswerBudget, Call, Handled, bound_entries};
use crate::config::table::{SETTINGS, Setting};
use crate::config::topic::{self, SOURCE_BROKER_FILE, SOURCE_DEFAULT};
use crate::config::{Origin, Settings};
use crate::shard::{LocalTopic, Shard};

/// What of each config is told.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

pub(crate) async fn handle(shard: Rc<Shard>, call: Call) -> Handled {
    let request: DescribeConfigsRequest<'_> = call.body()?;
    bound_entries(request.resources.iter().map(|asked| {
        let keys = asked.configuration_keys;
        keys.map_or(1, |keys| keys.len() + 1)
    }))?;
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let is_known = |asked: &DescribeConfigsResource<'_>, world: &crate::shard::World| {
        asked.resource_type != resource::TOPIC || world.topic(asked.resource_name).is_some()
    };
    let world = shard
        .world_that(|world| request.resources.iter().all(|asked| is_known(&asked, world)))
        .await;
    let mut results = Vec::new();
    let mut budget = AnswerBudget::new();
    for asked in request.resources.iter() {
        let settings = &shard.settings.all;
        let described = match resource::of(asked.resource_type, asked.resource_name, &world, shard.node_id) {
            Ok(Resource::Topic(topic)) => Ok(of_topic(topic, settings, detail)),
            Ok(Resource::Broker) => Ok(SETTINGS
                .iter()
                .map(|setting| of_broker(setting, settings, detail))
                .collect()),
            Ok(Resource::AllBrokers) => Ok(Vec::new()),
            Err(refusal) => Err(refusal),
        };
        let (error_code, error_message) = match &described {
            Ok(_) => (ErrorCode::None, None),
            Err((error_code, message)) => (*error_code, Some(message.clone())),
        };
        let mut configs = described.unwrap_or_default();
        if let Some(keys) = asked.configuration_keys.filter(|keys| !keys.is_empty()) {
            configs.retain(|config| keys.iter().any(|key| key == config.name));
        }
        budget.take(configs.iter().map(bytes_of).sum())?;
        results.push(DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: asked.resource_type,
            resource_name: asked.resource_name.to_owned(),
            configs,
        });
    }
    call.ready(&DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    })
}

fn of_topic(topic: &LocalTopic, settings: &Settings, detail: Detail) -> Vec<DescribedConfig> {
    let own = &topic.topic.configs;
    let configs = topic::effective(own, settings).into_iter().map(|config| {
        let synonyms = if detail.synonyms {
            topic::synonyms(&config.name, own, settings)
        } else {
            Vec::new()
        };
        DescribedConfig {
            config_type: topic::type_of(&config.name),
            documentation: topic::documentation(&config.name).filter(|_| detail.documentation),
            value: config.value,
            read_only: config.read_only,
            config_source: config.source,
            is_sensitive: config.sensitive,
            synonyms: synonyms
                .into_iter()
                .map(|(name, value, source)| synonym(name, value, source))
                .collect(),
            name: config.name,
        }
    });
    configs.collect()
}

fn of_broker(setting: &'static Setting, settings: &Settings, detail: Detail) -> DescribedConfig {
    let value = settings.text(setting).to_owned();
    let is_default = settings.origin(setting) == Origin::Default;
    let source = if is_default {
        SOURCE_DEFAULT
    } else {
        SOURCE_BROKER_FILE
    };
    let mut synonyms = Vec::new();
    if detail.synonyms {
        if !is_default {
            synonyms.push(synonym(setting.name, value.clone(), source));
        }
        synonyms.push(synonym(setting.name, setting.default.to_owned(), SOURCE_DEFAULT));
    }
    DescribedConfig {
        name: setting.name.to_owned(),
        value: Some(value),
        read_only: true,
        config_source: source,
        is_sensitive: false,
        synonyms,
        config_type: topic::type_of_kind(&setting.kind),
        documentation: detail.documentation.then(|| setting.documentation.to_owned()),
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

fn synonym(name: &str, value: String, source: i8) -> ConfigSynonym {
    ConfigSynonym {
        name: name.to_owned(),
        value: Some(value),
        source,
    }
}
