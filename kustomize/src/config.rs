//! Which fields each transformer changes: kustomize's built-in table, extended by `configurations` and `crds`.

use std::sync::{Arc, OnceLock};

use flotilla_yaml::Node;

use crate::decode::{Unknown, list, string};
use crate::error::Res;
use crate::fieldspec::{FieldSpec, merge};
use crate::gvk::Gvk;
use crate::parts::each;

/// The fields by transformer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Config {
    pub(crate) name_prefix: Vec<FieldSpec>,
    pub(crate) name_suffix: Vec<FieldSpec>,
    pub(crate) namespace: Vec<FieldSpec>,
    pub(crate) common_labels: Vec<FieldSpec>,
    pub(crate) labels: Vec<FieldSpec>,
    pub(crate) template_labels: Vec<FieldSpec>,
    /// Newer than 5.8, which has these among the template labels.
    pub(crate) volume_claim_template_labels: Vec<FieldSpec>,
    pub(crate) common_annotations: Vec<FieldSpec>,
    pub(crate) name_reference: Vec<BackReference>,
    pub(crate) var_reference: Vec<FieldSpec>,
    pub(crate) images: Vec<FieldSpec>,
    pub(crate) replicas: Vec<FieldSpec>,
}

/// The fields that hold the name of a kind of object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BackReference {
    pub(crate) gvk: Gvk,
    pub(crate) referrers: Vec<FieldSpec>,
}

impl Config {
    /// The built-in table.
    pub(crate) fn builtin() -> Arc<Config> {
        static TABLE: OnceLock<Arc<Config>> = OnceLock::new();
        TABLE.get_or_init(|| Arc::new(crate::defaults::table())).clone()
    }

    /// Reads a file of `configurations`.
    pub(crate) fn read(document: &Node) -> Res<Config> {
        let mut config = Config::default();
        let known = [
            "namePrefix",
            "nameSuffix",
            "namespace",
            "commonLabels",
            "labels",
            "templateLabels",
            "volumeClaimTemplateLabels",
            "commonAnnotations",
            "nameReference",
            "varReference",
            "images",
            "replicas",
        ];
        each(document, &known, Unknown::Refuse, |name, node| {
            let c = &mut config;
            let specs = match name {
                "nameReference" => {
                    c.name_reference = list(node, BackReference::read)?;
                    return Ok(());
                }
                "namePrefix" => &mut c.name_prefix,
                "nameSuffix" => &mut c.name_suffix,
                "namespace" => &mut c.namespace,
                "commonLabels" => &mut c.common_labels,
                "labels" => &mut c.labels,
                "templateLabels" => &mut c.template_labels,
                "volumeClaimTemplateLabels" => &mut c.volume_claim_template_labels,
                "commonAnnotations" => &mut c.common_annotations,
                "varReference" => &mut c.var_reference,
                "images" => &mut c.images,
                _ => &mut c.replicas,
            };
            *specs = list(node, |n| FieldSpec::read(n, Unknown::Refuse))?;
            Ok(())
        })?;
        config.sort();
        Ok(config)
    }

    /// Adds what another table has more.
    pub(crate) fn merge(self: &mut Arc<Config>, other: &Arc<Config>) -> Res<()> {
        if Arc::ptr_eq(self, other) {
            return Ok(());
        }
        // Merging into nothing is no mere copy: of two specs for a path, the more general one is dropped if it comes
        // later. The built-in table has no such pairs.
        if **self == Config::default() && Arc::ptr_eq(other, &Config::builtin()) {
            *self = other.clone();
            return Ok(());
        }
        let c = Arc::make_mut(self);
        let words =
            |what: &'static str| move |e: crate::error::Fail| e.context(format!("failed to merge {what}"));
        merge(&mut c.name_prefix, &other.name_prefix).map_err(words("NamePrefix fieldSpec"))?;
        merge(&mut c.name_suffix, &other.name_suffix).map_err(words("NameSuffix fieldSpec"))?;
        merge(&mut c.namespace, &other.namespace).map_err(words("NameSpace fieldSpec"))?;
        merge(&mut c.common_annotations, &other.common_annotations)
            .map_err(words("CommonAnnotations fieldSpec"))?;
        merge(&mut c.common_labels, &other.common_labels).map_err(words("CommonLabels fieldSpec"))?;
        merge(&mut c.labels, &other.labels).map_err(words("Labels fieldSpec"))?;
        merge(&mut c.template_labels, &other.template_labels).map_err(words("TemplateLabels fieldSpec"))?;
        merge(&mut c.volume_claim_template_labels, &other.volume_claim_template_labels)
            .map_err(words("VolumeClaimTemplateLabels fieldSpec"))?;
        merge(&mut c.var_reference, &other.var_reference).map_err(words("VarReference fieldSpec"))?;
        for reference in &other.name_reference {
            match c.name_reference.iter_mut().find(|r| r.gvk == reference.gvk) {
                Some(known) => merge(&mut known.referrers, &reference.referrers)
                    .map_err(words("NameReference fieldSpec"))?,
                None => c.name_reference.push(reference.clone()),
            }
        }
        merge(&mut c.images, &other.images).map_err(words("Images fieldSpec"))?;
        merge(&mut c.replicas, &other.replicas).map_err(words("Replicas fieldSpec"))?;
        c.sort();
        Ok(())
    }

    /// How many field specs there are.
    pub(crate) fn specs(&self) -> usize {
        let own = [
            &self.name_prefix,
            &self.name_suffix,
            &self.namespace,
            &self.common_labels,
            &self.labels,
            &self.template_labels,
            &self.volume_claim_template_labels,
            &self.common_annotations,
            &self.var_reference,
            &self.images,
            &self.replicas,
        ];
        let own: usize = own.iter().map(|specs| specs.len()).sum();
        own + self.name_reference.iter().map(|reference| reference.referrers.len()).sum::<usize>()
    }

    fn sort(&mut self) {
        for specs in [
            &mut self.name_prefix,
            &mut self.name_suffix,
            &mut self.namespace,
            &mut self.common_labels,
            &mut self.labels,
            &mut self.template_labels,
            &mut self.volume_claim_template_labels,
            &mut self.common_annotations,
            &mut self.var_reference,
            &mut self.images,
            &mut self.replicas,
        ] {
            specs.sort_by_cached_key(|s| s.gvk.order());
        }
        self.name_reference.sort_by_cached_key(|r| r.gvk.order());
    }

    pub(crate) fn sorted(mut self) -> Self {
        self.sort();
        self
    }
}

impl BackReference {
    fn read(node: &Node) -> Res<Self> {
        let mut r = BackReference { gvk: Gvk::default(), referrers: Vec::new() };
        each(node, &["group", "version", "kind", "fieldSpecs"], Unknown::Refuse, |name, n| {
            match name {
                "group" => r.gvk.group = string(n, Unknown::Refuse)?.into(),
                "version" => r.gvk.version = string(n, Unknown::Refuse)?.into(),
                "kind" => r.gvk.kind = string(n, Unknown::Refuse)?.into(),
                _ => r.referrers = list(n, |n| FieldSpec::read(n, Unknown::Refuse))?,
            }
            Ok(())
        })?;
        Ok(r)
    }
}
