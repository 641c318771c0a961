//! What one overlay has tried goes to the next: values are replaced in the text, and all else in it stays as it is. Pure.

use flotilla_yaml::{Kind, Node, Style, Value};
use serde::Serialize;

/// Beside a value that is carried too.
const PROMOTE: &str = "flotilla: promote";
/// Beside a value of the overlay that is promoted to: it stays.
const KEEP: &str = "flotilla: keep";

/// A file of an overlay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
}

/// A value that another one takes the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) what: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// A value that differs and stays, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Left {
    pub(super) file: String,
    pub(super) line: u32,
    pub(super) what: String,
    pub(super) why: String,
}

/// What comes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) text: String,
    pub(super) changes: Vec<Change>,
    pub(super) left: Vec<Left>,
}

/// A step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    /// The item of this name.
    Named(String),
    At(usize),
}

/// Carries what is to be carried from one file to the file of the same name. `to` is `None` where there is none.
///
/// # Errors
/// Where one of them cannot be read as YAML, or a value stands in a form that cannot be replaced, with the place.
pub(super) fn carry(from: &Side<'_>, to: Option<&Side<'_>>) -> Result<Carried, String> {
    let read =
        |side: &Side<'_>| flotilla_yaml::parse(side.text).map_err(|error| format!("{}: {error}", side.path));
    let olds = read(from)?;
    let mut news = to.map(read).transpose()?.unwrap_or_default();
    let mut text = to.map(|to| to.text.to_owned()).unwrap_or_default();
    let (mut changes, mut left) = (Vec::new(), Vec::new());
    for old in &olds {
        let identity = identity(from.path, old);
        let mut picks = Vec::new();
        pick(old, &identity.kind, &mut Vec::new(), &mut picks);
        let mut new = news.iter_mut().find(|new| self::identity(from.path, new) == identity);
        let hidden = is_secret(old) || new.as_deref().is_some_and(is_secret);
        for (path, value) in picks {
            let what = shown(&path);
            let why = match new.as_deref().map(|new| find(new, &path)) {
                None if to.is_none() => Some("the other overlay has no such file"),
                None => Some("the other overlay has no such document"),
                Some(None) => Some("the other overlay does not say it: write it there once by hand"),
                Some(Some(target)) if *target == value => continue,
                Some(Some(_)) if hidden => Some("values of Secrets and of encrypted files are not carried"),
                Some(Some(target)) if says(target, KEEP) => Some("the other overlay keeps its own"),
                Some(Some(target)) if !value.is_scalar() || !target.is_scalar() => {
                    Some("it is no single value")
                }
                Some(Some(_)) if !is_same_image(old, new.as_deref(), &path) => {
                    Some("the other overlay says other things of the image: make both entries alike by hand")
                }
                Some(Some(_)) => None,
            };
            if let Some(why) = why {
                let (file, line, why) = (from.path.to_owned(), value.pos.line, why.to_owned());
                left.push(Left { file, line, what, why });
                continue;
            }
            let (Some(side), Some(target)) = (to, new.as_deref_mut().and_then(|new| find_mut(new, &path)))
            else {
                continue;
            };
            let told = |node: &Node| node.text().unwrap_or_default().to_owned();
            let (file, line) = (side.path.to_owned(), target.pos.line);
            replace(&mut text, target, &value).ok_or_else(|| {
                format!(
                    "{file}:{line}: {what} is written in a form that cannot be replaced: change it by hand"
                )
            })?;
            changes.push(Change { file, line, what, from: told(target), to: told(&value) });
            target.value = value.value.clone();
        }
    }
    if let Some(to) = to.filter(|_| !changes.is_empty()) {
        let read = flotilla_yaml::parse(&text).map_err(|error| format!("{}: {error}", to.path));
        if read? != news {
            return Err(format!("{}: it cannot be changed in place: change it by hand", to.path));
        }
    }
    Ok(Carried { text, changes, left })
}

/// By what a document is the same in both overlays.
#[derive(PartialEq, Eq)]
struct Identity {
    kind: String,
    name: Vec<String>,
}

fn identity(path: &str, document: &Node) -> Identity {
    let text = |keys: &[&str]| document.at(keys).and_then(Node::text).unwrap_or_default().to_owned();
    let (version, kind) = (text(&["apiVersion"]), text(&["kind"]));
    let file = path.rsplit('/').next().unwrap_or_default();
    let is_bare = version.is_empty() && ["kustomization.yaml", "kustomization.yml"].contains(&file);
    if is_bare || version.starts_with("kustomize.config.k8s.io/") {
        return Identity { kind: "kustomize".to_owned(), name: Vec::new() };
    }
    let group = version.rsplit_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
    Identity { kind, name: vec![group, text(&["metadata", "namespace"]), text(&["metadata", "name"])] }
}

fn is_secret(document: &Node) -> bool {
    document.get("kind").and_then(Node::text) == Some("Secret") || document.get("sops").is_some()
}

fn says(node: &Node, mark: &str) -> bool {
    node.comments().is_some_and(|comments| comments.line.contains(mark))
}

/// The values of a document that are carried.
fn pick(node: &Node, kind: &str, path: &mut Vec<Step>, found: &mut Vec<(Vec<Step>, Node)>) {
    if says(node, PROMOTE) || is_version(kind, path) {
        found.push((path.clone(), node.clone()));
        return;
    }
    match &node.value {
        Value::Scalar(_) => {}
        Value::Map(map) => {
            for entry in map.iter() {
                let Some(key) = entry.key.text() else { continue };
                path.push(Step::Key(key.to_owned()));
                pick(&entry.value, kind, path, found);
                path.pop();
            }
        }
        Value::Seq(seq) => {
            for (at, item) in seq.iter().enumerate() {
                let name = item.get("name").and_then(Node::text);
                path.push(name.map_or(Step::At(at), |name| Step::Named(name.to_owned())));
                pick(item, kind, path, found);
                path.pop();
            }
        }
    }
}

/// Whether a path is that of an image or of a chart's version.
fn is_version(kind: &str, path: &[Step]) -> bool {
    let keys =
        path.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None });
    let keys: Vec<&str> = keys.collect();
    matches!(
        (kind, &keys[..]),
        ("kustomize", ["images", "newName" | "newTag" | "digest"] | ["helmCharts", "version"])
            | ("HelmRelease", ["spec", "chart", "spec", "version"])
            | ("HelmChart", ["spec", "version"])
            | ("OCIRepository", ["spec", "ref", "tag" | "semver" | "digest"])
            | (_, [.., "containers" | "initContainers" | "ephemeralContainers", "image"])
    )
}

/// Whether both overlays say the same kinds of things of an image; of what is no image, they do.
fn is_same_image(old: &Node, new: Option<&Node>, path: &[Step]) -> bool {
    let [Step::Key(images), Step::Named(_), Step::Key(_)] = path else { return true };
    if images != "images" {
        return true;
    }
    let keys = |document: &Node| {
        let item = find(document, &path[..2]).and_then(Node::as_map);
        let mut keys: Vec<String> = item.iter().flat_map(|map| map.keys().map(str::to_owned)).collect();
        keys.sort();
        keys
    };
    new.is_some_and(|new| keys(old) == keys(new))
}

fn find<'a>(document: &'a Node, path: &[Step]) -> Option<&'a Node> {
    path.iter().try_fold(document, |node, step| match step {
        Step::Key(key) => node.get(key),
        Step::Named(_) | Step::At(_) => node.as_seq()?.get(place(node, step)?),
    })
}

fn find_mut<'a>(document: &'a mut Node, path: &[Step]) -> Option<&'a mut Node> {
    path.iter().try_fold(document, |node, step| match step {
        Step::Key(key) => node.get_mut(key),
        Step::Named(_) | Step::At(_) => {
            let at = place(node, step)?;
            node.as_seq_mut()?.get_mut(at)
        }
    })
}

/// Which item of a list a step means. A name that two have means none.
fn place(list: &Node, step: &Step) -> Option<usize> {
    match step {
        Step::Key(_) => None,
        Step::At(at) => Some(*at),
        Step::Named(name) => {
            let is_it = |item: &Node| item.get("name").and_then(Node::text) == Some(name);
            let items = list.as_seq()?;
            let at = items.iter().position(is_it)?;
            (items.iter().filter(|item| is_it(item)).count() == 1).then_some(at)
        }
    }
}

/// `images[nginx].newTag`
fn shown(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => text.extend([".", key]),
            Step::Named(name) => text.extend(["[", name, "]"]),
            Step::At(at) => text.push_str(&format!("[{at}]")),
        }
    }
    text
}

/// Replaces a value where it stands; `None` where it is not written in one line as it reads.
fn replace(text: &mut String, old: &Node, new: &Node) -> Option<()> {
    let line = usize::try_from(old.pos.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(old.pos.column).ok()?.checked_sub(1)?;
    let begin: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let row = text[begin..].lines().next()?;
    let at = begin + row.char_indices().nth(column)?.0;
    let rest = &text[at..begin + row.len()];
    let quoted = |quote: char| {
        let inner = rest.strip_prefix(quote)?;
        let end = inner.find(quote)?;
        // An escape, or a quote that is doubled, is not looked into.
        let is_bare = !inner[..end].contains('\\') && !inner[end + 1..].starts_with(quote);
        is_bare.then_some(end + 2)
    };
    let length = match old.style {
        Style::Plain => rest.starts_with(old.text()?).then_some(old.text()?.len()),
        Style::SingleQuoted => quoted('\''),
        Style::DoubleQuoted => quoted('"'),
        Style::Literal | Style::Folded | Style::Flow => None,
    }?;
    text.replace_range(at..at + length, &written(old.style, new)?);
    Some(())
}

/// A value as it is written in place of one in this style.
fn written(style: Style, new: &Node) -> Option<String> {
    let (scalar, text) = (new.as_scalar()?, new.text()?);
    let is_bare = !text.contains(['\'', '"', '\\', '\n']);
    let quote = match (scalar.kind() == Kind::String, style, Node::string(text).style) {
        (false, ..) => return Some(text.to_owned()),
        (true, Style::SingleQuoted, _) => '\'',
        (true, Style::DoubleQuoted, _) => '"',
        (true, _, Style::Plain) => return Some(text.to_owned()),
        (true, ..) => '"',
    };
    is_bare.then(|| format!("{quote}{text}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGING: &str = "kind: Kustomization\nimages:\n- name: web\n  newTag: 6.7.1\n- name: db\n  newTag: \"8.10\"\n\
                           replicas:\n- name: web\n  count: 5 # flotilla: promote\n- name: db\n  count: 9\n";

    fn carried(from: &str, to: &str) -> Result<Carried, String> {
        let side = |path, text| Side { path, text };
        carry(&side("staging/kustomization.yaml", from), Some(&side("production/kustomization.yaml", to)))
    }

    #[test]
    fn versions_and_marked_fields_go_on_and_nothing_else_changes() {
        let production = "# ours\nkind: Kustomization\nreplicas:\n- {name: web, count: 3}   # more here\n- name: db\n  \
                          count: 2\nimages:   # in the order of the base\n- name: db\n  newTag: '8.9' # tried first\n- newTag: \
                          6.7.0\n  name: web\n";
        let done = carried(STAGING, production).unwrap();
        let expected =
            production.replace("6.7.0", "6.7.1").replace("'8.9'", "'8.10'").replace("count: 3", "count: 5");
        assert_eq!((done.text.as_str(), done.left.len()), (expected.as_str(), 0));
        let told = done
            .changes
            .iter()
            .map(|one| format!("{}:{} {} {} {}", one.file, one.line, one.what, one.from, one.to));
        assert_eq!(
            told.collect::<Vec<_>>(),
            [
                "production/kustomization.yaml:10 images[web].newTag 6.7.0 6.7.1",
                "production/kustomization.yaml:9 images[db].newTag 8.9 8.10",
                "production/kustomization.yaml:4 replicas[web].count 3 5",
            ]
        );
        assert_eq!(carried(STAGING, &done.text).unwrap().changes, []);
    }

    #[test]
    fn what_is_not_carried_is_named_with_the_reason() {
        for (production, why) in [
            ("kind: Kustomization\nimages: []\n", "does not say it"),
            (
                "kind: Kustomization\nimages:\n- {name: web, newTag: '1', digest: x}\n",
                "other things of the image",
            ),
            ("kind: Kustomization\nimages:\n- name: web\n  newTag: 1.0 # flotilla: keep\n", "keeps its own"),
            ("kind: Kustomization\nimages:\n- {name: web, newTag: [a]}\n", "no single value"),
            ("apiVersion: v1\nkind: ConfigMap\n", "no such document"),
        ] {
            let from = "kind: Kustomization\nimages:\n- name: web\n  newTag: 6.7.1\n";
            let done = carried(from, production).unwrap();
            assert_eq!((done.text.as_str(), &done.changes[..]), (production, &[][..]));
            assert!(done.left[0].why.contains(why) && done.left[0].line == 4, "{:?}", done.left);
        }
        let secret =
            |value: &str| format!("apiVersion: v1\nkind: Secret\ndata:\n  a: {value} # flotilla: promote\n");
        let done = carried(&secret("x"), &secret("y")).unwrap();
        assert!(done.changes.is_empty() && done.left[0].why.contains("Secrets"), "{:?}", done.left);
        // A form that is not one line is left to people, and so is what cannot be read.
        let block = "kind: Kustomization\nimages:\n- name: web\n  newTag: >-\n    1.0\n";
        let from = "kind: Kustomization\nimages:\n- name: web\n  newTag: 6.7.1\n";
        assert!(carried(from, block).unwrap_err().contains("by hand"));
        assert!(carried(from, "a: [").unwrap_err().starts_with("production/kustomization.yaml: line 1"));
    }

    #[test]
    fn charts_and_containers_go_on_too() {
        for (kind, text) in [
            (
                "helm.toolkit.fluxcd.io/v2",
                "kind: HelmRelease\nspec:\n  chart:\n    spec:\n      version: VALUE\n",
            ),
            ("source.toolkit.fluxcd.io/v1", "kind: OCIRepository\nspec:\n  ref:\n    tag: VALUE\n"),
            (
                "apps/v1",
                "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: VALUE\n",
            ),
        ] {
            let of = |value: &str| format!("apiVersion: {kind}\n{}", text.replace("VALUE", value));
            assert_eq!(carried(&of("1.2.3"), &of("1.2.2")).unwrap().text, of("1.2.3"));
        }
    }
}
