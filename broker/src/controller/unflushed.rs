//! What an operator is told of topics whose records are acknowledged before they are flushed: each once, and again when
//! it changes.
//!
//! Pure: metadata in, lines out. Must never say it of a topic that is flushed first.

use std::collections::BTreeMap;

use crate::controller::image::{Image, Topic};

/// Topics that are named in one turn; of the others it is said how many they are.
const NAMED_MAX: usize = 10;
/// What is at stake, and what to do about it.
const STAKES: &str = "is acknowledged when it is written: it survives a crash of the broker, and a power cut may take back \
                      the last 10 seconds of it. flush.messages=1 flushes before each acknowledgement";

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Unflushed {
    topics: BTreeMap<u128, String>,
    nodes: BTreeMap<i32, String>,
}

impl Unflushed {
    /// What is new in the image. `defaults` are what holds on each node for topics that do not say otherwise.
    pub(crate) fn news(
        &mut self,
        image: &Image,
        defaults: impl Iterator<Item = (i32, String)>,
    ) -> Vec<String> {
        // Numbers may be written in several ways.
        let is_later = |messages: &String| messages.parse() != Ok(1_i64);
        let nodes: BTreeMap<i32, String> = defaults.filter(|(_, messages)| is_later(messages)).collect();
        let own = |topic: &Topic| {
            topic
                .configs
                .get("flush.messages")
                .filter(|own| is_later(own))
                .cloned()
        };
        let all = image.topics_by_id.iter();
        let topics: BTreeMap<u128, String> = all.filter_map(|(id, topic)| Some((*id, own(topic)?))).collect();
        let is_new = |id: &u128, messages: &String| self.topics.get(id) != Some(messages);
        let mut lines = Vec::new();
        for (node, messages) in &nodes {
            if self.nodes.get(node) != Some(messages) {
                lines.push(format!(
                    "what node {node} appends to topics without a flush.messages of their own \
                     (log.flush.interval.messages={messages}) {STAKES}"
                ));
            }
        }
        let mut more = 0;
        for (id, messages) in topics.iter().filter(|(id, messages)| is_new(id, messages)) {
            if lines.len() == nodes.len() + NAMED_MAX {
                more += 1;
            } else {
                let name = &image.topics_by_id[id].name;
                lines.push(format!(
                    "what is appended to topic {name} (flush.messages={messages}) {STAKES}"
                ));
            }
        }
        if more > 0 {
            lines.push(format!("what is appended to {more} other topics {STAKES}"));
        }
        *self = Unflushed { topics, nodes };
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn image(topics: &[(u128, Option<&str>)]) -> Image {
        let topic = |id: u128, messages: Option<&str>| Topic {
            name: format!("t{id}"),
            id,
            configs: (messages.map(|messages| ("flush.messages".to_owned(), messages.to_owned())))
                .into_iter()
                .collect(),
            ..Topic::default()
        };
        let topics = topics
            .iter()
            .map(|(id, messages)| (*id, Arc::new(topic(*id, *messages))));
        Image {
            topics_by_id: topics.collect(),
            ..Image::default()
        }
    }

    fn said(unflushed: &mut Unflushed, image: &Image, defaults: &[(i32, &str)]) -> Vec<String> {
        let defaults = defaults
            .iter()
            .map(|(node, messages)| (*node, (*messages).to_owned()));
        let lines = unflushed.news(image, defaults);
        for line in &lines {
            assert!(
                line.contains("power cut") && line.contains("flush.messages=1 "),
                "{line}"
            );
        }
        lines
            .into_iter()
            .map(|line| line[..line.find(" is acknowledged").expect("what")].to_owned())
            .collect()
    }

    #[test]
    fn each_is_told_once_and_again_when_it_changes() {
        let mut unflushed = Unflushed::default();
        let mut tell = |topics: &[_], defaults: &[_]| said(&mut unflushed, &image(topics), defaults);
        assert_eq!(
            tell(&[(1, None), (2, Some("1")), (4, Some("+01"))], &[(1_000, "01")]),
            [""; 0]
        );
        let seven = (3, Some("7"));
        assert_eq!(
            tell(&[(1, None), seven], &[(1_000, "1")]),
            ["what is appended to topic t3 (flush.messages=7)"]
        );
        assert_eq!(tell(&[seven], &[(1_000, "1")]), [""; 0]);
        assert_eq!(
            tell(&[(3, Some("8")), (1, None)], &[(1_000, "1"), (1_001, "9")]),
            [
                "what node 1001 appends to topics without a flush.messages of their own (log.flush.interval.messages=9)",
                "what is appended to topic t3 (flush.messages=8)"
            ]
        );
        assert_eq!(tell(&[(3, Some("1"))], &[(1_001, "1")]), [""; 0]);
        assert_eq!(tell(&[(3, Some("8"))], &[(1_001, "9")]).len(), 2);
    }

    #[test]
    fn few_of_many_are_named() {
        let topics: Vec<_> = (0..14).map(|id| (id, Some("7"))).collect();
        let lines = said(&mut Unflushed::default(), &image(&topics), &[(1_000, "5")]);
        assert_eq!(lines.len(), 12);
        assert_eq!(lines[11], "what is appended to 4 other topics");
    }
}
