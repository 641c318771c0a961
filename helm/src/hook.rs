//! Hooks: objects of a chart that are not applied with the others but run at a moment of the release.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The annotation that makes a hook of an object: the moments at which it runs.
pub const EVENTS: &str = "helm.sh/hook";
pub(crate) const WEIGHT: &str = "helm.sh/hook-weight";
pub(crate) const DELETE_POLICY: &str = "helm.sh/hook-delete-policy";
pub(crate) const LOG_POLICY: &str = "helm.sh/hook-output-log-policy";

/// Words that Helm knows, and others that records of some version may have: those are kept and mean nothing.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            Other(String),
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Other(word) => word,
                }
            }

            /// Never fails: see [`Self::Other`].
            pub fn read(word: &str) -> Self {
                match word {
                    $($word => Self::$variant,)*
                    _ => Self::Other(word.to_owned()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self::read(&String::deserialize(deserializer)?))
            }
        }
    };
}

words! {
    /// The moments at which hooks run.
    Event {
        PreInstall = "pre-install",
        PostInstall = "post-install",
        PreDelete = "pre-delete",
        PostDelete = "post-delete",
        PreUpgrade = "pre-upgrade",
        PostUpgrade = "post-upgrade",
        PreRollback = "pre-rollback",
        PostRollback = "post-rollback",
        Test = "test",
    }
}

words! {
    /// When the object of a hook is deleted.
    DeletePolicy {
        Succeeded = "hook-succeeded",
        Failed = "hook-failed",
        /// An old one, before the new one is made; what holds where a hook says nothing.
        BeforeHookCreation = "before-hook-creation",
    }
}

words! {
    /// When the logs of a hook are shown.
    LogPolicy {
        Succeeded = "hook-succeeded",
        Failed = "hook-failed",
    }
}

words! {
    /// How far a run of a hook is. A hook that never ran has an empty one.
    Phase {
        Unknown = "Unknown",
        Running = "Running",
        Succeeded = "Succeeded",
        Failed = "Failed",
    }
}

/// A hook, as a record has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hook {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The template that it comes from, beginning with the chart's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The object, as YAML.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manifest: String,
    #[serde(default, deserialize_with = "list")]
    pub events: Vec<Event>,
    #[serde(default)]
    pub last_run: Execution,
    #[serde(default)]
    pub weight: i64,
    #[serde(default, deserialize_with = "list")]
    pub delete_policies: Vec<DeletePolicy>,
    #[serde(default, deserialize_with = "list")]
    pub output_log_policies: Vec<LogPolicy>,
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The last run of a hook in a revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    #[serde(default, with = "crate::time", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    #[serde(default, with = "crate::time", skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Timestamp>,
    #[serde(default = "never")]
    pub phase: Phase,
}

fn never() -> Phase {
    Phase::Other(String::new())
}

impl Default for Execution {
    fn default() -> Self {
        Self { started_at: None, completed_at: None, phase: never() }
    }
}

/// Go writes a list that was never filled as null.
fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Hook {
    /// Whether the policy asks to delete the object. One that defines a kind is never deleted: all objects of that kind would
    /// go with it.
    pub fn deletes(&self, policy: &DeletePolicy) -> bool {
        let by_default = self.delete_policies.is_empty() && *policy == DeletePolicy::BeforeHookCreation;
        self.kind != "CustomResourceDefinition" && (by_default || self.delete_policies.contains(policy))
    }
}

/// The hooks that run at a moment, by their place in `hooks`, in the order in which they run one after the other: by weight,
/// then by name, then as they stand, which is by kind. Helm runs one that names a moment twice (`test,test-success`) twice; here
/// it runs once.
pub fn due(hooks: &[Hook], event: &Event) -> Vec<usize> {
    let mut due: Vec<usize> = (0..hooks.len()).filter(|place| hooks[*place].events.contains(event)).collect();
    due.sort_by_key(|place| (hooks[*place].weight, hooks[*place].name.as_str()));
    due
}
