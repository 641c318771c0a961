//! OpenTelemetry logs over OTLP/HTTP with JSON (opentelemetry-proto's `ExportLogsServiceRequest`): one POST, without a library.

use std::time::Duration;

use flotilla_api::AuditEntry;
use flotilla_core::report::Timestamp;
use flotilla_runtime::tls::install_crypto;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Where OTLP/HTTP takes logs, below the address of a collector.
const PATH: &str = "/v1/logs";
/// `SEVERITY_NUMBER_INFO`.
const INFO: u32 = 9;

#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error("'{0}' is not an address like https://HOST:4318")]
    Address(String),
    #[error("'{0}' is not a header, or its value cannot be one")]
    Header(String),
    #[error("no answer")]
    Http(#[source] reqwest::Error),
    #[error("the collector answered {0}")]
    Refused(http::StatusCode),
}

/// Where logs are sent.
#[derive(Debug, Clone)]
pub(super) struct Collector {
    client: reqwest::Client,
    address: reqwest::Url,
}

impl Collector {
    /// `/v1/logs` is added to an address without a path.
    pub(super) fn new(address: &str, headers: &[(String, String)]) -> Result<Self, OtlpError> {
        let wrong = || OtlpError::Address(address.to_owned());
        let mut url: reqwest::Url = address.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong());
        }
        if matches!(url.path(), "" | "/") {
            url.set_path(PATH);
        }
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            let wrong = |_| OtlpError::Header(name.clone());
            let header: HeaderName = name.parse().map_err(|_| OtlpError::Header(name.clone()))?;
            let mut value = HeaderValue::from_str(value).map_err(wrong)?;
            value.set_sensitive(true);
            all.insert(header, value);
        }
        // The HTTP client takes the process's provider.
        install_crypto();
        let client = reqwest::Client::builder().timeout(TIMEOUT).default_headers(all).build();
        Ok(Self { client: client.map_err(OtlpError::Http)?, address: url })
    }

    pub(super) async fn send(&self, entries: &[AuditEntry], now: Timestamp) -> Result<(), OtlpError> {
        let request = self.client.post(self.address.clone()).json(&request(entries, now));
        let response = request.send().await.map_err(OtlpError::Http)?;
        let status = response.status();
        if !status.is_success() {
            return Err(OtlpError::Refused(status));
        }
        let answer = response.bytes().await.map_err(OtlpError::Http)?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let partial = &answer["partialSuccess"];
        // 64-bit numbers are texts in the JSON of protobuf.
        let rejected = &partial["rejectedLogRecords"];
        let count = rejected.as_i64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or_default();
        if count > 0 {
            // The specification forbids to send them again.
            let why = partial["errorMessage"].as_str().unwrap_or_default();
            tracing::error!("the OpenTelemetry collector did not take {count} lines of the audit log: {why}");
        }
        Ok(())
    }
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn nanoseconds(at: Timestamp) -> String {
    at.max(0).saturating_mul(1_000_000_000).to_string()
}

fn request(entries: &[AuditEntry], now: Timestamp) -> Value {
    let record = |entry: &AuditEntry| {
        json!({
            "timeUnixNano": nanoseconds(entry.at),
            "observedTimeUnixNano": nanoseconds(now),
            "severityNumber": INFO,
            "severityText": "INFO",
            "eventName": format!("flotilla.audit.{}", entry.action),
            "body": {"stringValue": format!("{} {} {}", entry.who, entry.action, entry.target)},
            "attributes": [
                {"key": "flotilla.audit.sequence", "value": {"intValue": entry.sequence.to_string()}},
                attribute("flotilla.audit.who", &entry.who),
                attribute("flotilla.audit.action", &entry.action),
                attribute("flotilla.audit.target", &entry.target),
                attribute("flotilla.audit.detail", &entry.detail),
            ],
        })
    };
    json!({"resourceLogs": [{
        "resource": {"attributes": [
            attribute("service.name", "flotilla-hub"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ]},
        "scopeLogs": [{
            "scope": {"name": "flotilla.audit"},
            "logRecords": entries.iter().map(record).collect::<Vec<_>>(),
        }],
    }]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_log_record_of_otlp() {
        let entry = AuditEntry {
            sequence: 7,
            at: 5,
            who: "ann".into(),
            action: "cluster.revoke".into(),
            target: "staging".into(),
            detail: String::new(),
        };
        let request = request(&[entry], 6);
        let logs = &request["resourceLogs"][0];
        assert_eq!(logs["resource"]["attributes"][0], attribute("service.name", "flotilla-hub"));
        let record = &logs["scopeLogs"][0]["logRecords"][0];
        assert_eq!(record["timeUnixNano"], "5000000000");
        assert_eq!(record["body"]["stringValue"], "ann cluster.revoke staging");
        assert_eq!(record["attributes"][0]["value"], json!({"intValue": "7"}));
    }

    #[test]
    fn addresses_and_headers_that_cannot_be_used_are_refused() {
        let of = |address: &str| Collector::new(address, &[]).map(|collector| collector.address.to_string());
        assert_eq!(of("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/logs");
        assert_eq!(of("https://otel.example/own/path").unwrap(), "https://otel.example/own/path");
        assert!(of("otel:4318").is_err() && of("127.0.0.1").is_err());
        let header = |name: &str, value: &str| Collector::new("http://x", &[(name.into(), value.into())]);
        assert!(header("authorization", "Bearer x").is_ok());
        assert!(header("a b", "x").is_err() && header("a", "x\ny").is_err());
    }
}
