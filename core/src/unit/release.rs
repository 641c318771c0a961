//! How a unit is installed as a Helm release: whose records it has, what its revisions are made of, and what is done at each action:
//! what a HelmRelease of Flux says of it, with helm-controller's defaults. Source: the CRD of `helm.toolkit.fluxcd.io/v2` and
//! helm-controller 1.6.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{is_default, is_false};
use crate::digest::Digest;

/// helm-controller's default for an action.
const TIMEOUT: u32 = 300;
/// helm-controller's default.
const MAX_HISTORY: u32 = 5;

/// Something that travels like an object's body, and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub digest: Digest,
    /// In bytes.
    pub size: u32,
}

/// A Helm release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// Helm's name of it.
    pub name: String,
    /// Where its objects are, unless they say otherwise.
    pub namespace: String,
    /// Where its records are.
    pub storage_namespace: String,
    /// What a revision is made of, apart from the chart and the unit's objects: values, manifest, hooks, notes.
    pub content: Blob,
    /// The chart, as a record holds it.
    pub chart: Blob,
    pub options: Options,
}

/// Of all actions of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Options {
    pub install: ActionOptions,
    pub on_install_failure: OnFailure,
    pub upgrade: ActionOptions,
    pub on_upgrade_failure: OnFailure,
    pub rollback: ActionOptions,
    pub uninstall: UninstallOptions,
    pub test: TestOptions,
    /// So many revisions are kept; 0 keeps all.
    pub max_history: u32,
    /// An install may take the name of a release that was uninstalled with its records kept.
    #[serde(skip_serializing_if = "is_false")]
    pub replace: bool,
    /// What a release of a chart of another name becomes.
    #[serde(skip_serializing_if = "is_default")]
    pub chart_name_change: ChartNameChange,
    #[serde(skip_serializing_if = "is_default")]
    pub wait: WaitStrategy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ChartNameChange {
    /// The old release is uninstalled first.
    #[default]
    Reinstall,
    InPlaceUpdate,
}

/// By what it is told that objects are ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WaitStrategy {
    /// Their status as all of Kubernetes' tools read it, which is how other units are waited for too.
    #[default]
    Poller,
    /// As Helm 3: the kinds that it knows, and nothing of others.
    Legacy,
}

/// What becomes of what depends on a deleted object, as the API server's deletions have it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    #[default]
    Background,
    Foreground,
    Orphan,
}

/// Of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ActionOptions {
    /// In seconds: for each hook, and for the objects to become ready.
    pub timeout: u32,
    pub disable_hooks: bool,
    /// The objects are not waited for.
    pub disable_wait: bool,
    /// Jobs among the objects are not waited for to be done.
    pub disable_wait_for_jobs: bool,
    /// An object that is there and is not the release's fails the action.
    #[serde(skip_serializing_if = "is_false")]
    pub disable_take_ownership: bool,
    /// Objects that a failed upgrade or rollback made are deleted.
    #[serde(skip_serializing_if = "is_false")]
    pub cleanup_on_fail: bool,
    /// An object whose change the API server refuses is made anew.
    #[serde(skip_serializing_if = "is_false")]
    pub force: bool,
}

/// What follows where an install or upgrade failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OnFailure {
    /// So many further attempts; `None` for as many as it takes.
    pub retries: Option<u32>,
    /// Whether the last of them is put right too.
    pub remediate_last_failure: bool,
    pub remedy: Remedy,
    /// It is upgraded again after so many seconds, instead of `remedy` and without counting (`RetryOnFailure`).
    pub retry_interval: Option<u32>,
    /// A failed test is no failure of the release.
    pub ignore_test_failures: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Remedy {
    /// To the last revision that was deployed.
    Rollback,
    Uninstall,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct UninstallOptions {
    pub action: ActionOptions,
    /// The records stay, as of an uninstalled release.
    pub keep_history: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub propagation: Propagation,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TestOptions {
    pub enable: bool,
    pub action: ActionOptions,
    /// A failed test is reported, and the release is ready all the same.
    #[serde(skip_serializing_if = "is_false")]
    pub ignore_failures: bool,
    /// The tests that run; all if there is none.
    pub filters: Vec<TestFilter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestFilter {
    pub name: String,
    /// All but this one.
    #[serde(default)]
    pub exclude: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            install: ActionOptions::default(),
            on_install_failure: OnFailure { remedy: Remedy::Uninstall, ..OnFailure::default() },
            upgrade: ActionOptions::default(),
            on_upgrade_failure: OnFailure::default(),
            rollback: ActionOptions::default(),
            uninstall: UninstallOptions::default(),
            test: TestOptions::default(),
            max_history: MAX_HISTORY,
            replace: false,
            chart_name_change: ChartNameChange::default(),
            wait: WaitStrategy::default(),
        }
    }
}

impl Default for ActionOptions {
    fn default() -> Self {
        Self {
            timeout: TIMEOUT,
            disable_hooks: false,
            disable_wait: false,
            disable_wait_for_jobs: false,
            disable_take_ownership: false,
            cleanup_on_fail: false,
            force: false,
        }
    }
}

impl Default for OnFailure {
    fn default() -> Self {
        Self {
            retries: Some(0),
            remediate_last_failure: false,
            remedy: Remedy::Rollback,
            retry_interval: None,
            ignore_test_failures: false,
        }
    }
}

impl ReleaseSpec {
    /// What has to be fetched before it can be installed.
    pub fn blobs(&self) -> [Blob; 2] {
        [self.content, self.chart]
    }

    /// As it is defined, apart from what is installed.
    pub(super) fn definition(&self) -> Self {
        let nothing = Blob { digest: Digest::of(b""), size: 0 };
        Self { content: nothing, chart: nothing, ..self.clone() }
    }
}

impl ActionOptions {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.into())
    }
}

impl OnFailure {
    /// Whether so many failures are more than what is tried again.
    pub fn is_exhausted(&self, failures: u32) -> bool {
        self.retry_interval.is_none() && self.retries.is_some_and(|retries| failures > retries)
    }
}

impl TestOptions {
    /// Whether the test of this name runs: if a filter names it, or all of them exclude others.
    pub fn runs(&self, name: &str) -> bool {
        let is_excluded = self.filters.iter().any(|filter| filter.exclude && filter.name == name);
        let mut includes = self.filters.iter().filter(|filter| !filter.exclude).peekable();
        !is_excluded && (includes.peek().is_none() || includes.any(|filter| filter.name == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_tests() {
        let filters = |names: &[&str]| -> Vec<TestFilter> {
            let filter = |name: &&str| match name.strip_prefix('!') {
                Some(name) => TestFilter { name: name.to_owned(), exclude: true },
                None => TestFilter { name: (*name).to_owned(), exclude: false },
            };
            names.iter().map(filter).collect()
        };
        for (names, runs) in [
            (&[][..], true),
            (&["a"], true),
            (&["b"], false),
            (&["b", "a"], true),
            (&["!a"], false),
            (&["!b"], true),
            (&["!b", "c"], false),
            (&["a", "!a"], false),
        ] {
            let options = TestOptions { filters: filters(names), ..TestOptions::default() };
            assert_eq!(options.runs("a"), runs, "{names:?}");
        }
    }

    #[test]
    fn retries_are_counted_unless_there_is_no_end_of_them() {
        let of = |retries, retry_interval| OnFailure { retries, retry_interval, ..OnFailure::default() };
        for (on_failure, failures, expected) in [
            (of(Some(0), None), 0, false),
            (of(Some(0), None), 1, true),
            (of(Some(2), None), 2, false),
            (of(Some(2), None), 3, true),
            (of(None, None), 1_000, false),
            (of(Some(0), Some(60)), 1_000, false),
        ] {
            assert_eq!(on_failure.is_exhausted(failures), expected, "{on_failure:?} {failures}");
        }
    }
}
