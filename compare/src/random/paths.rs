//! Places inside a value, in the three ways in which kustomizations name them.

use super::value::Value;

/// A step into a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    /// The place in a list, and the element's name if it has one.
    Index(usize, Option<String>),
}

/// A place and what stands there.
#[derive(Debug, Clone)]
pub(super) struct Place<'a> {
    pub(super) steps: Vec<Step>,
    pub(super) value: &'a Value,
}

/// All places below a value that may be changed without making it another object.
pub(super) fn places(value: &Value) -> Vec<Place<'_>> {
    let mut all = Vec::new();
    collect(value, &mut Vec::new(), &mut all);
    all.retain(|place| !is_identity(&place.steps));
    all
}

fn is_identity(steps: &[Step]) -> bool {
    let keys: Vec<&str> =
        steps.iter().filter_map(|s| if let Step::Key(key) = s { Some(key.as_str()) } else { None }).collect();
    matches!(keys[..], ["apiVersion" | "kind" | "metadata"] | ["metadata", "name" | "namespace"] | ["spec"])
}

fn collect<'a>(value: &'a Value, at: &mut Vec<Step>, all: &mut Vec<Place<'a>>) {
    let mut child = |step: Step, value: &'a Value| {
        at.push(step);
        all.push(Place { steps: at.clone(), value });
        collect(value, at, all);
        at.pop();
    };
    match value {
        Value::Map(entries) => {
            for (key, value) in entries.iter().filter(|(key, _)| key != "<<") {
                child(Step::Key(key.clone()), value);
            }
        }
        Value::List(list) => {
            for (n, value) in list.iter().enumerate() {
                let name = value.get("name").and_then(Value::as_text).map(str::to_owned);
                child(Step::Index(n, name), value);
            }
        }
        _ => {}
    }
}

impl Place<'_> {
    /// Whether it is a list of mappings.
    pub(super) fn holds_maps(&self) -> bool {
        self.value.as_list().iter().all(|value| matches!(value, Value::Map(_)))
    }

    /// `/spec/containers/0/image`
    pub(super) fn pointer(&self) -> String {
        let step = |step: &Step| match step {
            Step::Key(key) => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
            Step::Index(n, _) => format!("/{n}"),
        };
        self.steps.iter().map(step).collect()
    }

    /// `spec.containers.[name=main].image`; `by_name` false gives places in lists as numbers.
    pub(super) fn field_path(&self, by_name: bool) -> String {
        let step = |step: &Step| match step {
            Step::Key(key) => key.replace('.', "\\."),
            Step::Index(_, Some(name)) if by_name => format!("[name={name}]"),
            Step::Index(n, _) => n.to_string(),
        };
        self.steps.iter().map(step).collect::<Vec<_>>().join(".")
    }

    /// `spec/template/spec`, as field specs have it; `None` where a list is on the way.
    pub(super) fn field_spec(&self) -> Option<String> {
        let key = |step: &Step| if let Step::Key(key) = step { Some(key.replace('/', "\\/")) } else { None };
        Some(self.steps.iter().map(key).collect::<Option<Vec<_>>>()?.join("/"))
    }
}
