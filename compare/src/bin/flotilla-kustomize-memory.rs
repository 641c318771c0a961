//! `flotilla-kustomize-memory TREE ROOT`: one build of ours, and what memory it took, as JSON on stdout.
//!
//! A program of its own: counting allocations costs time, and a process that has built nothing else shows what one
//! build needs.

use std::alloc::System;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cap::Cap;
use flotilla_compare::ours;
use flotilla_compare::tree::Tree;
use flotilla_kustomize::Options;
use serde_json::json;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, root] = &args[..] else { return Err(anyhow!("which TREE and ROOT?")) };
    let tree = Tree::read(Path::new(folder), root)?;
    let files = tree.to_memory();
    drop(tree);
    let (live, total) = (ALLOCATOR.allocated(), ALLOCATOR.total_allocated());
    let text =
        ours::text(&files, root, &Options::default()).map_err(|error| anyhow!(error)).context("build")?;
    let (peak, allocated) = (ALLOCATOR.max_allocated(), ALLOCATOR.total_allocated());
    let figures = json!({
        "allocated_bytes": allocated - total,
        "peak_heap_bytes": peak.saturating_sub(live),
        "text_bytes": text.len(),
        "peak_bytes": resident(),
    });
    println!("{figures}");
    Ok(())
}

/// The most memory that this process ever had, in bytes; `None` where the system does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().split(' ').next()?.parse::<u64>().ok()? * 1024)
}
