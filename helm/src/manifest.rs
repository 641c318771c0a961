//! What a chart rendered to, sorted as Helm sorts it: objects in the order of applying, and hooks.

use flotilla_yaml::{Node, parse};

use crate::hook::{self, DeletePolicy, Event, Execution, Hook, LogPolicy};
use crate::order::by_kind;

/// An object that says so is not deleted with its release.
pub const RESOURCE_POLICY: &str = "helm.sh/resource-policy";

/// A document of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The template that it comes from, beginning with the chart's name.
    pub path: String,
    pub kind: String,
    pub name: String,
    /// The object, as YAML.
    pub content: String,
    /// Whether `helm.sh/resource-policy` keeps it where the release goes or no longer has it. `keep` is the only policy there is;
    /// as Helm, an object with any other is not deleted either.
    pub is_kept: bool,
}

/// An object that Helm neither applies nor runs, as it has a hook of an unknown kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    pub path: String,
    pub kind: String,
    pub name: String,
    /// What its annotation says.
    pub hooks: String,
}

/// All that a chart rendered to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sorted {
    /// In the order of applying.
    pub objects: Vec<Manifest>,
    /// By kind; [`hook::due`] says in which order they run.
    pub hooks: Vec<Hook>,
    pub ignored: Vec<Ignored>,
}

/// A document that Helm refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ManifestError {
    pub path: String,
    /// In the document, from 1 on; 0 where no line is known.
    pub line: usize,
    pub message: String,
}

/// The documents of a text, as Helm parts them: at each line that begins with `---`, where what follows on that line belongs to
/// the next one. Those without content are left out.
pub fn split(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.trim_start().split_inclusive('\n') {
        let rest = line.strip_prefix("---");
        if rest.is_some() {
            documents.push(String::new());
        }
        let rest = rest.map_or(line, |rest| rest.trim_start_matches([' ', '\t']));
        documents.last_mut().expect("there is one").push_str(rest);
    }
    let documents = documents.iter().map(|document| document.trim_start());
    documents.filter(|document| !document.is_empty()).map(str::to_owned).collect()
}

/// Sorts documents, each with the template that it comes from; those of one template in the order in which they stand.
///
/// # Errors
/// If one is no YAML, or has an annotation that is no text.
pub fn sort<'a>(documents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Sorted, ManifestError> {
    let mut documents: Vec<(&str, &str)> = documents.into_iter().collect();
    documents.sort_by_key(|(path, _)| *path);
    let mut sorted = Sorted::default();
    for (path, content) in documents {
        // Templates for others to include.
        let file = path.rsplit('/').next().unwrap_or(path);
        if !file.starts_with('_') && !content.trim().is_empty() {
            sorted.add(path, content)?;
        }
    }
    by_kind(&mut sorted.objects, |object| &object.kind);
    by_kind(&mut sorted.hooks, |hook| &hook.kind);
    Ok(sorted)
}

/// The manifest of a record: what Helm reads to upgrade, roll back and delete.
pub fn joined(objects: &[Manifest]) -> String {
    objects.iter().map(|object| format!("---\n# Source: {}\n{}\n", object.path, object.content)).collect()
}

impl Sorted {
    fn add(&mut self, path: &str, content: &str) -> Result<(), ManifestError> {
        let wrong = |line, message| ManifestError { path: path.to_owned(), line, message };
        let documents = parse(content).map_err(|error| {
            wrong(error.pos.line as usize, format!("the rendered manifest is not YAML: {error}"))
        })?;
        let head = Head { path, node: documents.first() };
        let (kind, name) = (head.text(&["kind"]).to_owned(), head.text(&["metadata", "name"]).to_owned());
        let (path, content) = (path.to_owned(), content.to_owned());
        let Some(events) = head.annotation(hook::EVENTS)? else {
            let is_kept = head.annotation(RESOURCE_POLICY)?.is_some();
            self.objects.push(Manifest { path, kind, name, content, is_kept });
            return Ok(());
        };
        let hooks = words(&events).map(|word| match Event::read(&word) {
            // Of Helm 2.
            Event::Other(word) if word == "test-success" => Event::Test,
            event => event,
        });
        let hooks: Vec<Event> = hooks.collect();
        if hooks.iter().any(|event| matches!(event, Event::Other(_))) {
            self.ignored.push(Ignored { path, kind, name, hooks: events });
            return Ok(());
        }
        let weight = head.annotation(hook::WEIGHT)?.unwrap_or_default();
        let (deletes, logs) = (head.annotation(hook::DELETE_POLICY)?, head.annotation(hook::LOG_POLICY)?);
        self.hooks.push(Hook {
            name,
            kind,
            path,
            manifest: content,
            events: hooks,
            last_run: Execution::default(),
            // As Helm: what is no number weighs nothing.
            weight: weight.parse().unwrap_or(0),
            delete_policies: deletes
                .iter()
                .flat_map(|it| words(it))
                .map(|it| DeletePolicy::read(&it))
                .collect(),
            output_log_policies: logs
                .iter()
                .flat_map(|it| words(it))
                .map(|it| LogPolicy::read(&it))
                .collect(),
            rest: serde_json::Map::new(),
        });
        Ok(())
    }
}

/// The words of an annotation.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(|word| word.trim().to_lowercase())
}

/// What Helm reads of a document.
struct Head<'a> {
    path: &'a str,
    node: Option<&'a Node>,
}

impl Head<'_> {
    fn text(&self, path: &[&str]) -> &str {
        self.node.and_then(|node| node.at(path)).and_then(Node::text).unwrap_or_default()
    }

    /// As Go's library reads into a text: a number or a boolean is the text of it.
    fn annotation(&self, name: &str) -> Result<Option<String>, ManifestError> {
        let annotations = self.node.and_then(|node| node.at(&["metadata", "annotations"]));
        let Some(value) = annotations.and_then(|annotations| annotations.get(name)) else { return Ok(None) };
        let text = match (value.as_i64(), value.as_bool()) {
            _ if value.is_null() => Some(String::new()),
            (Some(number), _) => Some(number.to_string()),
            (_, Some(truth)) => Some(truth.to_string()),
            _ => value.text().map(str::to_owned),
        };
        let wrong = || ManifestError {
            path: self.path.to_owned(),
            line: value.pos.line as usize,
            message: format!("the annotation {name} is no text"),
        };
        text.ok_or_else(wrong).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::due;

    #[test]
    fn documents_are_parted_as_helm_parts_them() {
        for (text, expected) in [
            ("", vec![]),
            ("\n---\n---\n", vec![]),
            ("a: 1\n", vec!["a: 1\n"]),
            ("---\na: 1\n---  \nb: 1\n", vec!["a: 1\n", "b: 1\n"]),
            ("a: 1\n--- b: 1\n", vec!["a: 1\n", "b: 1\n"]),
            ("a: |\n  ---\n  x\n", vec!["a: |\n  ---\n  x\n"]),
            ("a: 1\n---- x\n", vec!["a: 1\n", "- x\n"]),
        ] {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }

    fn object(kind: &str, name: &str, annotations: &str) -> String {
        format!("apiVersion: v1\nkind: {kind}\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\n")
    }

    #[test]
    fn hooks_are_told_from_objects_as_helm_does() {
        for (annotations, expected) in [
            ("", None),
            ("a: b", None),
            ("helm.sh/hook: pre-install", Some("pre-install 0 [] []")),
            ("helm.sh/hook: ' Pre-Install, post-upgrade'", Some("pre-install,post-upgrade 0 [] []")),
            ("helm.sh/hook: test-success", Some("test 0 [] []")),
            ("helm.sh/hook: test, helm.sh/hook-weight: '-5'", Some("test -5 [] []")),
            ("helm.sh/hook: test, helm.sh/hook-weight: 7", Some("test 7 [] []")),
            ("helm.sh/hook: test, helm.sh/hook-weight: heavy", Some("test 0 [] []")),
            ("helm.sh/hook: test, helm.sh/hook-weight: '99999999999999999999'", Some("test 0 [] []")),
            (
                "helm.sh/hook: test, helm.sh/hook-delete-policy: 'hook-succeeded, odd'",
                Some("test 0 [hook-succeeded,odd] []"),
            ),
            (
                "helm.sh/hook: test, helm.sh/hook-output-log-policy: HOOK-FAILED",
                Some("test 0 [] [hook-failed]"),
            ),
            ("helm.sh/hook: crd-install", Some("ignored crd-install")),
            ("helm.sh/hook: 'pre-install,test-failure'", Some("ignored pre-install,test-failure")),
            ("helm.sh/hook: ''", Some("ignored ")),
            ("helm.sh/hook:", Some("ignored ")),
            ("helm.sh/hook: {a: b}", Some("a/templates/x.yaml: the annotation helm.sh/hook is no text")),
        ] {
            let content = object("Job", "migrate", annotations);
            let found = match sort([("a/templates/x.yaml", content.as_str())]) {
                Err(error) => Some(error.to_string()),
                Ok(sorted) => match (&sorted.hooks[..], &sorted.ignored[..]) {
                    ([], []) => None,
                    ([hook], []) => {
                        let joined = |words: Vec<&str>| words.join(",");
                        assert_eq!((hook.kind.as_str(), hook.name.as_str()), ("Job", "migrate"));
                        assert_eq!(hook.manifest, content);
                        Some(format!(
                            "{} {} [{}] [{}]",
                            joined(hook.events.iter().map(Event::as_str).collect()),
                            hook.weight,
                            joined(hook.delete_policies.iter().map(DeletePolicy::as_str).collect()),
                            joined(hook.output_log_policies.iter().map(LogPolicy::as_str).collect()),
                        ))
                    }
                    ([], [ignored]) => Some(format!("ignored {}", ignored.hooks)),
                    more => panic!("{more:?}"),
                },
            };
            assert_eq!(found.as_deref(), expected, "{annotations}");
        }
    }

    #[test]
    fn hooks_run_by_weight_and_name() {
        let hook = |kind, name: &str, weight: i64, events: &str| {
            object(kind, name, &format!("helm.sh/hook: '{events}', helm.sh/hook-weight: '{weight}'"))
        };
        let files = [
            hook("Job", "b", 0, "pre-install,pre-upgrade"),
            hook("Job", "a", 0, "pre-install"),
            hook("ConfigMap", "a", 0, "pre-install"),
            hook("Job", "last", 10, "pre-install"),
            hook("Job", "first", -10, "pre-install,test,test-success"),
            hook("Pod", "other", 0, "test"),
        ];
        let sorted = sort(files.iter().map(|file| ("a/templates/x.yaml", file.as_str()))).unwrap();
        let due = |event| -> Vec<String> {
            let hooks = due(&sorted.hooks, &event).into_iter().map(|place| &sorted.hooks[place]);
            hooks.map(|hook| format!("{} {}", hook.kind, hook.name)).collect()
        };
        assert_eq!(due(Event::PreInstall), ["Job first", "ConfigMap a", "Job a", "Job b", "Job last"]);
        assert_eq!(due(Event::PreUpgrade), ["Job b"]);
        assert_eq!(due(Event::Test), ["Job first", "Pod other"]);
        assert!(due(Event::PostDelete).is_empty());
    }

    #[test]
    fn policies_say_when_a_hook_is_deleted() {
        use DeletePolicy::{BeforeHookCreation, Failed, Succeeded};
        for (kind, policy, expected) in [
            ("Job", "", [true, false, false]),
            ("Job", "hook-succeeded", [false, true, false]),
            ("Job", "hook-succeeded,before-hook-creation,hook-failed", [true, true, true]),
            ("Job", "hook-sometimes", [false, false, false]),
            ("CustomResourceDefinition", "", [false, false, false]),
            ("CustomResourceDefinition", "hook-succeeded", [false, false, false]),
        ] {
            let policy = match policy {
                "" => String::new(),
                policy => format!(", helm.sh/hook-delete-policy: '{policy}'"),
            };
            let text = object(kind, "a", &format!("helm.sh/hook: test{policy}"));
            let sorted = sort([("a/templates/x.yaml", text.as_str())]).unwrap();
            let deletes = |policy| sorted.hooks[0].deletes(&policy);
            assert_eq!([BeforeHookCreation, Succeeded, Failed].map(deletes), expected, "{kind} {policy}");
        }
    }

    #[test]
    fn objects_are_kept_by_any_policy_and_joined_as_helm_does() {
        let texts = [
            object("Service", "b", "helm.sh/resource-policy: ' Keep '"),
            object("ConfigMap", "a", ""),
            object("Service", "c", "helm.sh/resource-policy: delete"),
        ];
        let files = [
            ("a/templates/z.yaml", &texts[0]),
            ("a/charts/b/templates/y.yaml", &texts[1]),
            ("a/x.yaml", &texts[2]),
        ];
        let partial = [("a/templates/_lib.yaml", "never: [read"), ("a/templates/empty.yaml", " \n")];
        let sorted = sort(files.iter().map(|(path, text)| (*path, text.as_str())).chain(partial)).unwrap();
        let kept: Vec<_> =
            sorted.objects.iter().map(|object| (object.name.as_str(), object.is_kept)).collect();
        assert_eq!(kept, [("a", false), ("b", true), ("c", true)]);
        assert_eq!(
            joined(&sorted.objects),
            format!(
                "---\n# Source: a/charts/b/templates/y.yaml\n{}\n---\n# Source: a/templates/z.yaml\n{}\n---\n# Source: \
                 a/x.yaml\n{}\n",
                texts[1], texts[0], texts[2]
            )
        );
        let error = sort([("a/x.yaml", "a: [")]).unwrap_err();
        assert!(error.to_string().starts_with("a/x.yaml: the rendered manifest is not YAML"), "{error}");
    }
}
