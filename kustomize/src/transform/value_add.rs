//! The value-add transformer, which only plugin files ask for: one value put at paths of selected resources.

use flotilla_yaml::Node;

use crate::decode::{Text, Unknown, int, list, string, text};
use crate::error::{Res, fail};
use crate::load::{Context, Loader};
use crate::node_ops::{set_text, split_path, wrong_kind};
use crate::parts::{Selector, each};
use crate::resmap::ResMap;
use crate::selector::Matcher;
use crate::transform::namespace::{Namespace, Subjects};
use crate::transform::patches::MATCH;
use crate::transform::replacement_path::{Make, lookup_or_make};
use crate::work::check_path;

#[derive(Default)]
struct Target {
    selector: Option<Selector>,
    field_path: String,
    file_path_position: i64,
}

impl Target {
    fn read(node: &Node) -> Res<Self> {
        let mut t = Self::default();
        each(node, &["selector", "fieldPath", "filePathPosition"], Unknown::Ignore, |name, n| {
            match name {
                "selector" => t.selector = Some(Selector::read(n, Unknown::Ignore)?),
                "fieldPath" => t.field_path = string(n, Unknown::Ignore)?,
                _ => t.file_path_position = int(n)?,
            }
            Ok(())
        })?;
        if t.field_path.is_empty() {
            return fail!("fieldPath cannot be empty");
        }
        if t.file_path_position < 0 {
            return fail!("value of FilePathPosition ({}) cannot be negative", t.file_path_position);
        }
        Ok(t)
    }
}

/// Reads the plugin's configuration and applies it.
pub(crate) fn apply(cx: &mut Context, loader: &Loader, map: &mut ResMap, config: &Node) -> Res<()> {
    let (mut value, mut file, mut targets) = (Text::new("", config.pos), Text::default(), Vec::new());
    each(config, &["value", "targets", "targetFilePath"], Unknown::Ignore, |name, n| {
        match name {
            "value" => value = Text::new(string(n, Unknown::Ignore)?.trim(), n.pos),
            "targets" => targets = list(n, Target::read)?,
            _ => file = text(n, Unknown::Ignore)?,
        }
        Ok(())
    })?;
    if value.text.is_empty() {
        value.text = loader.root.name().to_owned();
    }
    if !file.text.is_empty() {
        let document = loader.load(cx, &file)?.document(cx)?;
        if let Some(more) = document.get("targets") {
            targets.extend(list(more, Target::read)?);
        }
    }
    if targets.is_empty() {
        return fail!("must specify at least one target");
    }
    for target in &targets {
        cx.work.spend_for(map.0.len(), MATCH)?;
        let selected = match &target.selector {
            Some(selector) => Matcher::new(selector)?.select(map)?,
            None => (0..map.0.len()).collect(),
        };
        for index in selected {
            let resource = &mut map.0[index];
            if target.field_path == "metadata/namespace" {
                let set = Namespace {
                    namespace: &value.text,
                    pos: value.pos,
                    specs: &[],
                    unset_only: false,
                    subjects: Subjects::DefaultOnly,
                };
                set.apply(resource)?;
            } else {
                let new = add(&mut resource.node, target, &value)?;
                cx.work.spend_bytes(new)?;
                resource.settle_links();
            }
        }
    }
    Ok(())
}

/// Gives how long the new text is; none where the path leads to an item that is not there.
fn add(node: &mut Node, target: &Target, value: &Text) -> Res<usize> {
    let parts = split_path(&target.field_path, '/');
    check_path(&parts).map_err(|e| e.field("fieldPath"))?;
    let Some(node) = lookup_or_make(node, &parts, Make::Scalar(value.pos))? else { return Ok(0) };
    let Some(old) = node.text() else { return Err(wrong_kind("ScalarNode", node)) };
    let new = match usize::try_from(target.file_path_position) {
        Ok(0) | Err(_) => value.text.clone(),
        Ok(position) => insert_part(old, position - 1, &value.text),
    };
    set_text(node, &new, value.pos);
    Ok(new.len())
}

/// Puts a part into a file path.
fn insert_part(path: &str, position: usize, part: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    parts.insert(position.min(parts.len()), part);
    format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
}
