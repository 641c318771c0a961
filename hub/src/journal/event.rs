//! What happened, and how it is kept.

use flotilla_core::report::{self, Timestamp};
use flotilla_core::source::{SourceId, SourceKind};
use flotilla_core::{ClusterName, ObjectId, UnitId};

use crate::store::EventRecord;

/// Something that happened to the fleet, a cluster, a unit, an object of a unit, or a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// In seconds since 1970.
    pub at: Timestamp,
    pub cluster: Option<ClusterName>,
    pub unit: Option<UnitId>,
    pub object: Option<ObjectId>,
    pub source: Option<SourceId>,
    pub warning: bool,
    /// A word.
    pub reason: String,
    pub message: String,
}

impl Event {
    pub(super) fn of_agent(cluster: &ClusterName, event: report::Event) -> Self {
        let report::Event { at, unit, object, warning, reason, message } = event;
        let (cluster, unit) = (Some(cluster.clone()), Some(unit));
        Self { at, cluster, unit, object, source: None, warning, reason, message }
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        const FIXED: usize = 300;
        FIXED + self.reason.len() + self.message.len()
    }
}

impl From<&Event> for EventRecord {
    fn from(event: &Event) -> Self {
        let text = |text: Option<String>| text.unwrap_or_default();
        let object = event.object.as_ref();
        let source = event.source.as_ref();
        Self {
            at: event.at,
            cluster: text(event.cluster.as_ref().map(ToString::to_string)),
            unit: text(event.unit.as_ref().map(ToString::to_string)),
            object: text(object.map(crate::store::object_text)),
            source: text(
                source.map(|source| format!("{}/{}/{}", source.kind, source.namespace, source.name)),
            ),
            warning: event.warning,
            reason: event.reason.clone(),
            message: event.message.clone(),
        }
    }
}

impl TryFrom<EventRecord> for Event {
    type Error = serde_json::Error;

    fn try_from(record: EventRecord) -> Result<Self, serde_json::Error> {
        fn some<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Result<Option<T>, serde_json::Error> {
            let error = || serde::de::Error::custom(format!("'{text}' does not name what it should"));
            if text.is_empty() { Ok(None) } else { read(text).map(Some).ok_or_else(error) }
        }
        let all = || SourceKind::ALL.into_iter().chain([SourceKind::RemoteBase]);
        let source = |text: &str| {
            let mut parts = text.splitn(3, '/');
            let kind = parts.next()?;
            let kind = all().find(|it| it.as_str() == kind)?;
            Some(SourceId::new(kind, parts.next()?, parts.next()?))
        };
        Ok(Self {
            at: record.at,
            cluster: some(&record.cluster, |text| text.parse().ok())?,
            unit: some(&record.unit, |text| UnitId::read_any(text).ok())?,
            object: some(&record.object, |text| crate::store::object_of(text).ok())?,
            source: some(&record.source, source)?,
            warning: record.warning,
            reason: record.reason,
            message: record.message,
        })
    }
}
