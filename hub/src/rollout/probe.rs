//! What a check of a gate measures: a query to a Prometheus server, or the status of an address. Blocking, and bounded: what is not
//! clearly an answer is none.

use std::time::Duration;

use flotilla_rollout::spec::{Probe, Threshold};
use flotilla_rollout::world::Outcome;
use flotilla_runtime::chain;
use flotilla_source::Asker;
use serde::Deserialize;
use serde_json::Value;

/// A check takes no longer.
const WITHIN: Duration = Duration::from_secs(10);
/// An answer of Prometheus: some thousand values.
const MAX_ANSWER: u64 = 1024 * 1024;
/// What is shown of a text of the server's.
const MAX_SHOWN: usize = 120;
/// What older servers put among their warnings, and what says nothing of how complete the answer is.
const REMARK: &str = "PromQL info:";

/// Measures once.
pub(super) fn probe(asker: &Asker, probe: &Probe) -> Outcome {
    let unknown = |error: &dyn std::error::Error| Outcome::Unknown(chain(error));
    match probe {
        Probe::Http { url, status } => match asker.status(url, WITHIN) {
            Ok(answered) if status.contains(&answered) => Outcome::Right,
            Ok(answered) => Outcome::Wrong(format!("it answered HTTP {answered}")),
            Err(error) => unknown(&error),
        },
        Probe::Metric { server, query, is } => {
            let pairs = [("query", query.as_str()), ("timeout", "10s")];
            match asker.get(server, &["api", "v1", "query"], &pairs, MAX_ANSWER, WITHIN) {
                Ok(answer) => judge(answer.status, &answer.body, *is),
                Err(error) => unknown(&error),
            }
        }
    }
}

/// As <https://prometheus.io/docs/prometheus/latest/querying/api/> has it.
#[derive(Deserialize)]
struct Answer {
    status: String,
    data: Option<Data>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: Value,
}

/// The time, and the value as a text.
type Sample = (f64, String);

#[derive(Deserialize)]
struct Series {
    /// A histogram has none.
    value: Option<Sample>,
}

/// Whether all values of an answer are as they have to be.
fn judge(status: u16, body: &[u8], is: Threshold) -> Outcome {
    let unknown = |text: String| Outcome::Unknown(text);
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) => return unknown(format!("it answered HTTP {status}, and not as Prometheus does")),
    };
    if answer.status != "success" || status != 200 {
        let error = shown(answer.error.as_deref().unwrap_or("no reason given"));
        return unknown(format!("the query failed (HTTP {status}): {error}"));
    }
    if let Some(warning) = answer.warnings.iter().find(|warning| !warning.starts_with(REMARK)) {
        return unknown(format!("the answer may be partial: {}", shown(warning)));
    }
    let Some(data) = answer.data else { return unknown("the answer has no data".to_owned()) };
    let values = match data.result_type.as_str() {
        "scalar" => serde_json::from_value::<Sample>(data.result).ok().map(|sample| vec![Some(sample)]),
        "vector" => {
            let all = serde_json::from_value::<Vec<Series>>(data.result).ok();
            all.map(|all| all.into_iter().map(|series| series.value).collect())
        }
        other => return unknown(format!("the query gives a {}, not values of now", shown(other))),
    };
    let Some(values) = values else { return unknown("the values in the answer cannot be read".to_owned()) };
    if values.is_empty() {
        return unknown("the query gives no value".to_owned());
    }
    let mut wrong = None;
    let count = values.len();
    for value in values {
        let Some((_, text)) = value else {
            return unknown("the query gives a histogram, not a number".to_owned());
        };
        match text.parse::<f64>() {
            Ok(value) if value.is_nan() => return unknown("the query gives NaN".to_owned()),
            Ok(value) if is.holds(value) => {}
            Ok(_) => wrong = wrong.or(Some(text)),
            Err(_) => return unknown(format!("the query gives '{}', which is no number", shown(&text))),
        }
    }
    match wrong {
        None => Outcome::Right,
        Some(value) if count == 1 => Outcome::Wrong(format!("it is {value}, and has to be {is}")),
        Some(value) => Outcome::Wrong(format!("one of {count} values is {value}, and each has to be {is}")),
    }
}

/// The beginning of a server's text, in one line.
fn shown(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use flotilla_rollout::spec::Comparison;

    use super::*;

    fn answer(kind: &str, result: &str) -> String {
        format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#)
    }

    #[test]
    fn only_values_that_are_there_and_all_as_they_have_to_be_are_right() {
        let is = Threshold { than: Comparison::AtMost, value: 0.5 };
        let vector = |values: &[&str]| {
            let series = values.iter().map(|value| format!(r#"{{"metric":{{}},"value":[1.5,"{value}"]}}"#));
            answer("vector", &format!("[{}]", series.collect::<Vec<_>>().join(",")))
        };
        let success = |rest: &str| format!(r#"{{"status":"success"{rest}}}"#);
        let with = |warning: &str| {
            let whole = vector(&["0"]);
            format!("{},\"warnings\":[\"{warning}\"]}}", &whole[..whole.len() - 1])
        };
        for (status, body, expected) in [
            (200, answer("scalar", r#"[1, "0.5"]"#), "right"),
            (200, vector(&["0.1", "0.5"]), "right"),
            (200, vector(&["-Inf"]), "right"),
            (200, vector(&["0.6"]), "wrong: it is 0.6, and has to be <= 0.5"),
            (200, vector(&["0.1", "0.6"]), "wrong: one of 2 values is 0.6, and each has to be <= 0.5"),
            (200, vector(&["+Inf"]), "wrong: it is +Inf, and has to be <= 0.5"),
            (200, with("PromQL info: metric might not be a counter"), "right"),
            (200, vector(&[]), "unknown: the query gives no value"),
            (200, vector(&["NaN"]), "unknown: the query gives NaN"),
            (200, vector(&["0.6", "NaN"]), "unknown: the query gives NaN"),
            (200, vector(&["x"]), "unknown: the query gives 'x', which is no number"),
            (200, with("store a is away"), "unknown: the answer may be partial: store a is away"),
            (
                200,
                answer("vector", r#"[{"metric":{},"histogram":[1,{}]}]"#),
                "unknown: the query gives a histogram, not a number",
            ),
            (200, answer("matrix", "[]"), "unknown: the query gives a matrix, not values of now"),
            (200, answer("string", r#"[1,"0"]"#), "unknown: the query gives a string, not values of now"),
            (200, answer("scalar", "3"), "unknown: the values in the answer cannot be read"),
            (200, success(""), "unknown: the answer has no data"),
            (
                400,
                r#"{"status":"error","errorType":"bad_data","error":"parse\nerror"}"#.to_owned(),
                "unknown: the query failed (HTTP 400): parse error",
            ),
            (503, answer("scalar", r#"[1, "0"]"#), "unknown: the query failed (HTTP 503): no reason given"),
            (200, "<html>".to_owned(), "unknown: it answered HTTP 200, and not as Prometheus does"),
            (200, "[".repeat(100_000), "unknown: it answered HTTP 200, and not as Prometheus does"),
        ] {
            let found = match judge(status, body.as_bytes(), is) {
                Outcome::Right => "right".to_owned(),
                Outcome::Wrong(text) => format!("wrong: {text}"),
                Outcome::Unknown(text) => format!("unknown: {text}"),
            };
            assert_eq!(found, expected, "{}", &body[..body.len().min(100)]);
        }
    }
}
