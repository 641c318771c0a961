//! Charts of a mean tree: values by every way in which a kustomization gives them.

use std::collections::BTreeMap;

use super::{block_map, file, flow};
use crate::random::rng::Rng;
use crate::tree::Content;

/// A chart of the tree with values by every way.
pub(super) fn field(rng: &mut Rng, name: &str, files: &mut BTreeMap<String, Content>) -> String {
    files
        .insert("charts/demo/Chart.yaml".to_owned(), file_of("apiVersion: v2\nname: demo\nversion: 1.2.3\n"));
    let text = values(rng);
    files.insert("charts/demo/values.yaml".to_owned(), file_of(&text));
    let mut chart = "helmCharts:\n- name: demo\n".to_owned();
    if rng.chance(70) {
        let text = values(rng);
        files.insert(name.to_owned(), file(rng, text));
        chart += &format!("  valuesFile: {name}\n");
    }
    if rng.chance(15) {
        let text = values(rng);
        files.insert("more.yaml".to_owned(), file(rng, text));
        chart += "  additionalValuesFiles: [more.yaml]\n";
    }
    if rng.chance(80) {
        chart += &format!("  valuesInline:{}", block_map(rng, 4, 1));
        chart += rng.word(&[
            "",
            "",
            "  valuesMerge: merge\n",
            "  valuesMerge: override\n",
            "  valuesMerge: replace\n",
        ]);
    }
    chart
}

/// The values of a chart, with what these files have and others do not.
fn values(rng: &mut Rng) -> String {
    let text = match rng.below(12) {
        0 => rng.word(&["", "# none\n", "{}\n", "null\n", "[a]\n", "x\n", "---\n"]).to_owned(),
        1 => format!("{}\n", flow(rng, 2)),
        _ => block_map(rng, 0, 3).trim_start_matches('\n').to_owned(),
    };
    let odd = match rng.below(6) {
        0 => rng.word(&[
            "o: &o {p: 1, k0: x}\nk0: {<<: *o, r: 2}\n",
            "k1: {\"<<\": {p: 1}, r: 2}\n",
            "k0: {$patch: replace, r: 2}\n",
            "k0: {$patch: delete}\n",
            "k1: [{$patch: replace}, {a: 1}]\n",
            "~: 1\n",
            "k2: {null: 1}\n",
            "1: a\ntrue: b\n1.5: c\n",
            "y: 1\nNo: 2\n",
            "k0: null\nk1: ~\nk2:\n",
            "a: &a [1, 2]\nk0: *a\nk1: [*a]\n",
            "---\nk0: second\n",
            "...\nk0: second\n",
        ]),
        _ => "",
    };
    text + odd
}

fn file_of(text: &str) -> Content {
    Content::Bytes(text.as_bytes().to_vec())
}
