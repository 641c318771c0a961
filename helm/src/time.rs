//! Times as Go writes them. Helm 3 writes an empty text for none, Helm 4 nothing, and older ones the year 1.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Go's zero time: the beginning of the year 1.
const ZERO: i64 = -62_135_596_800;

pub(crate) fn serialize<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.to_string()).serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let time: Timestamp = text.parse().map_err(D::Error::custom)?;
    Ok((time.as_second() != ZERO).then_some(time))
}
