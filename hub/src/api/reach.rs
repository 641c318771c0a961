//! What of the fleet a token reaches, by its scope and what Git says of groups just now. What is not known to be in it is
//! not.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_api::{self as api, Scope};
use flotilla_core::{ClusterName, UnitId};
use http::StatusCode;

use super::error::ApiError;
use crate::sources::{Scope as SecretScope, SecretPlace};
use crate::view::FleetView;

#[derive(Debug, Clone)]
pub(crate) struct Reach {
    scope: Arc<Scope>,
    fleet: Arc<FleetView>,
}

impl Reach {
    pub(crate) fn new(scope: Arc<Scope>, fleet: Arc<FleetView>) -> Self {
        Self { scope, fleet }
    }

    pub(crate) fn is_fleet(&self) -> bool {
        self.scope.is_fleet()
    }

    /// Whether some of this cluster is in reach.
    pub(crate) fn cluster(&self, name: &ClusterName) -> bool {
        let Scope { clusters, groups, .. } = &*self.scope;
        let of = || self.fleet.clusters.get(name).map(|facts| &facts.groups);
        clusters.is_empty() && groups.is_empty()
            || clusters.iter().any(|it| it == name.as_str())
            || of().is_some_and(|of| groups.iter().any(|group| of.contains(group)))
    }

    /// Whether all of this cluster is in reach, that is, whether it may be changed as a whole.
    pub(crate) fn whole_cluster(&self, name: &ClusterName) -> bool {
        self.cluster(name) && self.scope.namespaces.is_empty()
    }

    pub(crate) fn namespace(&self, namespace: &str) -> bool {
        self.scope.namespaces.is_empty() || self.scope.namespaces.iter().any(|it| it == namespace)
    }

    /// The namespaces that are in reach; `None`: all, and what is in none.
    pub(crate) fn namespaces(&self) -> Option<BTreeSet<String>> {
        let namespaces = &self.scope.namespaces;
        (!namespaces.is_empty()).then(|| namespaces.iter().cloned().collect())
    }

    /// Whether all clusters of this group are in reach, those that are still to come too.
    pub(crate) fn group(&self, name: &str) -> bool {
        let Scope { clusters, groups, namespaces } = &*self.scope;
        namespaces.is_empty()
            && (clusters.is_empty() && groups.is_empty() || groups.iter().any(|it| it == name))
    }

    pub(crate) fn unit(&self, cluster: &ClusterName, unit: &UnitId) -> bool {
        self.cluster(cluster) && self.namespace(&unit.namespace)
    }

    /// Whether the secret at this place, and who uses it, is in reach.
    pub(crate) fn secret(&self, place: &SecretPlace) -> bool {
        let clusters = match place.scope() {
            SecretScope::Fleet => self.scope.clusters.is_empty() && self.scope.groups.is_empty(),
            SecretScope::Cluster(name) => self.cluster(name),
            SecretScope::Group(name) => {
                self.scope.clusters.is_empty() && self.scope.groups.is_empty()
                    || self.scope.groups.contains(name)
            }
        };
        clusters && self.namespace(place.namespace())
    }

    /// The source as who has this reach may see it.
    pub(crate) fn source(&self, mut source: api::Source) -> Option<api::Source> {
        if self.is_fleet() {
            return Some(source);
        }
        source.clusters.retain(|name| name.parse().is_ok_and(|name| self.cluster(&name)));
        let namespace = source.name.split_once('/').map_or("", |(namespace, _)| namespace);
        (!source.clusters.is_empty() && self.namespace(namespace)).then_some(source)
    }

    /// The fleet repo's commit: what its author wrote of it is for who sees all of it.
    pub(crate) fn commit(&self, commit: &api::Commit) -> api::Commit {
        match self.is_fleet() {
            true => commit.clone(),
            false => api::Commit { author: String::new(), subject: String::new(), ..commit.clone() },
        }
    }

    /// Refuses what concerns all of the fleet.
    pub(crate) fn need_fleet(&self) -> Result<(), ApiError> {
        if self.is_fleet() {
            return Ok(());
        }
        Err(outside("this concerns the whole fleet"))
    }

    /// Refuses what concerns all of a cluster.
    pub(crate) fn need_cluster(&self, name: &ClusterName) -> Result<(), ApiError> {
        if !self.cluster(name) {
            return Err(no_cluster(name));
        }
        if !self.whole_cluster(name) {
            return Err(outside(&format!("this concerns all of cluster {name}")));
        }
        Ok(())
    }
}

pub(crate) fn outside(why: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, format!("{why}, and the token is for a part of it"))
        .hint("`flotilla check` shows the token's scope; an admin can make another one")
}

/// The same for a cluster that is not there and for one that is not in reach.
pub(crate) fn no_cluster(name: &ClusterName) -> ApiError {
    ApiError::not_found(format!("no cluster is called {name}"))
        .hint("`flotilla get clusters` lists them; a new one is a folder clusters/NAME in the fleet repo")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::ClusterFacts;

    fn reach(clusters: &[&str], groups: &[&str], namespaces: &[&str]) -> Reach {
        let facts = |groups: &[&str]| ClusterFacts {
            groups: list(groups).into_iter().collect(),
            ..Default::default()
        };
        let clusters_of = [("a", facts(&["west"])), ("b", facts(&["east"])), ("c", facts(&[]))];
        let fleet = FleetView {
            clusters: clusters_of
                .into_iter()
                .map(|(name, facts)| (name.parse().unwrap(), facts.into()))
                .collect(),
            ..Default::default()
        };
        let scope = Scope { clusters: list(clusters), groups: list(groups), namespaces: list(namespaces) };
        Reach::new(Arc::new(scope), Arc::new(fleet))
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_scope_reaches_what_it_names_and_nothing_else() {
        for (reach, clusters, whole, units) in [
            (reach(&[], &[], &[]), "abcz", "abcz", "web team"),
            (reach(&["a", "z"], &[], &[]), "az", "az", "web team"),
            (reach(&[], &["west"], &[]), "a", "a", "web team"),
            (reach(&["c"], &["east"], &[]), "bc", "bc", "web team"),
            (reach(&[], &["none"], &[]), "", "", "web team"),
            (reach(&[], &[], &["web"]), "abcz", "", "web"),
            (reach(&["a"], &[], &["web", "x"]), "a", "", "web"),
        ] {
            let all = ["a", "b", "c", "z"].map(|name| name.parse::<ClusterName>().unwrap());
            let of = |is: &dyn Fn(&ClusterName) -> bool| {
                all.iter().filter(|name| is(name)).map(|name| name.as_str()).collect::<String>()
            };
            assert_eq!(of(&|name| reach.cluster(name)), clusters, "{reach:?}");
            assert_eq!(of(&|name| reach.whole_cluster(name)), whole, "{reach:?}");
            for namespace in ["web", "team"] {
                let unit = UnitId::kustomization(namespace, "x");
                for name in &all {
                    let seen = clusters.contains(name.as_str()) && units.contains(namespace);
                    assert_eq!(reach.unit(name, &unit), seen, "{reach:?} {name} {unit}");
                }
            }
            let a: ClusterName = "a".parse().unwrap();
            let root = reach.unit(&a, &UnitId::root());
            assert_eq!(root, reach.whole_cluster(&a), "the root unit is in no namespace");
        }
    }

    #[test]
    fn secrets_and_sources_are_in_reach_with_all_that_use_them() {
        for (scope, namespace, of) in [
            ("fleet", "web", vec![reach(&[], &[], &[]), reach(&[], &[], &["web"])]),
            ("cluster.a", "web", vec![reach(&["a"], &[], &[]), reach(&[], &["west"], &["web"])]),
            ("group.west", "web", vec![reach(&["c"], &["west"], &[]), reach(&[], &[], &["web"])]),
        ] {
            let place = SecretPlace::new(scope.parse().unwrap(), namespace, "x").unwrap();
            assert!(of.iter().all(|reach| reach.secret(&place)), "{place}");
            for not in [reach(&["b"], &[], &[]), reach(&[], &["east"], &[]), reach(&[], &[], &["team"])] {
                assert!(!not.secret(&place), "{place} {not:?}");
            }
        }
        assert!(!reach(&["a"], &[], &[]).secret(&SecretPlace::new(SecretScope::Fleet, "web", "x").unwrap()));
        let source = |clusters: &[&str]| api::Source {
            name: "web/x".into(),
            clusters: list(clusters),
            ..Default::default()
        };
        let seen = |reach: Reach, clusters: &[&str]| reach.source(source(clusters)).map(|s| s.clusters);
        assert_eq!(seen(reach(&["a"], &[], &[]), &["a", "b"]), Some(list(&["a"])));
        assert_eq!(seen(reach(&["a"], &[], &[]), &["b"]), None);
        assert_eq!(seen(reach(&["a"], &[], &["team"]), &["a"]), None);
        assert_eq!(seen(reach(&["a"], &[], &[]), &[]), None, "the fleet repo");
        assert_eq!(seen(reach(&[], &[], &[]), &[]), Some(vec![]));
    }
}
