//! What a hub has published for a cluster, as the side of a plan that is there now.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::report::Problem;
use flotilla_core::unit::{ObjectEntry, UnitManifest};
use flotilla_core::{Authority, Digest, Object, UnitId, UnitSpec};

use crate::cluster::{ClusterRender, RenderedUnit, Unit};
use crate::content::{Content, Definition};

/// What a hub says of a unit.
#[derive(Debug, Clone)]
pub struct Told {
    pub parent: Option<UnitId>,
    /// Its policy, as [`super::settings`] gives it, and its objects; or why it is held.
    pub unit: Result<(UnitSpec, Vec<Object>), String>,
}

/// A cluster as a hub has published it. What a hub does not tell is taken as `to` has it, so that it is never shown as a change: what
/// sources say of themselves, what a Helm release is made of, of what folder a root is.
pub fn published(units: BTreeMap<UnitId, Told>, to: Option<&ClusterRender>) -> ClusterRender {
    let sources = to.map(|to| to.sources.clone()).unwrap_or_default();
    let mut render = ClusterRender { sources, ..ClusterRender::default() };
    for (id, Told { parent, unit }) in units {
        let other = to.and_then(|to| to.units.get(&id));
        let definition = other.map(|other| other.definition.clone());
        let unread = || Arc::new(Definition::unread(id.clone(), (String::new(), 0)));
        let now = other.and_then(|other| other.unit.as_ref()).map(|unit| &unit.manifest.spec);
        let (authority, suspended, unit, problems) = match unit {
            Err(why) => {
                let authority = other.map_or(Authority::Fleet, |other| other.authority.clone());
                (authority, false, None, vec![Problem::error("", 0, why)])
            }
            Ok((policy, objects)) => {
                let (authority, suspended) = (policy.authority.clone(), policy.suspend);
                let spec = UnitSpec {
                    parent: parent.clone(),
                    render: now.and_then(|now| now.render),
                    place: now.and_then(|now| now.place),
                    release: now.and_then(|now| now.release.clone()),
                    ..policy
                };
                (
                    authority,
                    suspended,
                    Some(unit_of(id.clone(), spec, Content { objects, ..Content::default() })),
                    Vec::new(),
                )
            }
        };
        let definition = definition.unwrap_or_else(unread);
        let revision = None;
        let unit = RenderedUnit { parent, definition, revision, suspended, authority, unit, problems };
        render.units.insert(id, Arc::new(unit));
    }
    render
}

/// The same with other objects in place of those with these digests, as where values are hidden.
pub fn replaced(render: &ClusterRender, objects: &BTreeMap<Digest, Object>) -> ClusterRender {
    let mut render = render.clone();
    for (id, rendered) in &mut render.units {
        let Some(unit) = &rendered.unit else { continue };
        if unit.content.objects.iter().any(|object| objects.contains_key(&object.digest())) {
            let other = |object: &Object| objects.get(&object.digest()).unwrap_or(object).clone();
            let objects = unit.content.objects.iter().map(other).collect();
            let content = Content { objects, ..(*unit.content).clone() };
            let unit = unit_of(id.clone(), unit.manifest.spec.clone(), content);
            Arc::make_mut(rendered).unit = Some(unit);
        }
    }
    render
}

fn unit_of(id: UnitId, spec: UnitSpec, content: Content) -> Unit {
    let entries = content.objects.iter().map(ObjectEntry::from).collect();
    Unit { manifest: Arc::new(UnitManifest::new(id, spec, entries)), content: Arc::new(content) }
}
