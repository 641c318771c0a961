//! How a release is installed, upgraded, rolled back, tested and uninstalled: what a HelmRelease of Flux says of it, with
//! helm-controller's defaults.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// helm-controller's default for an action.
const TIMEOUT: u32 = 300;
/// helm-controller's default.
const MAX_HISTORY: u32 = 5;

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
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TestOptions {
    pub enable: bool,
    pub action: ActionOptions,
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
        }
    }
}

impl Default for ActionOptions {
    fn default() -> Self {
        Self { timeout: TIMEOUT, disable_hooks: false, disable_wait: false, disable_wait_for_jobs: false }
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
