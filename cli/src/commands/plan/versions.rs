//! Which version of Kubernetes each cluster has, as the command line says.

use std::collections::BTreeMap;
use std::str::FromStr;

use flotilla_core::ClusterName;
use flotilla_render::plan::fit::KubernetesVersion;

use crate::Context;
use crate::error::Error;
use crate::offline::{KUBERNETES, Repo};

/// A version, and as charts are told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) version: KubernetesVersion,
    pub(super) text: String,
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let version: KubernetesVersion =
            text.parse().map_err(|error: flotilla_render::plan::fit::InvalidVersion| error.to_string())?;
        let plain = text.strip_prefix('v').unwrap_or(text);
        let patch = if plain.matches('.').count() == 1 { ".0" } else { "" };
        Ok(Self { version, text: format!("v{plain}{patch}") })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    All,
    Label(String, String),
    Cluster(ClusterName),
}

/// `1.36`, `tier=edge:1.33`, `east:1.35`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    which: Which,
    version: Version,
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((which, version)) = text.rsplit_once(':') else {
            return Ok(Self { which: Which::All, version: text.parse()? });
        };
        let which = match which.split_once('=') {
            Some((label, value)) if !label.is_empty() => Which::Label(label.to_owned(), value.to_owned()),
            Some(_) => return Err(format!("'{which}' names no label")),
            None => Which::Cluster(
                which.parse().map_err(|error: flotilla_core::names::InvalidName| error.to_string())?,
            ),
        };
        Ok(Self { which, version: version.parse()? })
    }
}

/// The version of each cluster: what is said of it by name counts before what is said of a label, that before what is said of
/// all, and that before what the cluster reports.
#[derive(Debug)]
pub(super) struct Versions {
    rules: Vec<Rule>,
    reported: BTreeMap<ClusterName, Version>,
    default: Version,
}

impl Versions {
    /// # Errors
    /// Where two rules say something of the same.
    pub(super) fn new(rules: &[Rule]) -> Result<Self, Error> {
        for (index, rule) in rules.iter().enumerate() {
            if rules[..index].iter().any(|other| other.which == rule.which) {
                return Err(Error::usage("--kubernetes-version says two versions of the same clusters"));
            }
        }
        let default = KUBERNETES.parse().map_err(Error::usage)?;
        Ok(Self { rules: rules.to_vec(), reported: BTreeMap::new(), default })
    }

    /// With what clusters say themselves, where no rule says it.
    pub(super) fn with_reported<'a>(self, told: impl Iterator<Item = (&'a ClusterName, &'a str)>) -> Self {
        let reported = told.filter_map(|(name, text)| Some((name.clone(), text.parse().ok()?))).collect();
        Self { reported, ..self }
    }

    /// The version of a cluster with these labels. Of several labels the lowest version counts, as it serves the least.
    pub(super) fn of(&self, name: &ClusterName, labels: &BTreeMap<String, String>) -> &Version {
        let by_name = self.rules.iter().find(|rule| matches!(&rule.which, Which::Cluster(of) if of == name));
        let by_label = || {
            let has = |rule: &&Rule| matches!(&rule.which, Which::Label(label, value) if labels.get(label) == Some(value));
            self.rules.iter().filter(has).min_by_key(|rule| rule.version.version)
        };
        let of_all = || self.rules.iter().find(|rule| rule.which == Which::All);
        let ruled = by_name.or_else(by_label).or_else(of_all).map(|rule| &rule.version);
        ruled.or_else(|| self.reported.get(name)).unwrap_or(&self.default)
    }

    /// A rule that concerns no cluster is a slip.
    pub(super) fn warn_unused(&self, context: &Context, repos: &[&Repo]) {
        let clusters = || repos.iter().flat_map(|repo| &repo.fleet.clusters);
        for rule in &self.rules {
            let (is_used, what) = match &rule.which {
                Which::All => continue,
                Which::Cluster(name) => {
                    (repos.iter().any(|repo| repo.names().contains(name)), format!("no cluster {name}"))
                }
                Which::Label(label, value) => (
                    clusters().any(|(_, cluster)| cluster.policy.labels.get(label) == Some(value)),
                    format!("no cluster with the label {label}={value}"),
                ),
            };
            if !is_used {
                context.terminal.warn(&format!("--kubernetes-version: there is {what}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_to_a_cluster_counts() {
        let rules = ["1.30", "tier=edge:v1.28.4", "east:1.33"].map(|rule| rule.parse().unwrap());
        let versions = Versions::new(&rules).unwrap();
        let edge: BTreeMap<String, String> = [("tier".to_owned(), "edge".to_owned())].into();
        let of = |name: &str, labels: &BTreeMap<String, String>| {
            versions.of(&name.parse().unwrap(), labels).text.clone()
        };
        assert_eq!(of("east", &edge), "v1.33.0");
        assert_eq!(of("west", &edge), "v1.28.4");
        assert_eq!(of("west", &BTreeMap::new()), "v1.30.0");
        assert_eq!(Versions::new(&[]).unwrap().of(&"a".parse().unwrap(), &edge).text, KUBERNETES);
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for text in ["", "x", "a:b", "=x:1.30", "Not_A_Name:1.30", "1.30:"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
        let twice = ["1.30", "1.31"].map(|rule| rule.parse().unwrap());
        assert!(Versions::new(&twice).is_err());
    }
}
