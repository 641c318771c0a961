//! The plan of an adoption, and how it is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use flotilla_core::adopt::{Fate, FluxPlan, Origin, RELEASE_NAME, RELEASE_NAMESPACE, plan_flux};
use flotilla_core::answer::{AdoptAction, Adoption, Counts, Note, Owner};
use flotilla_core::{Digest, ObjectId, UnitEntry, UnitId};

use super::helm::{Release, ReleaseName};
use super::look::{self, Item, Looked, What};
use super::{AdoptError, Job, flux, helm};
use crate::sync::adoption_record::{Record, Stage};

/// What there is to do.
pub(super) struct Planned {
    pub(super) record: Record,
    /// The objects that this is about.
    pub(super) items: Vec<Item>,
    looked: HashMap<ObjectId, Looked>,
    /// Empty but for Flux.
    pub(super) flux: FluxPlan,
    suspended: BTreeSet<ObjectId>,
    /// Releases that are set apart.
    pub(super) releases: BTreeMap<ReleaseName, Release>,
    release_stays: Vec<Note>,
    release_left: Vec<(ObjectId, ReleaseName)>,
}

impl Job<'_> {
    /// Looks, and decides. Writes nothing.
    pub(super) async fn plan(&self) -> Result<Planned, AdoptError> {
        let cluster = &self.tools.cluster;
        let record = Record::load(cluster, self.origin).await?;
        let items = look::items(&self.desired, cluster.discovery());
        let mut planned = Planned {
            record,
            items,
            looked: HashMap::new(),
            flux: FluxPlan::default(),
            suspended: BTreeSet::new(),
            releases: BTreeMap::new(),
            release_stays: Vec::new(),
            release_left: Vec::new(),
        };
        match self.origin {
            Origin::Flux => self.plan_flux(&mut planned).await?,
            Origin::Helm => self.plan_helm(&mut planned).await?,
            Origin::Kubectl => {
                planned.looked = look::look_at_all(&self.tools, &planned.items, &BTreeSet::new()).await?;
                let is_of_kubectl = |l: &Looked| l.by_kubectl && l.owner.is_none() && l.release.is_none();
                planned.keep(|_, looked| is_of_kubectl(looked));
            }
        }
        Ok(planned)
    }

    async fn plan_flux(&self, planned: &mut Planned) -> Result<(), AdoptError> {
        let cluster = &self.tools.cluster;
        let units: BTreeMap<UnitId, Fate> = self
            .desired
            .units()
            .iter()
            .filter_map(|(id, entry)| match entry {
                UnitEntry::Present(unit) if unit.spec.suspend => Some((id.clone(), Fate::Suspended)),
                UnitEntry::Present(_) => Some((id.clone(), Fate::Present)),
                UnitEntry::Hold(hold) => Some((id.clone(), Fate::Held(hold.to_string()))),
                UnitEntry::Removed(_) => None,
            })
            .collect();
        let wanted: BTreeSet<ObjectId> = planned.items.iter().map(|item| item.object.id.clone()).collect();
        let objects = flux::list(cluster).await?;
        let first = plan_flux(&units, &wanted, &objects, &BTreeMap::new());
        let takes = first.takes.keys().cloned().collect();
        planned.looked = look::look_at_all(&self.tools, &planned.items, &takes).await?;
        let mut refused = BTreeMap::new();
        for item in &planned.items {
            if let Some(Looked { what: What::Refused(why), owner: Some(owner), .. }) =
                planned.looked.get(&item.object.id)
            {
                let why = format!("its {} cannot be taken over: {why}", item.object.id);
                refused.entry(owner.clone()).or_insert(why);
            }
        }
        planned.flux = plan_flux(&units, &wanted, &objects, &refused);
        for looked in planned.looked.values_mut() {
            if let (What::Take(_), Some(owner)) = (&looked.what, &looked.owner)
                && planned.flux.stays.contains_key(owner)
            {
                looked.what = What::Stays(format!("belongs to {owner}, which stays"));
            }
        }
        planned.suspended = objects.iter().filter(|o| o.suspended).map(|o| o.id.clone()).collect();
        let releases: Vec<&ObjectId> =
            planned.flux.takes.keys().filter(|id| id.kind == "HelmRelease").collect();
        if !releases.is_empty() {
            let mut known = helm::list(cluster).await?;
            for id in releases {
                let release = flux::fetch(cluster, id).await?.as_ref().and_then(helm::of_flux);
                planned.releases.extend(release.and_then(|name| known.remove_entry(&name)));
            }
        }
        Ok(())
    }

    async fn plan_helm(&self, planned: &mut Planned) -> Result<(), AdoptError> {
        let cluster = &self.tools.cluster;
        let mut releases = helm::list(cluster).await?;
        let mut of_flux = flux::list(cluster).await?;
        of_flux.retain(|object| object.id.kind == "HelmRelease");
        for object in &of_flux {
            if let Some(name) = flux::fetch(cluster, &object.id).await?.as_ref().and_then(helm::of_flux) {
                releases.remove(&name);
            }
        }
        planned.looked = look::look_at_all(&self.tools, &planned.items, &BTreeSet::new()).await?;
        let mut of_release: HashMap<ObjectId, ReleaseName> = HashMap::new();
        for (name, release) in releases {
            let object = format!("release {}/{}", name.0, name.1);
            let objects = match helm::objects(cluster, &name, &release).await? {
                Ok(objects) => objects,
                Err(why) => {
                    planned.release_stays.push(Note { object, why });
                    continue;
                }
            };
            let (ours, others): (Vec<ObjectId>, Vec<ObjectId>) =
                objects.into_iter().partition(|id| planned.looked.contains_key(id));
            if ours.is_empty() {
                continue;
            }
            let refused = ours.iter().find_map(|id| match &planned.looked.get(id)?.what {
                What::Refused(why) => Some(format!("its {id} cannot be taken over: {why}")),
                What::Stays(why) => Some(format!("its {id} {why}")),
                _ => None,
            });
            match refused {
                Some(why) => planned.release_stays.push(Note { object, why }),
                None => {
                    for id in &ours {
                        if let Some(looked) = planned.looked.get_mut(id) {
                            let names = [(RELEASE_NAMESPACE, &name.0), (RELEASE_NAME, &name.1)];
                            let names = names.map(|(key, value)| (key.to_owned(), value.clone()));
                            looked.previous.annotations.extend(names);
                        }
                    }
                    planned.release_left.extend(others.into_iter().map(|id| (id, name.clone())));
                    of_release.extend(ours.into_iter().map(|id| (id, name.clone())));
                    planned.releases.insert(name, release);
                }
            }
        }
        planned.keep(|id, _| of_release.contains_key(id));
        Ok(())
    }
}

impl Planned {
    fn keep(&mut self, is_meant: impl Fn(&ObjectId, &Looked) -> bool) {
        self.looked.retain(|id, looked| is_meant(id, looked));
        self.items.retain(|item| self.looked.contains_key(&item.object.id));
    }

    /// Each object with what is known of it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Item, &Looked)> {
        self.items.iter().filter_map(|item| Some((item, self.looked.get(&item.object.id)?)))
    }

    /// What has to be known to give it back: of what is taken over, and of what its owners would make as we do.
    pub(super) fn taken(&self) -> impl Iterator<Item = (&Item, &Looked)> {
        let units: BTreeSet<&UnitId> = self.flux.takes.values().collect();
        let takes = |owner: &ObjectId| self.flux.takes.contains_key(owner);
        self.all().filter(move |(item, looked)| match (&looked.what, self.record.origin) {
            (What::Take(_), Origin::Flux) => looked.owner.as_ref().is_some_and(takes),
            (What::Create, Origin::Flux) => units.contains(&item.unit),
            (What::Take(_), Origin::Helm | Origin::Kubectl) => true,
            // Of a release that Flotilla met before anybody asked.
            (What::Ours, Origin::Helm) => true,
            (What::Ours | What::Create | What::Stays(_) | What::Refused(_), _) => false,
        })
    }

    /// Whether there is nothing to take over.
    fn is_empty(&self) -> bool {
        self.owners().next().is_none() && self.releases.is_empty() && self.taken().next().is_none()
    }

    /// Flux's objects that go.
    pub(super) fn owners(&self) -> impl Iterator<Item = &ObjectId> {
        self.flux.takes.keys().chain(&self.flux.sources)
    }

    pub(super) fn shown(&self, job: &Job<'_>, action: AdoptAction) -> Adoption {
        let stage = self.record.stage.map_or("", Stage::as_str).to_owned();
        // The same whether it is looked at or done.
        let mut adoption = Adoption { stage, ..Adoption::new(job.origin, AdoptAction::Plan) };
        let state = |id: &ObjectId| if self.suspended.contains(id) { "suspended" } else { "runs" }.to_owned();
        for (id, unit) in &self.flux.takes {
            let (object, unit, state) = (id.to_string(), unit.to_string(), state(id));
            adoption.owners.push(Owner { object, unit, state });
        }
        for id in &self.flux.sources {
            adoption.owners.push(Owner { object: id.to_string(), unit: String::new(), state: state(id) });
        }
        adoption.owners.extend(self.shown_releases().map(|object| Owner {
            object,
            unit: String::new(),
            state: "runs".into(),
        }));
        let note = |(id, why): (&ObjectId, &String)| Note { object: id.to_string(), why: why.clone() };
        adoption.stays = self.flux.stays.iter().map(note).chain(self.release_stays.iter().cloned()).collect();
        let left = self.flux.left.iter().map(|(id, owner)| (id, format!("was applied by {owner}")));
        let released =
            self.release_left.iter().map(|(id, (ns, name))| (id, format!("is of the release {ns}/{name}")));
        let left = left.chain(released).map(|(id, why)| Note { object: id.to_string(), why });
        adoption.left = left.collect();
        for (item, looked) in self.all() {
            count(&mut adoption.counts, &looked.what);
            adoption.objects.extend(looked.what.foreseen(&item.object.id, Some(&item.unit)));
        }
        let is_open = matches!(self.record.stage, Some(Stage::Adopting | Stage::Undoing));
        adoption.complete = self.is_empty() && !is_open;
        // A struct of texts and numbers always has a JSON text; without one no plan is the one that was looked at.
        adoption.plan = serde_json::to_vec(&adoption).ok().map(|text| Digest::of(&text));
        adoption.action = action;
        adoption.next = self.next(job, &adoption, false);
        adoption
    }

    /// The releases that are owners of their own: those of Flux go with their HelmRelease.
    pub(super) fn shown_releases(&self) -> impl Iterator<Item = String> {
        let shown = self.record.origin == Origin::Helm;
        let releases = self.releases.keys().filter(move |_| shown);
        releases.map(|(namespace, name)| format!("release {namespace}/{name}"))
    }

    /// What to do next, for people.
    pub(super) fn next(&self, job: &Job<'_>, adoption: &Adoption, done: bool) -> Vec<String> {
        let (cluster, origin) = (&job.desired.cluster, job.origin);
        let command = format!("flotilla cluster adopt {cluster} --from-{origin}");
        let plan = adoption.plan.map_or_else(String::new, |plan| format!(" --plan {plan}"));
        let yes = format!("`{command} --yes{plan}`");
        let undo = format!("`{command} --undo` gives all of it back");
        let resume = self.all().any(|(item, _)| item.suspended);
        let resume = resume.then(|| {
            format!("units are suspended: their objects are taken over by `flotilla resume {cluster}`")
        });
        match (done, adoption.complete) {
            (false, _) => {
                let first = match (self.is_empty(), self.record.stage) {
                    (_, Some(Stage::Undoing)) => {
                        format!("an undo was cut short: `{command} --undo` finishes it")
                    }
                    (_, Some(Stage::Adopting)) => {
                        format!("an adoption was cut short: {yes} goes on, {undo}")
                    }
                    (true, _) => format!("there is nothing to adopt from {origin}"),
                    (false, _) => format!("nothing was changed; {yes} does exactly this, and {undo}"),
                };
                std::iter::once(first).chain(resume).collect()
            }
            (true, false) => {
                vec![format!("not all is done: see what waits, then `{command} --yes` goes on"), undo]
            }
            (true, true) => {
                let mut next: Vec<String> = resume.into_iter().collect();
                if origin == Origin::Flux && self.flux.stays.is_empty() {
                    next.push(
                        "Flux's controllers have nothing left to do: take gotk-components.yaml out of Git, then `flux \
                         uninstall --keep-namespace`; after that there is no undo without `flux install`"
                            .into(),
                    );
                } else if origin == Origin::Flux {
                    next.push("Flux goes on with what stays: keep its controllers".into());
                }
                next.push(undo);
                next
            }
        }
    }
}

/// What to do after it was all given back.
pub(super) fn after_undo(job: &Job<'_>) -> Vec<String> {
    let (cluster, origin) = (&job.desired.cluster, job.origin);
    let back = match origin {
        Origin::Flux => "Flux is at work again",
        Origin::Helm => "Helm knows its releases again",
        Origin::Kubectl => "kubectl's fields are kubectl's again",
    };
    vec![
        format!("{back}; Flotilla leaves these objects alone and deletes none of them"),
        format!(
            "values that Git had changed stay as they are; `flotilla cluster delete {cluster}` lets the cluster go"
        ),
        format!("`flotilla cluster adopt {cluster} --from-{origin}` takes them over again"),
    ]
}

fn count(counts: &mut Counts, what: &What) {
    let count = match what {
        What::Ours => &mut counts.ours,
        What::Create => &mut counts.create,
        What::Take(fields) if fields.is_empty() => &mut counts.same,
        What::Take(_) => &mut counts.change,
        What::Stays(_) => &mut counts.stays,
        What::Refused(_) => &mut counts.refused,
    };
    *count += 1;
}
