//! `createNamespace` beside a Namespace in Git: the one in Git counts, with its labels, and the release makes none.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_core::unit::{ServiceAccount, UnitManifest};
use flotilla_core::{ObjectId, UnitId};

use super::Walk;
use crate::cluster::Unit;
use crate::content::Content;

impl Walk<'_> {
    /// Takes the Namespace out of each release that makes one which a unit declares. Known when everything is rendered.
    pub(super) fn share_namespaces(&mut self) {
        // By Namespace, the accounts of the units that declare it; none for units of the fleet.
        let mut declared: BTreeMap<ObjectId, Vec<Option<ServiceAccount>>> = BTreeMap::new();
        for (id, rendered) in &self.units {
            let Some(unit) = &rendered.unit else { continue };
            let account = self.accounts.get(id).filter(|_| !rendered.authority.is_fleet());
            let made = unit.content.makes.as_ref();
            let ids = unit.content.objects.iter().map(flotilla_core::Object::id);
            for namespace in ids.filter(|id| id.is("", "Namespace") && made != Some(id)) {
                declared.entry(namespace.clone()).or_default().push(account.cloned());
            }
        }
        let makers = self.units.iter().filter_map(|(id, unit)| {
            let unit = unit.unit.as_ref()?;
            let owners = declared.get(unit.content.makes.as_ref()?)?;
            // A tenant's word counts for his own releases: he may not be allowed to create it.
            let own = self.accounts.get(id);
            let counts = owners.iter().any(|account| account.is_none() || account.as_ref() == own);
            counts.then(|| (id.clone(), unit.clone()))
        });
        let makers: Vec<(UnitId, Unit)> = makers.collect();
        for (id, Unit { manifest, content }) in makers {
            let content = without_made(&content);
            let entries = content.objects.iter().map(Into::into).collect();
            let manifest = Arc::new(UnitManifest::new(id.clone(), manifest.spec.clone(), entries));
            if let Some(rendered) = self.unit_mut(&id) {
                rendered.unit = Some(Unit { manifest, content: content.into() });
            }
        }
    }
}

fn without_made(content: &Content) -> Content {
    let mut content = content.clone();
    let made = content.makes.take();
    let kept = content.objects.iter().map(|object| Some(object.id()) != made.as_ref());
    let kept: Vec<bool> = kept.collect();
    let mut keep = kept.iter();
    content.objects.retain(|_| *keep.next().unwrap_or(&true));
    let mut keep = kept.iter();
    content.origins.retain(|_| *keep.next().unwrap_or(&true));
    content
}
