//! The variables of a unit: the cluster's own, those of ConfigMaps and Secrets, and those that its definition sets.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_core::UnitKind;
use flotilla_core::question::Reply;
use flotilla_core::report::Problem;
use flotilla_core::template::{Found, Layer, ValuesKind, ValuesRef, Variables};

use super::Walk;
use super::asking::{Asker, unknown};
use crate::ask::Told;
use crate::config;
use crate::content::{Definition, PostBuild, SubstituteFrom};
use crate::encrypted::is_encrypted_value;
use crate::source::Unavailable;
use crate::substitute::{HIDDEN, UnitVariables};
use crate::values::ValuesInGit;

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

    /// The first ConfigMap or Secret that a unit takes variables from and that nothing has put out yet.
    pub(super) fn missing_values<'d>(&self, definition: &'d Definition) -> Option<&'d SubstituteFrom> {
        let namespace = definition.id.home();
        let mut from = definition.post_build.iter().flat_map(|post_build| &post_build.from);
        from.find(|from| self.values.get(&from.in_namespace(namespace)).is_none())
    }

    /// The variables that are put into a unit's objects, if any are.
    pub(super) fn variables(
        &self,
        definition: &Definition,
        maps: &ValuesInGit<'_>,
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
        for from in &post_build.from {
            let SubstituteFrom { kind, name, optional } = from;
            let reference = from.in_namespace(namespace);
            match maps.get(&reference) {
                Some(data) if *kind == ValuesKind::ConfigMap => {
                    let at = |message: String| {
                        wrong("substituteFrom", format!("ConfigMap {namespace}/{name}: {message}"))
                    };
                    if data.values().any(|value| is_encrypted_value(value)) {
                        return Err(at(
                            "is encrypted by SOPS; variables have to stand in clear, or in a Secret"
                                .to_owned(),
                        ));
                    }
                    variables.add(data).map_err(at)?;
                }
                None if !is_final => return Err(NoVariables::NotYet),
                _ => variables.layers.push(Layer::From { reference, optional: *optional }),
            }
        }
        if post_build.substitute.values().any(|value| is_encrypted_value(value)) {
            let message = "a value is encrypted by SOPS; variables have to stand in clear, or in a Secret";
            return Err(wrong("substitute", message.to_owned()));
        }
        variables.add(post_build.substitute.clone()).map_err(|message| wrong("substitute", message))?;
        Ok(Some(self.told(variables, maps, asker)))
    }

    /// Adds what the agent tells of the ConfigMaps that only the cluster has as a whole.
    fn told(&self, open: Variables, maps: &ValuesInGit<'_>, asker: &Asker) -> UnitVariables {
        let mut variables =
            UnitVariables { told: open.clone(), open, masked: None, unknown: BTreeMap::new() };
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
                None => maps.applied(&reference, there),
            };
            let taken = data.and_then(|data| {
                if data.iter().flat_map(|data| data.values()).any(|value| is_encrypted_value(value)) {
                    return Err(
                        "is encrypted by SOPS; variables have to stand in clear, or in a Secret".to_owned()
                    );
                }
                let found = Found::from([(reference.clone(), data)]);
                variables.told.with(&found).map_err(|error| error.to_string())
            });
            match taken {
                Ok(told) => variables.told = told,
                Err(why) => drop(variables.unknown.insert(reference.to_string(), why)),
            }
        }
        self.secrets(&mut variables, maps);
        variables
    }

    /// Adds what is known of the Secrets, for what the hub has to know: those that Git has in clear, or the hub can open, and
    /// those that it keeps.
    fn secrets(&self, variables: &mut UnitVariables, maps: &ValuesInGit<'_>) {
        let secrets = variables.open.needs().filter(|at| at.kind == ValuesKind::Secret);
        for reference in secrets.cloned().collect::<BTreeSet<ValuesRef>>() {
            let known = maps.get(&reference).map_or_else(|| self.stored(&reference), |data| Ok(Some(data)));
            let taken = known.and_then(|data| {
                let Some(data) = data else { return Ok(()) };
                if data.values().any(|value| is_encrypted_value(value)) {
                    return Err("is encrypted by SOPS, and the hub has no key for it".to_owned());
                }
                let hidden = data.keys().map(|name| (name.clone(), HIDDEN.to_owned())).collect();
                let with = |variables: &Variables, data| {
                    variables
                        .with(&[(reference.clone(), Some(data))].into())
                        .map_err(|error| error.to_string())
                };
                let masked = with(variables.masked.as_ref().unwrap_or(&variables.told), hidden)?;
                variables.told = with(&variables.told, data)?;
                variables.masked = Some(masked);
                Ok(())
            });
            if let Err(why) = taken {
                variables.unknown.insert(reference.to_string(), why);
            }
        }
    }

    /// What the hub keeps of a Secret, if it does.
    fn stored(&self, at: &ValuesRef) -> Result<Option<BTreeMap<String, String>>, String> {
        match self.inputs.sources.secret(&at.namespace, &at.name) {
            Ok(None) => Ok(None),
            Ok(Some(data)) => {
                let texts = data.into_iter().map(|(name, value)| Ok((name, config::text(value)?)));
                texts.collect::<Result<_, &str>>().map(Some).map_err(str::to_owned)
            }
            Err(Unavailable { why, .. }) => {
                self.open();
                Err(why)
            }
        }
    }
}
