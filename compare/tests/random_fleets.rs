//! Random fleet repositories through our renderer and Flux's own packages: the same objects in the same units, and
//! the same values for the releases. More seeds: `cargo xtask bench flux-diff`.

use std::ops::Range;

use flotilla_compare::fleet;
use flotilla_compare::flux::{Flux, flux_or_skip};
use flotilla_compare::random;

/// As many as take some seconds.
const SEEDS: Range<u64> = 0..60;

#[test]
fn random_fleets_render_the_same() {
    let Some(program) = flux_or_skip() else { return };
    let mut flux = Flux::start(&program).expect("it starts");
    let (mut wrong, mut units, mut failing) = (Vec::new(), 0, 0);
    for seed in SEEDS {
        let (theirs, compared) = fleet::compare(&mut flux, &random::fleet::fleet(seed))
            .unwrap_or_else(|error| panic!("{seed}: {error:#}"));
        units += theirs.units.len() + theirs.releases.len();
        failing += theirs.units.values().filter(|unit| unit.is_err()).count();
        wrong.extend(compared.differences.into_iter().map(|line| format!("{seed} {line}")));
    }
    println!("{units} units and releases, {failing} fail in Flux");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    // A generator whose units fail compares little.
    assert!(failing * 3 < units, "{failing} of {units} fail");
}
