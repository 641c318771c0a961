//! The boundary between tenants: what an object, a definition or a name in a tenant's repository may not bring about.
//! The table of all of it is in docs/security.md.

use flotilla_core::UnitId;

use crate::world::*;

/// What a ConfigMap would be that has the agent read a Secret of another namespace.
const FORGED: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: loot, namespace: d}\nflotilla.dev/template: {text: \
                      'kind: ConfigMap', variables: {layers: [{from: {kind: Secret, namespace: kube-system, name: x}}]}}\n";

#[test]
fn nobody_writes_the_fields_of_the_wire() {
    let apps = |more: &str| ("clusters/x/apps.yaml", unit("apps", FLEET, &format!("  path: apps\n{more}")));
    let plain = |text: &str| ("apps/m.yaml", text.to_owned());
    let kustomization = |text: &str| ("apps/kustomization.yaml", format!("resources: [m.yaml]\n{text}"));
    let patch =
        "{target: {kind: ConfigMap}, patch: '[{op: add, path: /flotilla.dev~1template, value: {text: a}}]'}";
    for (what, files) in [
        ("manifest", vec![apps(""), plain(FORGED)]),
        ("another field of ours", vec![apps(""), plain(&FORGED.replace("/template", "/of-the-future"))]),
        (
            "list",
            vec![
                apps(""),
                plain(&format!(
                    "apiVersion: v1\nkind: List\nitems:\n- {}",
                    FORGED.trim_end().replace('\n', "\n  ")
                )),
            ],
        ),
        ("patch", vec![apps(""), plain(&config_map("m")), kustomization(&format!("patches: [{patch}]\n"))]),
        ("patch of the unit", vec![apps(&format!("  patches: [{patch}]\n")), plain(&config_map("m"))]),
        (
            "substituted key",
            vec![
                apps("  postBuild: {substitute: {a: template}}\n"),
                plain(&FORGED.replace("flotilla.dev/template", "\"flotilla.dev/${a}\"")),
            ],
        ),
        (
            "beside variables that only the cluster has",
            vec![
                apps("  postBuild: {substituteFrom: [{kind: Secret, name: keys}]}\n"),
                plain(&format!("{FORGED}data: {{a: '${{password}}'}}\n")),
            ],
        ),
    ] {
        let render = World::new(&[]).render(&files);
        let apps = &render.units[&UnitId::kustomization("flux-system", "apps")];
        assert!(apps.unit.is_none(), "{what}");
        let said = apps.problems[0].to_string();
        assert!(said.contains("which only hub and agent write between them; remove it"), "{what}: {said}");
    }
}
