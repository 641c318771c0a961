//! Lists and mappings that Git has empty. The apply that takes their last item away takes the field away with it, and only
//! the next one leaves it empty, as Flux does at its next interval.

use serde_json::Value;

use super::{ObjectApply, StepError};
use crate::cluster::objects::{Parsed, RequestMode};

impl ObjectApply<'_> {
    /// Whether an apply may have to be done twice for what is empty.
    pub(super) fn wants_empty(&self) -> bool {
        lacks_empty(&self.prepared.value, None)
    }

    /// What an apply left, after another apply where a field is missing that Git has empty. Kinds whose API drops empty fields
    /// cost that request too; it changes nothing of them.
    pub(super) async fn with_empty(&self, applied: Parsed) -> Result<Parsed, StepError> {
        if !lacks_empty(&self.prepared.value, Some(&applied.value)) {
            return Ok(applied);
        }
        // Ignored fields may have become ours by the first apply, and would be taken away by one that does not name them.
        let body = self.yielding(&applied.value)?;
        Ok(self.cluster.apply(self.resource, self.id, body, RequestMode::Forced).await?)
    }
}

/// Whether `wanted` has an empty list or mapping where `found` has nothing. Items are taken by their place: where somebody
/// has put others before them, one that is there may seem to be missing.
fn lacks_empty(wanted: &Value, found: Option<&Value>) -> bool {
    match wanted {
        Value::Object(fields) if !fields.is_empty() => {
            fields.iter().any(|(key, value)| lacks_empty(value, found.and_then(|found| found.get(key))))
        }
        Value::Array(items) if !items.is_empty() => {
            let found = |index| found.and_then(|found: &Value| found.get(index));
            items.iter().enumerate().any(|(index, item)| lacks_empty(item, found(index)))
        }
        Value::Object(_) | Value::Array(_) => found.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_empty_field_that_is_not_there_is_noticed() {
        for (wanted, found, expected) in [
            (json!({"spec": {"size": 1}}), json!({}), false),
            (json!({"spec": {"named": []}}), json!({"spec": {"size": 1}}), true),
            (json!({"spec": {"named": []}}), json!({}), true),
            (json!({"spec": {"named": []}}), json!({"spec": {"named": []}}), false),
            (json!({"spec": {"named": []}}), json!({"spec": {"named": [{"name": "theirs"}]}}), false),
            (json!({"spec": {"map": {}}}), json!({"spec": {}}), true),
            (json!({"spec": {"map": {}}}), json!({"spec": {"map": {"theirs": "1"}}}), false),
            (json!({"list": [{"a": 1}, {"inner": []}]}), json!({"list": [{"a": 1}, {"b": 1}]}), true),
            (json!({"list": [{"inner": {}}]}), json!({"list": [{"inner": {"x": 1}}]}), false),
        ] {
            assert_eq!(lacks_empty(&wanted, Some(&found)), expected, "{wanted} in {found}");
        }
        assert!(lacks_empty(&json!({"spec": [[]]}), None));
        assert!(!lacks_empty(&json!({"spec": ["", null, 0]}), None));
    }
}
