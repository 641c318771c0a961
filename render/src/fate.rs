//! What becomes of a unit that nothing defines any more: the one rule by which units leave a cluster. Pure.

use flotilla_core::UnitId;
use flotilla_core::desired::HoldCode;

use crate::cluster::ClusterRender;

/// What is known of a unit from when it was defined.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    pub parent: Option<&'a UnitId>,
    pub suspended: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is removed; `suspended`: it, or a unit above it that goes as well, was suspended, so its objects stay.
    Goes { suspended: bool },
    /// It is held, and why.
    Stays(HoldCode, String),
}

/// Parents above each other that are looked at. Units nest much less deep; what an agent reports may go on for ever.
const GENERATIONS: usize = 64;

/// What becomes of a unit that `render` does not have. `past` knows it and the units above it; `is_suspended` are those that
/// people suspended by hand. A parent removes it only if it rendered completely, is not suspended and does not define it.
pub fn fate<'a>(
    render: &ClusterRender,
    past: &dyn Fn(&UnitId) -> Option<Past<'a>>,
    is_suspended: &dyn Fn(&UnitId) -> bool,
    id: &UnitId,
) -> Fate {
    within(render, past, is_suspended, id, GENERATIONS)
}

/// `steps` bounds the way up through parents that are themselves gone (what an agent reports could form a circle).
fn within<'a>(
    render: &ClusterRender,
    past: &dyn Fn(&UnitId) -> Option<Past<'a>>,
    is_suspended: &dyn Fn(&UnitId) -> bool,
    id: &UnitId,
    steps: usize,
) -> Fate {
    let Some(Past { parent: Some(parent), suspended }) = past(id) else {
        return Fate::Stays(HoldCode::NoParent, String::new());
    };
    let held = |text| Fate::Stays(HoldCode::ParentHeld, text);
    let was_suspended = suspended || is_suspended(id);
    if render.units.contains_key(parent) {
        if is_suspended(parent) {
            return held(format!("{parent}, which defined it, is suspended"));
        }
        if render.dropped(parent, id) {
            return Fate::Goes { suspended: was_suspended };
        }
        return held(format!("{parent}, which defined it, does not render or is suspended"));
    }
    if steps == 0 {
        return held("its parents form a circle, or are too many".to_owned());
    }
    match within(render, past, is_suspended, parent, steps - 1) {
        Fate::Goes { suspended } => Fate::Goes { suspended: suspended || was_suspended },
        Fate::Stays(..) => held(format!("{parent}, which defined it, is held")),
    }
}
