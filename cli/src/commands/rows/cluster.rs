//! A row of a cluster, and the lines that say what it needs.

use flotilla_api::{Attention, Cluster, WaitingCluster};

use super::{Row, first_of, pairs, short};
use crate::output::{Cell, Tone, age, date};

impl Row for Cluster {
    fn headers(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "NAME",
                "CONNECTION",
                "SYNC",
                "UNITS",
                "OBJECTS",
                "COMMIT",
                "GENERATION",
                "KUBERNETES",
                "AGENT",
                "ROOT",
                "LABELS",
                "MESSAGE",
            ]
        } else {
            &["NAME", "CONNECTION", "SYNC", "UNITS", "COMMIT", "SEEN", "MESSAGE"]
        }
    }

    fn cells(&self, wide: bool, now: i64) -> Vec<Cell> {
        use flotilla_api::{ConnectionState, SyncState};
        let connection = Cell::new(self.connection.as_str()).tone(match self.connection {
            ConnectionState::Connected => Tone::Good,
            ConnectionState::Disconnected => Tone::Bad,
            ConnectionState::Revoked | ConnectionState::Invited | ConnectionState::NotEnrolled => Tone::Warn,
        });
        let sync = Cell::new(self.sync.as_str()).tone(match self.sync {
            SyncState::InSync => Tone::Good,
            SyncState::Failing => Tone::Bad,
            SyncState::Held
            | SyncState::Kept
            | SyncState::Suspended
            | SyncState::Stale
            | SyncState::Unknown
            | SyncState::Unassigned => Tone::Warn,
            SyncState::Pending | SyncState::Progressing => Tone::Note,
        });
        let total: u32 = self.units.values().sum();
        let units = format!("{}/{total}", self.units.get("Ready").copied().unwrap_or_default());
        let commit = short(&self.commit);
        let message = match (cluster_message(self), self.connection) {
            (_, ConnectionState::NotEnrolled) if self.attention.is_empty() => {
                format!("no agent has joined; `flotilla cluster token {}` lets one in", self.name)
            }
            (_, ConnectionState::Invited) if self.attention.is_empty() => {
                "its agent has not joined yet".to_owned()
            }
            (message, _) => message,
        };
        let name = Cell::new(&self.name).tone(Tone::Strong);
        if !wide {
            let seen = if self.connection == ConnectionState::Connected {
                "now".to_owned()
            } else {
                age(now, self.last_seen)
            };
            return vec![name, connection, sync, units.into(), commit.into(), seen.into(), message.into()];
        }
        let generation = self.desired.as_ref().map(|d| d.generation.to_string()).unwrap_or_default();
        vec![
            name,
            connection,
            sync,
            units.into(),
            self.objects.to_string().into(),
            commit.into(),
            generation.into(),
            Cell::new(&self.kubernetes_version),
            Cell::new(&self.agent_version),
            Cell::new(&self.root),
            pairs(&self.labels).into(),
            message.into(),
        ]
    }

    fn key(&self) -> String {
        format!("cluster {}", self.name)
    }
}

/// What needs a person in a cluster: the worst of it, and how much more there is. Else why it does not run the newest.
pub(in crate::commands) fn cluster_message(cluster: &Cluster) -> String {
    first_of(cluster.attention.iter().map(about).chain(cluster.waiting.iter().map(waits))).unwrap_or_default()
}

/// Why a cluster does not run the newest, and when that may change by itself.
pub(in crate::commands) fn waits(waiting: &WaitingCluster) -> String {
    let next = waiting.next.map(|at| format!(" (next at {})", date(at))).unwrap_or_default();
    format!("{}{next}", waiting.message)
}

/// What needs a person, and where.
pub(in crate::commands) fn whole(attention: &Attention) -> String {
    attention.to_string()
}

/// What needs a person, without the name of the cluster.
pub(in crate::commands) fn about(attention: &Attention) -> String {
    let text = Attention { cluster: String::new(), ..attention.clone() }.to_string();
    text.strip_prefix("fleet ").map_or_else(|| text.clone(), str::to_owned)
}
