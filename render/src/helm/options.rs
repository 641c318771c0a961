//! The fields of a HelmRelease that matter to its life in the cluster: what is done at an install, an upgrade, a rollback, an
//! uninstall and a test, and what where one fails. Source: the CRD of `helm.toolkit.fluxcd.io/v2`; defaults are helm-controller's.

use flotilla_core::unit::release::{
    ActionOptions, ChartNameChange, OnFailure, Options, Propagation, Remedy, TestFilter, TestOptions,
    UninstallOptions, WaitStrategy,
};

use super::names::Namespace;
use crate::field::{Field, Object, Wrong};

type Read<T> = Result<T, Wrong>;

/// A release that the agent installs as Helm does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Where its records are.
    pub storage_namespace: Namespace,
    pub options: Options,
    pub post_render: PostRender,
}

/// How hooks go through post-renderers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostRender {
    /// Together with the other objects.
    #[default]
    Combined,
    /// By themselves.
    Separate,
    /// Not at all.
    NoHooks,
}

/// Revisions that are kept where a release does not say.
const HISTORY: u32 = 5;
/// More are nobody's intent; each is a Secret of up to 1 MiB.
const MOST_HISTORY: u32 = 1000;
/// Seconds from one attempt to the next where a release does not say.
const RETRY: u32 = 300;
const MOST_FILTERS: usize = 1000;

const ROLLBACK: &[&str] = &[
    "cleanupOnFail",
    "disableHooks",
    "disableWait",
    "disableWaitForJobs",
    "force",
    "recreate",
    "serverSideApply",
    "timeout",
];
const UNINSTALL: &[&str] = &["deletionPropagation", "disableHooks", "disableWait", "keepHistory", "timeout"];
const TEST: &[&str] = &["enable", "filters", "ignoreFailures", "timeout"];

/// Reads the options of a release. `timeout` is the release's own, in seconds; `home` the namespace of its object. What has no
/// effect is added to `notices`.
pub(super) fn read(
    object: &Object<'_>,
    (install, upgrade): (&Object<'_>, &Object<'_>),
    timeout: u32,
    home: Namespace,
    notices: &mut Vec<Wrong>,
) -> Read<Installed> {
    if let Some(field) = upgrade.get("preserveValues")
        && field.bool()?
    {
        return Err(field.wrong(
            "is not supported: the values of a release are those that Git says; put them there, or set it to false",
        ));
    }
    let part = |name: &str, known: &[&str]| match object.get(name) {
        Some(field) => field.object(known),
        None => Ok(Object::empty(name)),
    };
    let (rollback, uninstall, test) =
        (part("rollback", ROLLBACK)?, part("uninstall", UNINSTALL)?, part("test", TEST)?);
    let applied = "has no effect: objects are applied server-side, and the API server checks them";
    for (part, name, why) in [
        (object, "persistentClient", "has no effect: the agent has one client for all"),
        (install, "serverSideApply", applied),
        (upgrade, "serverSideApply", applied),
        (&rollback, "serverSideApply", applied),
        (install, "disableOpenAPIValidation", applied),
        (upgrade, "disableOpenAPIValidation", applied),
        (&rollback, "recreate", "has no effect, as in Helm since version 3"),
    ] {
        notices.extend(part.get(name).map(|field| field.wrong(why)));
    }
    let action = |part: &Object<'_>| -> Read<ActionOptions> {
        Ok(ActionOptions {
            timeout: part.seconds("timeout")?.unwrap_or(timeout),
            disable_hooks: part.bool("disableHooks")?,
            disable_wait: part.bool("disableWait")?,
            disable_wait_for_jobs: part.bool("disableWaitForJobs")?,
            disable_take_ownership: part.bool("disableTakeOwnership")?,
            cleanup_on_fail: part.bool("cleanupOnFail")?,
            force: part.bool("force")?,
        })
    };
    let ignore_failures = test.bool("ignoreFailures")?;
    let options = Options {
        install: action(install)?,
        on_install_failure: on_failure(install, ignore_failures, false)?,
        upgrade: action(upgrade)?,
        on_upgrade_failure: on_failure(upgrade, ignore_failures, true)?,
        rollback: action(&rollback)?,
        uninstall: UninstallOptions {
            action: action(&uninstall)?,
            keep_history: uninstall.bool("keepHistory")?,
            propagation: uninstall.choice(
                "deletionPropagation",
                &[
                    ("background", Propagation::Background),
                    ("foreground", Propagation::Foreground),
                    ("orphan", Propagation::Orphan),
                ],
            )?,
        },
        test: TestOptions {
            enable: test.bool("enable")?,
            action: action(&test)?,
            ignore_failures,
            filters: match test.get("filters") {
                Some(field) => field.list(MOST_FILTERS)?.iter().map(filter).collect::<Read<_>>()?,
                None => Vec::new(),
            },
        },
        max_history: object.number("maxHistory", 0..=MOST_HISTORY)?.unwrap_or(HISTORY),
        replace: install.bool("replace")?,
        chart_name_change: upgrade.choice(
            "chartNameChangeStrategy",
            &[("Reinstall", ChartNameChange::Reinstall), ("InPlaceUpdate", ChartNameChange::InPlaceUpdate)],
        )?,
        wait: match object.get("waitStrategy") {
            Some(field) => field
                .object(&["name"])?
                .choice("name", &[("poller", WaitStrategy::Poller), ("legacy", WaitStrategy::Legacy)])?,
            None => WaitStrategy::default(),
        },
    };
    let storage_namespace = match object.get("storageNamespace") {
        Some(field) => field.so(field.text()?.parse::<Namespace>())?,
        None => home,
    };
    let strategies = [
        ("combined", PostRender::Combined),
        ("separate", PostRender::Separate),
        ("nohooks", PostRender::NoHooks),
    ];
    let post_render = object.choice("postRenderStrategy", &strategies)?;
    Ok(Installed { storage_namespace, options, post_render })
}

fn filter(field: &Field<'_>) -> Read<TestFilter> {
    let filter = field.object(&["exclude", "name"])?;
    Ok(TestFilter { name: filter.need("name")?.name(253)?, exclude: filter.bool("exclude")? })
}

/// What follows a failure. `is_upgrade`: one that is tried again is put right at last too, unless it says otherwise, and goes back to
/// what ran; an install has nothing to go back to.
fn on_failure(part: &Object<'_>, ignore_failures: bool, is_upgrade: bool) -> Read<OnFailure> {
    let mut known = vec!["ignoreTestFailures", "remediateLastFailure", "retries"];
    known.extend(is_upgrade.then_some("strategy"));
    let object = match part.get("remediation") {
        Some(field) => field.object(&known)?,
        None => Object::empty("remediation"),
    };
    let retries = match object.get("retries") {
        Some(field) => {
            let number = field.node.as_i64().ok_or_else(|| field.wrong("must be a whole number"))?;
            // Below zero: without an end.
            if number < 0 { None } else { Some(u32::try_from(number).unwrap_or(u32::MAX)) }
        }
        None => Some(0),
    };
    let remedies = [("rollback", Remedy::Rollback), ("uninstall", Remedy::Uninstall)];
    let remedy = object.get("strategy").map(|field| field.choice(&remedies)).transpose()?;
    // As helm-controller: retries without an end never come to a last one.
    let is_remedied = is_upgrade && retries.is_some_and(|retries| retries > 0);
    Ok(OnFailure {
        retries,
        remediate_last_failure: object.get("remediateLastFailure").map_or(Ok(is_remedied), Field::bool)?,
        remedy: remedy.unwrap_or(if is_upgrade { Remedy::Rollback } else { Remedy::Uninstall }),
        retry_interval: retry(part)?,
        ignore_test_failures: object.get("ignoreTestFailures").map_or(Ok(ignore_failures), Field::bool)?,
    })
}

/// `RetryOnFailure`, by its interval in seconds.
fn retry(part: &Object<'_>) -> Read<Option<u32>> {
    let Some(field) = part.get("strategy") else { return Ok(None) };
    let strategy = field.object(&["name", "retryInterval"])?;
    let retries =
        strategy.need("name")?.choice(&[("RemediateOnFailure", false), ("RetryOnFailure", true)])?;
    match (retries, strategy.get("retryInterval")) {
        (true, Some(field)) => field.seconds().map(Some),
        (true, None) => Ok(Some(RETRY)),
        (false, Some(field)) => Err(field.wrong("is only for the strategy RetryOnFailure")),
        (false, None) => Ok(None),
    }
}
