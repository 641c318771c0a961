//! What may go wrong with a request, and which requests it happens to.

use http::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::answer::{Answer, Call};

/// What happens to a request.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Its connection ends before anything is done.
    Drop,
    /// It is done, and nobody is told.
    Lose,
    /// It is done, and the answer ends in its middle.
    Cut,
    /// No answer, ever.
    Hang,
    /// It takes some seconds.
    Slow(u64),
    /// The API server, or something before it, refuses.
    Refuse(Answer),
    /// It is done, and the answer is another one: of a proxy, or of another kind.
    Other(Answer),
    /// What is read is how it was before; a watch tells nothing.
    Stale,
}

/// Which requests fail.
#[derive(Debug)]
pub struct Faults {
    random: StdRng,
    /// Of 100.
    percent: u32,
    /// What each read of one object meets.
    read: Option<Trouble>,
    /// Nothing but connections that end, before or after the request was done.
    only_connections: bool,
}

/// What may be wrong with the reads of single objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Refused(u16),
    /// As of something between that serves nothing there.
    NoPage,
    Hangs,
    Slow,
    Cut,
    /// A page of another server.
    Elsewhere,
}

impl Default for Faults {
    /// None.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Faults {
    /// So many of 100 requests, which ones the seed says.
    pub fn new(seed: u64, percent: u32) -> Self {
        Self { random: StdRng::seed_from_u64(seed), percent, read: None, only_connections: false }
    }

    /// The connections of so many of 100 requests end, before or after they were done.
    pub fn connections(seed: u64, percent: u32) -> Self {
        Self { only_connections: true, ..Self::new(seed, percent) }
    }

    /// Each read of one object meets this, and nothing else fails.
    pub fn reads(trouble: Trouble) -> Self {
        Self { read: Some(trouble), ..Self::default() }
    }

    fn happens(&mut self) -> bool {
        self.random.random_range(0..100) < self.percent
    }

    /// One of the versions that there were.
    pub(super) fn pick(&mut self, count: usize) -> usize {
        self.random.random_range(0..count)
    }

    pub(super) fn ends_a_watch(&mut self) -> bool {
        self.happens() && self.random.random_bool(0.3)
    }

    pub(super) fn draw(&mut self, call: &Call) -> Option<Fault> {
        if let Some(trouble) = self.read.filter(|_| call.is_read()) {
            return Some(match trouble {
                Trouble::Refused(code) => {
                    Fault::Refuse(Answer::status(code, "Reason", "a fault on demand", None))
                }
                Trouble::NoPage => Fault::Refuse(Answer::text(404, "404 page not found\n")),
                Trouble::Hangs => Fault::Hang,
                Trouble::Slow => Fault::Slow(20),
                Trouble::Cut => Fault::Cut,
                Trouble::Elsewhere => Fault::Other(Answer::text(200, "<html>please log in</html>")),
            });
        }
        if !self.happens() {
            return None;
        }
        let most = if self.only_connections { 6 } else { 20 };
        Some(match self.random.random_range(0..most) {
            0 | 1 => Fault::Drop,
            2 | 3 => Fault::Lose,
            4 | 5 => Fault::Cut,
            6 => Fault::Hang,
            7 | 8 => Fault::Slow(self.random.random_range(1..20)),
            9..=11 => Fault::Other(self.other()),
            12 | 13 if call.method == Method::GET => Fault::Stale,
            _ => Fault::Refuse(self.refusal()),
        })
    }

    fn refusal(&mut self) -> Answer {
        let status = |code: u16, reason: &str| Answer::status(code, reason, "a fault on demand", None);
        match self.random.random_range(0..14) {
            0 => status(400, "BadRequest"),
            1 => status(401, "Unauthorized"),
            2 => status(403, "Forbidden"),
            // The path is not served, by this server or not yet: nothing is said of an object.
            3 => status(404, "NotFound"),
            4 => Answer::text(404, "404 page not found\n"),
            5 => status(409, "Conflict"),
            6 => status(410, "Expired"),
            7 => status(422, "Invalid"),
            8 => status(429, "TooManyRequests").later(self.random.random_range(0..40)),
            9 => status(500, "InternalError"),
            10 => Answer::text(502, "<html>bad gateway</html>"),
            11 => status(503, "ServiceUnavailable"),
            12 => status(503, "ServiceUnavailable").later(2),
            _ => status(504, "Timeout"),
        }
    }

    /// Answers of 200 that are about something else.
    fn other(&mut self) -> Answer {
        let value: Value = match self.random.random_range(0..8) {
            0 => return Answer::text(200, "<html>please log in</html>"),
            1 => return Answer::text(200, ""),
            2 => json!({}),
            3 => json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
            4 => {
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500, "reason": "InternalError"})
            }
            5 => json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": null}),
            6 => json!({"kind": "APIGroupDiscoveryList", "metadata": {}}),
            _ => {
                json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "another", "namespace": "default",
                "uid": "another", "resourceVersion": "1"}})
            }
        };
        Answer::json(200, &value)
    }
}
