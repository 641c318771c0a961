//! How far what a unit's output names may reach, and what reaches further: refused before anything of it is fetched, read
//! or given a place. See [`Authority`].

use std::collections::BTreeSet;
use std::fmt::Display;

use flotilla_core::UnitId;
use flotilla_core::authority::Authority;
use flotilla_core::report::Problem;

use super::{Pending, Walk};
use crate::content::Content;
use crate::flux::{EVERYTHING, NAMESPACES};
use crate::source::fleet_source;

impl Walk<'_> {
    /// The authority of what a unit's output defines: at most what defined the unit has; and where its files are not those
    /// of the fleet repo, the namespace of its account, and those that its definition allows it by annotation.
    pub(super) fn authority(&self, pending: &Pending) -> Authority {
        let Pending { definition, bound, .. } = pending;
        let by_fleet = bound.is_fleet() && definition.source == fleet_source();
        match self.account(pending) {
            Some(account) if !by_fleet && !definition.namespaces.contains(EVERYTHING) => {
                let namespaces: BTreeSet<String> =
                    definition.namespaces.iter().cloned().chain([account.namespace]).collect();
                bound.within(namespaces)
            }
            // Who has no account is applied as the agent itself.
            Some(_) | None => bound.clone(),
        }
    }

    /// Whether a unit of this authority may define another one.
    pub(super) fn may_define(&self, child: &UnitId, authority: &Authority) -> bool {
        authority.covers(&child.namespace) && (authority.is_fleet() || !self.reserved.units.contains(child))
    }

    /// Notes a name for the next walk that somebody else has already, who is bounded.
    pub(super) fn overrule(&mut self, child: &UnitId, authority: &Authority) {
        let other = self.definer(child).flatten();
        let other = other.and_then(|other| self.units.get(&other));
        if authority.is_fleet() && other.is_some_and(|other| !other.authority.is_fleet()) {
            self.overruled.insert(child.clone());
        }
    }

    /// What a unit may not define, as notices on it.
    pub(super) fn refuse_children(&self, unit: &UnitId, content: &Content) -> Vec<Problem> {
        let Some(authority) = self.units.get(unit).map(|unit| &unit.authority) else { return Vec::new() };
        let whole = content.children.iter().map(|child| (&child.id, child.file.clone(), child.line));
        let broken = content.broken_children.iter().map(|(child, problems)| {
            let (file, line) = problems.first().map(|p| (p.file.clone(), p.line)).unwrap_or_default();
            (child, file, line)
        });
        // What a unit says of itself defines nothing.
        let refused =
            whole.chain(broken).filter(|(child, ..)| *child != unit && !self.may_define(child, authority));
        let why = |child: &UnitId| match authority.covers(&child.namespace) {
            false => beyond(child, &child.namespace, unit, authority),
            true => format!("{child} is not taken from {unit}: a unit of the fleet repo defines it"),
        };
        refused.map(|(child, file, line)| Problem::error(file, line, why(child)).as_notice()).collect()
    }
}

/// Why something is not taken that a unit defines.
pub(crate) fn beyond(what: &dyn Display, namespace: &str, unit: &UnitId, authority: &Authority) -> String {
    format!(
        "{what} is not taken: {unit} is applied as a service account and may define what is in {authority}, not in \
         '{namespace}'; define it in the fleet repo, or allow {unit} the namespace there by the annotation {NAMESPACES}"
    )
}
