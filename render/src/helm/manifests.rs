//! What `helm template` printed, sorted into a unit's content.

use std::collections::BTreeMap;

use flotilla_core::report::Problem;
use flotilla_helm::hook::EVENTS;
use flotilla_helm::record::Json;
use flotilla_helm::{Content as Revision, manifest, owner};
use flotilla_kustomize::files::{MemoryFiles, TreePath};
use flotilla_kustomize::{Answers, BuildError, is_cluster_scoped};
use flotilla_yaml::{Node, parse, write_documents};
use serde_json::{Map, Value};

use super::options::PostRender;
use super::program::notes::{FILE as NOTES_FILE, MARK as NOTES_MARK};
use super::release::{Crds, Release};
use crate::content::{Content, Sorter};
use crate::field::Places;
use crate::overlay;

/// Who keeps an object that its unit does not have any more.
const KEEP: (&str, &str) = ("kustomize.toolkit.fluxcd.io/prune", "disabled");
/// Who leaves an object alone once it is there.
const IF_NOT_PRESENT: (&str, &str) = ("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent");

/// A document of the output and the template that it comes from.
#[derive(Clone)]
struct Manifest {
    node: Node,
    template: String,
}

impl Manifest {
    fn text(&self, path: &[&str]) -> &str {
        self.node.at(path).and_then(Node::text).unwrap_or_default()
    }

    fn title(&self) -> String {
        format!("{} {}", self.text(&["kind"]), self.text(&["metadata", "name"]))
    }
}

/// Sorts the manifests of a release that is applied as objects.
///
/// # Errors
/// All that is wrong with them. Hooks are: nothing would run them at the right moment.
pub(super) fn content(release: &Release, text: &str) -> Result<Content, Vec<Problem>> {
    let mut manifests = manifests(text).map_err(|problem| vec![problem])?;
    manifests.retain(|manifest| !is_test(manifest));
    let hooks: Vec<String> = manifests
        .iter()
        .filter_map(|it| Some((it, it.node.at(&["metadata", "annotations", EVENTS])?.text()?)))
        .map(|(it, hook)| format!("{} ({hook}, {})", it.title(), it.template))
        .collect();
    if !hooks.is_empty() {
        let message = format!(
            "the release has hooks, which are not run yet: {}; switch them off in the chart's values, or set \
             disableHooks for install and upgrade",
            hooks.join("; ")
        );
        return Err(vec![Problem::error("", 0, message)]);
    }
    let (crds, others): (Vec<_>, Vec<_>) =
        manifests.into_iter().partition(|manifest| is_in_crds(&manifest.template));
    let others = post_rendered(release, others).map_err(|problem| vec![problem])?;
    sorted(release, crds, others)
}

/// As [`content`], of a release that is installed as Helm does it; with what its record says beside objects and chart.
///
/// # Errors
/// All that is wrong with them.
pub(super) fn installed(
    release: &Release,
    text: &str,
    config: &Map<String, Value>,
    post_render: PostRender,
) -> Result<(Content, Revision), Vec<Problem>> {
    let notes = notes_of(text);
    let manifests = manifests(text).map_err(|problem| vec![problem])?;
    let (crds, others): (Vec<_>, Vec<_>) =
        manifests.into_iter().partition(|manifest| is_in_crds(&manifest.template));
    let is_hook = |it: &Manifest| it.node.at(&["metadata", "annotations", EVENTS]).is_some();
    let documents = if release.post_renderers.is_empty() {
        as_printed(text)
    } else {
        let rendered = match post_render {
            PostRender::Combined => post_rendered(release, others),
            PostRender::Separate | PostRender::NoHooks => {
                let (hooks, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_hook);
                let hooks = match post_render {
                    PostRender::NoHooks => Ok(hooks),
                    _ => post_rendered(release, hooks),
                };
                hooks.and_then(|hooks| Ok([post_rendered(release, others)?, hooks].concat()))
            }
        };
        let rendered = rendered.map_err(|problem| vec![problem])?;
        let written = rendered.into_iter().map(|it| (it.template, write_documents(&[it.node])));
        written.collect()
    };
    let documents = documents.iter().map(|(path, content)| (path.as_str(), content.as_str()));
    let sorted_as_helm = manifest::sort(documents)
        .map_err(|error| vec![Problem::error(&error.path, error.line as u32, error.message)])?;
    let manifest = manifest::joined(&sorted_as_helm.objects);
    let mut objects = self::manifests(&manifest).map_err(|problem| vec![problem])?;
    for object in &mut objects {
        owned(&mut object.node, release.name.as_str(), release.namespace.as_str());
    }
    let mut content = sorted(release, crds, objects)?;
    content.notices.extend(sorted_as_helm.ignored.iter().map(|it| {
        let message = format!(
            "{} {} has a hook that Helm does not know ('{}'): as Helm, it is neither applied nor run",
            it.kind, it.name, it.hooks
        );
        Problem::error(&it.path, 0, message).as_notice()
    }));
    let config = Json::of(&Value::Object(config.clone()));
    Ok((content, Revision { config, manifest, hooks: sorted_as_helm.hooks, notes }))
}

/// Objects and CRDs as a unit's content.
fn sorted(release: &Release, crds: Vec<Manifest>, others: Vec<Manifest>) -> Result<Content, Vec<Problem>> {
    let places = Places { sources: &[], prefix: "" };
    let mut sorter = Sorter::new(places, None);
    let is_own = |manifest: &Manifest| {
        manifest.text(&["kind"]) == "Namespace"
            && manifest.text(&["metadata", "name"]) == release.namespace.as_str()
    };
    let makes = release.create_namespace && !others.iter().any(is_own);
    if makes {
        sorter.document(&kept(namespace(release.namespace.as_str()), true), (String::new(), 0));
    }
    // As helm-controller: that folder is for definitions, and nothing else in it is applied.
    let (crds, strays): (Vec<_>, Vec<_>) =
        crds.into_iter().partition(|manifest| manifest.text(&["kind"]) == "CustomResourceDefinition");
    if release.crds != Crds::Skip {
        for crd in crds {
            let only_once = release.crds == Crds::Create;
            sorter.document(&kept(crd.node, only_once), (crd.template, 0));
        }
    }
    for mut manifest in others {
        in_namespace(&mut manifest, release.namespace.as_str());
        sorter.document(&manifest.node, (manifest.template, 0));
    }
    let mut content = sorter.finish()?;
    content.notices.extend(strays.iter().map(|stray| {
        let message =
            format!("{} is in crds/, and no CustomResourceDefinition: it is not applied", stray.title());
        Problem::error(&stray.template, 0, message).as_notice()
    }));
    let made = makes.then(|| content.objects.first().map(|object| object.id().clone())).flatten();
    Ok(Content { makes: made, ..content })
}

/// The documents of templates as helm printed them, each with its template; what was in `crds/` is left out. Helm prints an empty
/// line between them.
fn as_printed(text: &str) -> Vec<(String, String)> {
    let mut printed: Vec<(String, String)> = Vec::new();
    for document in manifest::split(text) {
        let source = document.split_once('\n').and_then(|(first, content)| {
            Some((first.strip_prefix("# Source: ")?.trim().to_owned(), content))
        });
        // A document without a source is the rest of a file in `crds/`.
        let of_template =
            |(path, content): &(String, &str)| !is_in_crds(path) && read_notes(path, content).is_none();
        let Some((path, content)) = source.filter(of_template) else { continue };
        printed.push((path, format!("{}\n", content.trim_end())));
    }
    printed
}

/// What `NOTES.txt` rendered to; empty where the chart has none, or was rendered before notes were asked for.
fn notes_of(text: &str) -> String {
    let documents = manifest::split(text);
    let notes = documents.iter().find_map(|document| {
        let (first, content) = document.split_once('\n')?;
        read_notes(first.strip_prefix("# Source: ")?.trim(), content)
    });
    notes.unwrap_or_default()
}

/// The notes that a document says, if it is that of our own template.
fn read_notes(path: &str, content: &str) -> Option<String> {
    let (_, file) = path.split_once('/')?;
    let json = content.trim().strip_prefix(NOTES_MARK)?;
    (file == NOTES_FILE).then(|| serde_json::from_str(json).ok()).flatten()
}

/// Sets the marks by which Helm knows the objects of a release.
fn owned(node: &mut Node, release: &str, namespace: &str) {
    let Some(object) = node.as_map_mut() else { return };
    if object.get("metadata").and_then(Node::as_map).is_none() {
        object.insert("metadata", Node::map());
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Node::as_map_mut) else { return };
    let annotations = [(owner::RELEASE_NAME, release), (owner::RELEASE_NAMESPACE, namespace)];
    for (field, marks) in [("labels", &[(owner::MANAGED_BY, owner::HELM)][..]), ("annotations", &annotations)]
    {
        if metadata.get(field).and_then(Node::as_map).is_none() {
            metadata.insert(field, Node::map());
        }
        if let Some(map) = metadata.get_mut(field).and_then(Node::as_map_mut) {
            for (key, value) in marks {
                map.insert(*key, Node::from_json(&(*value).into()));
            }
        }
    }
}

/// Whether a file is in the `crds/` of a chart or of one in its `charts/`, which helm puts out without rendering it; a
/// template of any name is an object like the others. `path` begins with the chart's name.
fn is_in_crds(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    loop {
        match parts.next() {
            Some("crds") => return true,
            Some("charts") => drop(parts.next()),
            _ => return false,
        }
    }
}

/// Helm puts `# Source: CHART/templates/FILE` below each `---`.
fn manifests(text: &str) -> Result<Vec<Manifest>, Problem> {
    let mut found = Vec::new();
    let mut take = |template: &str, document: &str| -> Result<(), Problem> {
        let nodes = parse(document).map_err(|error| Problem {
            column: error.pos.column,
            ..Problem::error(template, 0, format!("the rendered manifest is not YAML: {error}"))
        })?;
        for node in nodes {
            let items = node.get("items").and_then(Node::as_seq);
            let template = template.to_owned();
            match (node.get("kind").and_then(Node::text), items) {
                (Some(kind), Some(items)) if kind.ends_with("List") => {
                    found.extend(
                        items.iter().map(|item| Manifest { node: item.clone(), template: template.clone() }),
                    );
                }
                (None, _) if node.is_null() || node.as_map().is_some_and(|map| map.is_empty()) => {}
                _ => found.push(Manifest { node, template }),
            }
        }
        Ok(())
    };
    let mut template = String::new();
    let mut document = String::new();
    for line in text.lines() {
        if line.trim_end() == "---" {
            // A document that names no template is of the same file as the one before: helm prints those of `crds/` as they are.
            take(&template, &std::mem::take(&mut document))?;
        } else if let (true, Some(source)) = (document.is_empty(), line.strip_prefix("# Source: ")) {
            source.trim().clone_into(&mut template);
        } else {
            document.push_str(line);
            document.push('\n');
        }
    }
    take(&template, &document)?;
    Ok(found)
}

/// Nothing runs the tests of a release that is applied as objects.
fn is_test(manifest: &Manifest) -> bool {
    let hook = manifest.text(&["metadata", "annotations", EVENTS]);
    !hook.is_empty()
        && hook.split(',').all(|hook| matches!(hook.trim(), "test" | "test-success" | "test-failure"))
}

/// The overlays one after the other, over all manifests at once as Flux does it.
fn post_rendered(release: &Release, manifests: Vec<Manifest>) -> Result<Vec<Manifest>, Problem> {
    let mut manifests = manifests;
    for fields in &release.post_renderers {
        if manifests.is_empty() {
            break;
        }
        // Files stand for templates, so that each object is still known to come from its own.
        let mut by_template: BTreeMap<String, Vec<Node>> = BTreeMap::new();
        for manifest in manifests {
            by_template.entry(manifest.template).or_default().push(manifest.node);
        }
        let files = by_template.iter().enumerate();
        let files =
            MemoryFiles::new(files.map(|(n, (_, nodes))| (format!("{n:06}.yaml"), write_documents(nodes))));
        let built =
            flotilla_kustomize::build_flux(&files, &TreePath::root(), &overlay::of(fields), &Answers::new());
        let output = built.map_err(|error| {
            let message = match error {
                BuildError::Failed(error) => error.explained(),
                needs @ BuildError::Needs(_) => needs.to_string(),
            };
            Problem::error("", 0, format!("the post-renderer failed: {message}")).field("spec.postRenderers")
        })?;
        let templates: Vec<String> = by_template.into_keys().collect();
        let template = |file: Option<&TreePath>| {
            let number = file.and_then(|file| file.as_str().strip_suffix(".yaml")?.parse::<usize>().ok());
            number.and_then(|n| templates.get(n)).cloned().unwrap_or_default()
        };
        manifests = output
            .documents
            .into_iter()
            .map(|document| Manifest {
                template: template(document.origin.file.as_ref()),
                node: document.node,
            })
            .collect();
    }
    Ok(manifests)
}

fn namespace(name: &str) -> Node {
    Node::from_json(&serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}

/// An object that stays when its unit does not have it any more, and is made only where it is not there if
/// `only_once`.
fn kept(mut node: Node, only_once: bool) -> Node {
    let marks = std::iter::once(KEEP).chain(only_once.then_some(IF_NOT_PRESENT));
    if let Some(metadata) = node.get_mut("metadata").and_then(Node::as_map_mut) {
        if metadata.get("annotations").is_none_or(Node::is_null) {
            metadata.insert("annotations", Node::map());
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Node::as_map_mut) {
            for (key, value) in marks {
                annotations.insert(key, Node::from_json(&value.into()));
            }
        }
    }
    node
}

/// As helm: an object of a namespaced kind that names no namespace goes to the release's.
fn in_namespace(manifest: &mut Manifest, namespace: &str) {
    let (api_version, kind) = (manifest.text(&["apiVersion"]), manifest.text(&["kind"]));
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if is_cluster_scoped(group, version, kind) || !manifest.text(&["metadata", "namespace"]).is_empty() {
        return;
    }
    if let Some(metadata) = manifest.node.get_mut("metadata").and_then(Node::as_map_mut) {
        metadata.insert("namespace", Node::from_json(&namespace.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_chart_has_in_crds_is_kept_apart() {
        for (path, expected) in [
            ("own/crds/things.yaml", true),
            ("own/crds/v1/things.yaml", true),
            ("own/charts/sub/crds/things.yaml", true),
            ("own/charts/sub/charts/crds/crds/things.yaml", true),
            ("own/templates/crds/things.yaml", false),
            ("own/charts/sub/templates/crds/things.yaml", false),
            ("own/charts/crds/templates/things.yaml", false),
            ("crds/templates/things.yaml", false),
            ("own/files/crds/things.yaml", false),
            ("", false),
        ] {
            assert_eq!(is_in_crds(path), expected, "{path}");
        }
    }
}
