//! HelmReleases: values inline and from ConfigMaps and Secrets, whole and by path.

use super::Maker;

/// Values as people write them, with what readers of YAML disagree on.
const VALUES: [&str; 18] = [
    "a: {x: 1, y: two}\nlist: [1, 2]\n",
    "a: {y: 2, z: null}\nlist: [3]\nn: null\n",
    "yes: on\noct: 0755\nbig: 12345678901234567\nf: 1.0\ne: 1e3\nt: 12:30\n",
    "a:\n  b:\n    c: deep\n    d: [{e: 1}]\n",
    "",
    "# only a comment\n",
    "{}\n",
    "a: text\n",
    "base: &b {k: v}\nuse: *b\nmerged: {<<: *b, l: 1}\n",
    "date: 2024-01-01\nhex: 0x1F\nfloat: .5\nnot: ~\nempty: ''\n",
    "text: |\n  one\n  two\nfolded: >-\n  a\n  b\n",
    "1: number\ntrue: bool\nkey with space: x\n",
    "a: {x: null}\n",
    "list: [{name: a, v: 1}, {name: b}]\n",
    "big: 9007199254740993\nhuge: 18446744073709551616\nsmall: -9007199254740993\nexp: 1e22\n",
    "on: {no: off, y: n}\nquoted: 'yes'\n12: {null: x}\n",
    "a: !!str 5\nbin: !!binary aGVsbG8=\nint: !!int '7'\n",
    "---\na: {x: 1}\n---\na: {x: 2}\n",
];

const PATHS: [&str; 12] = [
    "a.x",
    "a.b.c",
    "list[0]",
    "list[3]",
    "list[0].name",
    "n",
    "new.deep.path",
    "ann.alb\\.io/x",
    "a",
    "list[1].v.w",
    "x[0][1]",
    "text",
];

const AT_PATHS: [&str; 24] = [
    "abc",
    "5",
    "1.5",
    "true",
    "null",
    "",
    "007",
    "a\\,b",
    "{x,y}",
    "'7'",
    "\"7\"",
    "x=y",
    "line\n",
    "12345678901234567890",
    "[1]",
    "a,b=c",
    "9007199254740993",
    "-5",
    "+7",
    "0",
    "1e3",
    "Yes",
    "2024-01-01",
    "{1,{2},\\{}",
];

const INLINE: [&str; 12] = [
    "",
    "  values: {a: {w: 9}, inline: true}\n",
    "  values: {a: {x: null}, n: 1}\n",
    "  values: {list: [9]}\n",
    "  values:\n    a:\n      b: {c: inline}\n    oct: 0755\n    yes: on\n    f: 1.50\n",
    "  values: {a: inline}\n",
    "  values: {}\n",
    "  values: {big: 12345678901234567, t: 12:30, nothing: ~}\n",
    "  values: {y: n, on: off, date: 2024-01-01, hex: 0x1F, empty: , bin: !!binary aGVsbG8=}\n",
    "  values:\n    folded: >\n      one\n        deeper\n\n      two\n    kept: |+\n      x\n\n    1: number\n",
    "  values: {huge: 18446744073709551616, small: -9007199254740993, exp: 1e22, f: 1e3}\n",
    "  values: {a: {b: {c: '${ROOT:-none}', d: \"${ROOT:=5}\"}}, t: ${MISSING:-yes}}\n",
];

/// A release in the cluster's root, with what its values come from.
pub(super) fn release(maker: &mut Maker) {
    let file = "clusters/prod/releases.yaml";
    let name = maker.name("release-");
    let mut references = String::new();
    for _ in 0..maker.rng.below(4) {
        let source = maker.name("values-");
        let is_path = maker.rng.chance(45);
        let text = if is_path { *maker.rng.pick(&AT_PATHS) } else { *maker.rng.pick(&VALUES) };
        let key = if maker.rng.chance(30) { "other" } else { "values.yaml" };
        let (kind, field) =
            if maker.rng.chance(30) { ("Secret", "stringData") } else { ("ConfigMap", "data") };
        let data = serde_json::json!({ key: text });
        let exists = maker.rng.chance(95);
        if exists {
            maker.add(file, &format!(
                "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {source}, namespace: shop}}\n{field}: {data}\n"
            ));
        }
        references += &format!("  - {{kind: {kind}, name: {source}");
        references += if key == "other" { ", valuesKey: other" } else { "" };
        if is_path {
            references += &format!(", targetPath: {}", serde_json::json!(*maker.rng.pick(&PATHS)));
            references += if maker.rng.chance(20) { ", literal: true" } else { "" };
        }
        references += "}\n";
    }
    let from = if references.is_empty() { String::new() } else { format!("  valuesFrom:\n{references}") };
    let inline = *maker.rng.pick(&INLINE);
    maker.add(file, &format!(
        "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         interval: 10m\n  chart:\n    spec:\n      chart: ./charts/demo\n      sourceRef: {{kind: GitRepository, name: \
         flux-system, namespace: flux-system}}\n{from}{inline}"
    ));
}
