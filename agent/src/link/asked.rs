//! What the hub wants to know of the cluster, and when each question is looked at: pure but for the clock of its rates.
//!
//! ```text
//!   set ──► due now ──► take ──► read ──► done ──► another reply than the hub has? tell
//!             ▲                             │ in LOOK_AGAIN, after a failure sooner
//!             └── changed (a watch), at the rate of its account ◄──┘
//! ```

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use flotilla_core::question::{Question, Reply, Subject};
use flotilla_core::{Digest, ServiceAccount};
use flotilla_runtime::Backoff;
use flotilla_runtime::limits::Bucket;
use rand::Rng;
use tokio::time::Instant;

use crate::sync::News;

/// More questions are nobody's.
const MOST: usize = 5_000;
/// So often each is looked at though nothing tells of a change: rights may have changed, a watch may be refused.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// After a look that failed.
const RETRY: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(120));
/// Changes of one object that are looked at: so many at once, and so many a second. Whoever writes it costs no more.
const BURST: u32 = 5;
const PER_SECOND: f64 = 0.1;
/// The same for all that is asked as one account.
const BURST_OF_ACCOUNT: u32 = 100;
const PER_SECOND_OF_ACCOUNT: f64 = 1.0;

/// By account.
type Rates = HashMap<Option<ServiceAccount>, Bucket>;

/// The questions of one stream.
#[derive(Debug, Default)]
pub(super) struct Asked {
    questions: BTreeMap<Question, State>,
    rates: Rates,
}

#[derive(Debug)]
struct State {
    /// The digest of the reply that the hub has.
    told: Option<Digest>,
    /// `None` while it is being read.
    due: Option<Instant>,
    /// It changed, and the look at that is due.
    is_changed: bool,
    /// It changed while it was being read.
    again: bool,
    changes: Bucket,
    retry: Backoff,
}

impl State {
    fn new(now: Instant) -> Self {
        Self {
            told: None,
            due: Some(now),
            is_changed: false,
            again: false,
            changes: Bucket::new(BURST, PER_SECOND),
            retry: RETRY,
        }
    }

    /// Takes note of a change, which is looked at as soon as its rates allow.
    fn changed(&mut self, rates: &mut Rates, question: &Question, now: Instant) {
        let Some(due) = self.due else {
            self.again = true;
            return;
        };
        if !std::mem::replace(&mut self.is_changed, true) {
            let new = || Bucket::new(BURST_OF_ACCOUNT, PER_SECOND_OF_ACCOUNT);
            let of_account = rates.entry(question.account.clone()).or_insert_with(new);
            let wait = self.changes.take().max(of_account.take());
            self.due = Some(due.min(now + wait));
        }
    }
}

impl Asked {
    /// Takes all that the hub wants to know, with the digests of what it knows.
    pub(super) fn set(&mut self, wanted: Vec<(Question, Option<Digest>)>, now: Instant) {
        let mut before = std::mem::take(&mut self.questions);
        for (question, have) in wanted.into_iter().take(MOST) {
            let mut state = before.remove(&question).unwrap_or_else(|| State::new(now));
            if state.told != have {
                // A reply may be on its way, or the hub has lost it.
                state.told = have;
                state.due = state.due.map(|_| now);
            }
            self.questions.insert(question, state);
        }
        let is_asked = |account: &Option<ServiceAccount>| {
            self.questions.keys().any(|question| question.account == *account)
        };
        self.rates.retain(|account, _| is_asked(account));
    }

    /// All questions.
    pub(super) fn questions(&self) -> impl Iterator<Item = &Question> {
        self.questions.keys()
    }

    /// Takes note of what may have other replies than before.
    pub(super) fn changed(&mut self, news: &News, now: Instant) {
        let is_news = |subject: &Subject| match subject {
            Subject::Apis => news.apis,
            // They are looked at from time to time.
            Subject::Nodes => false,
            Subject::Values(reference) => news.changed.contains(reference),
        };
        let changed = self.questions.iter_mut().filter(|(question, _)| is_news(&question.subject));
        changed.for_each(|(question, state)| state.changed(&mut self.rates, question, now));
    }

    /// When one is to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.questions.values().filter_map(|state| state.due).min()
    }

    /// The one that has been due for longest.
    pub(super) fn take(&mut self, now: Instant) -> Option<Question> {
        let due = self.questions.iter_mut().filter(|(_, state)| state.due.is_some_and(|due| due <= now));
        let (question, state) = due.min_by_key(|(_, state)| state.due)?;
        (state.due, state.is_changed) = (None, false);
        Some(question.clone())
    }

    /// Takes what came of a look; whether the hub is to be told.
    pub(super) fn done(
        &mut self,
        question: &Question,
        reply: &Reply,
        now: Instant,
        rng: &mut impl Rng,
    ) -> bool {
        // It may not be asked any more.
        let Some(state) = self.questions.get_mut(question) else { return false };
        let is_failure = matches!(reply, Reply::Failed(_));
        let wait = if is_failure {
            state.retry.next_delay(rng) + Duration::from_secs(1)
        } else {
            state.retry = RETRY;
            LOOK_AGAIN.mul_f64(1.0 + rng.random::<f64>() / 10.0)
        };
        state.due = Some(now + wait);
        if std::mem::take(&mut state.again) {
            state.changed(&mut self.rates, question, now);
        }
        let digest = Some(reply.digest());
        // A failure says nothing to a hub that knows something.
        let is_news = if is_failure { state.told.is_none() } else { state.told != digest };
        if is_news {
            state.told = digest;
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_core::template::ValuesKind;
    use std::collections::HashSet;

    fn question(name: &str) -> Question {
        Question::of(ValuesKind::ConfigMap, "n", name, None)
    }

    fn data(value: &str) -> Reply {
        Reply::Data([("a".to_owned(), value.to_owned())].into())
    }

    fn news(name: &str) -> News {
        let Subject::Values(reference) = question(name).subject else { unreachable!() };
        News { changed: HashSet::from([reference]), apis: false }
    }

    /// Looks at all that is due, and gives this reply to each; who is told.
    fn look(asked: &mut Asked, reply: &Reply) -> usize {
        let now = Instant::now();
        let mut taken = Vec::new();
        while let Some(question) = asked.take(now) {
            taken.push(question);
        }
        taken.iter().filter(|question| asked.done(question, reply, now, &mut rand::rng())).count()
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_read_at_once_and_told_only_where_the_hub_has_another_reply() {
        let mut asked = Asked::default();
        let known = Some(data("1").digest());
        asked.set(
            vec![
                (question("new"), None),
                (question("known"), known),
                (question("old"), Some(data("0").digest())),
            ],
            Instant::now(),
        );
        assert_eq!(look(&mut asked, &data("1")), 2, "all but what is known");
        assert_eq!(look(&mut asked, &data("2")), 0, "nothing is due");
        pass(331).await;
        assert_eq!(look(&mut asked, &data("1")), 0, "all are looked at again, and are the same");
        assert!(asked.due().unwrap() >= Instant::now() + LOOK_AGAIN);
        // The hub lost what it had, and wants less.
        asked.set(vec![(question("new"), None)], Instant::now());
        assert_eq!((look(&mut asked, &data("1")), asked.questions().count()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_to_who_knows_nothing_and_tried_again_soon() {
        let mut asked = Asked::default();
        let failed = Reply::Failed("500".into());
        asked.set(
            vec![(question("new"), None), (question("known"), Some(data("1").digest()))],
            Instant::now(),
        );
        assert_eq!(look(&mut asked, &failed), 1);
        for _ in 0..20 {
            pass(121).await;
            assert_eq!(look(&mut asked, &failed), 0, "once");
        }
        pass(121).await;
        assert_eq!(look(&mut asked, &data("2")), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_changes_an_object_all_the_time_has_it_looked_at_rarely() {
        let mut asked = Asked::default();
        asked.set(vec![(question("busy"), None), (question("calm"), None)], Instant::now());
        look(&mut asked, &data("0"));
        let mut told = 0;
        for second in 0..100 {
            asked.changed(&news("busy"), Instant::now());
            told += look(&mut asked, &data(&second.to_string()));
            pass(1).await;
        }
        assert!((BURST as usize..20).contains(&told), "{told}");
        asked.changed(&news("calm"), Instant::now());
        let now = Instant::now();
        let taken: Vec<Question> = std::iter::from_fn(|| asked.take(now)).collect();
        assert!(taken.contains(&question("calm")), "the others at once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_while_it_is_read_is_read_again() {
        let mut asked = Asked::default();
        asked.set(vec![(question("a"), None)], Instant::now());
        let taken = asked.take(Instant::now()).unwrap();
        assert_eq!(asked.take(Instant::now()), None, "one look at a time");
        asked.changed(&news("a"), Instant::now());
        assert!(asked.done(&taken, &data("1"), Instant::now(), &mut rand::rng()));
        assert_eq!(look(&mut asked, &data("2")), 1);
        assert_eq!(asked.take(Instant::now()), None);
    }
}
