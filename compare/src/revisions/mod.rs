//! Pairs of revisions of a unit that an API server takes, with what others do to its objects before and in between; each
//! the same for its seed everywhere.
//!
//! ```text
//!   seed ─► History: made before ─► first revision ─► edits ─► second revision
//! ```
//!
//! Each field of an object is drawn by itself, from the seed and its path. The second revision draws some of them anew, so
//! that fields are changed, dropped and added, and items of lists are renamed, moved and merged by every key.

mod kinds;
mod pod;

pub use kinds::definition;

use serde_json::{Map, Value, json};

use crate::random::rng::Rng;

/// Stands for whose cluster it is in names, namespaces and groups.
pub const PLACE: &str = "pa-place";

const FLUX: &str = "kustomize.toolkit.fluxcd.io";

/// What happens to one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    pub seed: u64,
    /// The unit's `spec.force`.
    pub force: bool,
    /// Objects that somebody applied before.
    pub before: Vec<Edit>,
    pub first: Vec<Value>,
    pub edits: Vec<Edit>,
    pub second: Vec<Value>,
}

/// What somebody else does to an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit {
    pub manager: &'static str,
    pub what: Change,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Server-Side Apply by force.
    Apply(Value),
    /// A plain creation.
    Create(Value),
    /// A merge patch of the object that this one names.
    Patch(Value, Value),
    Delete(Value),
}

/// The history of a seed, with [`PLACE`] replaced.
pub fn history(seed: u64, place: &str) -> History {
    let mut history = History::of(seed);
    let put = |value: &mut Value| {
        *value = serde_json::from_str(&value.to_string().replace(PLACE, place)).unwrap_or_default();
    };
    history.first.iter_mut().chain(&mut history.second).for_each(put);
    for edit in history.before.iter_mut().chain(&mut history.edits) {
        match &mut edit.what {
            Change::Apply(value) | Change::Create(value) | Change::Delete(value) => put(value),
            Change::Patch(object, patch) => {
                put(object);
                put(patch);
            }
        }
    }
    history
}

/// Who edits: people with kubectl in its several ways, and controllers.
const EDITORS: [&str; 5] =
    ["kubectl-edit", "kubectl-client-side-apply", "kubectl", "some-operator", "before-first-apply"];

impl History {
    fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let force = rng.chance(50);
        let count = rng.between(1, 3);
        let mut history = Self {
            seed,
            force,
            before: Vec::new(),
            first: Vec::new(),
            edits: Vec::new(),
            second: Vec::new(),
        };
        let changes = *rng.pick(&[0, 15, 30, 60]);
        for index in 0..count {
            let kind = *rng.pick(&kinds::KINDS);
            let name = format!("{PLACE}-{seed}-{index}");
            let object = |revision: Revision| {
                let mut draw = Draw { seed: seed ^ (index as u64) << 56, path: String::new(), revision };
                kinds::object(&mut draw, kind, &name)
            };
            let (first, second) = (object(Revision::First), object(Revision::Second(changes)));
            let fixed = kinds::fixed_in(kind, &first) && !force && !says(&second, "force", "enabled");
            let second = if fixed { first.clone() } else { second };
            if rng.chance(20) {
                let mut there = object(Revision::Second(50));
                without_wishes(&mut there);
                if kinds::fixed_in(kind, &there) {
                    there = first.clone();
                    without_wishes(&mut there);
                }
                history.before.push(match rng.below(3) {
                    0 => Edit { manager: "kubectl", what: Change::Apply(there) },
                    1 => Edit { manager: "kubectl-client-side-apply", what: Change::Create(there) },
                    _ => Edit { manager: "some-operator", what: Change::Apply(there) },
                });
            }
            if rng.chance(40) {
                let manager = *rng.pick(&EDITORS);
                let what = if rng.chance(15) {
                    Change::Delete(first.clone())
                } else {
                    let patch = kinds::edit(&mut rng, kind);
                    Change::Patch(first.clone(), patch)
                };
                history.edits.push(Edit { manager, what });
            }
            match rng.below(12) {
                0 => history.first.push(first),
                1 => history.second.push(second),
                _ => {
                    history.first.push(first);
                    history.second.push(second);
                }
            }
        }
        let is_there = |edit: &Edit| match &edit.what {
            Change::Apply(object)
            | Change::Create(object)
            | Change::Patch(object, _)
            | Change::Delete(object) => history.first.iter().any(|one| name_of(one) == name_of(object)),
        };
        history.edits = history.edits.iter().filter(|edit| is_there(edit)).cloned().collect();
        // A unit of nothing is not pruned without a word, which is a guard of ours.
        let keep = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("{PLACE}-{seed}-keep"), "namespace": PLACE}});
        history.first.push(keep.clone());
        history.second.push(keep);
        history
    }

    /// Every object that anybody names, each once.
    pub fn objects(&self) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        let applied = self.before.iter().filter_map(|edit| match &edit.what {
            Change::Apply(object) | Change::Create(object) => Some(object),
            Change::Patch(..) | Change::Delete(_) => None,
        });
        for object in self.first.iter().chain(&self.second).chain(applied) {
            if !all.iter().any(|one| name_of(one) == name_of(object)) {
                all.push(object.clone());
            }
        }
        all
    }
}

/// Kind and name.
fn name_of(object: &Value) -> (&Value, &Value) {
    (&object["kind"], &object["metadata"]["name"])
}

fn says(object: &Value, word: &str, value: &str) -> bool {
    let key = format!("{FLUX}/{word}");
    ["labels", "annotations"].iter().any(|place| {
        object["metadata"][place][&key].as_str().is_some_and(|text| text.eq_ignore_ascii_case(value))
    })
}

/// Only a unit's own objects ask for anything.
fn without_wishes(object: &mut Value) {
    for place in ["/metadata/labels", "/metadata/annotations"] {
        if let Some(map) = object.pointer_mut(place).and_then(Value::as_object_mut) {
            map.retain(|key, _| !key.starts_with(FLUX));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revision {
    First,
    /// So many fields of a hundred are drawn anew.
    Second(u64),
}

/// Draws fields, each by its path.
struct Draw {
    seed: u64,
    path: String,
    revision: Revision,
}

impl Draw {
    /// The numbers for a field.
    fn rng(&self, field: &str) -> Rng {
        let hash = |salt: u64| {
            let text = format!("{}/{field}", self.path);
            text.bytes().fold(self.seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15), |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            })
        };
        let again = match self.revision {
            Revision::First => false,
            Revision::Second(percent) => Rng::new(hash(1)).chance(percent),
        };
        Rng::new(hash(if again { 2 } else { 0 }))
    }

    /// With the path of what is inside a field.
    fn inside<T>(&mut self, field: &str, make: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push('/');
        self.path.push_str(field);
        let made = make(self);
        self.path.truncate(length);
        made
    }

    /// A field of a map, there so many times of a hundred.
    fn maybe(
        &mut self,
        map: &mut Value,
        field: &str,
        percent: u64,
        make: impl FnOnce(&mut Self, &mut Rng) -> Value,
    ) {
        let mut rng = self.rng(field);
        if rng.chance(percent) {
            map[field] = self.inside(field, |draw| make(draw, &mut rng));
        }
    }

    /// One of some values, or none, so many times of a hundred.
    fn one_of(&mut self, map: &mut Value, field: &str, percent: u64, some: &[Value]) {
        self.maybe(map, field, percent, |_, rng| rng.pick(some).clone());
    }

    /// Some of these items in any order, each drawn by its own name, which is where its key comes from.
    fn items(
        &mut self,
        field: &str,
        names: &[&'static str],
        least: usize,
        make: impl Fn(&mut Self, &'static str) -> Value,
    ) -> Value {
        let mut rng = self.rng(field);
        let mut left = names.to_vec();
        let mut items = Vec::new();
        for _ in 0..rng.between(least, names.len().min(3)) {
            let name = left.remove(rng.below(left.len()));
            items.push(self.inside(&format!("{field}/{name}"), |draw| make(draw, name)));
        }
        Value::Array(items)
    }

    /// A map of texts.
    fn texts(&mut self, field: &str, most: usize) -> Value {
        let mut map = Map::new();
        for key in ["a", "b", "c", "d.e", "f"].iter().take(most) {
            let mut rng = self.rng(&format!("{field}/{key}"));
            if rng.chance(50) {
                map.insert((*key).to_owned(), rng.word(&["1", "2", "", "x y\n", "true"]).into());
            }
        }
        Value::Object(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_the_same_again_and_nothing_stands_still_for_ever() {
        let (mut changed, mut pruned, mut edited) = (0, 0, 0);
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let one = history(seed, "pa-a");
            assert_eq!(one, history(seed, "pa-a"));
            assert!(!format!("{one:?}").contains(PLACE));
            for object in one.objects() {
                kinds.insert(object["kind"].to_string());
            }
            changed += usize::from(one.first != one.second);
            pruned += usize::from(one.first.len() > one.second.len());
            edited += usize::from(!one.edits.is_empty());
        }
        assert!(changed > 200 && pruned > 20 && edited > 100, "{changed} {pruned} {edited}");
        let all = std::collections::BTreeSet::from(kinds::KINDS);
        assert!(kinds.len() >= all.len(), "{kinds:?}");
    }
}
