//! `kustomize`: one build of a small and of a large tree, by us, by the library and by the command, in turns; and what
//! memory each takes.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use flotilla_compare::real::Real;
use flotilla_compare::tree::Tree;
use flotilla_compare::{large, ours};
use flotilla_kustomize::Options;
use serde_json::{Value, json};

use crate::figure::{median, print, print_median};

/// How often ours, the library and the command take turns: a machine is not equally fast all the time.
const ROUNDS: usize = 5;

/// A tree and how often it is built in all.
struct Subject {
    name: &'static str,
    what: &'static str,
    tree: Tree,
    repeats: usize,
}

/// Measures with a small tree of `repeats` builds and a large one of fewer.
pub(crate) fn run(real: &Real, repeats: usize) -> Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fleet-example/apps/web");
    let subjects = [
        Subject {
            name: "small",
            what: "fleet-example/apps/web, overlays/staging",
            tree: Tree::read(&example, "overlays/staging")?,
            repeats,
        },
        Subject {
            name: "large",
            what: "1,000 objects and more, three layers",
            tree: large::tree(),
            repeats: (repeats / 10).max(ROUNDS),
        },
    ];
    for subject in &subjects {
        measure(real, subject).with_context(|| format!("the {} tree", subject.name))?;
    }
    Ok(())
}

/// Seconds of builds.
#[derive(Default)]
struct Samples {
    ours: Vec<f64>,
    library: Vec<f64>,
    command: Vec<f64>,
}

fn measure(real: &Real, subject: &Subject) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for the tree")?;
    subject.tree.write(folder.path())?;
    let (path, root) = (folder.path().to_string_lossy(), subject.tree.root.as_str());
    let full = folder.path().join(root);
    let full = full.to_string_lossy();

    let files = subject.tree.to_memory();
    let options = Options::default();
    let build = || ours::text(&files, root, &options).map_err(|error| anyhow!(error)).context("our build");
    let text = build()?;
    let theirs = real.run_command(&[&full])?.map_err(|error| anyhow!(error)).context("kustomize build")?;
    ensure!(text == theirs, "ours is another text than kustomize's: there is nothing to compare");

    let program = real.command();
    let program = program.to_string_lossy();
    let mut samples = Samples::default();
    let mut library = Value::Null;
    for _ in 0..ROUNDS {
        let count = subject.repeats.div_ceil(ROUNDS);
        for _ in 0..count {
            let start = Instant::now();
            black_box(build()?);
            samples.ours.push(start.elapsed().as_secs_f64());
        }
        library = real.measure(&["library", &path, root, &count.to_string()])?;
        samples.library.extend(numbers(&library["seconds"]));
        let few = (count / 8).max(2).to_string();
        let command = real.measure(&["command", &program, &full, &few])?;
        samples.command.extend(numbers(&command["seconds"]));
    }
    print_speed(subject, &text, &samples);

    let memory = our_memory(&path, root)?;
    let once = real.measure(&["once", &path, root])?;
    let command = real.measure(&["command", &program, &full, "1"])?;
    let megabytes = |value: &Value| value.as_f64().map(|bytes| bytes / 1e6);
    let details = json!({
        "ours_peak_of_heap": megabytes(&memory["peak_heap_bytes"]),
        "ours_allocated_in_all": megabytes(&memory["allocated_bytes"]),
        "ours_process": megabytes(&memory["peak_bytes"]),
        "library_allocated_in_all": megabytes(&library["allocated_bytes"]),
        "library_process": megabytes(&once["peak_bytes"]),
        "library_process_before": megabytes(&once["before_bytes"]),
        "command_process": megabytes(&command["peak_bytes"]),
    });
    let peak = megabytes(&memory["peak_heap_bytes"]).unwrap_or_default();
    print(&format!("kustomize_{}_memory", subject.name), peak, "MB", details);
    Ok(())
}

fn print_speed(subject: &Subject, text: &str, samples: &Samples) {
    let name = |what: &str| format!("kustomize_{}_{what}", subject.name);
    let tree = json!({
        "tree": subject.what,
        "files": subject.tree.files.len(),
        "objects": text.matches("\n---\n").count() + 1,
        "text_bytes": text.len(),
    });
    let milliseconds = |seconds: &[f64]| seconds.iter().map(|s| s * 1000.0).collect::<Vec<_>>();
    for (what, seconds) in
        [("ours", &samples.ours), ("library", &samples.library), ("command", &samples.command)]
    {
        print_median(&name(what), &milliseconds(seconds), "ms", tree.clone());
    }
    let ours = median(&samples.ours);
    for (what, seconds) in [("library", &samples.library), ("command", &samples.command)] {
        print(&name(&format!("{what}_ratio")), median(seconds) / ours, "times faster", json!({}));
    }
}

fn numbers(list: &Value) -> impl Iterator<Item = f64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_f64)
}

/// What the program beside this one says of one build.
fn our_memory(folder: &str, root: &str) -> Result<Value> {
    let own = std::env::current_exe().context("find the running binary")?;
    let program = own.with_file_name("flotilla-kustomize-memory");
    let output = Command::new(&program).args([folder, root]).output();
    let output = output.with_context(|| format!("run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", program.display(), said.trim());
    serde_json::from_slice(&output.stdout).context("read what it prints")
}
