//! The fields that are known, and those that stand for themselves.

use flotilla_core::ignore::IgnoreRule;
use flotilla_core::unit::DriftMode;
use flotilla_yaml::Node;
use serde_json::{Map, Value};

use super::{Crds, Read, ValuesFrom};
use crate::field::{Field, Object, Wrong};
use crate::flux::kustomization::ignore_rules;
use crate::overlay;

pub(super) const KNOWN: &[&str] = &[
    "chart",
    "chartRef",
    "commonMetadata",
    "dependsOn",
    "driftDetection",
    "healthCheckExprs",
    "install",
    "interval",
    "kubeConfig",
    "maxHistory",
    "persistentClient",
    "postRenderStrategy",
    "postRenderers",
    "releaseName",
    "rollback",
    "serviceAccountName",
    "storageNamespace",
    "suspend",
    "targetNamespace",
    "test",
    "timeout",
    "uninstall",
    "upgrade",
    "values",
    "valuesFrom",
    "waitStrategy",
];

pub(super) const INSTALL: &[&str] = &[
    "crds",
    "createNamespace",
    "disableHooks",
    "disableOpenAPIValidation",
    "disableSchemaValidation",
    "disableTakeOwnership",
    "disableWait",
    "disableWaitForJobs",
    "remediation",
    "replace",
    "serverSideApply",
    "skipCRDs",
    "strategy",
    "timeout",
];

pub(super) const UPGRADE: &[&str] = &[
    "chartNameChangeStrategy",
    "cleanupOnFail",
    "crds",
    "disableHooks",
    "disableOpenAPIValidation",
    "disableSchemaValidation",
    "disableTakeOwnership",
    "disableWait",
    "disableWaitForJobs",
    "force",
    "preserveValues",
    "remediation",
    "serverSideApply",
    "strategy",
    "timeout",
];

/// The fields that only matter to a release's life in the cluster.
pub(super) fn without_effect(object: &Object<'_>, install: &Object<'_>, upgrade: &Object<'_>) -> Vec<Wrong> {
    let of_release = [
        "maxHistory",
        "persistentClient",
        "postRenderStrategy",
        "rollback",
        "storageNamespace",
        "test",
        "uninstall",
        "waitStrategy",
    ];
    let of_action = [
        "chartNameChangeStrategy",
        "cleanupOnFail",
        "disableOpenAPIValidation",
        "disableTakeOwnership",
        "disableWaitForJobs",
        "preserveValues",
        "remediation",
        "replace",
        "serverSideApply",
        "strategy",
        "timeout",
    ];
    let fields = of_release.iter().filter_map(|name| object.get(name));
    let parts = [install, upgrade].into_iter();
    let fields = fields.chain(parts.flat_map(|part| of_action.iter().filter_map(|name| part.get(name))));
    fields.map(|field| field.wrong("has no effect: the release is applied as objects")).collect()
}

pub(super) fn part<'a>(object: &Object<'a>, name: &str, known: &[&str]) -> Read<Object<'a>> {
    match object.get(name) {
        Some(field) => field.object(known),
        None => Ok(Object::empty(name)),
    }
}

/// What drift detection asks for. `disabled` asks for nothing: drift is reported, unless the cluster ignores it.
pub(super) fn drift(object: &Object<'_>) -> Read<(Option<DriftMode>, Vec<IgnoreRule>)> {
    let Some(field) = object.get("driftDetection") else { return Ok((None, Vec::new())) };
    let detection = field.object(&["ignore", "mode"])?;
    let modes =
        [("enabled", Some(DriftMode::Correct)), ("warn", Some(DriftMode::Report)), ("disabled", None)];
    let mode = detection.get("mode").map_or(Ok(None), |mode| mode.choice(&modes))?;
    Ok((mode, detection.get("ignore").map(ignore_rules).transpose()?.unwrap_or_default()))
}

/// One policy out of two: what an upgrade would do counts, and an install makes what is not there.
pub(super) fn crds(install: &Object<'_>, upgrade: &Object<'_>) -> Read<Crds> {
    let choices = [("Skip", Crds::Skip), ("Create", Crds::Create), ("CreateReplace", Crds::CreateReplace)];
    let of = |part: &Object<'_>, default| part.get("crds").map_or(Ok(default), |f| f.choice(&choices));
    let skip = install.bool("skipCRDs")? && install.get("crds").is_none();
    let at_install = if skip { Crds::Skip } else { of(install, Crds::Create)? };
    Ok(match (at_install, of(upgrade, Crds::Skip)?) {
        (_, Crds::CreateReplace) => Crds::CreateReplace,
        (Crds::Skip, Crds::Skip) => Crds::Skip,
        _ => Crds::Create,
    })
}

pub(super) fn values(field: &Field<'_>) -> Read<Map<String, Value>> {
    let json = field.node.to_json().map_err(|error| field.wrong(error.message))?;
    match json {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(field.wrong("must be a mapping")),
    }
}

pub(super) fn values_from(field: &Field<'_>) -> Read<ValuesFrom> {
    let object = field.object(&["kind", "literal", "name", "optional", "targetPath", "valuesKey"])?;
    Ok(ValuesFrom {
        secret: object.need("kind")?.choice(&[("Secret", true), ("ConfigMap", false)])?,
        name: object.need("name")?.text()?,
        key: object.text("valuesKey")?.unwrap_or_else(|| "values.yaml".to_owned()),
        target_path: object.text("targetPath")?,
        optional: object.bool("optional")?,
        literal: object.bool("literal")?,
    })
}

/// An overlay whose fields have been read once, so that what is wrong is said at its place.
pub(super) fn checked_overlay(field: &Field<'_>, known: &[&str]) -> Read<Node> {
    field.object(known)?;
    let mut read = flotilla_kustomize::FluxOverlay::default();
    for (name, field) in field.entries()? {
        overlay::read(&mut read, name, &field).unwrap_or(Ok(()))?;
    }
    Ok(field.node.clone())
}
