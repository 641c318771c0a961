//! Objects that were meant for us by all that can be seen, and that nobody knows: a wrong letter in the kind or the group
//! of a Flux object must not make a unit disappear.

use flotilla_core::source::SourceKind;

use crate::fleet;

/// Flux's kinds beside its sources, by group.
const KINDS: [(&str, &[&str]); 5] = [
    ("kustomize.toolkit.fluxcd.io", &["Kustomization"]),
    ("helm.toolkit.fluxcd.io", &["HelmRelease"]),
    ("notification.toolkit.fluxcd.io", &["Alert", "Provider", "Receiver"]),
    ("image.toolkit.fluxcd.io", &["ImageRepository", "ImagePolicy", "ImageUpdateAutomation"]),
    (super::OPERATOR, &super::OF_OPERATOR),
];
/// What the groups of Flux's own APIs end with.
const FLUX: &str = ".toolkit.fluxcd.io";
/// So many letters may be wrong in a word that is still recognised.
const WRONG: usize = 2;

/// What is wrong with the group and kind of an object that has no role of ours, if it looks like one of ours.
pub(super) fn why(group: &str, kind: &str) -> Option<String> {
    let groups =
        || KINDS.iter().map(|(group, _)| *group).chain(SourceKind::ALL.into_iter().map(SourceKind::group));
    if groups().any(|known| known == group) || group.ends_with(FLUX) {
        return Some(format!("{group} has no kind '{kind}'; {}", hint(group, kind)));
    }
    // A kind of ours in a group that is written almost as ours.
    let near =
        groups().chain([fleet::GROUP]).find(|known| strsim::damerau_levenshtein(known, group) <= WRONG)?;
    Some(format!("the API group '{group}' of this {kind} is not known; did you mean {near}?"))
}

fn hint(group: &str, kind: &str) -> String {
    let of_group =
        KINDS.iter().filter(|(known, _)| *known == group).flat_map(|(_, kinds)| kinds.iter().copied());
    let sources = SourceKind::ALL.into_iter().filter(|source| source.group() == group);
    let here: Vec<&str> = of_group.chain(sources.map(SourceKind::as_str)).collect();
    let near = |name: &&&str| {
        let (kind, name) = (kind.to_lowercase(), name.to_lowercase());
        strsim::damerau_levenshtein(&kind, &name) <= WRONG.max(name.len() / 4)
    };
    if let Some(name) = here.iter().find(near) {
        return format!("did you mean {name}?");
    }
    let all = KINDS.iter().flat_map(|(group, kinds)| kinds.iter().map(move |kind| (*group, *kind)));
    let all = all.chain(SourceKind::ALL.into_iter().map(|source| (source.group(), source.as_str())));
    match all.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(kind)) {
        Some((group, kind)) => format!("did you mean {kind} of {group}?"),
        None if here.is_empty() => "nothing of this group is known".to_owned(),
        None => format!("known are {}", here.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_letter_is_seen_and_strangers_are_left_alone() {
        for (group, kind, said) in [
            ("kustomize.toolkit.fluxcd.io", "Kustomizaton", Some("did you mean Kustomization?")),
            ("kustomize.toolkit.fluxcd.io", "kustomization", Some("did you mean Kustomization?")),
            ("kustomize.toolkit.fluxcd.io", "Kustomisation", Some("did you mean Kustomization?")),
            ("kustomize.toolkit.fluxcd.io", "Kustomizations", Some("did you mean Kustomization?")),
            ("helm.toolkit.fluxcd.io", "HelmRelaese", Some("did you mean HelmRelease?")),
            ("helm.toolkit.fluxcd.io", "Release", Some("known are HelmRelease")),
            (
                "kustomize.toolkit.fluxcd.io",
                "HelmRelease",
                Some("did you mean HelmRelease of helm.toolkit.fluxcd.io?"),
            ),
            (
                "helm.toolkit.fluxcd.io",
                "HelmChart",
                Some("did you mean HelmChart of source.toolkit.fluxcd.io?"),
            ),
            ("source.toolkit.fluxcd.io", "GitRepositry", Some("did you mean GitRepository?")),
            ("notification.toolkit.fluxcd.io", "Alerts", Some("did you mean Alert?")),
            ("kustomise.toolkit.fluxcd.io", "Kustomization", Some("did you mean Kustomization of kustomize")),
            ("toolbox.toolkit.fluxcd.io", "Hammer", Some("nothing of this group is known")),
            (
                "kustomize.toolkit.fluxcd.oi",
                "Kustomization",
                Some("did you mean kustomize.toolkit.fluxcd.io?"),
            ),
            (
                "kustomize.toolkit.fluxd.io",
                "Kustomization",
                Some("did you mean kustomize.toolkit.fluxcd.io?"),
            ),
            ("flotila.dev", "Cluster", Some("did you mean flotilla.dev?")),
            ("", "Kustomization", None),
            ("kustomize.config.k8s.io", "Kustomization", None),
            ("infra.contrib.fluxcd.io", "Terraform", None),
            ("fluxcd.controlplane.io", "ResourcesSet", Some("did you mean ResourceSet?")),
            ("fluxcd.controlplane.oi", "ResourceSet", Some("did you mean fluxcd.controlplane.io?")),
            ("helm.cattle.io", "HelmChart", None),
            ("example.com", "HelmRelease", None),
            ("apps", "Deployment", None),
        ] {
            match (why(group, kind), said) {
                (None, None) => {}
                (Some(found), Some(said)) => assert!(found.contains(said), "{group} {kind}: {found}"),
                (found, _) => panic!("{group} {kind}: {found:?}"),
            }
        }
    }
}
