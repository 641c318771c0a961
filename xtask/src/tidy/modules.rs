//! Modules of one crate: which may not name which, and folders whose modules form no circle.

use std::collections::{BTreeMap, BTreeSet};

use super::Findings;
use super::files::File;

/// Folders whose modules use each other in one direction. Tests are free.
const WITHOUT_CIRCLES: [&str; 6] =
    ["agent/src/", "agent/src/disk/", "agent/src/sync/", "proto/src/", "runtime/src/", "source/src/"];

/// What a module may use of the crate's others. Tests are free.
const MAY_USE: [(&str, &str, &[&str]); 6] = [
    ("hub/src/", "store", &[]),
    ("hub/src/", "clock", &[]),
    ("hub/src/", "changes", &[]),
    ("hub/src/", "journal", &["store"]),
    ("hub/src/", "view", &["attempts", "clock", "journal", "pulse"]),
    ("hub/src/", "sources", &["attempts", "clock", "journal", "metrics", "store"]),
];

/// The agents' contract, and the only files that name it: what is inside works on the domain's types.
const CONTRACT: &str = "flotilla_proto::v1";
const BORDER: [&str; 7] = [
    "agent/src/link/",
    "agent/src/disk/desired.rs",
    "agent/src/manifest.rs",
    "hub/src/api/",
    "hub/src/authority.rs",
    "hub/src/session/",
    "proto/",
];

type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(shipped: &[&File], findings: &mut Findings) {
    for folder in WITHOUT_CIRCLES {
        if let Some(circle) = circle(&graph(folder, shipped)) {
            findings
                .errors
                .push(format!("{folder}: modules use each other in a circle: {}", circle.join(" -> ")));
        }
    }
    for (folder, module, may_use) in MAY_USE {
        let graph = graph(folder, shipped);
        let used = graph.get(module).into_iter().flatten();
        for other in used.filter(|other| !may_use.contains(&other.as_str())) {
            findings
                .errors
                .push(format!("{folder}{module}: may not use {other}, which stands above or beside it"));
        }
    }
    for file in shipped.iter().filter(|file| !BORDER.iter().any(|border| file.name.starts_with(border))) {
        if before_tests(&file.text).contains(CONTRACT) {
            let why = "is for where agents are spoken to (BORDER in xtask/src/tidy/modules.rs)";
            findings.errors.push(format!("{}: {CONTRACT} {why}", file.name));
        }
    }
}

/// Which modules of a folder use which, by what their files import and name.
fn graph(folder: &str, shipped: &[&File]) -> Graph {
    let own: Vec<(&&File, &str)> =
        shipped.iter().filter_map(|file| Some((file, file.name.strip_prefix(folder)?))).collect();
    let module_of =
        |path: &str| path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    let modules: BTreeSet<String> =
        own.iter().map(|(_, path)| module_of(path)).filter(|name| !is_root(name)).collect();
    let mut graph = Graph::new();
    for (file, path) in own {
        let module = module_of(path);
        if is_root(&module) {
            continue;
        }
        let used = used(folder, path, before_tests(&file.text));
        let used = used.into_iter().filter(|name| *name != module && modules.contains(name));
        graph.entry(module.clone()).or_default().extend(used);
    }
    graph
}

fn is_root(module: &str) -> bool {
    ["mod", "lib", "main"].contains(&module)
}

pub(super) fn before_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The first names after paths that lead to the folder: `crate::sync::` and, as deep as the file is, `super::`.
fn used(folder: &str, path: &str, text: &str) -> BTreeSet<String> {
    let inside = folder.split_once("src/").map_or("", |(_, inside)| inside);
    let absolute = format!("crate::{}", inside.replace('/', "::"));
    // `x.rs` and `x/mod.rs` are one step below the folder, `x/y.rs` is two.
    let depth = path.trim_end_matches("/mod.rs").split('/').count();
    let lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with("//"));
    let code = lines.collect::<Vec<_>>().join(" ");
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(&absolute) {
        names.extend(heads(&code[at + absolute.len()..]));
    }
    let supers = "super::".repeat(depth);
    for (at, _) in code.match_indices(&supers) {
        let after = &code[at + supers.len()..];
        if !code[..at].ends_with("super::") && !after.starts_with("super::") {
            names.extend(heads(after));
        }
    }
    names
}

/// `a` of `a::b`; `a` and `b` of `{a::{x, y}, b}`.
fn heads(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = text.strip_prefix('{') else { return vec![word(text)] };
    let (mut depth, mut heads, mut is_start) = (0, Vec::new(), true);
    for (at, c) in list.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            c if is_start && !c.is_whitespace() => {
                heads.push(word(&list[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    heads
}

/// Modules each of which uses the next, and the last the first.
fn circle(graph: &Graph) -> Option<Vec<String>> {
    fn visit<'a>(
        graph: &'a Graph,
        at: &'a str,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> bool {
        if let Some(start) = path.iter().position(|name| *name == at) {
            path.drain(..start);
            path.push(at);
            return true;
        }
        if !done.insert(at) {
            return false;
        }
        path.push(at);
        if graph.get(at).into_iter().flatten().any(|next| visit(graph, next, path, done)) {
            return true;
        }
        path.pop();
        false
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|start| {
        let mut path = Vec::new();
        visit(graph, start, &mut path, &mut done).then(|| path.into_iter().map(str::to_owned).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Option<Vec<String>> {
        let files: Vec<File> =
            files.iter().map(|(name, text)| File { name: (*name).into(), text: (*text).into() }).collect();
        circle(&graph("agent/src/sync/", &files.iter().collect::<Vec<_>>()))
    }

    #[test]
    fn what_stands_below_names_nothing_above_and_the_contract_stays_at_the_border() {
        for (name, text, is_good) in [
            ("hub/src/store/known.rs", "use crate::store::Txn;", true),
            ("hub/src/store/known.rs", "use crate::fleet::HELM_FOLDER;", false),
            ("hub/src/store/known.rs", "#[cfg(test)]\nmod tests { use crate::fleet::X; }", true),
            ("hub/src/api/units.rs", "use crate::fleet::X;", true),
            ("hub/src/session/driver.rs", "use flotilla_proto::v1;", true),
            ("hub/src/fleet/round.rs", "use flotilla_proto::v1::Ack;", false),
        ] {
            let others = ["hub/src/fleet/mod.rs", "hub/src/store/mod.rs"];
            let others = others.map(|name| File { name: name.into(), text: String::new() });
            let file = File { name: name.into(), text: text.into() };
            let mut findings = Findings::default();
            check(&[&file, &others[0], &others[1]], &mut findings);
            assert_eq!(findings.errors.is_empty(), is_good, "{name} {text}: {findings:?}");
        }
    }

    #[test]
    fn a_circle_is_found_however_a_module_is_named() {
        let (a, b) = ("agent/src/sync/a.rs", "agent/src/sync/b/mod.rs");
        for (a_text, b_text, is_circle) in [
            ("use super::b::X;", "use super::c::Y;", false),
            ("use super::b::X;", "use super::a::Y;", true),
            ("use super::b::X;", "use super::{c::{D, a}, e};", false),
            ("use super::b::X;", "use super::{c::{D, E}, a::F};", true),
            ("use super::b::X;", "fn f() { crate::sync::a::g() }", true),
            ("use super::b::X;", "/// [`super::a`]", false),
            ("use super::b::X;", "#[cfg(test)]\nmod tests { use crate::sync::a; }", false),
            ("use crate::other::b;", "use super::a::Y;", false),
        ] {
            assert_eq!(found(&[(a, a_text), (b, b_text)]).is_some(), is_circle, "{a_text} {b_text}");
        }
        // A file deeper down is a part of its folder's module.
        let deep = ("agent/src/sync/b/deep.rs", "use super::super::a::Y;");
        let named = ["a", "b", "a"].map(str::to_owned).to_vec();
        assert_eq!(found(&[(a, "use super::b::X;"), (b, ""), deep]), Some(named));
        let sibling = ("agent/src/sync/b/deep.rs", "use super::a::Y;");
        assert_eq!(found(&[(a, "use super::b::X;"), (b, ""), sibling]), None);
    }
}
