//! The inventory in the cluster: ConfigMaps with a JSON object a line, one line an object of ours.
//!
//! ```text
//!   flotilla-inventory-<bucket>-<part>     units are hashed into 16 buckets; a full part is followed by the next
//!     {"u":"kustomization/flux-system/apps","parent":"root"}                          the unit's links
//!     {"u":"kustomization/flux-system/apps","g":"apps","v":"v1","k":"Deployment","ns":"web","n":"x","uid":"…"}
//! ```
//!
//! A line stays in its part for life, so that a write that is cut short between two parts loses none. Changes are
//! written by one task, all that wait at once, each caller waits for the write that holds its change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flotilla_core::inventory::{Inventory, Member, Uid};
use flotilla_core::order::Links;
use flotilla_core::{Digest, ObjectId, ObjectRef, UnitId};
use futures::StreamExt;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Notify, watch};

use super::discovery::Resource;
use super::request::{Call, Failure};
use super::{Cluster, SYSTEM_NAMESPACE};

const BUCKETS: u8 = 16;
const PART_BYTES: usize = 512 * 1024;
/// Changes that nobody waits for are written within this time.
const LAZY: std::time::Duration = std::time::Duration::from_secs(1);
const NAME: &str = "flotilla-inventory-";
const KEY: &str = "members";
const MARK: &str = "flotilla.dev/inventory";

/// A line's place: the unit, and the object; none for the line of the unit itself.
type Place = (UnitId, Option<ObjectId>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    u: UnitId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    g: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    v: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    k: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    ns: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    n: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<UnitId>,
    #[serde(default, rename = "dependsOn", skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<UnitId>,
}

/// One ConfigMap.
#[derive(Debug, Default)]
struct Part {
    lines: BTreeMap<Place, Line>,
    /// Lines that we cannot read, kept as they are.
    opaque: Vec<String>,
    bytes: usize,
    /// Empty until the ConfigMap is there.
    version: String,
    /// What we wrote last, to tell our own write from another's.
    written: Option<Digest>,
    dirty: bool,
}

/// The inventory in memory and the task that writes it.
pub(crate) struct Book {
    pages: Mutex<Pages>,
    /// Something changed; it may wait a little.
    wake: Notify,
    /// Somebody waits for a change.
    asked: Notify,
    /// All changes up to this number are in the cluster.
    written: watch::Sender<u64>,
    /// Why the last write failed; empty after a success.
    trouble: watch::Sender<String>,
}

#[derive(Default)]
struct Pages {
    parts: BTreeMap<(u8, u32), Part>,
    places: BTreeMap<Place, u32>,
    inventory: Inventory,
    change: u64,
    damage: Option<String>,
    contended: bool,
}

#[derive(Deserialize)]
struct ConfigMaps {
    items: Option<Vec<ConfigMap>>,
}

#[derive(Deserialize)]
struct ConfigMap {
    metadata: flotilla_core::live::Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

fn bucket(unit: &UnitId) -> u8 {
    Digest::of(unit.to_string().as_bytes()).as_bytes()[0] % BUCKETS
}

fn line_of(unit: &UnitId, member: &Member) -> Line {
    let ObjectRef { id, version } = &member.object;
    Line {
        u: unit.clone(),
        g: id.group.clone(),
        v: version.clone(),
        k: id.kind.clone(),
        ns: id.namespace.clone(),
        n: id.name.clone(),
        uid: member.uid.as_ref().map(|uid| uid.0.clone()),
        parent: None,
        depends_on: Vec::new(),
    }
}

fn unit_line(unit: &UnitId, links: &Links) -> Line {
    let (parent, depends_on) = (links.parent.clone(), links.depends_on.clone());
    let empty = String::new;
    Line {
        u: unit.clone(),
        g: empty(),
        v: empty(),
        k: empty(),
        ns: empty(),
        n: empty(),
        uid: None,
        parent,
        depends_on,
    }
}

fn text(line: &Line) -> String {
    serde_json::to_string(line).expect("a line has a JSON text")
}

impl Pages {
    fn read(&mut self, map: ConfigMap) {
        let name = &map.metadata.name;
        let numbers = name.strip_prefix(NAME).and_then(|rest| rest.split_once('-'));
        let key =
            numbers.and_then(|(bucket, part)| Some((bucket.parse::<u8>().ok()?, part.parse::<u32>().ok()?)));
        let Some(key) = key else { return };
        let mut part = Part { version: map.metadata.resource_version, ..Part::default() };
        match map.data.get(KEY) {
            None => self.damage = Some(format!("ConfigMap {SYSTEM_NAMESPACE}/{name} has no data.{KEY}")),
            Some(content) => {
                part.bytes = content.len();
                part.written = Some(Digest::of(content.as_bytes()));
                for (number, text) in content.lines().enumerate() {
                    match serde_json::from_str::<Line>(text) {
                        Ok(line) if line.k.is_empty() != line.n.is_empty() => {
                            self.damage = Some(format!("line {} of {name} names half an object", number + 1));
                            part.opaque.push(text.to_owned());
                        }
                        Ok(line) => self.take(key, &mut part, line),
                        Err(error) => {
                            self.damage = Some(format!(
                                "line {} of ConfigMap {SYSTEM_NAMESPACE}/{name}: {error}",
                                number + 1
                            ));
                            part.opaque.push(text.to_owned());
                        }
                    }
                }
            }
        }
        self.parts.insert(key, part);
    }

    fn take(&mut self, key: (u8, u32), part: &mut Part, line: Line) {
        let unit = self.inventory.units.entry(line.u.clone()).or_default();
        let place = if line.k.is_empty() {
            unit.links = Links { parent: line.parent.clone(), depends_on: line.depends_on.clone() };
            (line.u.clone(), None)
        } else {
            let id = ObjectId {
                group: line.g.clone(),
                kind: line.k.clone(),
                namespace: line.ns.clone(),
                name: line.n.clone(),
            };
            let member = Member {
                object: ObjectRef { id: id.clone(), version: line.v.clone() },
                uid: line.uid.clone().map(Uid),
            };
            unit.members.retain(|known| known.object.id != id);
            unit.members.push(member);
            (line.u.clone(), Some(id))
        };
        self.places.insert(place.clone(), key.1);
        part.lines.insert(place, line);
    }

    fn put(&mut self, place: Place, line: Line) -> bool {
        let bucket = bucket(&place.0);
        let length = text(&line).len() + 1;
        let number = self.places.get(&place).copied().unwrap_or_else(|| {
            let has_room = |number: &u32| {
                self.parts.get(&(bucket, *number)).is_none_or(|part| part.bytes + length <= PART_BYTES)
            };
            (0..).find(has_room).unwrap_or_default()
        });
        let part = self.parts.entry((bucket, number)).or_default();
        let old = part.lines.insert(place.clone(), line.clone());
        if old.as_ref() == Some(&line) {
            return false;
        }
        part.bytes += length;
        part.bytes -= old.map_or(0, |old| text(&old).len() + 1).min(part.bytes);
        part.dirty = true;
        self.places.insert(place, number);
        self.change += 1;
        true
    }

    fn drop_line(&mut self, place: &Place) {
        let Some(number) = self.places.remove(place) else { return };
        if let Some(part) = self.parts.get_mut(&(bucket(&place.0), number))
            && let Some(old) = part.lines.remove(place)
        {
            part.bytes -= (text(&old).len() + 1).min(part.bytes);
            part.dirty = true;
            self.change += 1;
        }
    }
}

impl Part {
    fn content(&self) -> String {
        let mut content = String::with_capacity(self.bytes + 64);
        for text in self.lines.values().map(text).chain(self.opaque.iter().cloned()) {
            content.push_str(&text);
            content.push('\n');
        }
        content
    }
}

impl Book {
    /// Reads the inventory. An empty cluster has none, which is not the same as one that cannot be read.
    pub(crate) async fn load(cluster: &Cluster) -> Result<Self, Failure> {
        make_namespace(cluster).await?;
        let mut pages = Pages::default();
        let query = format!("?labelSelector={}", MARK.replace('/', "%2F"));
        let maps: ConfigMaps =
            cluster.get_path(Resource::inventory_path("").trim_end_matches('/').to_owned() + &query).await?;
        for map in maps.items.unwrap_or_default() {
            pages.read(map);
        }
        Ok(Self {
            pages: Mutex::new(pages),
            wake: Notify::new(),
            asked: Notify::new(),
            written: watch::channel(0).0,
            trouble: watch::channel(String::new()).0,
        })
    }

    /// Looks at the inventory. Short: everybody waits meanwhile.
    pub(crate) fn view<T>(&self, look: impl FnOnce(&Inventory) -> T) -> T {
        look(&self.pages().inventory)
    }

    /// Why the inventory is not whole, if so: then nothing is pruned.
    pub(crate) fn damage(&self) -> Option<String> {
        self.pages().damage.clone()
    }

    /// Whether somebody else wrote our inventory since the last call.
    pub(crate) fn take_contended(&self) -> bool {
        std::mem::take(&mut self.pages().contended)
    }

    /// Lists objects of a unit; a uid that is known already is kept where none is given. The number of the change,
    /// for [`Book::durable`]; 0 if there is none, as all was listed already.
    pub(crate) fn list(
        &self,
        unit: &UnitId,
        links: Option<&Links>,
        members: impl IntoIterator<Item = Member>,
    ) -> u64 {
        let mut pages = self.pages();
        let mut changed = false;
        if let Some(links) = links {
            pages.inventory.units.entry(unit.clone()).or_default().links = links.clone();
            changed |= pages.put((unit.clone(), None), unit_line(unit, links));
        }
        for mut member in members {
            let known = &mut pages.inventory.units.entry(unit.clone()).or_default().members;
            match known.iter_mut().find(|known| known.object.id == member.object.id) {
                Some(known) => {
                    member.uid = member.uid.or(known.uid.take());
                    *known = member.clone();
                }
                None => known.push(member.clone()),
            }
            changed |= pages.put((unit.clone(), Some(member.object.id.clone())), line_of(unit, &member));
        }
        let change = if changed { pages.change } else { 0 };
        drop(pages);
        if changed {
            self.wake.notify_one();
        }
        change
    }

    /// Takes objects off a unit's list, and the unit with its last one if `whole`.
    pub(crate) fn unlist(&self, unit: &UnitId, objects: &BTreeSet<ObjectId>, whole: bool) -> u64 {
        let mut pages = self.pages();
        if let Some(listed) = pages.inventory.units.get_mut(unit) {
            listed.members.retain(|member| !objects.contains(&member.object.id));
            let empty = listed.members.is_empty();
            for object in objects {
                pages.drop_line(&(unit.clone(), Some(object.clone())));
            }
            if empty && whole {
                pages.inventory.units.remove(unit);
                pages.drop_line(&(unit.clone(), None));
            }
        }
        let change = pages.change;
        drop(pages);
        self.wake.notify_one();
        change
    }

    /// Takes an object off a unit's list if another unit lists it too. At once, so that of two units that let it go
    /// together one is the last.
    pub(crate) fn unlist_shared(&self, unit: &UnitId, object: &ObjectId) -> bool {
        let mut pages = self.pages();
        if !pages.inventory.owners(object).any(|owner| owner != unit) {
            return false;
        }
        if let Some(listed) = pages.inventory.units.get_mut(unit) {
            listed.members.retain(|member| member.object.id != *object);
        }
        pages.drop_line(&(unit.clone(), Some(object.clone())));
        drop(pages);
        self.wake.notify_one();
        true
    }

    /// Waits until a change is in the cluster, or a write fails after it was asked for.
    pub(crate) async fn durable(&self, change: u64) -> Result<(), String> {
        let mut written = self.written.subscribe();
        let mut trouble = self.trouble.subscribe();
        trouble.mark_unchanged();
        loop {
            if *written.borrow_and_update() >= change {
                return Ok(());
            }
            self.asked.notify_one();
            tokio::select! {
                changed = written.changed() => changed.map_err(|_| "the inventory is closed".to_owned())?,
                changed = trouble.changed() => {
                    changed.map_err(|_| "the inventory is closed".to_owned())?;
                    let why = trouble.borrow().clone();
                    if !why.is_empty() {
                        return Err(why);
                    }
                }
            }
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what changed, for ever.
    pub(crate) async fn write(&self, cluster: &Cluster) {
        let mut backoff = flotilla_runtime::Backoff::new(
            std::time::Duration::from_millis(200),
            std::time::Duration::from_secs(20),
        );
        loop {
            tokio::select! {
                () = self.asked.notified() => {}
                () = self.wake.notified() => {
                    // Uids and removals: whoever changes more within this time joins the write.
                    tokio::select! {
                        () = self.asked.notified() => {}
                        () = tokio::time::sleep(LAZY) => {}
                    }
                }
            }
            tokio::task::yield_now().await;
            while let Err(failure) = self.write_once(cluster).await {
                let why = format!("cannot write the inventory: {}", super::request::chain(&failure));
                self.trouble.send_replace(why);
                backoff.wait().await;
            }
            backoff.reset();
            self.trouble.send_if_modified(|trouble| !std::mem::take(trouble).is_empty());
        }
    }

    async fn write_once(&self, cluster: &Cluster) -> Result<(), Failure> {
        let (change, dirty) = {
            let mut pages = self.pages();
            let change = pages.change;
            let dirty: Vec<((u8, u32), String, String)> = pages
                .parts
                .iter_mut()
                .filter(|(_, part)| part.dirty)
                .map(|(key, part)| {
                    part.dirty = false;
                    (*key, part.content(), part.version.clone())
                })
                .collect();
            (change, dirty)
        };
        let writes =
            dirty.into_iter().map(|(key, content, version)| self.write_part(cluster, key, content, version));
        let results: Vec<Result<(), Failure>> =
            futures::stream::iter(writes).buffer_unordered(4).collect().await;
        let failed = results.into_iter().find_map(Result::err);
        if let Some(failure) = failed {
            return Err(failure);
        }
        self.written.send_replace(change);
        Ok(())
    }

    async fn write_part(
        &self,
        cluster: &Cluster,
        key: (u8, u32),
        content: String,
        version: String,
    ) -> Result<(), Failure> {
        let result = self.replace(cluster, key, &content, &version).await;
        let failure = {
            let mut pages = self.pages();
            let Some(part) = pages.parts.get_mut(&key) else { return Ok(()) };
            match result {
                Ok(version) => {
                    part.version = version;
                    part.written = Some(Digest::of(content.as_bytes()));
                    return Ok(());
                }
                Err(failure) => {
                    part.dirty = true;
                    failure
                }
            }
        };
        if failure.is_conflict() {
            self.settle(cluster, key, &content).await?;
        }
        if failure.is_not_found() {
            // Either the namespace is not there yet, or somebody deleted the ConfigMap: it is made anew.
            make_namespace(cluster).await?;
            if let Some(part) = self.pages().parts.get_mut(&key) {
                part.version.clear();
            }
        }
        Err(failure)
    }

    async fn replace(
        &self,
        cluster: &Cluster,
        key: (u8, u32),
        content: &str,
        version: &str,
    ) -> Result<String, Failure> {
        let name = format!("{NAME}{}-{}", key.0, key.1);
        let mut metadata = json!({"name": name, "namespace": SYSTEM_NAMESPACE, "labels": {MARK: "1"}});
        let path =
            if version.is_empty() { Resource::inventory_path("") } else { Resource::inventory_path(&name) };
        let method = if version.is_empty() { Method::POST } else { Method::PUT };
        if !version.is_empty() {
            metadata["resourceVersion"] = version.into();
        }
        let body =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: content}});
        let call = Call::new(method, path.trim_end_matches('/')).body("application/json", body.to_string());
        let answer: flotilla_core::live::Live = cluster.ask(call).await?;
        Ok(answer.metadata.resource_version)
    }

    /// After a conflict: our own write whose answer was lost, a change that leaves the lines alone, or another writer,
    /// whose lines are taken in beside ours.
    async fn settle(&self, cluster: &Cluster, key: (u8, u32), wanted: &str) -> Result<(), Failure> {
        let name = format!("{NAME}{}-{}", key.0, key.1);
        let there: Option<ConfigMap> = match cluster.get_path(Resource::inventory_path(&name)).await {
            Err(failure) if failure.is_not_found() => None,
            other => Some(other?),
        };
        let mut pages = self.pages();
        let Some(mut part) = pages.parts.remove(&key) else { return Ok(()) };
        match there {
            None => part.version.clear(),
            Some(map) => {
                let content = map.data.get(KEY).map(String::as_str).unwrap_or_default();
                part.version = map.metadata.resource_version;
                let digest = Digest::of(content.as_bytes());
                if content != wanted && part.written != Some(digest) {
                    pages.contended = true;
                    for text in content.lines() {
                        match serde_json::from_str::<Line>(text) {
                            Ok(line) => {
                                let id = (!line.k.is_empty()).then(|| ObjectId {
                                    group: line.g.clone(),
                                    kind: line.k.clone(),
                                    namespace: line.ns.clone(),
                                    name: line.n.clone(),
                                });
                                if !part.lines.contains_key(&(line.u.clone(), id)) {
                                    pages.take(key, &mut part, line);
                                }
                            }
                            Err(_) if part.opaque.iter().any(|known| known == text) => {}
                            Err(error) => {
                                pages.damage =
                                    Some(format!("a line of {name} that somebody else wrote: {error}"));
                                part.opaque.push(text.to_owned());
                            }
                        }
                    }
                    part.bytes = part.content().len();
                }
            }
        }
        pages.parts.insert(key, part);
        Ok(())
    }
}

/// Makes the agent's namespace where it is missing; looks first, so that nothing is written for nothing.
async fn make_namespace(cluster: &Cluster) -> Result<(), Failure> {
    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}");
    match cluster.get_path::<flotilla_core::live::Live>(path).await {
        Err(failure) if failure.is_not_found() => {}
        other => return other.map(drop),
    }
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}});
    match cluster
        .send(Call::new(Method::POST, "/api/v1/namespaces").body("application/json", body.to_string()))
        .await
    {
        Err(failure) if !failure.is_conflict() => Err(failure),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(maps: Vec<ConfigMap>) -> Book {
        let mut pages = Pages::default();
        for map in maps {
            pages.read(map);
        }
        Book {
            pages: Mutex::new(pages),
            wake: Notify::new(),
            asked: Notify::new(),
            written: watch::channel(0).0,
            trouble: watch::channel(String::new()).0,
        }
    }

    fn member(name: &str, uid: Option<&str>) -> Member {
        let id = ObjectId {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "n".into(),
            name: name.into(),
        };
        Member { object: ObjectRef { id, version: "v1".into() }, uid: uid.map(|uid| Uid(uid.into())) }
    }

    fn maps(book: &Book) -> Vec<ConfigMap> {
        let map = |((bucket, number), part): (&(u8, u32), &Part)| ConfigMap {
            metadata: flotilla_core::live::Metadata {
                name: format!("{NAME}{bucket}-{number}"),
                ..Default::default()
            },
            data: BTreeMap::from([(KEY.to_owned(), part.content())]),
        };
        book.pages().parts.iter().map(map).collect()
    }

    #[test]
    fn what_is_written_reads_back_and_lines_stay_in_their_part() {
        let unit = UnitId::kustomization("flux-system", "apps");
        let one = book(vec![]);
        let links = Links { parent: Some(UnitId::root()), depends_on: vec![UnitId::kustomization("a", "b")] };
        one.list(&unit, Some(&links), (0..9000).map(|i| member(&format!("object-{i:05}"), None)));
        assert_eq!(one.pages().parts.len(), 2, "it takes more than one part");
        assert!(maps(&one).iter().all(|map| map.data[KEY].len() <= PART_BYTES));
        let place =
            |book: &Book| book.pages().places[&(unit.clone(), Some(member("object-08999", None).object.id))];
        let before = place(&one);
        one.list(&unit, None, [member("object-08999", Some("u"))]);
        one.unlist(
            &unit,
            &(0..4000).map(|i| member(&format!("object-{i:05}"), None).object.id).collect(),
            false,
        );
        assert_eq!(place(&one), before);

        let two = book(maps(&one));
        assert_eq!(two.damage(), None);
        let sorted = |book: &Book| {
            let mut inventory = book.view(Clone::clone);
            for unit in inventory.units.values_mut() {
                unit.members.sort_by(|a, b| a.object.cmp(&b.object));
            }
            inventory
        };
        assert_eq!(sorted(&two), sorted(&one));
        assert_eq!(two.view(|inventory| inventory.units[&unit].links.clone()), links);
        let bytes = |book: &Book| book.pages().parts.values().map(|part| part.bytes).collect::<Vec<_>>();
        assert_eq!(bytes(&two), bytes(&one), "the sizes are kept right");
    }

    #[test]
    fn an_intent_does_not_wipe_a_uid_and_a_shared_object_leaves_one_list_at_a_time() {
        let (a, b) = (UnitId::kustomization("f", "a"), UnitId::kustomization("f", "b"));
        let book = book(vec![]);
        book.list(&a, None, [member("x", Some("u"))]);
        book.list(&a, None, [member("x", None)]);
        assert_eq!(book.view(|inventory| inventory.units[&a].members[0].uid.clone()), Some(Uid("u".into())));
        book.list(&b, None, [member("x", Some("u"))]);
        let object = member("x", None).object.id;
        assert!(book.unlist_shared(&a, &object));
        assert!(!book.unlist_shared(&b, &object), "it is the last");
        book.unlist(&b, &BTreeSet::from([object]), true);
        assert!(book.view(|inventory| !inventory.units.contains_key(&b)));
    }

    #[test]
    fn what_cannot_be_read_is_damage_and_survives_a_write() {
        let unit = UnitId::kustomization("f", "a");
        let good = text(&line_of(&unit, &member("x", None)));
        let name = format!("{NAME}{}-0", bucket(&unit));
        let map = |content: &str| ConfigMap {
            metadata: flotilla_core::live::Metadata { name: name.clone(), ..Default::default() },
            data: BTreeMap::from([(KEY.to_owned(), content.to_owned())]),
        };
        let book = book(vec![map(&format!("{good}\n{{\"from\":\"the future\"}}\n"))]);
        assert!(
            book.damage().unwrap().starts_with("line 2 of ConfigMap flotilla-system/flotilla-inventory-")
        );
        book.list(&unit, None, [member("y", None)]);
        assert!(maps(&book)[0].data[KEY].contains("the future"));
    }
}
