//! `cargo xtask bench sops [--repeats N]`: opening 1,000 Secrets of four values, each a file with a data key of its own, on the
//! processors that there are, beside what the same bytes cost to read as YAML alone; figures go to stdout, a JSON object a line.

use std::thread;
use std::time::Instant;

use flotilla_sops::age::Recipient;
use flotilla_sops::{Format, Keys, Mac, Recipe, decrypt, encrypt};
use serde_json::json;

const KEY: &str = include_str!("../tests/recorded/first.agekey");
const FILES: usize = 1_000;

fn repeats() -> usize {
    // Cargo says `--bench` itself.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let mut repeats = 5;
    while let Some(arg) = args.next() {
        let number = args.next().and_then(|text| text.parse().ok()).filter(|number| *number > 0);
        match (arg.as_str(), number) {
            ("--repeats", Some(number)) => repeats = number,
            _ => panic!("'{arg}': there is --repeats N, with a number from 1"),
        }
    }
    repeats
}

fn files() -> Vec<Vec<u8>> {
    let public =
        KEY.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("it names its public key");
    let recipe = Recipe {
        groups: vec![vec![Recipient::parse(public).expect("it is a public key")]],
        rule: Some(("encrypted_regex".into(), "^(data|stringData)$".into())),
        ..Recipe::default()
    };
    let mut state = 1u64;
    let mut random = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 40) as u8;
        }
    };
    let values = "  a: a password of some length\n  b: another one\n  c: '0123456789'\n  d: https://example.org/some/path\n";
    let file = |n: usize| {
        let text = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s{n}\n  namespace: apps\nstringData:\n{values}"
        );
        encrypt(text.as_bytes(), Format::Yaml, &recipe, "2026-12-02T10:00:00Z", &mut random)
            .expect("it is encrypted")
    };
    (0..FILES).map(file).collect()
}

/// Seconds of one pass over all files, in parts of equal size.
fn timed(files: &[Vec<u8>], work: &(dyn Fn(&[u8]) + Sync)) -> f64 {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let began = Instant::now();
    thread::scope(|scope| {
        for part in files.chunks(files.len().div_ceil(processors)) {
            scope.spawn(move || part.iter().for_each(|file| work(file)));
        }
    });
    began.elapsed().as_secs_f64()
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let files = files();
    let mut keys = Keys::default();
    keys.add_age(KEY).expect("it is a key");
    let open = |file: &[u8]| {
        drop(decrypt(file, Format::Yaml, Format::Yaml, &keys, Mac::Verified).expect("it opens"));
    };
    let read = |file: &[u8]| {
        let text = std::str::from_utf8(file).expect("it is text");
        drop(flotilla_yaml::parse(text).expect("it is YAML"));
    };
    let (mut opened, mut only_read) = (Vec::new(), Vec::new());
    for _ in 0..repeats() {
        opened.push(timed(&files, &open));
        only_read.push(timed(&files, &read));
    }
    let (value, bare) = (median(&mut opened), median(&mut only_read));
    let details = json!({ "files": FILES, "samples": opened });
    println!("{}", json!({ "name": "sops_seconds", "value": value, "unit": "s", "details": details }));
    let details = json!({ "yaml_seconds": bare });
    println!("{}", json!({ "name": "sops_ratio", "value": value / bare, "unit": "", "details": details }));
}
