//! The inventory as lines: which line stands in which part, how it reads and how it is written.

use std::collections::BTreeMap;

use flotilla_core::inventory::{Inventory, Member, Uid};
use flotilla_core::order::Links;
use flotilla_core::{Digest, ObjectId, ObjectRef, UnitId};
use serde::{Deserialize, Serialize};

use super::super::SYSTEM_NAMESPACE;
use super::{BUCKETS, KEY, NAME, PART_BYTES};

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
}

/// One ConfigMap.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) lines: BTreeMap<Place, Line>,
    /// Lines that we cannot read, kept as they are.
    pub(super) opaque: Vec<String>,
    pub(super) bytes: usize,
    /// Empty until the ConfigMap is there.
    pub(super) version: String,
    /// What we wrote last, to tell our own write from another's.
    pub(super) written: Option<Digest>,
    pub(super) dirty: bool,
}

#[derive(Default)]
pub(super) struct Pages {
    pub(super) parts: BTreeMap<(u8, u32), Part>,
    pub(super) places: BTreeMap<Place, u32>,
    pub(super) inventory: Inventory,
    pub(super) change: u64,
    pub(super) damage: Option<String>,
    pub(super) contended: bool,
}

#[derive(Deserialize)]
pub(super) struct ConfigMaps {
    pub(super) items: Option<Vec<ConfigMap>>,
}

#[derive(Deserialize)]
pub(super) struct ConfigMap {
    pub(super) metadata: flotilla_core::live::Metadata,
    #[serde(default)]
    pub(super) data: BTreeMap<String, String>,
}

pub(super) fn bucket(unit: &UnitId) -> u8 {
    Digest::of(unit.to_string().as_bytes()).as_bytes()[0] % BUCKETS
}

pub(super) fn line_of(unit: &UnitId, member: &Member) -> Line {
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
        account: None,
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
    }
}

pub(super) fn text(line: &Line) -> String {
    serde_json::to_string(line).expect("a line has a JSON text")
}

impl Pages {
    pub(super) fn read(&mut self, map: ConfigMap) {
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

    pub(super) fn take(&mut self, key: (u8, u32), part: &mut Part, line: Line) {
        let unit = self.inventory.units.entry(line.u.clone()).or_default();
        let place = if line.k.is_empty() {
            // An account that cannot be read is not the agent itself.
            match line.account.as_deref().map(str::parse).transpose() {
                Ok(account) => {
                    let (parent, depends_on) = (line.parent.clone(), line.depends_on.clone());
                    unit.links = Links { parent, depends_on, account };
                }
                Err(error) => self.damage = Some(format!("the account of {}: {error}", line.u)),
            }
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
            unit.list(&member);
            (line.u.clone(), Some(id))
        };
        self.places.insert(place.clone(), key.1);
        part.lines.insert(place, line);
    }

    pub(super) fn put(&mut self, place: Place, line: Line) -> bool {
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

    pub(super) fn drop_line(&mut self, place: &Place) {
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
    pub(super) fn content(&self) -> String {
        let mut content = String::with_capacity(self.bytes + 64);
        for text in self.lines.values().map(text).chain(self.opaque.iter().cloned()) {
            content.push_str(&text);
            content.push('\n');
        }
        content
    }
}
