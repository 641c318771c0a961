//! Label selectors as Kubernetes' objects have them: `matchLabels` and `matchExpressions`.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_yaml::Node;
use serde::{Deserialize, Serialize};

/// A label selector: all of it has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Requirement {
    label: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

impl Selector {
    /// Reads a Kubernetes label selector.
    ///
    /// # Errors
    /// The field within it, and what is wrong with it.
    pub fn read(node: &Node) -> Result<Self, (String, String)> {
        let wrong = |field: &str, message: &str| (field.to_owned(), message.to_owned());
        let mut requirements = Vec::new();
        let fields = node.as_map().ok_or_else(|| wrong("", "must be a mapping"))?;
        for entry in fields.iter() {
            match entry.key.text().unwrap_or_default() {
                "matchLabels" => {
                    let labels = entry.value.as_map();
                    for label in labels.ok_or_else(|| wrong("matchLabels", "must be a mapping"))?.iter() {
                        let (name, value) = (label.key.text(), label.value.as_str());
                        let (Some(name), Some(value)) = (name, value) else {
                            return Err(wrong("matchLabels", "must be a mapping of strings"));
                        };
                        let test = Test::In([value.to_owned()].into());
                        requirements.push(Requirement { label: name.to_owned(), test });
                    }
                }
                "matchExpressions" => {
                    let all = entry.value.as_seq();
                    for node in all.ok_or_else(|| wrong("matchExpressions", "must be a list"))?.iter() {
                        let read =
                            requirement(node).map_err(|message| wrong("matchExpressions", &message))?;
                        requirements.push(read);
                    }
                }
                other => return Err(wrong(other, "is not a field of a selector")),
            }
        }
        Ok(Self(requirements))
    }

    /// Whether it asks for nothing.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The labels that it looks at.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|requirement| requirement.label.as_str())
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|Requirement { label, test }| match (test, labels.get(label)) {
            (Test::In(values), value) => value.is_some_and(|value| values.contains(value)),
            // As Kubernetes: what has no such label is not in any set of values.
            (Test::NotIn(values), value) => value.is_none_or(|value| !values.contains(value)),
            (Test::Exists, value) => value.is_some(),
            (Test::DoesNotExist, value) => value.is_none(),
        })
    }
}

fn requirement(node: &Node) -> Result<Requirement, String> {
    let text = |name: &str| node.get(name).and_then(Node::as_str).map(str::to_owned);
    let (Some(label), Some(operator)) = (text("key"), text("operator")) else {
        return Err("each needs key and operator".to_owned());
    };
    let values: Option<BTreeSet<String>> = match node.get("values") {
        None => Some(BTreeSet::new()),
        Some(values) => {
            let values = values.as_seq().ok_or("values must be a list of strings")?;
            values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
        }
    };
    let values = values.ok_or("values must be a list of strings")?;
    let test = match (operator.as_str(), values.is_empty()) {
        ("In", false) => Test::In(values),
        ("NotIn", false) => Test::NotIn(values),
        ("Exists", true) => Test::Exists,
        ("DoesNotExist", true) => Test::DoesNotExist,
        ("In" | "NotIn", true) => return Err(format!("{operator} needs values")),
        ("Exists" | "DoesNotExist", false) => return Err(format!("{operator} takes no values")),
        _ => return Err(format!("'{operator}' is none of In, NotIn, Exists and DoesNotExist")),
    };
    Ok(Requirement { label, test })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Selector, (String, String)> {
        Selector::read(&flotilla_yaml::parse(yaml).unwrap()[0])
    }

    #[test]
    fn selectors_are_those_of_kubernetes() {
        let labels: BTreeMap<String, String> =
            [("env", "prod"), ("region", "eu")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        for (selector, expected) in [
            ("{}", true),
            ("matchLabels: {env: prod}", true),
            ("matchLabels: {env: prod, region: us}", false),
            ("matchExpressions: [{key: env, operator: In, values: [stage, prod]}]", true),
            ("matchExpressions: [{key: env, operator: NotIn, values: [prod]}]", false),
            ("matchExpressions: [{key: tier, operator: NotIn, values: [prod]}]", true),
            ("matchExpressions: [{key: env, operator: Exists}]", true),
            ("matchExpressions: [{key: env, operator: DoesNotExist}]", false),
            ("matchLabels: {env: prod}\nmatchExpressions: [{key: tier, operator: Exists}]", false),
        ] {
            assert_eq!(read(selector).unwrap().matches(&labels), expected, "{selector}");
        }
    }

    #[test]
    fn what_selects_nothing_sensible_is_refused() {
        for (selector, field) in [
            ("[a]", ""),
            ("labels: {a: b}", "labels"),
            ("matchLabels: [a]", "matchLabels"),
            ("matchLabels: {a: 1}", "matchLabels"),
            ("matchExpressions: [{key: a, operator: In}]", "matchExpressions"),
            ("matchExpressions: [{key: a, operator: Exists, values: [b]}]", "matchExpressions"),
            ("matchExpressions: [{key: a, operator: Like, values: [b]}]", "matchExpressions"),
            ("matchExpressions: [{operator: Exists}]", "matchExpressions"),
        ] {
            assert_eq!(read(selector).unwrap_err().0, field, "{selector}");
        }
    }
}
