//! Vars: `$(NAME)` in fields that are known to hold such references, replaced by another resource's field.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use flotilla_yaml::{Kind, Node, Scalar, Style, Typing, Value};

use crate::error::{Fail, Res, fail};
use crate::fieldspec::{Create, FieldSpec};
use crate::node_ops::{resolve_as_string, split_field_path};
use crate::parts::Var;
use crate::resmap::ResMap;
use crate::transform::replacement_path::lookup;
use crate::work::Work;

/// Adds a kustomization's vars and notes them at the resources that they point at.
pub(crate) fn merge(map: &mut ResMap, vars: &mut Vec<Var>, more: &[Var]) -> Res<()> {
    for var in more {
        let target = &var.object;
        let matches = map.indexes_by_any_id(&|id| {
            id.gvkn_equals(target) && (target.namespace.is_empty() || id.same_namespace(target))
        });
        match matches[..] {
            [] => {}
            [index] => map.0[index].vars.push(var.name.clone()),
            _ => {
                let count = matches.len();
                return fail!("found {count} resId matches for var {} (unable to disambiguate)", var.name)
                    .map_err(|e: Fail| e.at(var.pos).field("vars").hint("give objref a namespace"));
            }
        }
        add(vars, var)?;
    }
    Ok(())
}

/// Adds the vars of a base.
pub(crate) fn merge_base(vars: &mut Vec<Var>, more: Vec<Var>) -> Res<()> {
    more.iter().try_for_each(|var| add(vars, var))
}

fn add(vars: &mut Vec<Var>, var: &Var) -> Res<()> {
    if vars.iter().any(|v| v.name == var.name) {
        return fail!("var '{}' already encountered", var.name)
            .map_err(|e: Fail| e.at(var.pos).field("vars"));
    }
    vars.push(var.clone());
    Ok(())
}

/// Replaces the references. Says which vars nobody refers to.
pub(crate) fn resolve(map: &mut ResMap, vars: &[Var], specs: &[FieldSpec], work: &Work) -> Res<Vec<String>> {
    if vars.is_empty() {
        return Ok(Vec::new());
    }
    work.spend_for(vars.len() + specs.len(), map.0.len())?;
    let values: BTreeMap<&str, Node> =
        vars.iter().map(|var| Ok((var.name.as_str(), value(map, var)?))).collect::<Res<_>>()?;
    let mut used = BTreeSet::new();
    for resource in &mut map.0 {
        for spec in specs {
            spec.apply(&mut resource.node, Create::No, &mut |node| {
                replace_in(node, &values, &mut used, work)
            })?;
        }
        resource.settle_links();
    }
    Ok(values.keys().filter(|name| !used.contains(**name)).map(|name| (*name).to_owned()).collect())
}

fn value(map: &ResMap, var: &Var) -> Res<Node> {
    let failed = |message: String| {
        let hint = "objref is the apiVersion, kind and name that an object has where the var stands";
        Err(Fail::new(message).at(var.pos).field("vars").hint(hint))
    };
    let Some(resource) = map.0.iter().find(|r| r.vars.contains(&var.name)) else {
        return failed(format!(
            "var '{}' cannot be mapped to a field in the set of known resources",
            var.name
        ));
    };
    // `list[0]` is written for what other paths call `list.0`.
    let mut parts = Vec::new();
    for part in split_field_path(&var.field_path) {
        match part
            .split_once('[')
            .filter(|(name, rest)| !name.is_empty() && rest.ends_with(']') && !rest.contains('='))
        {
            Some((name, index)) => parts.extend([name.to_owned(), index.trim_end_matches(']').to_owned()]),
            None => parts.push(part),
        }
    }
    match lookup(&resource.node, &parts) {
        Ok(Some(node)) if node.typing == Typing::NotString => {
            Ok(Node::plain(node.text().unwrap_or_default()).at_pos(node.pos))
        }
        // What has no type of its own in kustomize is a text.
        Ok(Some(node))
            if node.typing == Typing::Open
                || node.as_scalar().is_some_and(|s| s.kind() == Kind::Timestamp) =>
        {
            Ok(as_text(node))
        }
        Ok(Some(node)) => match typed(node) {
            Some(value) => Ok(value),
            None => failed(format!(
                "field specified in var '{}' not found in corresponding resource: kustomize cannot read `{}` as a number",
                var.name,
                node.text().unwrap_or_default()
            )),
        },
        Ok(None) if let Some(null) = null_at(&resource.node, &parts) => Ok(as_text(null)),
        _ => failed(format!("field specified in var '{}' not found in corresponding resource", var.name)),
    }
}

/// A value as kustomize holds it: numbers and booleans as Go's `strconv` reads and writes them. `None` where it refuses.
fn typed(node: &Node) -> Option<Node> {
    let text = node.text().unwrap_or_default();
    let value = match node.as_scalar().map(Scalar::kind) {
        Some(Kind::Int) => Node::plain(text.parse::<i64>().ok()?.to_string()),
        Some(Kind::Float) => text.parse::<f64>().ok().map(|_| node.clone())?,
        Some(Kind::Bool) => Node::plain(text.to_ascii_lowercase()),
        _ => return Some(node.clone()),
    };
    Some(value.at_pos(node.pos))
}

fn as_text(node: &Node) -> Node {
    Node::string(node.text().unwrap_or_default()).at_pos(node.pos)
}

/// The null at the end of a path.
fn null_at<'a>(node: &'a Node, parts: &[String]) -> Option<&'a Node> {
    let (last, before) = parts.split_last()?;
    let parent = lookup(node, before).ok()??;
    let child = match parent.as_seq() {
        Some(seq) => seq.get(last.parse::<usize>().ok()?),
        None => parent.as_map()?.get(last.trim()),
    };
    child.filter(|child| child.is_null())
}

fn is_string(node: &Node) -> bool {
    node.as_scalar().is_some_and(|s| s.kind() == Kind::String)
}

fn replace_in(
    node: &mut Node,
    values: &BTreeMap<&str, Node>,
    used: &mut BTreeSet<String>,
    work: &Work,
) -> Res<()> {
    let has = |n: &Node| n.text().is_some_and(|t| t.contains('$'));
    resolve_as_string(node);
    if let Some(map) = node.as_map_mut().filter(|m| m.values().any(|n| n.typing == Typing::Open)) {
        map.values_mut().for_each(resolve_as_string);
    }
    match &mut node.value {
        Value::Scalar(_) => {
            if is_string(node) && has(node) {
                replace(node, values, used, work)?;
            }
        }
        Value::Map(map) => {
            if map.values().any(has) {
                for value in map.values_mut().filter(|v| is_string(v)) {
                    replace(value, values, used, work)?;
                }
            }
        }
        Value::Seq(seq) => {
            if let Some(bad) = seq.iter().find(|n| !is_string(n)) {
                return Err(Fail::new("invalid value type expect a string").at(bad.pos));
            }
            if seq.iter().any(has) {
                seq.iter_mut().try_for_each(|n| replace(n, values, used, work))?;
            }
        }
    }
    Ok(())
}

/// A value that is all there is.
fn alone(value: &Node) -> Node {
    let is_float = value.as_scalar().is_some_and(|scalar| scalar.kind() == Kind::Float);
    let node = match value.as_f64().filter(|_| is_float) {
        Some(float) => Node::plain(float.to_string()),
        None => Node::new(value.value.clone()),
    };
    node.at_pos(value.pos)
}

/// A value in the middle of a text, where Go writes large floats with an exponent.
fn within(value: &Node) -> Cow<'_, str> {
    let printed = value.as_scalar().and_then(Scalar::printed_float);
    printed.map_or_else(|| value.text().unwrap_or_default().into(), Cow::Owned)
}

/// Replaces the references in one string; a string that is nothing but one takes the value's type.
fn replace(
    node: &mut Node,
    values: &BTreeMap<&str, Node>,
    used: &mut BTreeSet<String>,
    work: &Work,
) -> Res<()> {
    let input = node.text().unwrap_or_default().to_owned();
    let mut output = String::with_capacity(input.len());
    let mut rest = input.as_str();
    while let Some(at) = rest.find('$') {
        output.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let Some(next) = after.chars().next() else {
            output.push('$');
            rest = "";
            break;
        };
        match (next, after.find(')')) {
            ('$', _) => {
                output.push('$');
                rest = &after[1..];
            }
            ('(', Some(end)) => {
                let name = &after[1..end];
                rest = &after[end + 1..];
                match values.get(name).filter(|v| v.is_scalar()) {
                    Some(value) => {
                        used.insert(name.to_owned());
                        if output.is_empty() && rest.is_empty() && input.len() == name.len() + 3 {
                            let link = node.link().cloned();
                            *node = alone(value);
                            node.set_link(link);
                            return Ok(());
                        }
                        let text = within(value);
                        work.spend_bytes(text.len())?;
                        output.push_str(&text);
                    }
                    None => {
                        output.push_str("$(");
                        output.push_str(name);
                        output.push(')');
                    }
                }
            }
            ('(', None) => {
                output.push_str("$(");
                rest = &after[1..];
            }
            (other, _) => {
                output.push('$');
                output.push(other);
                rest = &after[other.len_utf8()..];
            }
        }
    }
    output.push_str(rest);
    node.value = Value::Scalar(Scalar::string(output));
    node.style = Style::Plain;
    Ok(())
}
