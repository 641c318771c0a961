//! Which Flux objects of Git Flux may be given as they are. The hub bounds what a tenant defines; whoever applies the export is no
//! tenant, and Flux gives a unit that names no account the rights of its controllers.

use std::collections::BTreeMap;

use flotilla_api::{Definition, Tree, Unit};
use flotilla_core::ServiceAccount;
use serde_json::Value;

use super::exported;
use super::flux::unit_of;

/// What the cluster has of the units, by name.
pub(super) struct Units<'a>(BTreeMap<&'a str, &'a Unit>);

impl<'a> Units<'a> {
    pub(super) fn of(tree: &'a Tree) -> Self {
        Self(tree.units.iter().map(|unit| (unit.unit.unit.as_str(), &unit.unit)).collect())
    }

    /// Whether it runs as the hub wants it: its account is allowed to define what it does.
    fn has_applied(&self, unit: &str) -> bool {
        self.0.get(unit).is_some_and(|unit| {
            unit.phase != "Held" && unit.desired.is_some() && unit.applied == unit.desired
        })
    }

    /// The object for Flux, with the account that the hub gives it.
    ///
    /// # Errors
    /// Why Flux is to make it itself, from the output of what defines it and with the rights that it has there.
    pub(super) fn given(&self, definition: &Definition) -> Result<Value, String> {
        let Definition { kind, namespace, name, defined_by, .. } = definition;
        if definition.redacted {
            return Err("texts of it are hidden, as they hold a secret of the hub's".into());
        }
        let unit = unit_of(definition).map(|id| id.to_string());
        let waits = unit.iter().chain([defined_by]).find(|unit| !self.has_applied(unit));
        if let Some(waits) = waits.filter(|_| !definition.of_fleet) {
            return Err(format!("a tenant defines it, and {waits} is not applied as the hub wants it"));
        }
        let mut object = exported(definition);
        object["metadata"]["namespace"] = namespace.clone().into();
        if unit.is_none() {
            return Ok(object);
        }
        match definition.account.parse::<ServiceAccount>() {
            Ok(account) if account.namespace == *namespace => {
                object["spec"]["serviceAccountName"] = account.name.into();
            }
            Ok(account) => {
                return Err(format!(
                    "it is applied as {account}, and with Flux only as an account of its namespace"
                ));
            }
            Err(_) if definition.of_fleet => {}
            Err(_) => return Err(format!("a tenant defines {kind} {namespace}/{name} without an account")),
        }
        Ok(object)
    }
}

/// What tenants may with Flux, where they define something.
pub(super) fn about_tenants(definitions: &[Definition]) -> Option<String> {
    let of_tenants = definitions.iter().filter(|it| !it.of_fleet && unit_of(it).is_some());
    let named: Vec<String> = of_tenants.map(|it| format!("{}/{}", it.namespace, it.name)).collect();
    (!named.is_empty()).then(|| {
        format!(
            "tenants define {}: Flux bounds neither the accounts nor the sources that they name, unless its controllers run with \
             --default-service-account and --no-cross-namespace-refs",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use flotilla_api::TreeUnit;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tenant_is_given_no_more_than_it_had() {
        let unit = |name: &str, phase: &str, applied: &str| TreeUnit {
            unit: Unit {
                unit: name.into(),
                phase: phase.into(),
                desired: Some("d".into()),
                applied: Some(applied.into()),
                ..Unit::default()
            },
            ..TreeUnit::default()
        };
        let tree = Tree {
            units: vec![
                unit("kustomization/team-a/all", "Ready", "d"),
                unit("kustomization/team-a/app", "Ready", "d"),
                unit("kustomization/team-a/held", "Held", "d"),
                unit("kustomization/team-a/refused", "Failed", "before"),
            ],
            ..Tree::default()
        };
        let (all, held) = ("kustomization/team-a/all", "kustomization/team-a/held");
        let (own, other) = (Some("team-a/sa"), Some("other/sa"));
        for (what, kind, name, by, of_fleet, account, given) in [
            ("as it runs", "Kustomization", "app", all, false, own, Ok(Some("sa"))),
            ("without an account", "Kustomization", "app", all, false, None, Err("without an account")),
            (
                "as another's account",
                "Kustomization",
                "app",
                all,
                false,
                other,
                Err("an account of its namespace"),
            ),
            ("held", "Kustomization", "held", all, false, own, Err("team-a/held is not applied")),
            (
                "refused by the cluster",
                "Kustomization",
                "refused",
                all,
                false,
                own,
                Err("team-a/refused is not"),
            ),
            ("unknown", "HelmRelease", "new", all, false, own, Err("helmrelease/team-a/new is not applied")),
            (
                "below what is held",
                "Kustomization",
                "app",
                held,
                false,
                own,
                Err("team-a/held is not applied"),
            ),
            ("a source", "GitRepository", "app", all, false, None, Ok(None)),
            (
                "a source of what is held",
                "GitRepository",
                "app",
                held,
                false,
                None,
                Err("held is not applied"),
            ),
            ("the fleet's", "Kustomization", "held", "root", true, None, Ok(None)),
            ("the fleet's, by default", "Kustomization", "app", "root", true, own, Ok(Some("sa"))),
            (
                "the fleet's elsewhere",
                "Kustomization",
                "app",
                "root",
                true,
                other,
                Err("an account of its namespace"),
            ),
        ] {
            let definition = Definition {
                kind: kind.into(),
                namespace: "team-a".into(),
                name: name.into(),
                defined_by: by.into(),
                of_fleet,
                account: account.unwrap_or_default().to_owned(),
                redacted: false,
                object: json!({"kind": kind, "metadata": {"name": name}, "spec": {"path": "."}}),
            };
            let hidden = Definition { redacted: true, ..definition.clone() };
            assert!(Units::of(&tree).given(&hidden).unwrap_err().contains("hidden"), "{what}");
            match (Units::of(&tree).given(&definition), given) {
                (Ok(object), Ok(account)) => {
                    assert_eq!(object["spec"]["serviceAccountName"].as_str(), account, "{what}");
                    assert_eq!(object["metadata"]["namespace"], "team-a", "{what}");
                }
                (Err(why), Err(says)) => assert!(why.contains(says), "{what}: {why}"),
                (found, _) => panic!("{what}: {found:?}"),
            }
        }
    }
}
