//! The namespace transformer.

use std::collections::HashMap;

use flotilla_yaml::{Node, Pos, Scalar};

use crate::error::{Fail, Res, fail};
use crate::fieldspec::{Create, FieldSpec};
use crate::node_ops::{set_string, text, text_at, wrong_kind};
use crate::resmap::ResMap;
use crate::resource::Resource;

/// What to set, and where.
pub(crate) struct Namespace<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pos: Pos,
    pub(crate) specs: &'a [FieldSpec],
    /// Only where there is none yet.
    pub(crate) unset_only: bool,
    pub(crate) subjects: Subjects,
}

/// Which subjects of role bindings get the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Subjects {
    /// Those named `default`.
    #[default]
    DefaultOnly,
    AllServiceAccounts,
    None,
}

impl Subjects {
    pub(crate) fn read(text: &str) -> Res<Self> {
        match text {
            "" | "defaultOnly" => Ok(Self::DefaultOnly),
            "allServiceAccounts" => Ok(Self::AllServiceAccounts),
            "none" => Ok(Self::None),
            other => fail!(
                "invalid value \"{other}\" for setRoleBindingSubjects: must be one of \"defaultOnly\", \"none\" or \"allServiceAccounts\""
            )
            .map_err(|e: Fail| e.field("setRoleBindingSubjects")),
        }
    }
}

impl Namespace<'_> {
    /// Sets the namespace of all resources.
    pub(crate) fn transform(&self, map: &mut ResMap) -> Res<()> {
        if self.namespace.is_empty() {
            return Ok(());
        }
        for resource in map.0.iter_mut().filter(|r| !r.is_empty() && !r.from_helm) {
            resource.store_previous();
            self.apply(resource)?;
        }
        let mut seen = HashMap::new();
        for resource in &map.0 {
            if let Some(first) = seen.insert(resource.id().key(), resource.pos) {
                let id = resource.id();
                return fail!("namespace transformation produces ID conflict: {id} is there twice")
                    .map_err(|e: Fail| e.at(if resource.pos.source > 0 { resource.pos } else { first }));
            }
        }
        Ok(())
    }

    /// Sets the namespace of one resource.
    pub(crate) fn apply(&self, resource: &mut Resource) -> Res<()> {
        let id = resource.id();
        let node = &mut resource.node;
        if !id.is_cluster_scoped() {
            let spec = FieldSpec::any("metadata/namespace", true);
            spec.apply(node, Create::Scalar(self.pos), &mut |n| self.set(n)).map_err(words)?;
        }
        let is_binding = matches!(id.gvk.kind.as_str(), "RoleBinding" | "ClusterRoleBinding");
        if is_binding {
            self.set_subjects(node)
                .map_err(|e| e.context("setting namespace on (cluster)role binding subjects"))?;
        }
        for spec in self.specs {
            let skip = spec.path == "metadata/namespace"
                || (spec.path == "metadata/name" && text_at(node, &["apiVersion"]) != "v1")
                || (is_binding
                    && spec.path == "subjects/namespace"
                    && matches!(spec.gvk.kind.as_str(), "RoleBinding" | "ClusterRoleBinding"));
            if !skip {
                spec.apply(node, Create::Scalar(self.pos), &mut |n| self.set(n)).map_err(words)?;
            }
        }
        Ok(())
    }

    fn set(&self, node: &mut Node) -> Res<()> {
        if !node.is_scalar() {
            return Err(wrong_kind("ScalarNode", node));
        }
        if !self.unset_only || text(node).is_empty() {
            set_string(node, self.namespace, self.pos);
        }
        Ok(())
    }

    fn set_subjects(&self, node: &mut Node) -> Res<()> {
        let wanted = |subject: &Node| match self.subjects {
            Subjects::None => false,
            Subjects::DefaultOnly => text_at(subject, &["name"]) == "default",
            Subjects::AllServiceAccounts => text_at(subject, &["kind"]) == "ServiceAccount",
        };
        let Some(subjects) = node.get("subjects").filter(|n| !n.is_null()) else { return Ok(()) };
        let Some(list) = subjects.as_seq() else {
            return Err(wrong_kind("SequenceNode", subjects));
        };
        if !list.iter().any(wanted) {
            return Ok(());
        }
        let list = node.get_mut("subjects").and_then(Node::as_seq_mut).expect("checked above");
        for subject in list.iter_mut().filter(|s| wanted(s)) {
            let map = subject.as_map_mut().expect("has a name or kind");
            self.set(map.get_or_insert_with("namespace", || Node::from(Scalar::string(""))))?;
        }
        Ok(())
    }
}

fn words(fail: Fail) -> Fail {
    let scalars = fail.message.contains("wrong node kind: expected ScalarNode");
    fail.context(if scalars {
        "namespace field specs must target scalar nodes"
    } else {
        "namespace transformation failed"
    })
}
