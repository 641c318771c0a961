//! Fights: the same field of an object put back again and again, because somebody else sets it again and again.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flotilla_core::ObjectId;
use flotilla_core::report::Drift;
use tokio::time::Instant;

/// The same field put back so often within a window is a fight; from then on the object is put back once a window.
const FIGHT: u32 = 10;
const WINDOW: Duration = Duration::from_secs(120);
/// So many objects are looked after.
const MOST: usize = 1000;

/// What was put back lately in one unit.
#[derive(Default)]
pub(super) struct Fights(HashMap<ObjectId, Contest>);

struct Contest {
    since: Instant,
    /// How often each field was put back, and who had set it; under an empty name the object itself.
    fields: BTreeMap<String, (u32, Option<String>)>,
}

impl Contest {
    fn fought(&self) -> impl Iterator<Item = (&String, &Option<String>)> {
        self.fields
            .iter()
            .filter(|(_, (count, _))| *count >= FIGHT)
            .map(|(field, (_, manager))| (field, manager))
    }

    fn words(&self) -> Option<String> {
        let (field, manager) = self.fought().next()?;
        let more = self.fought().count() - 1;
        let what =
            if field.is_empty() { "it was deleted".to_owned() } else { format!("{field} was changed") };
        let hint = match field.is_empty() {
            true => {
                "; Kubernetes itself deletes objects whose ownerReferences all name owners that do not exist: leave ownerReferences out of Git"
            }
            false => "",
        };
        let who = manager.as_deref().unwrap_or("somebody");
        let and = if more > 0 { format!(" (and {more} fields more)") } else { String::new() };
        Some(format!(
            "{what} by {who} again and again{and}; it is reverted only every {} s, until one side stops{hint}",
            WINDOW.as_secs()
        ))
    }
}

impl Fights {
    /// Takes note of what was put back. The words for it, if that makes it a fight.
    pub(super) fn corrected(&mut self, drift: &Drift) -> Option<String> {
        let now = Instant::now();
        let new = || Contest { since: now, fields: BTreeMap::new() };
        let contest = self.0.entry(drift.object.clone()).or_insert_with(new);
        let before = contest.fought().count();
        if now - contest.since >= WINDOW {
            // Once fought over it stays so until a window passes in peace.
            contest.since = now;
            contest.fields.retain(|_, (count, _)| *count >= FIGHT);
        }
        let object = drift.fields.is_empty().then(|| (String::new(), None));
        let fields = drift.fields.iter().map(|field| (field.field.clone(), field.manager.clone()));
        for (field, manager) in fields.chain(object) {
            let (count, who) = contest.fields.entry(field).or_default();
            *count = count.saturating_add(1);
            *who = manager.or(who.take());
        }
        let news = (contest.fought().count() > before).then(|| contest.words()).flatten();
        if self.0.len() > MOST {
            self.0.retain(|_, contest| now - contest.since < WINDOW);
        }
        news
    }

    pub(super) fn is_fought(&self, object: &ObjectId) -> bool {
        self.0
            .get(object)
            .is_some_and(|contest| contest.fought().next().is_some() && contest.since.elapsed() < WINDOW)
    }

    /// The objects that are fought over, and how.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ObjectId, String)> {
        self.0.iter().filter_map(|(object, contest)| Some((object, contest.words()?)))
    }

    /// When the next of them may be put back.
    pub(super) fn due(&self) -> Option<Instant> {
        let fought = self.0.values().filter(|contest| contest.fought().next().is_some());
        fought.map(|contest| contest.since + WINDOW).min()
    }

    /// Windows that passed in peace are over.
    pub(super) fn pass(&mut self, now: Instant) {
        self.0.retain(|_, contest| contest.since + WINDOW > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_core::report::FieldDrift;

    fn drift(field: &str) -> Drift {
        let object = ObjectId::new("", "ConfigMap", "n", "x");
        let field =
            FieldDrift { field: field.into(), wanted: None, found: None, manager: Some("them".into()) };
        Drift { object, at: 0, fields: if field.field.is_empty() { vec![] } else { vec![field] } }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_times_the_same_field_is_a_fight_for_a_window() {
        let mut fights = Fights::default();
        for round in 0..9 {
            assert_eq!(fights.corrected(&drift(&format!("/data/{round}"))), None, "never the same");
            assert_eq!(fights.corrected(&drift("/data/a")), None);
        }
        let object = drift("").object;
        assert!(!fights.is_fought(&object) && fights.due().is_none());
        let words = fights.corrected(&drift("/data/a")).unwrap();
        assert!(words.starts_with("/data/a was changed by them again and again;"), "{words}");
        assert!(fights.is_fought(&object));
        assert_eq!(fights.corrected(&drift("/data/a")), None, "told once");
        let due = fights.due().unwrap();
        tokio::time::sleep_until(due).await;
        assert!(!fights.is_fought(&object), "one more try");
        assert_eq!(fights.corrected(&drift("/data/a")), None);
        assert!(fights.is_fought(&object), "still fought over");
        fights.pass(Instant::now() + WINDOW);
        assert!(fights.all().next().is_none());
    }
}
