//! What a change of the fleet would take away, judged before anything of that is published.
//!
//! ```text
//!   Declared (what is published) ─┐
//!   units of the candidate ───────┴─► Loss, of each cluster ─┐
//!   Tally: what the same change took before ─────────────────┤
//!   Sizes: how large all was before it ──────────────────────┤
//!   Policy in force ─────────────────────────────────────────┴─► judge ─► findings, and the units to be held
//! ```
//!
//! The guards of an agent see one cluster. A merge that goes wrong takes a part of every cluster, and little enough of each to
//! pass them all. So nothing here stops what a single cluster loses, and nothing is lost by a move between units.

mod declared;
mod judge;
mod kind;
mod loss;
mod policy;
#[cfg(test)]
mod properties;
mod sizes;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod word_tests;

pub use declared::Declared;
pub use judge::{Finding, FleetSize, Judged, Lint, Severity, Whose, judge};
pub use kind::{InvalidKind, KindName};
pub use loss::{Going, Loss, Losses, Taken, Tallies, Tally, UnitLoss, digest};
pub use policy::{InForce, Limit, Next, Policy};
pub use sizes::Sizes;
