//! The transformers of a kustomization, in kustomize's order.

use super::{Accumulator, Target};
use crate::config::Config;
use crate::decode::nest;
use crate::error::{Fail, Res, fail};
use crate::fieldspec::{FieldSpec, merge};
use crate::load::Context;
use crate::parts::Label;
use crate::resmap::ResMap;
use crate::resource::TRANSFORMATIONS_ANNOTATION;
use crate::transform::names::{End, affix};
use crate::transform::namespace::{Namespace, Subjects};
use crate::transform::patches::MATCH;
use crate::transform::{images, patches, replacements, set_pairs, set_replicas};
use crate::work::Work;
use crate::{metadata, plugin};

impl Target<'_> {
    pub(super) fn run_transformers(&mut self, cx: &mut Context, acc: &mut Accumulator) -> Res<()> {
        let k = &self.kustomization;
        let (trace, work) = (self.trace.clone(), cx.work.clone());
        let origin =
            |kind: &str| trace.as_ref().map(|t| t.configured(&self.file_name, "builtin", kind, "", ""));
        let done = |map: &mut ResMap, kind: &str| -> Res<()> {
            if let Some(origin) = origin(kind) {
                charge_notes(&work, map)?;
                metadata::add_transformation(map, &origin)?;
            }
            map.drop_empty();
            Ok(())
        };
        let config = acc.config.clone();
        let map = &mut acc.resources;

        // Patches are read before any is applied, as kustomize does.
        let mut legacy = Vec::new();
        for (n, entry) in k.patches_strategic_merge.iter().enumerate() {
            let named = |e: Fail| e.at(entry.pos).field(format!("patchesStrategicMerge[{n}]"));
            legacy.extend(patches::load_legacy(cx, &self.loader, entry).map_err(named)?);
        }
        let named = |n: usize| move |e: Fail| nest(e, &format!("patches[{n}]"));
        let loaded =
            k.patches.iter().enumerate().map(|(n, p)| patches::load(cx, &self.loader, p).map_err(named(n)));
        let loaded = loaded.collect::<Res<Vec<_>>>()?;
        let replaced = replacements::load(cx, &self.loader, &k.replacements)?;

        if !k.patches_strategic_merge.is_empty() && legacy.is_empty() {
            let files = k.patches_strategic_merge.iter().map(|entry| entry.text.trim()).collect::<Vec<_>>();
            return fail!("patch appears to be empty; files=[{}], Patch=", files.join(" ")).map_err(
                |e: Fail| {
                    e.at(k.patches_strategic_merge[0].pos)
                        .field("patchesStrategicMerge")
                        .hint("there is no document in any of them; take them out, or write the patch")
                },
            );
        }
        if !k.patches_strategic_merge.is_empty() {
            patches::apply_legacy(cx, map, &legacy).map_err(|e| e.field("patchesStrategicMerge"))?;
            done(map, "PatchStrategicMergeTransformer")?;
        }
        for (n, patch) in loaded.into_iter().enumerate() {
            patch.apply(cx, map).map_err(named(n))?;
            done(map, "PatchTransformer")?;
        }
        if !k.namespace.text.is_empty() {
            let set = Namespace {
                namespace: &k.namespace.text,
                pos: k.namespace.pos,
                specs: &config.namespace,
                unset_only: false,
                subjects: Subjects::DefaultOnly,
            };
            charge(&cx.work, map, set.specs.len(), 1)?;
            set.transform(map).map_err(|e| e.at(k.namespace.pos).field("namespace"))?;
            done(map, "NamespaceTransformer")?;
        }
        for (end, affix_text, specs, field, kind) in [
            (End::Prefix, &k.name_prefix, &config.name_prefix, "namePrefix", "PrefixTransformer"),
            (End::Suffix, &k.name_suffix, &config.name_suffix, "nameSuffix", "SuffixTransformer"),
        ] {
            if !affix_text.text.is_empty() {
                charge(&cx.work, map, specs.len(), 1)?;
                affix(map, end, affix_text, specs).map_err(|e| e.at(affix_text.pos).field(field))?;
                done(map, kind)?;
            }
        }
        if !k.labels.is_empty() || !k.common_labels.is_empty() {
            for (n, label) in k.labels.iter().enumerate() {
                let specs = label_specs(label, &config).map_err(|e| e.field(format!("labels[{n}]")))?;
                charge(&cx.work, map, specs.len(), label.pairs.len())?;
                set_pairs(map, &label.pairs, &specs)?;
                done(map, "LabelTransformer")?;
            }
            charge(&cx.work, map, config.common_labels.len(), k.common_labels.len())?;
            set_pairs(map, &k.common_labels, &config.common_labels)?;
            done(map, "LabelTransformer")?;
        }
        if !k.common_annotations.is_empty() {
            charge(&cx.work, map, config.common_annotations.len(), k.common_annotations.len())?;
            set_pairs(map, &k.common_annotations, &config.common_annotations)?;
            done(map, "AnnotationsTransformer")?;
        }
        for (n, entry) in k.patches_json6902.iter().enumerate() {
            let named = |e: Fail| nest(e, &format!("patchesJson6902[{n}]"));
            patches::apply_json6902(cx, &self.loader, map, entry).map_err(named)?;
            done(map, "PatchJson6902Transformer")?;
        }
        for (n, replica) in k.replicas.iter().enumerate() {
            charge(&cx.work, map, config.replicas.len(), 1)?;
            set_replicas(map, replica, &config.replicas).map_err(|e| e.field(format!("replicas[{n}]")))?;
            done(map, "ReplicaCountTransformer")?;
        }
        for (n, (image, pos)) in k.images.iter().enumerate() {
            let named = |e: Fail| nest(e, &format!("images[{n}]")).at(*pos);
            let weight = charge(&cx.work, map, config.images.len(), 1)?;
            images::set_image(map, image, *pos, &config.images, &cx.work, weight).map_err(named)?;
            done(map, "ImageTagTransformer")?;
        }
        if !k.replacements.is_empty() {
            replacements::apply(map, &replaced, &cx.work)?;
            done(map, "ReplacementTransformer")?;
        }
        plugin::transform(cx, self, acc)
    }
}

/// What it costs to set so many values at the fields of so many specs of all objects: each object is asked for each, and a
/// path may lead through every item of a list. Answers what the objects come to, in steps.
pub(crate) fn charge(work: &Work, map: &ResMap, specs: usize, values: usize) -> Res<usize> {
    let weight = map.weight(work)?;
    work.spend_for(map.0.len() + weight / 64, specs.saturating_mul(values) + 1)?;
    Ok(weight)
}

/// What it costs to note a transformer at all objects: the notes of each are written anew.
pub(crate) fn charge_notes(work: &Work, map: &ResMap) -> Res<()> {
    let notes = map.0.iter().filter_map(|r| r.annotation(TRANSFORMATIONS_ANNOTATION));
    work.spend_bytes(notes.map(str::len).sum())?;
    work.spend_for(map.0.len(), MATCH)
}

/// The fields that an entry of `labels` changes.
fn label_specs(label: &Label, config: &Config) -> Res<Vec<FieldSpec>> {
    let claims = |s: &&FieldSpec| s.path != "spec/volumeClaimTemplates[]/metadata/labels";
    let mut specs = label.fields.clone();
    merge(&mut specs, &config.labels)?;
    if label.include_selectors {
        merge(&mut specs, &config.common_labels)?;
        return Ok(specs);
    }
    let only_claims: Vec<FieldSpec> = config.template_labels.iter().filter(|s| !claims(s)).cloned().collect();
    if label.include_templates {
        let rest: Vec<FieldSpec> = config.template_labels.iter().filter(claims).cloned().collect();
        merge(&mut specs, &rest)?;
    }
    if label.include_volume_claim_templates.unwrap_or(label.include_templates) {
        merge(&mut specs, &only_claims)?;
        merge(&mut specs, &config.volume_claim_template_labels)?;
    }
    merge(&mut specs, &[FieldSpec::any("metadata/labels", true)])?;
    Ok(specs)
}
