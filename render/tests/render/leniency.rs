//! What Flux takes though kustomize alone, or the newest version of a kind, does not; and what it leaves out of a source.

use crate::world::{FLEET, World, config_map, git, shown, unit};

fn objects(world: &World, files: &[(&str, String)], name: &str) -> Vec<String> {
    let render = world.render(files);
    let found = render.units.iter().find(|(id, _)| id.name == name).map(|(_, unit)| unit);
    let unit = found.and_then(|unit| unit.unit.as_ref()).unwrap_or_else(|| panic!("{:?}", shown(&render)));
    unit.content.objects.iter().map(|object| object.reference().id.name.to_string()).collect()
}

#[test]
fn the_fleet_repository_is_read_as_flux_packs_it() {
    let world = World::new(&[]);
    let mut files = vec![
        ("clusters/x/a.yaml", unit("app", FLEET, "  path: ./app\n")),
        ("app/a.yaml", config_map("a")),
        ("app/b.tmp.yaml", config_map("b")),
        ("app/.github/c.yaml", config_map("c")),
        ("app/.gitlab-ci.yml", "stages: [a]\n".to_owned()),
        ("app/deep/d.yaml", config_map("d")),
        ("app/deep/e.yaml", config_map("e")),
        ("app/drafts/f.yaml", config_map("f")),
    ];
    assert_eq!(objects(&world, &files, "app"), ["a", "b", "d", "e", "f"]);
    // `!/app` takes back all that is below it, whatever Flux's own list says.
    files.retain(|(path, _)| !path.contains("/.git"));
    files.push((".sourceignore", "/*\n!/clusters/\n!/app\n/app/drafts\n*.tmp.yaml\n".to_owned()));
    assert_eq!(objects(&world, &files, "app"), ["a", "d", "e"]);
    files.push(("app/deep/.sourceignore", "d.yaml\n".to_owned()));
    assert_eq!(objects(&world, &files, "app"), ["a", "e"]);
    files.retain(|(path, _)| *path != ".sourceignore");
    assert_eq!(objects(&world, &files, "app"), ["a", "b", "e", "f"]);

    // A folder that is left out is not there, which holds the unit.
    files.push((".sourceignore", "/app/\n".to_owned()));
    let shown = world.shown(&files);
    assert!(
        shown.iter().any(|unit| unit.starts_with("app: held") && unit.contains("no such folder")),
        "{shown:?}"
    );
    // So does one of which everything is left out, though not the folder.
    for patterns in ["**\n", "*\n", "/*\n!/none.yaml\n"] {
        files.retain(|(path, _)| *path != ".sourceignore" && *path != "app/.sourceignore");
        files.push(("app/.sourceignore", patterns.to_owned()));
        let shown = world.shown(&files);
        let is_held = |unit: &String| unit.starts_with("app: held") && unit.contains("leaves out all of it");
        assert!(shown.iter().any(is_held), "{patterns}: {shown:?}");
    }
    files.retain(|(path, _)| *path != "app/.sourceignore");
    files.push((".sourceignore", "/clusters/\n".to_owned()));
    assert!(world.shown(&files)[0].starts_with("root: held"), "{:?}", world.shown(&files));
}

#[test]
fn older_versions_are_read_as_the_newest() {
    let older =
        |object: String, version: &str| object.replace("fluxcd.io/v1\n", &format!("fluxcd.io/{version}\n"));
    let patch = "  patchesStrategicMerge:\n  - {apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: d}, \
                 data: {x: '1'}}\n";
    let more = format!("  path: ./app\n  validation: client\n{patch}");
    let without_effect = "has no effect: the newest version of this kind does not have it";
    let world = World::new(&[]);
    for version in ["v1beta1", "v1beta2"] {
        let source = git("other", "  gitImplementation: libgit2\n  accessFrom: {namespaceSelectors: []}\n");
        let files = [
            ("clusters/x/a.yaml", older(unit("app", FLEET, &more), version)),
            ("clusters/x/b.yaml", older(source, version)),
            ("app/a.yaml", config_map("a")),
        ];
        let render = world.render(&files);
        let (_, app) = render.units.iter().find(|(id, _)| id.name == "app").unwrap();
        let body = app.unit.as_ref().unwrap().content.objects[0].body();
        assert!(String::from_utf8_lossy(body).contains(r#""x":"1""#), "{version}");
        let root = &shown(&render)[0];
        for field in ["spec.validation", "spec.gitImplementation", "spec.accessFrom"] {
            assert!(root.contains(&format!("{field}: {without_effect}")), "{version} {field}: {root}");
        }
    }
    // The API server refuses fields that the version does not have.
    let files = [("clusters/x/a.yaml", unit("app", FLEET, &more)), ("app/a.yaml", config_map("a"))];
    assert!(
        world.shown(&files).iter().any(|unit| unit.starts_with("app: held")),
        "{:?}",
        world.shown(&files)
    );
    let files = [("clusters/x/b.yaml", git("other", "  gitImplementation: go-git\n"))];
    let render = world.render(&files);
    assert!(render.sources.values().all(|source| source.source.is_none()), "{:?}", render.sources);
}

#[test]
fn the_kustomization_of_the_path_may_hold_more_than_kustomize_knows() {
    let world = World::new(&[]);
    let with = |kustomization: &str| {
        vec![
            ("clusters/x/a.yaml", unit("app", FLEET, "  path: ../app\n")),
            ("app/kustomization.yaml", kustomization.to_owned()),
            ("app/a.yaml", config_map("a")),
        ]
    };
    let lenient = with("resources: [a.yaml]\nressources: [x.yaml]\nmyNote: hello\n");
    assert_eq!(objects(&world, &lenient, "app"), ["a"]);
    let shown = world.shown(&lenient);
    assert!(shown.iter().any(|unit| unit.contains("app/kustomization.yaml:2: ressources")), "{shown:?}");
    for nothing in ["resources:\n", "resources: []\n", ""] {
        assert!(objects(&world, &with(nothing), "app").is_empty(), "{nothing:?}");
    }
}

#[test]
fn the_fleet_repo_may_have_another_name_in_the_cluster() {
    let files = |root: &str, source: &str| {
        let own = unit(root, source, "  path: ./clusters/x\n  postBuild: {substitute: {ENV: prod}}\n");
        vec![
            ("clusters/x/fleet.yaml", git("fleet", "")),
            ("clusters/x/own.yaml", own),
            ("clusters/x/map.yaml", config_map("'env-${ENV}'")),
            ("clusters/x/app.yaml", unit("app", source, "  path: ./app\n")),
            ("app/a.yaml", config_map("a")),
        ]
    };
    let world = World::new(&[]);
    let fleet = "{kind: GitRepository, name: fleet}";
    let render = world.render(&files("flux-system", fleet));
    assert_eq!(shown(&render), ["root: 1", "app: 1"], "its own object is not fetched, and not a unit");
    assert!(render.sources.is_empty(), "{:?}", render.sources);
    let root =
        render.units.values().find(|unit| unit.parent.is_none()).and_then(|unit| unit.unit.as_ref()).unwrap();
    assert_eq!(root.content.objects[0].reference().id.name, "env-prod");

    // Another Kustomization of the same path may be of a tenant's repository.
    let render = world.render(&files("team", fleet));
    assert_eq!(render.sources.len(), 1);
    assert!(shown(&render).iter().any(|unit| unit.starts_with("team: held")), "{:?}", shown(&render));
    // So may a source that the root does not define.
    let mut elsewhere = files("flux-system", "{kind: GitRepository, name: other}");
    elsewhere.retain(|(path, _)| *path != "clusters/x/map.yaml");
    assert!(shown(&world.render(&elsewhere)).iter().any(|unit| unit.starts_with("app: held")));
}

#[test]
fn texts_are_what_flux_reads_of_what_kustomize_prints() {
    let world = World::new(&[]);
    for post_build in ["", "  postBuild: {substitute: {a: b}}\n"] {
        let files = |text: &str| {
            [
                ("clusters/x/a.yaml", unit("app", FLEET, &format!("  path: ./app\n{post_build}"))),
                ("app/a.yaml", format!("{}data: {{k: \"{text}\"}}\n", config_map("a"))),
            ]
        };
        for (written, read) in
            [("a\\Nb", "a b"), ("a \\N\\N b", r"a\nb"), ("a\\u2028é\\xa0b", "a\u{2028}é\u{a0}b")]
        {
            let render = world.render(&files(written));
            let (_, app) = render.units.iter().find(|(id, _)| id.name == "app").unwrap();
            let body = app.unit.as_ref().unwrap().content.objects[0].body();
            let body = String::from_utf8_lossy(body);
            assert!(body.contains(&format!(r#""k":"{read}""#)), "{written}: {body}");
        }
        let shown = world.shown(&files("a\\x7fb"));
        assert_eq!(
            shown[1],
            "app: held app/a.yaml:4:11: control characters are not allowed: there is a U+007F in the text",
            "{post_build}"
        );
    }
}

#[test]
fn kustomizes_own_files_are_no_objects() {
    let stray = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nmetadata: {name: stray}\n";
    let files = [
        ("clusters/x/a.yaml", unit("app", FLEET, "  path: ./app\n")),
        ("app/a.yaml", config_map("a")),
        ("app/options.yaml", stray.to_owned()),
    ];
    assert_eq!(
        World::new(&[]).shown(&files)[1],
        "app: 1 app/options.yaml:1: Kustomization stray is not applied: it says how a folder is built, and is not an object of a \
         cluster"
    );
}
