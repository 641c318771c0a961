//! The object as a whole: what it defines, and what it has rendered.

use std::collections::BTreeSet;

use flotilla_core::UnitId;
use flotilla_core::source::Source;
use flotilla_core::unit::{DriftMode, UnitSpec};
use flotilla_yaml::Node;

use super::fields::{
    INSTALL, KNOWN, UPGRADE, checked_overlay, crds, drift, part, values, values_from, without_effect,
};
use super::{Read, Release};
use crate::content::Definition;
use crate::field::{Field, Object, Wrong};
use crate::flux::kustomization::{Dependencies, account, dependencies, health_exprs};
use crate::helm::names::{Namespace, ReleaseName};
use crate::helm::options;

pub(super) struct Reader<'a> {
    pub(super) id: &'a UnitId,
    pub(super) again: Option<String>,
    pub(super) absent: BTreeSet<String>,
    /// Of a version before v2, whose fields are read as they were.
    pub(super) is_old: bool,
    /// What the annotation [`RELEASE`] says.
    pub(super) installs: bool,
    pub(super) notices: Vec<Wrong>,
}

impl Reader<'_> {
    pub(super) fn release(
        &mut self,
        spec: &Field<'_>,
        at: &(String, u32),
    ) -> Read<(Definition, Option<Source>)> {
        let object = spec.object(KNOWN)?;
        if let Some(field) = object.get("kubeConfig") {
            return Err(field.wrong("is not supported: each cluster has an agent of its own"));
        }
        let (install, upgrade) = (part(&object, "install", INSTALL)?, part(&object, "upgrade", UPGRADE)?);
        let interval = object.need("interval")?.seconds()?;
        let timeout = object.get("timeout").map_or(Ok(300), Field::seconds)?;
        let either = |name: &str| -> Read<bool> { Ok(install.bool(name)? || upgrade.bool(name)?) };
        let both = |name: &str| -> Read<bool> { Ok(install.bool(name)? && upgrade.bool(name)?) };
        let installed = match self.installs {
            true => {
                let home = object.field.so(self.id.namespace.parse::<Namespace>())?;
                let parts = (&install, &upgrade);
                Some(options::read(&object, parts, timeout, home, &mut self.notices)?)
            }
            false => {
                self.notices.extend(without_effect(&object, &install, &upgrade));
                None
            }
        };
        let (source, chart, implied) = self.chart(&object, interval)?;
        let target = object.get("targetNamespace");
        let namespace = match &target {
            Some(target) => target.so(target.text()?.parse::<Namespace>())?,
            None => object.field.so(self.id.namespace.parse::<Namespace>())?,
        };
        let mut post_renderers = Vec::new();
        for renderer in object.get("postRenderers").map(Field::items).transpose()?.unwrap_or_default() {
            if let Some(kustomize) = renderer.object(&["kustomize"])?.get("kustomize") {
                let old: &[&str] = &["patches", "images", "patchesStrategicMerge", "patchesJson6902"];
                let known = if self.is_old { old } else { &old[..2] };
                post_renderers.push(checked_overlay(kustomize, known)?);
            }
        }
        if let Some(common) = object.get("commonMetadata") {
            let mut only = Node::map();
            if let Some(map) = only.as_map_mut() {
                map.insert("commonMetadata", common.node.clone());
            }
            post_renderers.push(checked_overlay(&Field::new(&only, "spec"), &["commonMetadata"])?);
        }
        let release = Release {
            name: self.name(&object, target.is_some().then_some(&namespace))?,
            create_namespace: self.create_namespace(&install, target.is_some())?,
            namespace,
            chart: chart.path,
            values_files: chart.values_files,
            ignore_missing_values_files: chart.ignore_missing,
            values_from: object
                .get("valuesFrom")
                .map(Field::items)
                .transpose()?
                .unwrap_or_default()
                .iter()
                .map(values_from)
                .collect::<Read<_>>()?,
            absent: self.absent.clone(),
            values: object.get("values").map(values).transpose()?.unwrap_or_default(),
            from_secrets: false,
            crds: crds(&install, &upgrade)?,
            no_hooks: both("disableHooks")?,
            skip_schema: either("disableSchemaValidation")?,
            again: self.again.clone(),
            post_renderers,
            installed,
        };
        let (drift, ignore) = drift(&object)?;
        let (depends_on, ready_exprs) = self.depends_on(&object)?;
        let health_check_exprs = object.get("healthCheckExprs").map(health_exprs).transpose()?;
        let spec = UnitSpec {
            depends_on,
            ready_exprs,
            health_check_exprs: health_check_exprs.unwrap_or_default(),
            prune: true,
            wait: !both("disableWait")?,
            force: upgrade.bool("force")?,
            suspend: object.bool("suspend")?,
            timeout,
            interval,
            drift: DriftMode::Report,
            ignore,
            ..UnitSpec::default()
        };
        let definition = Definition {
            id: self.id.clone(),
            spec,
            drift,
            source,
            path: release.chart.clone(),
            overlay: Node::map(),
            post_build: None,
            release: Some(release.into()),
            service_account: object.get("serviceAccountName").map_or(Ok(None), account)?,
            namespaces: BTreeSet::new(),
            file: at.0.clone(),
            line: at.1,
            object: None,
        };
        Ok((definition, implied))
    }

    /// As helm-controller names a release whose object does not. A name that the object gives is never shortened: the
    /// API server takes none that is too long.
    fn name(&self, object: &Object<'_>, target: Option<&Namespace>) -> Read<ReleaseName> {
        if let Some(field) = object.get("releaseName") {
            return field.so(field.text()?.parse());
        }
        let name = match target {
            Some(target) => format!("{target}-{}", self.id.name),
            None => self.id.name.clone(),
        };
        let named = ReleaseName::shortened(&name);
        named.map_err(|error| object.field.wrong(format!("{error}; or set spec.releaseName")))
    }

    /// As helm-controller: without `targetNamespace` the release goes where its own object already is.
    fn create_namespace(&mut self, install: &Object<'_>, is_elsewhere: bool) -> Read<bool> {
        let create = install.bool("createNamespace")?;
        if let (true, false, Some(field)) = (create, is_elsewhere, install.get("createNamespace")) {
            self.notices.push(field.wrong("has no effect without targetNamespace"));
        }
        Ok(create && is_elsewhere)
    }

    fn depends_on(&self, object: &Object<'_>) -> Read<Dependencies> {
        let Some(field) = object.get("dependsOn") else { return Ok(Dependencies::default()) };
        dependencies(field, &self.id.namespace, UnitId::helm_release)
    }
}
