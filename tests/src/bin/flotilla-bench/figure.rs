//! Figures as they are printed, and what is made of several samples.

use std::fs;

use serde_json::{Map, Value, json};

/// Prints a figure as one line of JSON. The machine is added to the details, which must be an object.
pub(crate) fn print(name: &str, value: f64, unit: &str, details: Value) {
    let mut details = match details {
        Value::Object(details) => details,
        other => Map::from_iter([("note".to_owned(), other)]),
    };
    details.insert("machine".to_owned(), machine());
    println!("{}", json!({"name": name, "value": rounded(value), "unit": unit, "details": details}));
}

/// Prints the median of samples, with the samples themselves.
pub(crate) fn print_median(name: &str, samples: &[f64], unit: &str, details: Value) {
    let mut details = details;
    details["samples"] = samples.iter().copied().map(rounded).collect();
    details["worst"] = json!(rounded(samples.iter().copied().fold(f64::MIN, f64::max)));
    print(name, median(samples), unit, details);
}

/// The middle one; the mean of the two in the middle where there is no such.
///
/// # Panics
/// If there are no samples.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

pub(crate) fn whole(count: u64) -> f64 {
    count as f64
}

/// Millions of bytes.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    whole(bytes) / 1e6
}

/// Three places behind the point are more than these measurements have.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// What the figures were measured on, and with what.
fn machine() -> Value {
    let field = |file: &str, name: &str| -> Option<String> {
        let text = fs::read_to_string(file).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim_start_matches(['\t', ' ', ':']).to_owned())
    };
    let memory = field("/proc/meminfo", "MemTotal").and_then(|it| it.split(' ').next()?.parse::<f64>().ok());
    json!({
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "cpu": field("/proc/cpuinfo", "model name"),
        "memory_gb": memory.map(|kibibytes| (kibibytes * 1024.0 / 1e9).round()),
        "system": std::env::consts::OS,
        "profile": if cfg!(debug_assertions) { "dev" } else { "release" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_samples() {
        for (samples, expected) in
            [(&[3.0][..], 3.0), (&[9.0, 1.0, 2.0], 2.0), (&[4.0, 1.0, 2.0, 100.0], 3.0)]
        {
            assert!((median(samples) - expected).abs() < f64::EPSILON, "{samples:?}");
        }
    }
}
