//! Selecting resources: anchored regexes on names and kinds, label expressions on labels and annotations.

use flotilla_select::{Labels, Regexp, SelectorError};
use flotilla_yaml::SmolStr;

use crate::error::{Fail, Res, fail};
use crate::gvk::{Gvk, ResId};
use crate::parts::Selector;
use crate::resmap::ResMap;
use crate::resource::Resource;

/// A selector ready for use.
pub(crate) struct Matcher {
    group: Pattern,
    version: Pattern,
    kind: Pattern,
    name: Pattern,
    namespace: Pattern,
    /// kustomize reads them where it meets an object that the rest is right for; bad ones are errors only then.
    labels: Result<Labels, SelectorError>,
    annotations: Result<Labels, SelectorError>,
}

/// An anchored regex; without special characters a plain text, which is nearly always so.
enum Pattern {
    Any,
    Text(String),
    Regex(Box<Regexp>),
}

impl Pattern {
    fn new(text: &str) -> Res<Self> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        if text.chars().all(|c| c.is_ascii_alphanumeric() || "-_/:".contains(c)) {
            return Ok(Self::Text(text.to_owned()));
        }
        Ok(Self::Regex(Box::new(regex(&format!("^(?:{text})$"))?)))
    }

    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(pattern) => pattern == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A regex, or an error in Go's words.
pub(crate) fn regex(pattern: &str) -> Res<Regexp> {
    Regexp::new(pattern).map_err(|e| {
        Fail::new(e.to_string()).hint("a backslash takes the meaning from a character, as in `\\(`")
    })
}

impl Matcher {
    pub(crate) fn new(s: &Selector) -> Res<Self> {
        let part = |name: &str, text: &str| Pattern::new(text).map_err(|e| e.field(name));
        Ok(Self {
            group: part("group", &s.group)?,
            version: part("version", &s.version)?,
            kind: part("kind", &s.kind)?,
            name: part("name", &s.name)?,
            namespace: part("namespace", &s.namespace)?,
            labels: Labels::parse(&s.label_selector),
            annotations: Labels::parse(&s.annotation_selector),
        })
    }

    pub(crate) fn matches_gvk(&self, gvk: &Gvk) -> bool {
        self.group.matches(&gvk.group) && self.version.matches(&gvk.version) && self.kind.matches(&gvk.kind)
    }

    /// Kind, name and namespace as they are written in one identity.
    pub(crate) fn matches_id(&self, id: &ResId) -> bool {
        self.matches_gvk(&id.gvk) && self.name.matches(&id.name) && self.namespace.matches(&id.namespace)
    }

    pub(crate) fn matches_labels(&self, resource: &Resource) -> Res<bool> {
        let holds =
            |field: &str, selector: &Result<Labels, SelectorError>, of: &[(SmolStr, SmolStr)]| match selector
            {
                Ok(labels) => {
                    Ok(labels
                        .matches(|key| of.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())))
                }
                Err(why) => fail!("{why}").map_err(|e: Fail| {
                    e.field(field).hint("write it as in `a=b,c!=d,e in (f,g),!h`, without quotes")
                }),
            };
        let is_empty =
            |selector: &Result<Labels, SelectorError>| selector.as_ref().is_ok_and(Labels::is_empty);
        let labels = is_empty(&self.labels) || holds("labelSelector", &self.labels, &resource.labels())?;
        Ok(labels
            && (is_empty(&self.annotations)
                || holds("annotationSelector", &self.annotations, &resource.annotations())?))
    }

    /// As patch targets are found: names and namespaces as they are now or were at first.
    pub(crate) fn matches(&self, resource: &Resource) -> Res<bool> {
        if !self.kind.matches(resource.kind()) {
            return Ok(false);
        }
        let (now, first) = (resource.id(), resource.original_id());
        let is_named = (self.namespace.matches(first.effective_namespace())
            || self.namespace.matches(now.effective_namespace()))
            && (self.name.matches(&first.name) || self.name.matches(&now.name))
            && self.matches_gvk(&now.gvk);
        Ok(is_named && self.matches_labels(resource)?)
    }

    /// The places of the resources that match.
    pub(crate) fn select(&self, map: &ResMap) -> Res<Vec<usize>> {
        let mut selected = Vec::new();
        for (n, resource) in map.0.iter().enumerate() {
            if self.matches(resource)? {
                selected.push(n);
            }
        }
        Ok(selected)
    }
}
