//! How nodes that join by one token are named, from what each says of itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ClusterName;

/// The longest template.
const MAX_TEMPLATE: usize = 128;
/// How many digits of a machine id or of a uid stand in a name: 48 bits.
const DIGITS: usize = 12;

/// What a node says of itself when it joins. Whoever holds the token can say anything: it decides about the name within
/// its template, and about nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Empty if the node does not say it.
    pub hostname: String,
    /// As in `/etc/machine-id`; empty if the node does not say it.
    pub machine_id: String,
    /// uid of the namespace kube-system.
    pub cluster_uid: String,
}

/// A name with placeholders, as `edge-{hostname}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Fact(Fact),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fact {
    Hostname,
    MachineId,
    Uid,
}

impl Fact {
    const ALL: [(&'static str, Self); 3] =
        [("hostname", Self::Hostname), ("machine-id", Self::MachineId), ("uid", Self::Uid)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, fact)| *fact == self).map_or("", |(name, _)| name)
    }

    /// As it stands in a name; empty where the node does not say it.
    fn value(self, node: &NodeFacts) -> String {
        let lower = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let digits = |text: &str| text.chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect();
        match self {
            Self::Hostname => node.hostname.chars().map(lower).collect(),
            Self::MachineId => digits(&node.machine_id),
            Self::Uid => digits(&node.cluster_uid),
        }
    }
}

/// A text that is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' cannot name nodes: use lower-case letters, digits, '-' and at least one of {{hostname}}, {{machine-id}} and \
     {{uid}}, at most {MAX_TEMPLATE} characters"
)]
pub struct InvalidTemplate(String);

/// Why a node has no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnnamedNode {
    #[error(
        "the join token names nodes by their {0}, and this node does not say it; upgrade the agent, or make a token that names \
         nodes by {{uid}}"
    )]
    Missing(&'static str),
    #[error(
        "the node would be called '{0}', which is not a valid cluster name (at most 63 lower-case letters, digits and '-', \
         beginning and ending with a letter or digit); make a token that names nodes otherwise"
    )]
    Invalid(String),
}

impl NameTemplate {
    /// The name of a node that says this.
    ///
    /// # Errors
    /// Where the node leaves out what the template asks for, and where the name is too long: one that was cut could be another
    /// node's.
    pub fn name(&self, node: &NodeFacts) -> Result<ClusterName, UnnamedNode> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => name += text,
                Part::Fact(fact) => {
                    let value = fact.value(node);
                    if value.is_empty() {
                        return Err(UnnamedNode::Missing(fact.name()));
                    }
                    name += &value;
                }
            }
        }
        name.parse().map_err(|_| UnnamedNode::Invalid(name.chars().take(MAX_TEMPLATE).collect()))
    }
}

impl FromStr for NameTemplate {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let invalid = || InvalidTemplate(text.chars().take(MAX_TEMPLATE).collect());
        if text.len() > MAX_TEMPLATE {
            return Err(invalid());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (before, after) = rest.split_once('{').unwrap_or((rest, ""));
            if !before.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
                return Err(invalid());
            }
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            if before.len() == rest.len() {
                break;
            }
            let (name, after) = after.split_once('}').ok_or_else(invalid)?;
            let fact = Fact::ALL.iter().find(|(known, _)| *known == name).ok_or_else(invalid)?;
            parts.push(Part::Fact(fact.1));
            rest = after;
        }
        if !parts.iter().any(|part| matches!(part, Part::Fact(_))) {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Serialize for NameTemplate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for NameTemplate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeFacts {
        NodeFacts {
            hostname: "Pi_4.example.com".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            cluster_uid: "9f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0".into(),
        }
    }

    #[test]
    fn a_node_is_named_by_what_it_says() {
        for (template, name) in [
            ("{hostname}", "pi-4-example-com"),
            ("edge-{hostname}-eu", "edge-pi-4-example-com-eu"),
            ("edge-{machine-id}", "edge-0123456789ab"),
            ("{uid}", "9f1c2d3e4b5a"),
            ("e{uid}-{hostname}", "e9f1c2d3e4b5a-pi-4-example-com"),
        ] {
            let template: NameTemplate = template.parse().unwrap();
            assert_eq!(template.name(&node()).unwrap().as_str(), name, "{template}");
            let json = serde_json::to_string(&template).unwrap();
            assert_eq!(serde_json::from_str::<NameTemplate>(&json).unwrap(), template);
        }
    }

    #[test]
    fn what_is_not_a_template_is_refused() {
        let long = format!("{}{{uid}}", "a".repeat(MAX_TEMPLATE));
        for text in
            ["", "edge", "edge-{", "edge-{hostname", "{name}", "Edge-{uid}", "a/{uid}", "{uid}}", "{}", &long]
        {
            assert!(text.parse::<NameTemplate>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_node_that_cannot_be_named_by_it_has_no_name() {
        let name = |template: &str, node: &NodeFacts| template.parse::<NameTemplate>().unwrap().name(node);
        let silent = NodeFacts::default();
        assert_eq!(name("{hostname}", &silent), Err(UnnamedNode::Missing("hostname")));
        assert_eq!(name("x-{machine-id}", &silent), Err(UnnamedNode::Missing("machine-id")));
        for hostname in ["-a", "a-", "a".repeat(64).as_str(), "..", "ä"] {
            let node = NodeFacts { hostname: hostname.to_owned(), ..node() };
            assert!(matches!(name("{hostname}", &node), Err(UnnamedNode::Invalid(_))), "{hostname}");
        }
    }
}
