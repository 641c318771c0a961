//! The variables of a unit: the cluster's own, those of ConfigMaps, and those that its definition sets.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::UnitKind;
use flotilla_core::question::Reply;
use flotilla_core::report::Problem;
use flotilla_core::template::{Found, Layer, ValuesKind, ValuesRef, Variables};

use super::Walk;
use super::asking::{Asker, unknown};
use crate::ask::Told;
use crate::content::{Definition, PostBuild, SubstituteFrom};
use crate::encrypted::is_encrypted_value;
use crate::substitute::UnitVariables;
use crate::values::ConfigMaps;

/// Why variables cannot be put together.
pub(super) enum NoVariables {
    NotYet,
    Wrong(Problem),
}

impl Walk<'_> {
    /// Whether a variable that is not set and has no default is an error.
    pub(super) fn is_strict(&self) -> bool {
        self.cluster.root.strict_substitution.or(self.lockdown.strict).unwrap_or(self.inputs.strict)
    }

    /// The first ConfigMap that a unit takes variables from and that nothing has put out yet.
    pub(super) fn missing_values<'d>(&self, definition: &'d Definition) -> Option<&'d SubstituteFrom> {
        let namespace = definition.id.home();
        let from = definition.post_build.iter().flat_map(|post_build| &post_build.from);
        let mut maps = from.filter(|from| from.kind == ValuesKind::ConfigMap);
        maps.find(|from| self.values.get(namespace, &from.name).is_none())
    }

    /// The variables that are put into a unit's objects, if any are.
    pub(super) fn variables(
        &self,
        definition: &Definition,
        maps: &ConfigMaps,
        is_final: bool,
        asker: &Asker,
    ) -> Result<Option<UnitVariables>, NoVariables> {
        let root = definition.id.kind == UnitKind::Root;
        let nothing = PostBuild::default();
        let post_build = match &definition.post_build {
            Some(post_build) => post_build,
            None if root && self.cluster.root.substitute => &nothing,
            None => return Ok(None),
        };
        let wrong = |field: &str, message: String| {
            NoVariables::Wrong(self.place(definition, message).field(format!("spec.postBuild.{field}")))
        };
        let namespace = definition.id.home();
        let mut variables =
            Variables { layers: Vec::new(), always: post_build.always, lenient: !self.is_strict() };
        variables.add(self.cluster.root.variables.clone()).map_err(|message| wrong("substitute", message))?;
        for SubstituteFrom { kind, name, optional } in &post_build.from {
            let known = if *kind == ValuesKind::ConfigMap { maps.get(namespace, name) } else { None };
            match known {
                Some(data) => {
                    let at = |message: String| {
                        wrong("substituteFrom", format!("ConfigMap {namespace}/{name}: {message}"))
                    };
                    if data.values().any(|value| is_encrypted_value(value)) {
                        return Err(at("is encrypted by SOPS, which is not supported yet".to_owned()));
                    }
                    variables.add(data).map_err(at)?;
                }
                None if *kind == ValuesKind::ConfigMap && !is_final => return Err(NoVariables::NotYet),
                None => {
                    let reference =
                        ValuesRef { kind: *kind, namespace: namespace.to_owned(), name: name.clone() };
                    variables.layers.push(Layer::From { reference, optional: *optional });
                }
            }
        }
        if post_build.substitute.values().any(|value| is_encrypted_value(value)) {
            let message = "a value is encrypted by SOPS, which is not supported yet";
            return Err(wrong("substitute", message.to_owned()));
        }
        variables.add(post_build.substitute.clone()).map_err(|message| wrong("substitute", message))?;
        Ok(Some(self.told(variables, maps, asker)))
    }

    /// Adds what the agent tells of the ConfigMaps that only the cluster has as a whole.
    fn told(&self, open: Variables, maps: &ConfigMaps, asker: &Asker) -> UnitVariables {
        let mut variables = UnitVariables { told: open.clone(), open, unknown: BTreeMap::new() };
        let maps_of_cluster = variables.open.needs().filter(|at| at.kind == ValuesKind::ConfigMap);
        for reference in maps_of_cluster.cloned().collect::<BTreeSet<ValuesRef>>() {
            let told = self.ask(&reference, asker);
            let there = match &told {
                Told::Reply(reply) => match &**reply {
                    Reply::Data(data) => Some(data.clone()),
                    _ => None,
                },
                Told::Nobody | Told::NotYet => None,
            };
            let data = match unknown(&told) {
                Some(why) => Err(why),
                None => maps.applied(&reference.namespace, &reference.name, there),
            };
            let taken = data.and_then(|data| {
                if data.iter().flat_map(|data| data.values()).any(|value| is_encrypted_value(value)) {
                    return Err("is encrypted by SOPS, which is not supported yet".to_owned());
                }
                let found = Found::from([(reference.clone(), data)]);
                variables.told.with(&found).map_err(|error| error.to_string())
            });
            match taken {
                Ok(told) => variables.told = told,
                Err(why) => drop(variables.unknown.insert(reference.to_string(), why)),
            }
        }
        variables
    }
}
