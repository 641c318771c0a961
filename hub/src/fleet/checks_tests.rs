//! Checks of gates by whole rounds, against a server that records what it is asked: only a right answer lets a stage pass.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flotilla_rollout::spec::{Check, Comparison, Gates, Probe, Threshold};
use flotilla_source::Reach;
use tokio_util::sync::CancellationToken;

use super::promotion_tests::{Case, name, pipeline};
use crate::rollout::{Definitions, checks};

/// Answers each request so; where there is no answer, it closes the connection.
struct Recorder {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn start(answer: Option<(u16, &str)>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (noted, answer) = (asked.clone(), answer.map(|(status, body)| (status, body.to_owned())));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                noted.lock().unwrap().push(line.trim_end().to_owned());
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {}
                let Some((status, body)) = &answer else { continue };
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n");
                write!(stream, "{head}\r\n{body}").ok();
            }
        });
        Self { host, asked }
    }
}

/// What production got of the first version, and what is said of it, with this check after staging.
fn promoted(probe: Probe, reach: Reach) -> (String, String) {
    let mut case = Case::new(Some("v1"));
    let mut pipeline = pipeline();
    let check = Check { name: "errors".into(), probe, every: 60, successes: 1, failures: 1 };
    pipeline.stages[0].after = Gates { checks: vec![check], ..Gates::default() };
    let read = [("apps".to_owned(), Arc::new(pipeline))].into();
    case.worker.definitions = Some(Definitions { read, unread: Vec::new() });
    assert_eq!(case.settle()[1], "", "nobody said yet that it is right");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let shutdown = CancellationToken::new();
    runtime.spawn(checks::run(case.rollouts.clone(), reach, shutdown.clone()));
    let mut answered = case.rollouts.changes();
    let deadline = Instant::now() + Duration::from_secs(20);
    let is_asked = |said: &str| said.contains("0 of 1 times on end") && !said.contains('(');
    loop {
        let production = case.settle()[1].clone();
        let said =
            case.rollouts.reasons(&name("p")).first().map_or(String::new(), |reason| reason.text.clone());
        let stage = case.rollouts.view()[0].stages[0].text.to_string();
        if !production.is_empty() || !is_asked(&stage) || Instant::now() > deadline {
            shutdown.cancel();
            return (production, format!("{stage}; {said}"));
        }
        runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(1), answered.changed()).await.ok() });
    }
}

fn here() -> Reach {
    Reach::Public(vec!["127.0.0.1".parse().unwrap()])
}

#[test]
fn only_a_query_whose_values_are_right_lets_a_stage_pass() {
    let answer = |value: &str| {
        let series = if value.is_empty() { String::new() } else { format!("{{\"value\":[1,\"{value}\"]}}") };
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{series}]}}}}")
    };
    for (server, passes, expected) in [
        (Some((200, answer("0.001"))), true, "passed staging"),
        (Some((200, answer("0.5"))), false, "it is 0.5, and has to be <= 0.01"),
        (Some((200, answer("NaN"))), false, "the query gives NaN"),
        (Some((200, answer(""))), false, "the query gives no value"),
        (Some((422, answer("0.001"))), false, "HTTP 422"),
        (None, false, "cannot reach"),
    ] {
        let recorder = Recorder::start(server.as_ref().map(|(status, body)| (*status, body.as_str())));
        let probe = Probe::Metric {
            server: format!("http://{}/prom/", recorder.host),
            query: "a + b".into(),
            is: Threshold { than: Comparison::AtMost, value: 0.01 },
        };
        let (production, said) = promoted(probe, here());
        assert_eq!(production == "v1", passes, "{server:?}: {said}");
        assert!(said.contains(expected), "{server:?}: {said}");
        let asked = recorder.asked.lock().unwrap().clone();
        assert_eq!(asked[0], "GET /prom/api/v1/query?query=a+%2B+b&timeout=10s HTTP/1.1");
    }
}

#[test]
fn an_address_is_asked_only_where_the_operator_allows_it_and_has_to_answer_as_it_is_said() {
    for (status, reach, passes, expected) in [
        (204, here(), true, "passed staging"),
        (500, here(), false, "it answered HTTP 500"),
        (204, Reach::Public(Vec::new()), false, "--allow-source 127.0.0.1"),
    ] {
        let recorder = Recorder::start(Some((status, "")));
        let probe = Probe::Http { url: format!("http://{}/smoke", recorder.host), status: vec![204] };
        let may_ask = reach != Reach::Public(Vec::new());
        let (production, said) = promoted(probe, reach);
        assert_eq!(production == "v1", passes, "{status}: {said}");
        assert!(said.contains(expected), "{status}: {said}");
        assert_eq!(!recorder.asked.lock().unwrap().is_empty(), may_ask, "{status}");
    }
}
