use super::*;
use serde_json::json;

#[test]
fn unit_ids_read_back() {
    for id in ["root", "kustomization/flux-system/apps", "helmrelease/web/podinfo"] {
        assert_eq!(id.parse::<UnitId>().unwrap().to_string(), id);
    }
    assert_eq!("flux-system/apps".parse(), Ok(UnitId::kustomization("flux-system", "apps")));
    for bad in ["", "apps", "x/y/z", "kustomization//x", "a/b/c/d"] {
        assert!(bad.parse::<UnitId>().is_err(), "{bad}");
    }
    for (text, kind) in [
        ("tenant/a/b", Some(UnitKind::Other)),
        ("helmrelease/a/b", Some(UnitKind::HelmRelease)),
        ("root", Some(UnitKind::Root)),
        ("kustomization//x", None),
        ("Tenant/a/b", None),
        ("tenant/a", Some(UnitKind::Kustomization)),
        ("tenant/a/b/c", None),
    ] {
        let read = UnitId::read_any(text).ok();
        assert_eq!(read.as_ref().map(|id| id.kind), kind, "{text}");
        assert!(read.is_none_or(|id| id.to_string().ends_with(text)));
    }
}

#[test]
fn service_accounts_read_back() {
    let account: ServiceAccount = "team/deployer".parse().unwrap();
    assert_eq!((account.namespace.as_str(), account.to_string().as_str()), ("team", "team/deployer"));
    for bad in ["deployer", "/deployer", "team/"] {
        assert!(bad.parse::<ServiceAccount>().is_err(), "{bad}");
    }
}

#[test]
fn the_digest_covers_policy_and_content_and_survives_unknown_fields() {
    let object =
        Object::new(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}})).unwrap();
    let id = UnitId::kustomization("flux-system", "apps");
    let unit = UnitManifest::new(id.clone(), UnitSpec::default(), vec![(&object).into()]);
    let waiting = UnitSpec { wait: true, ..UnitSpec::default() };
    assert_ne!(unit.digest(), UnitManifest::new(id.clone(), waiting, vec![(&object).into()]).digest());
    assert_ne!(unit.digest(), UnitManifest::new(id.clone(), UnitSpec::default(), vec![]).digest());

    let rendered = |key: &[u8]| {
        let render = Render { key: Digest::of(key), content: Digest::of(b"manifests") };
        let spec = UnitSpec { render: Some(render), ..UnitSpec::default() };
        UnitManifest::new(id.clone(), spec, vec![])
    };
    assert_ne!(rendered(b"a").digest(), rendered(b"b").digest());
    assert_eq!(rendered(b"a").spec_digest(), rendered(b"b").spec_digest(), "no other definition");

    let template = ObjectEntry { template: true, ..(&object).into() };
    let completed =
        UnitManifest::new(id.clone(), UnitSpec::default(), vec![(&object).into(), template.clone()]);
    assert_eq!(completed.spec.templates, [1]);
    assert_eq!(completed.spec_digest(), unit.spec_digest(), "no other definition");
    let plain = vec![(&object).into(), ObjectEntry { template: false, ..template.clone() }];
    let read = UnitManifest::from_parts(id.clone(), completed.spec_bytes().clone(), plain).unwrap();
    assert_eq!(read, completed, "the mark travels in the spec");

    let newer = Bytes::from_static(br#"{"timeout":300,"interval":600,"fromTheFuture":{"x":1}}"#);
    let read = UnitManifest::from_parts(id.clone(), newer.clone(), vec![]).unwrap();
    let again = UnitManifest::from_parts(id, read.spec_bytes().clone(), vec![]).unwrap();
    assert_eq!(again.digest(), read.digest());
    assert_eq!(read.spec.timeout, 300);
}

#[test]
fn what_a_release_is_made_of_is_in_the_digest_and_is_no_other_definition() {
    use crate::unit::release::{OnFailure, Options};
    let blob = |text: &[u8]| Blob { digest: Digest::of(text), size: text.len() as u32 };
    let unit = |content: &[u8], max_history| {
        let on_upgrade_failure = OnFailure { retries: None, ..OnFailure::default() };
        let release = ReleaseSpec {
            name: "web".into(),
            namespace: "apps".into(),
            storage_namespace: "flux-system".into(),
            content: blob(content),
            chart: blob(b"chart"),
            options: Options { on_upgrade_failure, max_history, ..Options::default() },
        };
        let spec = UnitSpec { release: Some(release.into()), ..UnitSpec::default() };
        UnitManifest::new(UnitId::helm_release("apps", "web"), spec, vec![])
    };
    let (one, two) = (unit(b"one", 5), unit(b"two", 5));
    assert_ne!(one.digest(), two.digest());
    assert_eq!(one.spec_digest(), two.spec_digest());
    assert_ne!(one.spec_digest(), unit(b"one", 6).spec_digest());
    assert_eq!(one.bodies().collect::<Vec<_>>(), [blob(b"one"), blob(b"chart")]);
    assert_eq!(one.spec.requires, ["helm-release".to_owned()].into());
    let read = UnitManifest::from_parts(one.id.clone(), one.spec_bytes().clone(), vec![]).unwrap();
    assert_eq!(read, one);
}
