//! The releases of a cluster: planned from what its units render, rendered from what helm gave.

use flotilla_core::report::Problem;
use flotilla_core::unit::{Render, ServiceAccount};
use flotilla_core::{Object, UnitId};
use flotilla_kustomize::files::ReadError;
use serde_json::Value;

use super::{Pending, Walk, caught};
use crate::cache::Outcome;
use crate::config;
use crate::content::Definition;
use crate::helm::names::{ApiVersion, KubeVersion};
use crate::helm::{self, Asked, Capabilities, Config, Planned};
use crate::source::Unavailable;
use crate::values::is_loose;

impl Walk<'_> {
    /// Renders a release from what helm has given, or asks for it.
    pub(super) fn release(
        &mut self,
        pending: Pending,
        capabilities: &Result<Capabilities, String>,
    ) -> Result<(), ReadError> {
        let capabilities = match capabilities {
            Ok(capabilities) => capabilities,
            Err(message) => {
                let problem = self.place(&pending.definition, message.clone());
                self.held(pending, vec![problem]);
                return Ok(());
            }
        };
        let Some((mut pending, artifact)) = self.artifact(pending) else { return Ok(()) };
        let mut notices = Vec::new();
        let Some(release) = pending.definition.release.clone() else { return Ok(()) };
        let namespace = pending.definition.id.namespace.clone();
        let config = |secret: bool, name: &str| self.config(secret, &namespace, name);
        let planned = match caught(|| helm::plan(&release, &artifact, capabilities, &config)) {
            Ok(planned) => planned,
            Err(message) => {
                let problem = self.place(&pending.definition, message);
                self.held(pending, vec![problem]);
                return Ok(());
            }
        };
        let outcome = match planned {
            Err(error) => Err(error),
            Ok(Planned::Missing(what)) => {
                let keep = if what.starts_with("Secret") {
                    "; `flotilla secret create generic` keeps one"
                } else {
                    ""
                };
                let message = format!(
                    "{what} is in nothing that is rendered for this cluster; values that only the cluster has are \
                     not known here{keep}"
                );
                let problem = self.place(&pending.definition, message).field("spec.valuesFrom");
                Ok(Err([problem].into()))
            }
            Ok(Planned::Wrong(what, field)) => {
                Ok(Err([self.place(&pending.definition, what).field(field)].into()))
            }
            Ok(Planned::Request(request, without)) => {
                let key = request.key();
                notices = without;
                let content = || helm::content(self.inputs.cache, &release, key, self.inputs.renders);
                match caught(content).unwrap_or_else(|message| Some(Err(message))) {
                    Some(Ok((content, outcome))) => {
                        pending.definition.spec.render = Some(Render { key, content });
                        Ok(self.at(&pending, outcome))
                    }
                    Some(Err(reason)) => Ok(Err([self.place(&pending.definition, reason)].into())),
                    None => {
                        let message = match self.waits_for(&pending) {
                            Some(other) => format!("comes after {other}, which is not rendered yet"),
                            None => {
                                let unit = pending.definition.id.clone();
                                self.requests.insert(key, Asked { unit, request: *request });
                                "helm has not rendered the release yet".to_owned()
                            }
                        };
                        Ok(Err([self.place(&pending.definition, message)].into()))
                    }
                }
            }
        };
        let definition = pending.definition.clone();
        self.built(pending, &artifact, outcome)?;
        let place = |what: String| {
            let message =
                format!("{what} is optional and not known here; if the cluster has it, it does not count");
            self.place(&definition, message).field("spec.valuesFrom").as_notice()
        };
        let notices: Vec<Problem> = notices.into_iter().map(place).collect();
        if let Some(unit) = self.units.get_mut(&definition.id) {
            unit.problems.extend(notices);
        }
        Ok(())
    }

    /// Problems without a place get that of the release.
    fn at(&self, pending: &Pending, outcome: Outcome) -> Outcome {
        let Definition { file, line, .. } = &pending.definition;
        outcome.map_err(|problems| {
            let place = |problem: &Problem| {
                if problem.file.is_empty() {
                    Problem { file: file.clone(), line: *line, ..problem.clone() }
                } else {
                    problem.clone()
                }
            };
            problems.iter().map(place).collect()
        })
    }

    /// A ConfigMap, or a Secret, that a unit of this cluster renders, or rendered when it last could; else a Secret that
    /// the hub keeps.
    fn config(&self, secret: bool, namespace: &str, name: &str) -> Config {
        let kind = if secret { "Secret" } else { "ConfigMap" };
        let is_it = |object: &&Object| {
            let id = object.id();
            id.is("", kind) && id.name == name && id.namespace == namespace
        };
        // What a unit puts out that it may not have is another one's, or nobody's.
        let may_have =
            |unit: &UnitId| self.units.get(unit).is_some_and(|unit| unit.authority.covers(namespace));
        let settled =
            self.contents.iter().filter(|(unit, _)| may_have(unit)).map(|(_, content)| content.clone());
        let waiting = self.waiting.iter().filter(|(pending, _)| self.authority(pending).covers(namespace));
        let waiting = waiting.filter_map(|(pending, _)| (self.inputs.last_good)(&pending.definition.id));
        let contents = settled.chain(waiting);
        let object = contents.filter_map(|content| content.objects.iter().find(is_it).cloned()).next();
        match object {
            Some(object) if is_loose(&object) => {
                return Config::Unknown(
                    "is completed or changed in the cluster, and only known there".to_owned(),
                );
            }
            Some(object) => return Config::Found(config::data(&object.value())),
            None => {}
        }
        if !secret {
            return Config::Absent;
        }
        match self.inputs.sources.secret(namespace, name) {
            Ok(None) => Config::Absent,
            Err(Unavailable(why)) => Config::Unknown(why),
            Ok(Some(data)) => {
                let text = |(key, value)| Some((key, String::from_utf8(value).ok()?));
                Config::Found(data.into_iter().filter_map(text).collect())
            }
        }
    }

    /// What the cluster's Kubernetes is, the APIs that all have, and those that its own units bring: of units that the
    /// fleet itself has, and of those that are applied as `account`, so that no tenant decides what another's charts
    /// find.
    ///
    /// # Errors
    /// Why that is not known.
    pub(super) fn capabilities(&self, account: Option<&ServiceAccount>) -> Result<Capabilities, String> {
        let Some(version) = self.inputs.kube_version else {
            return Err(
                "the version of the cluster's Kubernetes is not known until its agent connects".to_owned()
            );
        };
        let kube_version = version.parse::<KubeVersion>().map_err(|error| {
            format!("the cluster's agent reports a Kubernetes version that cannot be used: {error}")
        })?;
        let units = self.units.iter().filter(|(id, unit)| {
            let own = self.accounts.get(*id);
            unit.authority.is_fleet() || own == account
        });
        let contents = units.filter_map(|(_, unit)| unit.unit.as_ref()).map(|unit| &unit.content);
        let definitions = contents.flat_map(|content| &content.objects).filter(|object| {
            let id = object.id();
            (id.group.as_str(), id.kind.as_str()) == ("apiextensions.k8s.io", "CustomResourceDefinition")
        });
        let of_units = definitions.flat_map(|object| served(&object.value())).take(MAX_APIS);
        let mut api_versions: Vec<ApiVersion> = of_units.chain(helm::builtin::kinds()).collect();
        api_versions.sort();
        api_versions.dedup();
        Ok(Capabilities { kube_version, api_versions })
    }
}

/// So many APIs fit into helm's argument list; no cluster has as many.
const MAX_APIS: usize = 5000;

/// The APIs that a CustomResourceDefinition serves, as templates ask for them; what is none is left out.
fn served(definition: &Value) -> Vec<ApiVersion> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (group, kind) = (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["kind"]));
    let (Some(group), Some(kind)) = (group, kind) else { return Vec::new() };
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let served =
        versions.filter(|version| version["served"] != false).filter_map(|version| text(&version["name"]));
    let named =
        served.flat_map(|version| [format!("{group}/{version}"), format!("{group}/{version}/{kind}")]);
    named.filter_map(|api| api.parse().ok()).collect()
}
