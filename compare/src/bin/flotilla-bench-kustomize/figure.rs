//! Figures as they are printed: the shape of all benchmarks, a JSON object a line.

use serde_json::{Value, json};

/// Prints a figure. `details` is an object.
pub(crate) fn print(name: &str, value: f64, unit: &str, mut details: Value) {
    details["profile"] = json!(if cfg!(debug_assertions) { "dev" } else { "release" });
    details["cpus"] = json!(std::thread::available_parallelism().map_or(0, usize::from));
    println!("{}", json!({"name": name, "value": rounded(value), "unit": unit, "details": details}));
}

/// Prints the median of samples, with how many there are, the best and the worst.
pub(crate) fn print_median(name: &str, samples: &[f64], unit: &str, mut details: Value) {
    details["samples"] = json!(samples.len());
    details["best"] = json!(rounded(samples.iter().copied().fold(f64::MAX, f64::min)));
    details["worst"] = json!(rounded(samples.iter().copied().fold(f64::MIN, f64::max)));
    print(name, median(samples), unit, details);
}

/// The middle one of samples, the upper of two.
///
/// # Panics
/// If there are none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Three places behind the point are more than these measurements have.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
