//! The inventory as lines: which line stands in which part, how it reads and how it is written. Lines are made when
//! they are written: what is kept is the inventory itself, and where a line stands if that is not the first part.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use flotilla_core::inventory::{Held, Inventory, Member, Uid};
use flotilla_core::order::Links;
use flotilla_core::{Digest, ObjectId, ObjectRef, UnitId};
use serde::{Deserialize, Serialize};

use super::super::SYSTEM_NAMESPACE;
use super::super::request::items;
use super::{BUCKETS, KEY, NAME, PART_BYTES};

/// So many contents are remembered that may have been written.
const SENT: usize = 32;

/// A bucket and the number of a part in it.
pub(super) type Key = (u8, u32);

/// A line's place: the unit, and the object; none for the line of the unit itself.
pub(super) type Place = (UnitId, Option<ObjectId>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) u: UnitId,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) g: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) v: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) k: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) ns: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) n: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<UnitId>,
    #[serde(default, rename = "dependsOn", skip_serializing_if = "Vec::is_empty")]
    pub(super) depends_on: Vec<UnitId>,
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) place: Option<Digest>,
}

/// One ConfigMap; its lines are those of the inventory whose place it is.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Lines that we cannot read, kept as they are.
    pub(super) opaque: Vec<String>,
    pub(super) bytes: usize,
    /// Empty until the ConfigMap is there.
    pub(super) version: String,
    /// What we wrote last, to tell our own write from another's.
    pub(super) written: Option<Digest>,
    /// What we sent since, of which nobody said whether it was written; the oldest is first.
    pub(super) sent: VecDeque<Digest>,
    pub(super) dirty: bool,
    /// The number of its last change that nothing may go on without: of a new line, or one that lost its uid.
    pub(super) due: u64,
}

impl Part {
    /// Something is about to be sent.
    pub(super) fn sends(&mut self, content: &str) {
        let digest = Digest::of(content.as_bytes());
        if !self.sent.contains(&digest) {
            if self.sent.len() == SENT {
                self.sent.pop_front();
            }
            self.sent.push_back(digest);
        }
    }

    /// It was written, as this version.
    pub(super) fn wrote(&mut self, content: &str, version: String) {
        self.version = version;
        self.written = Some(Digest::of(content.as_bytes()));
        self.sent.clear();
    }

    /// Whether we may have written this.
    fn is_ours(&self, content: &str) -> bool {
        let digest = Digest::of(content.as_bytes());
        self.written == Some(digest) || self.sent.contains(&digest)
    }
}

#[derive(Default)]
pub(super) struct Pages {
    pub(super) parts: BTreeMap<Key, Part>,
    /// The numbers of the parts of lines that do not stand in part 0; few clusters have any.
    later: BTreeMap<Place, u32>,
    /// Units with a line of their own.
    linked: BTreeSet<UnitId>,
    pub(super) inventory: Inventory,
    pub(super) change: u64,
    pub(super) damage: Option<String>,
    pub(super) contended: bool,
}

#[derive(Deserialize)]
pub(super) struct ConfigMaps {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(deserialize_with = "items")]
    pub(super) items: Vec<ConfigMap>,
}

#[derive(Deserialize)]
pub(super) struct ConfigMap {
    pub(super) metadata: flotilla_core::live::Metadata,
    #[serde(default)]
    pub(super) data: BTreeMap<String, String>,
}

/// What a part's ConfigMap is called.
pub(super) fn name_of(key: Key) -> String {
    format!("{NAME}{}-{}", key.0, key.1)
}

pub(super) fn bucket(unit: &UnitId) -> u8 {
    Digest::of(unit.to_string().as_bytes()).as_bytes()[0] % BUCKETS
}

pub(super) fn line_of(unit: &UnitId, member: &Member) -> Line {
    let ObjectRef { id, version } = &member.object;
    Line {
        u: unit.clone(),
        g: id.group.clone(),
        v: version.to_string(),
        k: id.kind.clone(),
        ns: id.namespace.clone(),
        n: id.name.clone(),
        uid: member.uid.as_ref().map(Uid::to_string),
        parent: None,
        depends_on: Vec::new(),
        account: None,
        place: None,
    }
}

pub(super) fn unit_line(unit: &UnitId, links: &Links) -> Line {
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
        account: links.account.as_ref().map(ToString::to_string),
        place: links.place,
    }
}

pub(super) fn text(line: &Line) -> String {
    serde_json::to_string(line).expect("a line has a JSON text")
}

/// What a line takes in its part.
fn length(line: &Line) -> usize {
    text(line).len() + 1
}

impl Pages {
    pub(super) fn read(&mut self, map: ConfigMap) {
        let name = &map.metadata.name;
        let numbers = name.strip_prefix(NAME).and_then(|rest| rest.split_once('-'));
        let key =
            numbers.and_then(|(bucket, part)| Some((bucket.parse::<u8>().ok()?, part.parse::<u32>().ok()?)));
        let Some(key) = key else {
            let what = format!(
                "ConfigMap {SYSTEM_NAMESPACE}/{name} is labelled as a part of the inventory, and is not one"
            );
            self.damage = Some(what);
            return;
        };
        let mut part = Part { version: map.metadata.resource_version, ..Part::default() };
        match map.data.get(KEY) {
            None => self.damage = Some(format!("ConfigMap {SYSTEM_NAMESPACE}/{name} has no data.{KEY}")),
            Some(content) => {
                part.bytes = content.len();
                part.written = Some(Digest::of(content.as_bytes()));
                for (number, text) in content.lines().enumerate() {
                    match serde_json::from_str::<Line>(text) {
                        Ok(line) if line.k.is_empty() != line.n.is_empty() => {
                            self.damage =
                                Some(format!("line {} of {name} names an object incompletely", number + 1));
                            part.opaque.push(text.to_owned());
                        }
                        Ok(line) => self.take(key, line),
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

    /// Whether the inventory has a line of this place.
    pub(super) fn knows(&self, line: &Line) -> bool {
        match line.object() {
            None => self.linked.contains(&line.u),
            Some(id) => self.inventory.units.get(&line.u).is_some_and(|unit| unit.members.contains_key(&id)),
        }
    }

    /// Takes a line that was read in a part.
    pub(super) fn take(&mut self, key: Key, line: Line) {
        let object = line.object();
        let unit = self.inventory.units.entry(line.u.clone()).or_default();
        let place = match object {
            None => {
                let place = line.place;
                // An account that cannot be read is not the agent itself.
                match line.account.as_deref().map(str::parse).transpose() {
                    Ok(account) => {
                        let (parent, depends_on) = (line.parent, line.depends_on);
                        unit.links = Links { parent, depends_on, account, place };
                    }
                    Err(error) => self.damage = Some(format!("the account of {}: {error}", line.u)),
                }
                self.linked.insert(line.u.clone());
                (line.u, None)
            }
            Some(id) => {
                unit.members
                    .insert(id.clone(), Held { version: line.v.into(), uid: line.uid.map(Uid::from) });
                (line.u, Some(id))
            }
        };
        self.place(place, key.1);
    }

    fn place(&mut self, place: Place, number: u32) {
        match number {
            0 => self.later.remove(&place),
            _ => self.later.insert(place, number),
        };
    }

    /// The number of the part that a line stands in.
    pub(super) fn number(&self, place: &Place) -> u32 {
        self.later.get(place).copied().unwrap_or_default()
    }

    fn number_of(&self, unit: &UnitId, object: Option<&ObjectId>) -> u32 {
        // Looking a place up costs two clones, and most clusters have no later part.
        if self.later.is_empty() { 0 } else { self.number(&(unit.clone(), object.cloned())) }
    }

    /// Sets a unit's links; true if that changes its line.
    pub(super) fn put_unit(&mut self, unit: &UnitId, links: &Links) -> bool {
        let known = self.inventory.units.entry(unit.clone()).or_default();
        let old = self.linked.contains(unit).then(|| unit_line(unit, &known.links));
        let new = unit_line(unit, links);
        known.links = links.clone();
        self.linked.insert(unit.clone());
        self.written_anew((unit.clone(), None), old.as_ref(), &new)
    }

    /// Sets a member of a unit; a uid that is known is kept where none is given. True if that changes its line.
    ///
    /// A uid is of what was just applied. If others list the object as it was before somebody made another of its name, the
    /// last one that lets it go would take the one that is there for a stranger's, and leave it behind.
    pub(super) fn put_member(&mut self, unit: &UnitId, member: &Member) -> bool {
        let mut changed = self.put_one(unit, member);
        if let Some(uid) = &member.uid {
            let is_old = |other: &&UnitId| {
                let held = self.inventory.units.get(*other).and_then(|listed| listed.get(&member.object.id));
                held.is_some_and(|held| held.uid.is_some_and(|known| known != *uid))
            };
            let others: Vec<UnitId> =
                self.inventory.owners(&member.object.id).filter(is_old).cloned().collect();
            for other in others {
                changed |= self.put_one(&other, member);
            }
        }
        changed
    }

    /// Takes the uid off all lines of an object. True if that changes any.
    pub(super) fn drop_uid(&mut self, object: &ObjectId) -> bool {
        let owners: Vec<UnitId> = self.inventory.owners(object).cloned().collect();
        let mut changed = false;
        for unit in owners {
            let Some(listed) = self.inventory.units.get_mut(&unit) else { continue };
            let Some(old) = listed.get(object) else { continue };
            listed.members.get_mut(object).into_iter().for_each(|held| held.uid = None);
            let new = Member { uid: None, ..old.clone() };
            let place = (unit.clone(), Some(object.clone()));
            changed |= self.written_anew(place, Some(&line_of(&unit, &old)), &line_of(&unit, &new));
        }
        changed
    }

    fn put_one(&mut self, unit: &UnitId, member: &Member) -> bool {
        let listed = self.inventory.units.entry(unit.clone()).or_default();
        let id = &member.object.id;
        let old = listed.get(id).map(|old| line_of(unit, &old));
        listed.list(member);
        let Some(new) = listed.get(id).map(|new| line_of(unit, &new)) else { return false };
        self.written_anew((unit.clone(), Some(id.clone())), old.as_ref(), &new)
    }

    fn written_anew(&mut self, place: Place, old: Option<&Line>, new: &Line) -> bool {
        if old == Some(new) {
            return false;
        }
        let (bucket, taken) = (bucket(&place.0), length(new));
        let number = if old.is_some() { self.number(&place) } else { self.room(bucket, taken) };
        let part = self.parts.entry((bucket, number)).or_default();
        part.bytes += taken;
        part.bytes -= old.map_or(0, length).min(part.bytes);
        part.dirty = true;
        self.change += 1;
        let has_less = |old: &Line| old.uid.is_some() && new.uid.is_none();
        if place.1.is_none() || old.is_none_or(has_less) {
            part.due = self.change;
        }
        self.place(place, number);
        true
    }

    /// The last change of a line's part that has to be in the cluster before anything is done by the line.
    pub(super) fn due(&self, unit: &UnitId, object: Option<&ObjectId>) -> u64 {
        let key = (bucket(unit), self.number_of(unit, object));
        self.parts.get(&key).map_or(0, |part| part.due)
    }

    fn room(&self, bucket: u8, taken: usize) -> u32 {
        let has_room = |number: &u32| {
            self.parts.get(&(bucket, *number)).is_none_or(|part| part.bytes + taken <= PART_BYTES)
        };
        (0..).find(has_room).unwrap_or_default()
    }

    /// Takes a member off a unit's list.
    pub(super) fn drop_member(&mut self, unit: &UnitId, object: &ObjectId) {
        let Some(listed) = self.inventory.units.get_mut(unit) else { return };
        if let Some(member) = listed.get(object) {
            listed.members.remove(object);
            self.dropped((unit.clone(), Some(object.clone())), &line_of(unit, &member));
        }
    }

    /// Takes a unit without members off the list.
    pub(super) fn drop_unit(&mut self, unit: &UnitId) {
        let Some(listed) = self.inventory.units.remove(unit) else { return };
        if self.linked.remove(unit) {
            self.dropped((unit.clone(), None), &unit_line(unit, &listed.links));
        }
    }

    fn dropped(&mut self, place: Place, line: &Line) {
        let key = (bucket(&place.0), self.number(&place));
        self.later.remove(&place);
        if let Some(part) = self.parts.get_mut(&key) {
            part.bytes -= length(line).min(part.bytes);
            part.dirty = true;
            self.change += 1;
        }
    }

    /// The content of a part.
    pub(super) fn content(&self, key: Key) -> String {
        let part = self.parts.get(&key);
        let mut content = String::with_capacity(part.map_or(0, |part| part.bytes) + 64);
        let mut add = |text: &str| {
            content.push_str(text);
            content.push('\n');
        };
        let here = |unit: &UnitId, object: Option<&ObjectId>| self.number_of(unit, object) == key.1;
        for (unit, listed) in self.inventory.units.iter().filter(|(unit, _)| bucket(unit) == key.0) {
            if self.linked.contains(unit) && here(unit, None) {
                add(&text(&unit_line(unit, &listed.links)));
            }
            for member in listed.iter().filter(|member| here(unit, Some(&member.object.id))) {
                add(&text(&line_of(unit, &member)));
            }
        }
        for line in part.into_iter().flat_map(|part| &part.opaque) {
            add(line);
        }
        content
    }

    /// Takes what a conflict shows of a part: our own write whose answer was lost, a change that leaves the lines alone, or
    /// another writer's, whose lines are taken in beside ours.
    pub(super) fn take_conflict(&mut self, key: Key, there: Option<ConfigMap>) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        let Some(map) = there else {
            part.version.clear();
            return;
        };
        let content = map.data.get(KEY).map(String::as_str).unwrap_or_default();
        part.version = map.metadata.resource_version;
        if part.is_ours(content) {
            return;
        }
        self.contended = true;
        for text in content.lines() {
            match serde_json::from_str::<Line>(text) {
                Ok(line) if self.knows(&line) => {}
                Ok(line) => self.take(key, line),
                Err(error) => {
                    let part = self.parts.entry(key).or_default();
                    if !part.opaque.iter().any(|known| known == text) {
                        part.opaque.push(text.to_owned());
                        let name = &map.metadata.name;
                        self.damage = Some(format!("a line of {name} that somebody else wrote: {error}"));
                    }
                }
            }
        }
        self.settle(key);
    }

    /// After lines of others came into a part: its size.
    fn settle(&mut self, key: Key) {
        let bytes = self.content(key).len();
        if let Some(part) = self.parts.get_mut(&key) {
            part.bytes = bytes;
        }
    }

    /// Has equal identities share their text with these.
    pub(super) fn share(&mut self, ids: &HashSet<ObjectId>) {
        for unit in self.inventory.units.values_mut() {
            let members = std::mem::take(&mut unit.members).into_iter();
            unit.members = members.map(|(id, held)| (ids.get(&id).cloned().unwrap_or(id), held)).collect();
        }
    }
}

impl Line {
    /// The object that it lists; none for the line of a unit.
    fn object(&self) -> Option<ObjectId> {
        (!self.k.is_empty()).then(|| ObjectId::new(&self.g, &self.k, &self.ns, &self.n))
    }
}
