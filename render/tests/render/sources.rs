//! Units whose files come from other sources than the fleet repo: where sources are looked for, what holds a unit,
//! who may read what.

use flotilla_core::UnitId;
use flotilla_core::source::SourceSpec;
use flotilla_render::source::Revision;

use crate::world::*;

#[test]
fn a_unit_has_the_files_of_the_source_it_names_wherever_that_is_defined() {
    // `a` comes before the unit that defines its source, and that one's files are in a third source.
    let world = World::new(&[
        ("team", tree(&[("x/a.yaml", config_map("a"))], "team")),
        ("infra", tree(&[("team.yaml", git("team", ""))], "infra")),
    ]);
    let render = world.render(&[
        ("clusters/x/a.yaml", unit("a", TEAM, "  path: x\n")),
        ("clusters/x/b.yaml", unit("b", "{kind: GitRepository, name: infra}", "")),
        ("clusters/x/infra.yaml", git("infra", "")),
    ]);
    assert_eq!(shown(&render), ["root: 0", "a: 1", "b: 0"]);
    let a = &render.units[&UnitId::kustomization("flux-system", "a")];
    assert_eq!(
        (a.definition.source.to_string().as_str(), &a.revision),
        ("GitRepository/flux-system/team", &Some(Revision::Of("team@sha1:1".into())))
    );
    let unit = a.unit.as_ref().unwrap();
    assert_eq!(unit.content.origins, [("GitRepository/flux-system/team:x/a.yaml".to_owned(), 1)]);
    let sources: Vec<_> = render.sources.iter().map(|(id, s)| format!("{id} by {}", s.defined_by)).collect();
    assert_eq!(
        sources,
        [
            "GitRepository/flux-system/infra by root",
            "GitRepository/flux-system/team by kustomization/flux-system/b"
        ]
    );
}

#[test]
fn what_holds_a_unit_names_its_source() {
    let world = World::new(&[("bad", tree(&[("x.yaml", "a: [".to_owned())], "bad"))]);
    let held = |expected: &str, files: &[(&str, String)]| {
        let mut all =
            vec![("clusters/x/ok.yaml", unit("z", FLEET, "  path: ok\n")), ("ok/m.yaml", config_map("m"))];
        all.extend(files.iter().cloned());
        let shown = world.shown(&all);
        assert_eq!(shown, ["root: 0", expected, "z: 1"]);
    };
    let a = ("clusters/x/a.yaml", unit("a", TEAM, ""));
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: GitRepository/flux-system/team is not defined in this cluster",
        std::slice::from_ref(&a),
    );
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: GitRepository/flux-system/team: is not fetched yet",
        &[a.clone(), ("clusters/x/team.yaml", git("team", ""))],
    );
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: GitRepository/flux-system/team is defined wrongly: \
         clusters/x/team.yaml:7:13: spec.provider: 'azure' is not supported; use generic, with credentials in a Secret",
        &[a.clone(), ("clusters/x/team.yaml", git("team", "  provider: azure\n"))],
    );
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: GitRepository/flux-system/team asks for verification, which is \
         not supported: its content is not used; an operator may allow it as it is by --allow-unverified",
        &[a.clone(), ("clusters/x/team.yaml", git("team", "  verify: {secretRef: {name: keys}}\n"))],
    );
    let including = ("clusters/x/team.yaml", git("team", "  include: [{repository: {name: part}}]\n"));
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: GitRepository/flux-system/part is not defined in this cluster",
        &[a.clone(), including.clone()],
    );
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: GitRepository/flux-system/part is defined wrongly: \
         clusters/x/part.yaml:7:13: spec.provider: 'azure' is not supported; use generic, with credentials in a Secret",
        &[a.clone(), including, ("clusters/x/part.yaml", git("part", "  provider: azure\n"))],
    );
    held(
        "a: held clusters/x/a.yaml:1: spec.sourceRef: ExternalArtifact/flux-system/e: nothing here fills it; an \
         ArtifactGenerator would",
        &[
            ("clusters/x/a.yaml", unit("a", "{kind: ExternalArtifact, name: e}", "")),
            (
                "clusters/x/e.yaml",
                "apiVersion: source.toolkit.fluxcd.io/v1\nkind: ExternalArtifact\nmetadata: {name: e, namespace: \
                 flux-system}\nspec: {}\n"
                    .to_owned(),
            ),
        ],
    );
    let bad = ("clusters/x/a.yaml", unit("a", "{kind: GitRepository, name: bad}", ""));
    let shown = world.shown(&[bad, ("clusters/x/bad.yaml", git("bad", ""))]);
    assert!(shown[1].starts_with("a: held GitRepository/flux-system/bad:x.yaml:1"), "{shown:?}");
}

#[test]
fn an_operator_may_allow_what_cannot_be_verified() {
    let mut world = World::new(&[("team", tree(&[("a.yaml", config_map("a"))], "team"))]);
    world.fetched.allowed.push("GitRepository/flux-system/team".parse().unwrap());
    let files = [
        ("clusters/x/a.yaml", unit("a", TEAM, "")),
        ("clusters/x/team.yaml", git("team", "  verify: {secretRef: {name: keys}}\n")),
    ];
    assert_eq!(world.shown(&files), ["root: 0", "a: 1"]);
}

#[test]
fn the_fleet_repos_own_object_says_nothing_of_how_it_is_fetched() {
    let world = World::new(&[]);
    let own = |more: &str| ("clusters/x/gotk.yaml", git("flux-system", more));
    let files = |more: &str| {
        [own(more), ("clusters/x/a.yaml", unit("a", FLEET, "  path: a\n")), ("a/a.yaml", config_map("a"))]
    };
    assert_eq!(world.shown(&files("")), ["root: 0", "a: 1"]);
    assert_eq!(
        world.shown(&files("  sparseCheckout: [a]\n"))[0],
        "root: 0 clusters/x/gotk.yaml:1: spec.sparseCheckout: the fleet repo is read whole, as the hub is told to; without \
         effect: sparseCheckout"
    );
    let unverified = world.shown(&files("  verify: {secretRef: {name: keys}}\n"));
    assert_eq!(unverified.len(), 1, "nothing is known of what the root defines");
    assert!(
        unverified[0]
            .starts_with("root: held clusters/x/gotk.yaml:1: spec.verify: GitRepository/flux-system/")
    );
    assert!(world.render(&files("")).sources.is_empty());
}

#[test]
fn the_fleet_repos_own_object_says_what_is_left_out_of_it() {
    let files = |ignore: &str| {
        [
            ("clusters/x/gotk.yaml", git("flux-system", &format!("  ignore: |\n    {ignore}\n"))),
            ("clusters/x/a.yaml", unit("a", FLEET, "  path: a\n")),
            ("a/a.yaml", config_map("a")),
            ("a/draft.yaml", config_map("draft")),
            ("a/.sourceignore", "b.yaml\n".to_owned()),
            ("a/b.yaml", config_map("b")),
        ]
    };
    for (ignore, shown) in [
        ("# nothing", ["root: 0", "a: 2"]),
        ("draft.yaml", ["root: 0", "a: 1"]),
        // It goes after the other rules.
        ("/*\n    !/clusters\n    !/a/", ["root: 0", "a: 3"]),
        ("!/a/b.yaml", ["root: 0", "a: 3"]),
    ] {
        assert_eq!(World::new(&[]).shown(&files(ignore)), shown, "{ignore}");
    }
    // As in Flux, one may leave out what the cluster itself is: then nothing is known of it.
    let shown = World::new(&[]).shown(&files("/clusters"));
    assert!(shown[0].starts_with("root: held") && shown.len() == 1, "{shown:?}");
    // One commit after another in one memory.
    let world = World::new(&[]);
    for (ignore, count) in [("draft.yaml", "a: 1"), ("# nothing", "a: 2"), ("draft.yaml", "a: 1")] {
        assert_eq!(world.shown(&files(ignore))[1], count, "{ignore}");
    }
}

#[test]
fn generators_read_other_sources_and_each_other() {
    let generator = |name: &str, input: &str, output: &str| {
        format!(
            "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {{name: {name}, \
             namespace: flux-system}}\nspec:\n  sources: [{{alias: in, {input}}}]\n  artifacts: [{{name: {output}, copy: \
             [{{from: '@in/**', to: '@artifact/'}}]}}]\n"
        )
    };
    let world = World::new(&[("team", tree(&[("a.yaml", config_map("a"))], "team"))]);
    let a = ("clusters/x/a.yaml", unit("a", "{kind: ExternalArtifact, name: two}", ""));
    let two = ("clusters/x/g2.yaml", generator("g2", "kind: ExternalArtifact, name: one", "two"));
    let team = ("clusters/x/team.yaml", git("team", ""));
    let one = ("clusters/x/g1.yaml", generator("g1", "kind: GitRepository, name: team", "one"));
    assert_eq!(world.shown(&[a.clone(), two.clone(), team.clone(), one]), ["root: 0", "a: 1"]);
    assert_eq!(
        world.shown(&[a.clone(), two.clone(), team])[1],
        "a: held clusters/x/a.yaml:1: spec.sourceRef: ExternalArtifact/flux-system/one is not defined in this cluster"
    );
    let circle = ("clusters/x/g1.yaml", generator("g1", "kind: ExternalArtifact, name: two", "one"));
    assert!(world.shown(&[a, two, circle])[1].contains("generators read each other more than 8 deep"));
}

#[test]
fn who_was_defined_under_an_account_reads_its_own_namespace() {
    let world = World::new(&[("team", tree(&[("a.yaml", config_map("a"))], "team"))]);
    let other = "{kind: GitRepository, name: team, namespace: flux-system}";
    let files = |account: &str| {
        [
            ("clusters/x/team.yaml", git("team", "")),
            ("clusters/x/tenant.yaml", unit("tenant", FLEET, &format!("  path: tenant\n{account}"))),
            ("tenant/deeper.yaml", unit("apps/deeper", other, "")),
        ]
    };
    assert_eq!(world.shown(&files("")), ["root: 0", "deeper: 1", "tenant: 0"]);
    let render = world.render(&files("  serviceAccountName: deployer\n"));
    assert_eq!(
        shown(&render)[1],
        "deeper: held tenant/deeper.yaml:1: spec.sourceRef: GitRepository/flux-system/team is in another namespace than \
         'apps': a unit that another unit's service account defined reads its own namespace only"
    );
    let tenant = render.units[&UnitId::kustomization("flux-system", "tenant")].unit.as_ref().unwrap();
    assert_eq!(tenant.manifest.spec.service_account.as_ref().unwrap().to_string(), "flux-system/deployer");
}

#[test]
fn a_unit_that_names_no_account_has_that_of_the_unit_that_defined_it() {
    let world = World::new(&[]);
    let render = world.render(&[
        ("clusters/x/a.yaml", unit("team/a", FLEET, "  path: a\n  serviceAccountName: deployer\n")),
        ("a/b.yaml", unit("team/b", "{kind: GitRepository, name: own}", "")),
        ("a/c.yaml", unit("team/c", "{kind: GitRepository, name: own}", "  serviceAccountName: other\n")),
        ("a/own.yaml", git("team/own", "")),
    ]);
    assert_eq!(
        shown(&render)[2],
        "b: held a/b.yaml:1: spec.sourceRef: GitRepository/team/own: is not fetched yet"
    );
    let world = World::new(&[("own", tree(&[("m.yaml", config_map("m"))], "own"))]);
    let render = world.render(&[
        ("clusters/x/a.yaml", unit("team/a", FLEET, "  path: a\n  serviceAccountName: deployer\n")),
        ("a/b.yaml", unit("team/b", "{kind: GitRepository, name: own}", "")),
        ("a/c.yaml", unit("team/c", "{kind: GitRepository, name: own}", "  serviceAccountName: other\n")),
        ("a/own.yaml", git("team/own", "")),
    ]);
    let accounts: Vec<_> = ["a", "b", "c"]
        .map(|name| render.units[&UnitId::kustomization("team", name)].unit.clone().unwrap())
        .map(|unit| unit.manifest.spec.service_account.as_ref().unwrap().to_string())
        .to_vec();
    assert_eq!(accounts, ["team/deployer", "team/deployer", "team/other"]);
}

#[test]
fn a_render_is_remembered_for_one_content_of_one_source() {
    let files = [("clusters/x/a.yaml", unit("a", TEAM, "")), ("clusters/x/team.yaml", git("team", ""))];
    let mut world = World::new(&[("team", tree(&[("a.yaml", config_map("a"))], "team"))]);
    world.render(&files);
    let builds = world.cache.builds();
    world.render(&files);
    assert_eq!(world.cache.builds(), builds);
    for (content, origin) in [("b", "team"), ("a", "elsewhere")] {
        world.fetched.trees.insert("team", tree(&[("a.yaml", config_map(content))], origin));
        let before = world.cache.builds();
        let render = world.render(&files);
        assert_eq!(world.cache.builds(), before + 1, "{content} of {origin}");
        let a = render.units[&UnitId::kustomization("flux-system", "a")].unit.as_ref().unwrap();
        assert_eq!(a.content.objects[0].id().name, content);
    }
}

#[test]
fn what_a_held_unit_last_defined_stays() {
    let mut world = World::new(&[("team", tree(&[("a.yaml", config_map("a"))], "team"))]);
    let files = |team: String| {
        [
            ("clusters/x/infra.yaml", unit("infra", FLEET, "  path: infra\n")),
            ("clusters/x/a.yaml", unit("a", TEAM, "")),
            ("infra/team.yaml", team),
            ("infra/c.yaml", unit("c", FLEET, "  path: c\n")),
            ("c/m.yaml", config_map("c")),
        ]
    };
    let good = world.render(&files(git("team", "")));
    assert_eq!(shown(&good), ["root: 0", "a: 1", "c: 1", "infra: 0"]);
    let kept = |(id, unit): (&UnitId, &std::sync::Arc<flotilla_render::RenderedUnit>)| {
        unit.unit.as_ref().map(|unit| (id.clone(), unit.content.clone()))
    };
    world.last_good = good.units.iter().filter_map(kept).collect();
    let broken = world.shown(&files("a: [".to_owned()));
    assert_eq!(broken[..3], ["root: 0", "a: 1", "c: 1"]);
    assert!(broken[3].starts_with("infra: held"));

    // Suspended: what it defines now does not count before it goes on.
    let mut next = files(git("team", "")).to_vec();
    next[0].1 = unit("infra", FLEET, "  path: infra\n  suspend: true\n");
    next[3].1 = unit("d", FLEET, "  path: c\n");
    assert_eq!(world.shown(&next), ["root: 0", "a: 1", "c: 1", "infra: 0"]);
    let render = world.render(&next);
    let (infra, c) =
        (UnitId::kustomization("flux-system", "infra"), UnitId::kustomization("flux-system", "c"));
    assert!(!render.dropped(&infra, &c));
}

/// Reads one source, as `Ok(Debug text of its spec)` or its problem.
fn read(kind: &str, version: &str, spec: &str) -> Result<SourceSpec, String> {
    let yaml =
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: s, namespace: ns}}\nspec:\n{spec}");
    let render = World::new(&[]).render(&[("clusters/x/s.yaml", yaml)]);
    let (_, source) = render.sources.into_iter().next().expect("a source");
    source.source.map(|source| source.spec).ok_or_else(|| source.problems[0].to_string())
}

#[test]
fn sources_are_read_with_fluxs_defaults_and_precedence() {
    let v1 = "source.toolkit.fluxcd.io/v1";
    let git = |more: &str| match read(
        "GitRepository",
        v1,
        &format!("  interval: 1m\n  url: ssh://git@h/x\n{more}"),
    ) {
        Ok(SourceSpec::Git(git)) => Ok(format!("{:?}", git.reference)),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => Err(problem),
    };
    for (reference, expected) in [
        ("", "Branch(\"master\")"),
        ("  ref: {branch: b}\n", "Branch(\"b\")"),
        ("  ref: {branch: b, tag: t}\n", "Tag(\"t\")"),
        ("  ref: {tag: t, semver: '>=1'}\n", "Semver(\">=1\")"),
        ("  ref: {semver: '>=1', name: refs/heads/x}\n", "Name(\"refs/heads/x\")"),
        ("  ref: {name: n, commit: c, branch: b}\n", "Commit { commit: \"c\", branch: Some(\"b\") }"),
    ] {
        assert_eq!(git(reference).as_deref(), Ok(expected), "{reference}");
    }
    assert_eq!(
        git("  ref: {brunch: b}\n").unwrap_err(),
        "clusters/x/s.yaml:7:17: spec.ref.brunch: 'brunch' is not a field here; known are branch, commit, name, semver, tag"
    );
    let oci = |more: &str| match read(
        "OCIRepository",
        "source.toolkit.fluxcd.io/v1beta2",
        &format!("  interval: 1m\n  url: oci://h/x\n{more}"),
    ) {
        Ok(SourceSpec::Oci(oci)) => format!("{:?} {:?}", oci.reference, oci.layer),
        other => panic!("{other:?}"),
    };
    let layer = "OciLayer { media_type: None, copy: false }";
    assert_eq!(oci(""), format!("Tag(\"latest\") {layer}"));
    assert_eq!(oci("  ref: {tag: t, digest: 'sha256:1'}\n"), format!("Digest(\"sha256:1\") {layer}"));
    assert_eq!(
        oci(
            "  ref: {semver: 1.x, semverFilter: rc, tag: t}\n  layerSelector: {mediaType: m, operation: copy}\n"
        ),
        "Semver { range: \"1.x\", filter: Some(\"rc\") } OciLayer { media_type: Some(\"m\"), copy: true }"
    );
    for (kind, spec, expected) in [
        ("GitRepository", "  url: https://h/x\n", "5:3: spec.interval: is missing"),
        (
            "GitRepository",
            "  interval: 1m\n  url: git@h:x\n",
            "6:8: spec.url: 'git@h:x' must begin with one of http://, https://, ssh://, file://",
        ),
        (
            "OCIRepository",
            "  interval: 1m\n  url: oci://h/x\n  serviceAccountName: a\n",
            "7:23: spec.serviceAccountName: is not supported: the hub has no access to service accounts; name a Secret by spec.secretRef",
        ),
        (
            "HelmRepository",
            "  type: oci\n  url: https://h\n",
            "6:8: spec.url: 'https://h' must begin with one of oci://",
        ),
        (
            "HelmChart",
            "  interval: 1m\n  chart: c\n  sourceRef: {kind: OCIRepository, name: x}\n",
            "7:21: spec.sourceRef.kind: 'OCIRepository' is none of HelmRepository, GitRepository, Bucket",
        ),
        (
            "Bucket",
            "  interval: 1m\n  bucketName: b\n  endpoint: https://h\n",
            "7:13: spec.endpoint: is a host with an optional port, without scheme; `insecure` chooses http",
        ),
        (
            "Bucket",
            "  interval: 1m\n  bucketName: b\n  endpoint: h\n  provider: aws\n",
            "8:13: spec.provider: 'aws' without a secretRef means a cloud identity, which is not supported",
        ),
        (
            "Bucket",
            "  interval: 1m\n  bucketName: b\n  endpoint: h\n  sts: {provider: ldap}\n",
            "8:8: spec.sts: is not supported; give the bucket a secretRef with an access key",
        ),
    ] {
        let got = read(kind, v1, spec).unwrap_err();
        let got = got.strip_prefix("clusters/x/s.yaml:").unwrap();
        assert_eq!(got, expected);
    }
}

#[test]
fn a_generator_names_what_it_copies() {
    let read = |spec: &str| read("ArtifactGenerator", "source.extensions.fluxcd.io/v1beta1", spec);
    let sources = "  sources: [{alias: repo, kind: GitRepository, name: team}]\n";
    let copy = "copy: [{from: '@repo/a/**', to: '@artifact/b/', exclude: ['*.md'], strategy: Merge}]";
    let Ok(SourceSpec::Generator(generator)) =
        read(&format!("{sources}  artifacts: [{{name: a, revision: '@repo', {copy}}}]\n"))
    else {
        panic!("a generator")
    };
    assert_eq!(generator.inputs[0].source.to_string(), "GitRepository/ns/team");
    let rule = &generator.artifacts[0].copy[0];
    assert_eq!((rule.from.path.as_str(), rule.to.as_str(), rule.exclude.len()), ("a/**", "b/", 1));
    for (artifacts, expected) in [
        ("[{name: a, copy: [{from: '@x/a', to: '@artifact/'}]}]", "'@x' is not a source of this generator"),
        ("[{name: a, copy: [{from: '@repo/a', to: 'b'}]}]", "must be of the form @artifact/PATH"),
        (
            "[{name: a, originRevision: '@x', copy: []}]",
            "'@x' is not a source of this generator; write @ALIAS",
        ),
        ("[{name: a, copy: []}, {name: a, copy: []}]", "'a' names two artifacts"),
    ] {
        let problem = read(&format!("{sources}  artifacts: {artifacts}\n")).unwrap_err();
        assert!(problem.ends_with(expected), "{problem}");
    }
}

#[test]
fn who_waits_is_told_how_its_sources_are_and_an_account_which_it_defines() {
    let world = World::new(&[("team", tree(&[("a.yaml", config_map("a"))], "team"))]);
    let helm = "apiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts, namespace: \
                team}\nspec: {type: oci, interval: 1m, url: oci://example.org/charts}\n";
    let generator = "apiVersion: source.extensions.fluxcd.io/v1beta1\nkind: ArtifactGenerator\nmetadata: {name: gen, \
                     namespace: team}\nspec:\n  sources: [{alias: t, kind: GitRepository, name: team}]\n  artifacts: [{name: \
                     out, copy: [{from: '@t/**', to: '@artifact/'}]}]\n";
    let base = |more: &str| {
        vec![
            ("clusters/x/in.yaml", unit("in", FLEET, &format!("  path: in\n{more}"))),
            ("in/team.yaml", git("team/team", "")),
            ("in/away.yaml", git("team/away", "")),
            ("in/charts.yaml", helm.to_owned()),
            ("in/gen.yaml", generator.to_owned()),
        ]
    };
    let spec = |files: &[(&str, String)]| {
        let render = world.render(files);
        let rendered = &render.units[&UnitId::kustomization("flux-system", "in")];
        let unit = rendered.unit.as_ref().unwrap_or_else(|| panic!("{:?}", rendered.problems));
        let state = |state: &flotilla_core::unit::SourceState| format!("{} {}", state.source, state.ready);
        let kind = |kind: &flotilla_core::unit::SourceKindIn| format!("{} {}", kind.kind, kind.namespace);
        let spec = unit.manifest.spec.clone();
        let (sources, defines): (Vec<_>, Vec<_>) =
            (spec.sources.iter().map(state).collect(), spec.defines.iter().map(kind).collect());
        (sources, defines, rendered.problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let nothing: [String; 0] = [];
    assert_eq!(spec(&base("")), (nothing.to_vec(), nothing.to_vec(), nothing.to_vec()), "it does not wait");
    let (sources, defines, _) = spec(&base("  wait: true\n"));
    assert_eq!(
        sources,
        [
            "GitRepository/team/away false",
            "GitRepository/team/team true",
            "HelmRepository/team/charts true",
            "ArtifactGenerator/team/gen true",
        ]
    );
    assert_eq!(defines, nothing, "the agent itself may create everything");
    let (sources, defines, _) = spec(&base("  serviceAccountName: deployer\n"));
    assert_eq!(sources, nothing);
    assert_eq!(defines, ["GitRepository team", "HelmRepository team", "ArtifactGenerator team"]);
    let check = |name: &str| {
        base(&format!(
            "  healthChecks: [{{apiVersion: source.toolkit.fluxcd.io/v1, kind: GitRepository, name: {name}, namespace: \
             team}}]\n"
        ))
    };
    assert_eq!(spec(&check("away")).0, ["GitRepository/team/away false"]);
    let (sources, _, problems) = spec(&check("none"));
    assert_eq!(sources, ["GitRepository/team/none false"]);
    assert_eq!(
        problems,
        [
            "clusters/x/in.yaml:1: spec.healthChecks: GitRepository/team/none is not defined in this cluster, so the unit \
          never becomes ready"
        ]
    );
}
