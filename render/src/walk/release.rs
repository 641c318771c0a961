//! The releases of a cluster: planned from what its units render, rendered from what helm gave.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::question::Reply;
use flotilla_core::report::Problem;
use flotilla_core::template::{ValuesKind, ValuesRef};
use flotilla_core::unit::{Render, ServiceAccount};
use flotilla_core::{Digest, Object, UnitId};
use flotilla_kustomize::files::ReadError;
use serde_json::Value;

use super::asking::{Asker, unknown};
use super::{Pending, Walk, caught};
use crate::ask::Told;
use crate::cache::{Outcome, Telling};
use crate::config;
use crate::content::{Content, Definition};
use crate::helm::names::{ApiVersion, KubeVersion};
use crate::helm::release::{ABSENT, ValuesFrom};
use crate::helm::{self, Asked, Capabilities, Config, Owner, Planned, TemplateRequest};
use crate::source::{Artifact, Unavailable, fleet_source};
use crate::values::{applied, is_loose};

impl Walk<'_> {
    /// Renders a release from what helm has given, or asks for it.
    pub(super) fn release(
        &mut self,
        pending: Pending,
        capabilities: &Result<Known, String>,
    ) -> Result<(), ReadError> {
        let Known { capabilities, unknown } = match capabilities {
            Ok(known) => known,
            Err(message) => {
                self.open();
                let problem = self.place(&pending.definition, message.clone());
                self.held(pending, vec![problem]);
                return Ok(());
            }
        };
        let Some((mut pending, artifact)) = self.artifact(pending) else { return Ok(()) };
        let Some(release) = pending.definition.release.clone() else { return Ok(()) };
        if pending.definition.source == fleet_source() {
            self.inputs.recorder.inspect(|recorder| recorder.reads_all());
        }
        let id = pending.definition.id.clone();
        let owner = Owner { cluster: self.cluster.name.clone(), unit: id.clone() };
        let asker = self.asker(&pending);
        let config = |from: &ValuesFrom| {
            // What the author says of it is not asked.
            let is_absent = from.optional && release.absent.contains(&helm::describe(from));
            self.config(from, &id.namespace, (!is_absent).then_some(&asker))
        };
        let what = || id.to_string();
        let problem = |reason: String| self.place(&pending.definition, reason);
        let telling = Telling { attempts: self.inputs.attempts, what: &what, problem: &problem };
        let plan = || helm::plan(&release, &artifact, capabilities, owner, &config);
        let planned = match telling.of(plan_of(&pending.definition, &artifact), || caught(plan)) {
            Ok(Ok(planned)) => planned,
            Ok(Err(message)) => {
                self.open();
                let problem = self.place(&pending.definition, message);
                self.held(pending, vec![problem]);
                return Ok(());
            }
            Err(problem) => {
                self.open();
                self.held(pending, vec![problem]);
                return Ok(());
            }
        };
        let outcome = match planned {
            Err(error) => Err(error),
            Ok(Planned::Missing { what, optional }) => {
                let message = not_here(&what, optional);
                let problem = self.place(&pending.definition, message).field("spec.valuesFrom");
                Ok(Err([problem].into()))
            }
            Ok(Planned::Wrong(what, field)) => {
                Ok(Err([self.place(&pending.definition, what).field(field)].into()))
            }
            Ok(Planned::Request(mut request)) => {
                let key = self.key(&mut request, &pending);
                let content = || {
                    helm::content(self.inputs.cache, &release, &request, key, self.inputs.renders, telling)
                };
                match caught(content).unwrap_or_else(|message| Some(Err(message))) {
                    Some(Ok((content, outcome))) => {
                        Arc::make_mut(&mut pending.definition).spec.render = Some(Render { key, content });
                        Ok(self.at(&pending, outcome))
                    }
                    Some(Err(reason)) => {
                        let is_pending = self.inputs.renders.is_pending(key);
                        if is_pending {
                            self.is_with_helm(&id, pending.parent.as_ref());
                        }
                        Ok(Err([self.place(&pending.definition, reason).waiting(is_pending)].into()))
                    }
                    None => {
                        let (message, waiting) = match (self.waits_for(&pending), unknown) {
                            (Some(other), _) => {
                                (format!("comes after {other}, which is not rendered yet"), true)
                            }
                            (None, Some(unknown)) => (unknown.clone(), false),
                            (None, None) => {
                                let unit = pending.definition.id.clone();
                                self.requests.insert(key, Asked { unit, request: *request });
                                ("helm has not rendered the release yet".to_owned(), true)
                            }
                        };
                        self.is_with_helm(&id, pending.parent.as_ref());
                        Ok(Err([self.place(&pending.definition, message).waiting(waiting)].into()))
                    }
                }
            }
            Ok(Planned::OfFlux(chart)) => {
                let message =
                    format!("the chart {chart} is Flux's own and is not applied: its work is done here");
                let notices = vec![self.place(&pending.definition, message).as_notice()];
                Ok(Ok(Content { notices, ..Content::default() }.into()))
            }
        };
        if !matches!(outcome, Ok(Ok(_))) {
            self.open();
        }
        self.built(pending, &artifact, outcome)
    }

    /// Under which key the answer is kept. What a unit runs stays what it is, though the key would be another one now.
    fn key(&self, request: &mut TemplateRequest, pending: &Pending) -> Digest {
        let runs = |key: Digest| self.inputs.renders.runs(&pending.definition.id, key);
        let (of_all, own) = (request.key_of_all(), request.key());
        if runs(of_all) {
            return of_all;
        }
        if runs(own) {
            return own;
        }
        request.without = self.missing_before(pending);
        request.key()
    }

    /// Problems without a place get that of the release.
    fn at(&self, pending: &Pending, outcome: Outcome) -> Outcome {
        let Definition { file, line, .. } = &*pending.definition;
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
    fn config(&self, from: &ValuesFrom, namespace: &str, asker: Option<&Asker>) -> Config {
        let ValuesFrom { secret, name, .. } = from;
        let (kind, values) = match secret {
            true => ("Secret", ValuesKind::Secret),
            false => ("ConfigMap", ValuesKind::ConfigMap),
        };
        let reference = ValuesRef { kind: values, namespace: namespace.to_owned(), name: name.clone() };
        if let Some(recorder) = self.inputs.recorder {
            recorder.looked_for(&reference);
            // What those last put out stands in, which is another thing the next time.
            if !self.waiting.is_empty() {
                recorder.is_one_piece();
            }
        }
        let told = || asker.map_or(Told::Nobody, |asker| self.ask(&reference, asker));
        let is_it = |object: &&Object| {
            let id = object.id();
            id.is("", kind) && id.name == *name && id.namespace == namespace
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
            Some(object) if is_loose(&object) => return loose(&object, told),
            Some(object) => return Config::Found(config::data(&object.value())),
            None => {}
        }
        let stored = match secret {
            true => self.inputs.sources.secret(namespace, name),
            false => Ok(None),
        };
        match stored {
            Ok(None) => of_cluster(&told()),
            Err(Unavailable { why, .. }) => Config::Unknown(why),
            Ok(Some(data)) => {
                Config::Found(data.into_iter().map(|(key, value)| (key, config::text(value))).collect())
            }
        }
    }

    /// What the cluster's Kubernetes is, the APIs that it serves (those that all have, where nobody can be asked), and those
    /// that its own units bring: of units that the fleet itself has, and of those that are applied as `account`, so that
    /// what a tenant has in Git decides nothing for another's charts.
    ///
    /// # Errors
    /// Why nothing is known.
    pub(super) fn capabilities(&self, account: Option<&ServiceAccount>) -> Result<Known, String> {
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
        // What a unit that is held put out when it last could is in the cluster.
        let contents = units.filter_map(|(id, unit)| match &unit.unit {
            Some(unit) => Some(unit.content.clone()),
            None => (self.inputs.last_good)(id),
        });
        let of_units = contents.flat_map(|content| {
            let is_definition =
                |object: &&Object| object.id().is("apiextensions.k8s.io", "CustomResourceDefinition");
            let definitions = content.objects.iter().filter(is_definition);
            definitions.flat_map(|object| served(&object.value())).collect::<Vec<_>>()
        });
        let of_units = of_units.take(MAX_APIS);
        let told = self.ask_apis();
        let not_known = |why: &str| Some(format!("the APIs that the cluster serves are not known: {why}"));
        let mut unknown = None;
        let of_cluster: Vec<ApiVersion> = match &told {
            Told::Nobody => helm::builtin::kinds().collect(),
            Told::NotYet => {
                unknown = not_known("its agent has not reported them yet");
                Vec::new()
            }
            Told::Reply(reply) => match &**reply {
                // A name that no chart could ask for is none.
                Reply::Apis(apis) => apis.names().filter_map(|name| name.parse().ok()).collect(),
                Reply::Refused(why) | Reply::Failed(why) => {
                    unknown = not_known(why);
                    Vec::new()
                }
                Reply::Absent | Reply::Data(_) | Reply::Keys(_) | Reply::Nodes(_) => {
                    unknown = not_known("its agent gives another answer than was asked for");
                    Vec::new()
                }
            },
        };
        let mut api_versions: Vec<ApiVersion> = of_units.chain(of_cluster).collect();
        api_versions.sort();
        api_versions.dedup();
        Ok(Known { capabilities: Capabilities { kube_version, api_versions }, unknown })
    }
}

/// What charts are told of the cluster.
pub(super) struct Known {
    capabilities: Capabilities,
    /// Why the APIs are not known. A release that was rendered before needs them no more.
    unknown: Option<String>,
}

/// What the agent told, as values.
fn of_cluster(told: &Told) -> Config {
    match told {
        Told::Nobody => Config::NotHere,
        Told::NotYet => Config::Unknown(unknown(told).unwrap_or_default()),
        Told::Reply(reply) => match &**reply {
            Reply::Absent => Config::Absent,
            Reply::Data(data) => Config::Found(taken(data)),
            Reply::Keys(keys) => Config::Keys(keys.clone()),
            Reply::Apis(_) | Reply::Nodes(_) | Reply::Refused(_) | Reply::Failed(_) => {
                Config::Unknown(unknown(told).unwrap_or_default())
            }
        },
    }
}

/// What becomes in the cluster of an object that a unit puts out.
fn loose(own: &Object, told: impl FnOnce() -> Told) -> Config {
    let only_there = || "is completed or changed in the cluster, and only known there".to_owned();
    if own.id().kind == "Secret" {
        return Config::Unknown(only_there());
    }
    let there = match of_cluster(&told()) {
        Config::Found(there) => Some(there),
        Config::Absent => None,
        Config::Unknown(why) => return Config::Unknown(format!("{}: {why}", only_there())),
        Config::NotHere | Config::Keys(_) => return Config::Unknown(only_there()),
    };
    let own_data = if own.is_template() { config::Data::new() } else { config::data(&own.value()) };
    applied(own, own_data, there).map_or_else(Config::Unknown, Config::Found)
}

fn taken(data: &BTreeMap<String, String>) -> config::Data {
    data.iter().map(|(key, value)| (key.clone(), Ok(value.clone()))).collect()
}

/// What planning a release is a function of, as far as that is in its definition and its chart.
fn plan_of(definition: &Definition, artifact: &Artifact) -> Digest {
    let object = definition.object.as_ref().map_or(&b""[..], |object| object.body());
    // What cannot be read is found by the plan.
    let chart = artifact.files.entry(&definition.path).ok().flatten().map(|entry| entry.id.0);
    let chart = chart.as_ref().map_or(&b""[..], |id| id.as_slice());
    Digest::of_parts([b"release", object, artifact.origin.as_bytes(), chart])
}

/// Why values that are in neither Git nor the hub hold a release. `what` is `Secret/NAME` or `ConfigMap/NAME`.
fn not_here(what: &str, optional: bool) -> String {
    let keep = helm::keep(what.starts_with("Secret"));
    let absent = match optional {
        true => format!(", or say by the annotation {ABSENT}: {what} that no cluster has it"),
        false => String::new(),
    };
    format!(
        "{what} is in nothing that is rendered for this cluster; whether the cluster has it, and what is in it, is not \
         known here{keep}{absent}"
    )
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
