//! Which units a pipeline promotes.

use std::fmt;
use std::str::FromStr;

use flotilla_core::UnitId;
use flotilla_core::glob::Pattern;
use serde::{Deserialize, Serialize};

/// How deep units nest at most.
const MAX_DEPTH: usize = 64;

/// A pattern of unit ids, `KIND/NAMESPACE/NAME`, each part with `*`, `?` and `[a-z]`; `root` for the root unit.
/// `NAMESPACE/NAME` is short for a Kustomization, as it is where units are named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitPattern(String);

/// A text that is no pattern of units.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' selects no unit: expected root, [KIND/]NAMESPACE/NAME, or such a pattern as helmrelease/*/ingress-*"
)]
pub struct InvalidPattern(String);

impl UnitPattern {
    pub fn matches(&self, unit: &UnitId) -> bool {
        self.matches_text(&unit.to_string())
    }

    fn matches_text(&self, unit: &str) -> bool {
        Pattern::new(&self.0).matches(unit)
    }
}

impl FromStr for UnitPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let parts: Vec<&str> = text.split('/').collect();
        let full = match parts[..] {
            ["root"] => text.to_owned(),
            [namespace, name] if !namespace.is_empty() && !name.is_empty() => format!("kustomization/{text}"),
            [kind, namespace, name] if ![kind, namespace, name].contains(&"") => text.to_owned(),
            _ => return Err(InvalidPattern(text.to_owned())),
        };
        // One that is not well formed would match nothing, and its units would run the newest.
        let is_well_formed = full.len() <= 512 && Pattern::new(&full).is_well_formed();
        if is_well_formed { Ok(Self(full)) } else { Err(InvalidPattern(text.to_owned())) }
    }
}

impl TryFrom<String> for UnitPattern {
    type Error = InvalidPattern;

    fn try_from(text: String) -> Result<Self, InvalidPattern> {
        text.parse()
    }
}

impl From<UnitPattern> for String {
    fn from(pattern: UnitPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for UnitPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The units that a pipeline promotes, each with all that it defines. The nearest pattern counts: `except` on a unit's parent
/// leaves the unit out unless the unit itself is in `include`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnitSelection {
    pub include: Vec<UnitPattern>,
    pub except: Vec<UnitPattern>,
}

impl UnitSelection {
    /// Whether a unit is promoted. `parent` gives the unit that defines a unit.
    pub fn selects<'a>(&self, unit: &'a UnitId, parent: impl Fn(&UnitId) -> Option<&'a UnitId>) -> bool {
        let mut at = Some(unit);
        for _ in 0..MAX_DEPTH {
            let Some(unit) = at else { return false };
            if let Some(is_selected) = self.names(unit) {
                return is_selected;
            }
            at = parent(unit);
        }
        false
    }

    /// Whether a unit is promoted by its own name; `None`: what defines it says.
    pub fn names(&self, unit: &UnitId) -> Option<bool> {
        let id = unit.to_string();
        let any = |patterns: &[UnitPattern]| patterns.iter().any(|pattern| pattern.matches_text(&id));
        if any(&self.except) { Some(false) } else { any(&self.include).then_some(true) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_select_units_with_all_that_they_define() {
        let root = UnitId::root();
        let apps = UnitId::kustomization("flux-system", "apps");
        let web = UnitId::helm_release("web", "shop");
        let parent = |unit: &UnitId| match unit {
            unit if *unit == web => Some(&apps),
            unit if *unit == apps => Some(&root),
            _ => None,
        };
        for (include, except, expected) in [
            ("root", "", [true, true, true]),
            ("flux-system/apps", "", [false, true, true]),
            ("*/*/*", "", [false, true, true]),
            ("helmrelease/*/sh*", "", [false, false, true]),
            ("flux-system/apps", "helmrelease/web/*", [false, true, false]),
            ("helmrelease/web/shop", "flux-system/apps", [false, false, true]),
            ("flux-system/other", "", [false, false, false]),
        ] {
            let patterns = |text: &str| text.split_whitespace().map(|one| one.parse().unwrap()).collect();
            let selection = UnitSelection { include: patterns(include), except: patterns(except) };
            let selected = [&root, &apps, &web].map(|unit| selection.selects(unit, parent));
            assert_eq!(selected, expected, "{include} except {except}");
        }
    }

    #[test]
    fn what_would_match_nothing_is_refused() {
        for text in ["", "apps", "a/b/c/d", "/apps", "a/[b", "a/[]", "a/b\\"] {
            assert!(text.parse::<UnitPattern>().is_err(), "{text}");
        }
    }
}
