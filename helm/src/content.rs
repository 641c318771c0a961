//! What a revision of a release is made of, as it travels from the hub to the agent: the chart, which all releases of it share, and
//! what is the release's own. Both as gzip of JSON, so that who keeps many of them keeps little.

use serde::{Deserialize, Serialize};

use crate::gzip::{compress, inflate};
use crate::hook::Hook;
use crate::record::{Json, MAX_DATA, RecordError};

/// The own part of a revision: fields of the record, as [`crate::Release`] has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The values that are set over the chart's own: an object.
    pub config: Json,
    /// The objects, in Helm's order, each below a line `---`.
    pub manifest: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<Hook>,
    /// What `NOTES.txt` rendered to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
}

impl Content {
    /// What [`Content::unpack`] reads. The same content gives the same bytes.
    ///
    /// # Panics
    /// Never: texts and numbers are JSON.
    pub fn pack(&self) -> Vec<u8> {
        compress(&serde_json::to_vec(self).expect("texts and numbers are JSON"))
    }

    /// # Errors
    /// If it is damaged, or inflates to more than [`MAX_INFLATED`](crate::record::MAX_INFLATED).
    pub fn unpack(bytes: &[u8]) -> Result<Self, RecordError> {
        parse(bytes, "the release's content")
    }
}

/// A chart, as [`crate::chart::chart`] gives it, packed to travel.
pub fn pack_chart(chart: &Json) -> Vec<u8> {
    compress(chart.text().as_bytes())
}

/// # Errors
/// If it is damaged, or inflates to more than [`MAX_INFLATED`](crate::record::MAX_INFLATED).
pub fn unpack_chart(bytes: &[u8]) -> Result<Json, RecordError> {
    parse(bytes, "the chart")
}

/// Whether the record of a revision may be too large for a Secret: parts that were packed one by one take no less together. What
/// the record has beside them (times, names) is small.
pub fn may_not_fit(chart: &[u8], content: &[u8]) -> bool {
    const BESIDE: usize = 4096;
    (chart.len() + content.len() + BESIDE).div_ceil(3) * 4 > MAX_DATA
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8], field: &'static str) -> Result<T, RecordError> {
    serde_json::from_slice(&inflate(bytes)?)
        .map_err(|error| RecordError::Wrong { field, message: crate::record::told(&error) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hook::Execution;
    use crate::record::MAX_INFLATED;

    #[test]
    fn what_is_packed_is_read_and_what_is_not_is_refused() {
        let content = Content {
            config: Json::of(&json!({"password": "hunter2"})),
            manifest: "---\n# Source: a/templates/a.yaml\na: 1\n".to_owned(),
            hooks: vec![Hook {
                name: "migrate".to_owned(),
                kind: "Job".to_owned(),
                path: "a/templates/job.yaml".to_owned(),
                manifest: "kind: Job\n".to_owned(),
                events: vec![crate::Event::PreInstall],
                last_run: Execution::default(),
                weight: -1,
                delete_policies: Vec::new(),
                output_log_policies: Vec::new(),
                rest: serde_json::Map::new(),
            }],
            notes: "Thank you.\n".to_owned(),
        };
        let packed = content.pack();
        assert_eq!(Content::unpack(&packed), Ok(content.clone()));
        assert_eq!(content.pack(), packed);
        let chart = Json::of(&json!({"metadata": {"name": "a", "version": "1.0.0"}}));
        assert_eq!(unpack_chart(&pack_chart(&chart)), Ok(chart));
        let bomb = compress(&vec![b' '; MAX_INFLATED + 1]);
        for (bytes, expected) in [
            (&packed[..packed.len() - 9], "cannot be inflated"),
            (b"hunter2", "cannot be inflated"),
            (&compress(b"{\"config\": hunter2}"), "is no JSON"),
            (&bomb, "more than the 32 MiB"),
        ] {
            let error = Content::unpack(bytes).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_release_that_may_be_too_large_is_known() {
        let bytes = |length: usize| vec![0; length];
        assert!(!may_not_fit(&bytes(400_000), &bytes(300_000)));
        assert!(may_not_fit(&bytes(400_000), &bytes(400_000)));
    }
}
