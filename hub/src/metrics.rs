//! Prometheus metrics: what is counted as it happens; what is looked up when somebody asks stands in
//! `api::system`.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// A request of the HTTP API.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    pub method: String,
    /// The route's pattern, not the path: names of clusters must not become labels.
    pub route: String,
    pub status: u16,
}

/// The counters; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub sessions_started: Counter,
    pub messages_in: Counter,
    pub messages_out: Counter,
    pub reports: Counter,
    pub enrolments: Counter,
    pub renewals: Counter,
    /// Rounds of the fleet loop, builds that they could not take from memory, releases that were given to helm.
    pub rounds: Counter,
    /// Clusters that rounds rendered, as something had changed that they are made from.
    pub renders: Counter,
    /// Of those, renders that only made some of the units anew.
    pub renders_in_part: Counter,
    pub builds: Counter,
    pub helm_runs: Counter,
    /// Requests without a good token.
    pub login_failures: Counter,
    pub api_requests: Family<RequestLabels, Counter>,
}

impl Metrics {
    /// Names the counters for one encoding.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("flotilla_sessions_started", "Sessions of agents since the hub started", &self.sessions_started),
            ("flotilla_messages_received", "Messages from agents", &self.messages_in),
            ("flotilla_messages_sent", "Messages to agents", &self.messages_out),
            ("flotilla_reports_received", "Reports from agents", &self.reports),
            ("flotilla_enrolments", "Agents that joined", &self.enrolments),
            ("flotilla_renewals", "Certificates that were renewed", &self.renewals),
            ("flotilla_rounds", "Rounds of the fleet loop", &self.rounds),
            (
                "flotilla_cluster_renders",
                "Clusters that rounds rendered, because something had changed for them",
                &self.renders,
            ),
            (
                "flotilla_cluster_renders_in_part",
                "Renders of clusters that rendered only some of their units again",
                &self.renders_in_part,
            ),
            ("flotilla_builds", "Units that were built, not taken from memory", &self.builds),
            ("flotilla_helm_runs", "Releases that were given to helm", &self.helm_runs),
            (
                "flotilla_api_login_failures",
                "Requests of the HTTP API without a valid token",
                &self.login_failures,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("flotilla_api_requests", "Requests of the HTTP API", self.api_requests.clone());
    }
}
