//! What a cluster runs of a pipeline's units, by what was published and what its agent tells. Pure.

use flotilla_core::report::{Phase, Timestamp};
use flotilla_core::{Digest, UnitId};
use flotilla_rollout::{Health, Report};

use crate::session::Units;

/// What was published of a pipeline's units in one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// Of the assignment; 0: of none.
    pub(super) revision: u64,
    pub(super) digest: Digest,
    /// Each unit with what it comes to and with the digest that the agent knows it by; `None`: one of them is held.
    pub(super) units: Option<Vec<(UnitId, Digest, Digest)>>,
}

/// What an agent said last, and since when it has been saying so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) report: Report,
    /// When a unit's phase last changed, by the agent's clock: what went and came back between two looks was not healthy on end.
    mark: Timestamp,
}

/// The failed units that are named at most.
const MAX_FAILED: usize = 16;

/// What the agent says of what it was told.
pub(super) fn hear(told: &Told, units: &Units, before: Option<&Heard>, now: i64) -> Heard {
    let (mut is_on, mut is_ready) = (told.units.is_some(), true);
    let mut failed = Vec::new();
    let mut said = Vec::new();
    let mut mark = Timestamp::MIN;
    for (id, content, digest) in told.units.iter().flatten() {
        let report = units.get(id);
        let desired = report.and_then(|report| report.desired);
        said.push((id.to_string(), desired));
        is_on &= desired == Some(*digest);
        let Some(report) = report else { continue };
        mark = mark.max(report.since);
        match report.phase {
            Phase::Ready => is_ready &= report.applied == Some(*digest),
            Phase::Failed if failed.len() < MAX_FAILED => failed.push((id.clone(), *content)),
            _ => is_ready = false,
        }
    }
    let other = || {
        let parts = said.iter().flat_map(|(id, desired)| {
            [id.as_bytes(), desired.as_ref().map_or(&b""[..], |digest| &digest.as_bytes()[..])]
        });
        Digest::of_parts([&b"not what was published"[..]].into_iter().chain(parts))
    };
    let (digest, health) = match is_on {
        true if !failed.is_empty() => (told.digest, Health::Failed { units: failed }),
        true if is_ready => (told.digest, Health::Healthy),
        true => (told.digest, Health::Progressing),
        false => (other(), Health::Progressing),
    };
    let is_same = |before: &&Heard| {
        before.mark == mark && before.report.digest == digest && before.report.health == health
    };
    let since = before.filter(is_same).map_or(now, |before| before.report.since);
    Heard { report: Report { digest, health, since }, mark }
}

#[cfg(test)]
mod tests {
    use flotilla_core::report::UnitReport;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn id() -> UnitId {
        UnitId::kustomization("flux-system", "app")
    }

    fn units(phase: Phase, desired: &str, applied: &str, since: i64) -> Units {
        let mut report = UnitReport::new(id(), phase, "", since);
        (report.desired, report.applied) = (Some(digest(desired)), Some(digest(applied)));
        Units::of([report])
    }

    #[test]
    fn only_what_was_published_counts_and_only_on_end() {
        let (content, sent) = (digest("content"), digest("sent"));
        let told = Told { revision: 1, digest: digest("all"), units: Some(vec![(id(), content, sent)]) };
        for (phase, desired, applied, is_on, expected) in [
            (Phase::Ready, "sent", "sent", true, Health::Healthy),
            (Phase::Ready, "sent", "old", true, Health::Progressing),
            (Phase::Ready, "old", "old", false, Health::Progressing),
            (Phase::Applying, "sent", "old", true, Health::Progressing),
            (Phase::Suspended, "sent", "old", true, Health::Progressing),
            (Phase::Failed, "sent", "old", true, Health::Failed { units: vec![(id(), content)] }),
            (Phase::Failed, "old", "old", false, Health::Progressing),
        ] {
            let heard = hear(&told, &units(phase, desired, applied, 5), None, 10).report;
            assert_eq!((heard.digest == told.digest, heard.health), (is_on, expected), "{phase} {desired}");
        }
        let first = hear(&told, &units(Phase::Ready, "sent", "sent", 5), None, 10);
        let same = hear(&told, &units(Phase::Ready, "sent", "sent", 5), Some(&first), 20);
        assert_eq!(same.report.since, 10);
        let flapped = hear(&told, &units(Phase::Ready, "sent", "sent", 6), Some(&same), 30);
        assert_eq!(flapped.report.since, 30, "it was something else in between");
        let nothing = hear(&told, &Units::default(), None, 1).report;
        assert_ne!(nothing.digest, told.digest);
        let held = Told { units: None, ..told };
        assert_ne!(hear(&held, &units(Phase::Ready, "sent", "sent", 5), None, 1).report.digest, held.digest);
    }
}
