//! HelmReleases: values inline and from ConfigMaps and Secrets, whole and by path.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Maker;
use super::variables::{Scope, expression};

/// Values as people write them, with what readers of YAML disagree on.
const VALUES: [&str; 24] = [
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
    "a: {x: 1}\na: {y: 2}\nlist: []\nlist: [5]\n",
    "{\"a\": {\"x\": 1.50, \"y\": null}, \"list\": [[1], {}]}\n",
    "n: ~\nnew: {deep: }\ntext: >\n  a\n   b\n\n  c\n\n",
    "a: {b: {c: 1, d: 2, z: {y: {x: w}}}}\nx: [[1, 2], [3]]\n",
    "a:\n  x: &v [1, {k: v}]\n  y: *v\nann: {alb.io/x: 1}\n",
    "%YAML 1.1\n---\na: yes\n...\nb: 1\n",
];

const PATHS: [&str; 20] = [
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
    "a.b",
    "a.b.z.y.x",
    "list[0].v.w[1]",
    "list",
    "x[1]",
    "patched",
    "a.b.d[0].e",
    "inline",
];

const AT_PATHS: [&str; 32] = [
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
    "NULL",
    "{}",
    "{null,true, x }",
    "'it''s'",
    "x,n={1,2}",
    "\"'\"",
    "  ",
    "é\u{1F600}",
];

const INLINE: [&str; 16] = [
    "",
    "  values: {a: {w: 9}, inline: true}\n",
    "  values: {a: {x: null}, n: 1}\n",
    "  values: {list: [9]}\n",
    "  values:\n    a:\n      b: {c: inline}\n    oct: 0755\n    yes: on\n    f: 1.50\n",
    "  values: {a: inline}\n",
    "  values: {}\n",
    "  values: {big: 12345678901234567, t: 12:30, nothing: ~}\n",
    "  values: {y: n, on: off, date: 2024-01-01, hex: 0x1F, bin: !!binary aGVsbG8=}\n",
    "  values:\n    folded: >\n      one\n        deeper\n\n      two\n    kept: |+\n      x\n\n    '1': number\n",
    "  values: {huge: 18446744073709551616, small: -9007199254740993, exp: 1e22, f: 1e3}\n",
    "  values: {a: {b: {c: '${ROOT:-none}', d: \"${ROOT:=5}\"}}, t: ${MISSING:-yes}}\n",
    "  values: {list: [{name: i, v: {w: 1}}, [1, [2]]], x: [[0]]}\n",
    "  values:\n    base: &b {k: v}\n    use: *b\n    merged: {<<: *b, l: 1}\n    empty:\n",
    "  values: {new: {deep: {path: 1}}, text: {was: mapping}, ann: null}\n",
    "  values: {a: {b: {z: {y: {x: 0, v: [1]}}}}, n: {}}\n",
];

/// A release in a file, with what its values come from. `scope` is what the file's texts may use.
pub(super) fn release(maker: &mut Maker, file: &str, scope: Scope) {
    let name = maker.name("release-");
    let mut references = String::new();
    let mut absent: Vec<String> = Vec::new();
    for _ in 0..maker.rng.below(5) {
        let is_path = maker.rng.chance(45);
        let mut text = if is_path { *maker.rng.pick(&AT_PATHS) } else { *maker.rng.pick(&VALUES) }.to_owned();
        if maker.rng.chance(10) {
            let value = expression(maker, scope);
            text = if is_path { value.to_owned() } else { format!("{text}put_in: 'x{value}'\n") };
        }
        let key = if maker.rng.chance(30) { "other" } else { "values.yaml" };
        let (kind, source, exists) = source(maker, file, key, &text);
        let asked = if maker.rng.chance(3) { "nowhere" } else { key };
        references += &format!("  - {{kind: {kind}, name: {source}");
        references += &if asked == "values.yaml" { String::new() } else { format!(", valuesKey: {asked}") };
        if is_path {
            references += &format!(", targetPath: {}", serde_json::json!(*maker.rng.pick(&PATHS)));
            references += if maker.rng.chance(20) { ", literal: true" } else { "" };
        }
        // Where nobody knows of it, the release is held here: the cluster may have it.
        let is_named_so = exists && file.starts_with("clusters/");
        references += if is_named_so && maker.rng.chance(40) { ", optional: true}\n" } else { "}\n" };
        if maker.rng.chance(5) {
            let name = maker.name("absent-");
            references += &format!("  - {{kind: {kind}, name: {name}, optional: true}}\n");
            absent.push(format!("{kind}/{name}"));
        }
    }
    let annotations = match absent.is_empty() {
        true => String::new(),
        false => format!(", annotations: {{flotilla.dev/absent: '{}'}}", absent.join(", ")),
    };
    let from = if references.is_empty() { String::new() } else { format!("  valuesFrom:\n{references}") };
    let inline = *maker.rng.pick(&INLINE);
    let version = *maker.rng.pick(&["v2", "v2", "v2", "v2beta2", "v2beta1"]);
    maker.add(file, &format!(
        "apiVersion: helm.toolkit.fluxcd.io/{version}\nkind: HelmRelease\nmetadata: {{name: {name}, namespace: \
         shop{annotations}}}\nspec:\n  interval: 10m\n  chart:\n    spec:\n      chart: ./charts/demo\n      sourceRef: {{kind: \
         GitRepository, name: flux-system, namespace: flux-system}}\n{from}{inline}"
    ));
}

/// A ConfigMap or Secret with a text under a key, and whether it is there.
fn source(maker: &mut Maker, file: &str, key: &str, text: &str) -> (&'static str, String, bool) {
    let name = maker.name("values-");
    let (kind, field) = *maker.rng.pick(&[
        ("ConfigMap", "data"),
        ("ConfigMap", "data"),
        ("ConfigMap", "data"),
        ("Secret", "stringData"),
        ("Secret", "data"),
    ]);
    let text = if (kind, field) == ("Secret", "data") { BASE64.encode(text) } else { text.to_owned() };
    let data = serde_json::json!({ key: text });
    let exists = maker.rng.chance(97);
    if exists {
        maker.add(
            file,
            &format!(
                "apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n{field}: {data}\n"
            ),
        );
    }
    (kind, name, exists)
}
