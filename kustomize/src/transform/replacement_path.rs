//! Field paths of replacements: `spec.containers.[name=web].env.0.value`, `spec.*.x`.
//!
//! A source path names one node. A target path may name several, and may create what is missing.

use flotilla_yaml::{Node, Pos, Scalar, Typing, Value};

use crate::error::{Fail, Res, fail};
use crate::node_ops::{index_name_value, is_list_index, wrong_kind};
use crate::selector::regex;

/// What a missing node at the end of a path is made as, and where that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Make {
    Nothing,
    Scalar(Pos),
    Seq(Pos),
    Map(Pos),
}

impl Make {
    /// As the value that will be put there.
    pub(crate) fn like(node: &Node) -> Self {
        match node.value {
            Value::Scalar(_) => Self::Scalar(node.pos),
            Value::Seq(_) => Self::Seq(node.pos),
            Value::Map(_) => Self::Map(node.pos),
        }
    }

    fn pos(self) -> Pos {
        match self {
            Self::Nothing => Pos::default(),
            Self::Scalar(pos) | Self::Seq(pos) | Self::Map(pos) => pos,
        }
    }

    fn node(self) -> Node {
        let mut node = match self {
            Self::Seq(_) => Node::seq(),
            Self::Map(_) => Node::map(),
            Self::Nothing | Self::Scalar(_) => Node::from(Scalar::plain("")),
        };
        if node.is_scalar() {
            node.typing = Typing::Open;
        }
        node.at_pos(self.pos())
    }
}

fn number(part: &str) -> Option<usize> {
    part.parse().ok()
}

/// What has to be made for a part so that the next one fits in.
fn kind_for(next: Option<&str>, last: Make) -> Make {
    match next {
        None => last,
        Some(next) if is_list_index(next) || number(next).is_some() => Make::Seq(last.pos()),
        Some(_) => Make::Map(last.pos()),
    }
}

/// One step from a node to a node in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// The one node at a path; `None` where it is not there.
pub(crate) fn lookup<'a>(node: &'a Node, path: &[String]) -> Res<Option<&'a Node>> {
    Ok(locate(node, path)?.and_then(|steps| at(node, &steps)))
}

/// Where the one node at a path stands, whatever becomes of the values that the path names.
pub(crate) fn locate(node: &Node, path: &[String]) -> Res<Option<Vec<Step>>> {
    let (mut node, mut steps) = (node, Vec::with_capacity(path.len()));
    for part in path.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        let items = || node.as_seq().ok_or_else(|| wrong_kind("SequenceNode", node));
        let step = if let Ok(index) = part.parse::<i64>() {
            let Ok(index) = usize::try_from(index) else {
                return fail!("array index {index} cannot be negative");
            };
            items()?;
            Some(Step::Index(index))
        } else if part == "-" {
            items()?.len().checked_sub(1).map(Step::Index)
        } else if part == "*" {
            return fail!("wildcard is not supported in PathGetter");
        } else if is_list_index(part) {
            let (name, value) = index_name_value(part)?;
            items()?.iter().position(|item| is_named(item, name, value)).map(Step::Index)
        } else if node.is_map() {
            Some(Step::Key(part.to_owned()))
        } else {
            return Err(wrong_kind("MappingNode", node));
        };
        let Some(step) = step else { return Ok(None) };
        match at(node, std::slice::from_ref(&step)) {
            Some(found) if !found.is_null() => node = found,
            _ => return Ok(None),
        }
        steps.push(step);
    }
    Ok(Some(steps))
}

/// The one node at a path, with fields and items by their keys made where they are missing; `None` where an item by its
/// number is not there.
pub(crate) fn lookup_or_make<'a>(
    mut node: &'a mut Node,
    path: &[String],
    last: Make,
) -> Res<Option<&'a mut Node>> {
    let mut parts = path.iter().map(|p| p.trim()).filter(|p| !p.is_empty()).peekable();
    while let Some(part) = parts.next() {
        let by_place = match part.parse::<i64>() {
            Ok(index) if index < 0 => return fail!("array index {index} cannot be negative"),
            Ok(index) => Some(usize::try_from(index).unwrap_or(usize::MAX)),
            Err(_) if part == "-" => Some(node.as_seq().map_or(0, |items| items.len()).wrapping_sub(1)),
            Err(_) => None,
        };
        if part == "*" {
            return fail!("wildcard is not supported in PathGetter");
        }
        if by_place.is_some() || is_list_index(part) {
            if !node.is_seq() {
                return Err(wrong_kind("SequenceNode", node));
            }
            let items = node.as_seq_mut().expect("checked above");
            let index = match by_place {
                Some(index) => index,
                None => item_or_make(items, part, last)?,
            };
            let Some(item) = items.get_mut(index) else { return Ok(None) };
            node = item;
            continue;
        }
        if node.is_null() {
            return Ok(None);
        }
        if !node.is_map() {
            return Err(wrong_kind("MappingNode", node));
        }
        let map = node.as_map_mut().expect("checked above");
        let made = kind_for(parts.peek().copied(), last);
        node = map.get_or_insert_with(part, || made.node());
        if node.is_null() {
            node.value = made.node().value;
        }
    }
    Ok(Some(node))
}

/// The place of the item that `[KEY=VALUE]` names, made where there is none.
fn item_or_make(items: &mut flotilla_yaml::Seq, part: &str, last: Make) -> Res<usize> {
    let (name, value) = index_name_value(part)?;
    let found = items.iter().position(|item| is_named(item, name, value));
    Ok(found.unwrap_or_else(|| {
        items.push(named(name, value, last));
        items.len() - 1
    }))
}

/// Whether an item has a value at a key; without a key, whether it is that value.
fn is_named(item: &Node, name: &str, value: &str) -> bool {
    match name {
        "" => item.text() == Some(value),
        name => item.get(name).is_some_and(|v| v.text().unwrap_or_default() == value),
    }
}

/// The item that [`is_named`] looks for.
fn named(name: &str, value: &str, make: Make) -> Node {
    let mut value = Node::plain(value).at_pos(make.pos());
    value.typing = Typing::Open;
    if name.is_empty() {
        return value;
    }
    let mut item = Node::map().at_pos(make.pos());
    item.as_map_mut().expect("made above").push(Node::string(name), value);
    item
}

/// The node that the steps lead to.
pub(crate) fn at<'a>(node: &'a Node, steps: &[Step]) -> Option<&'a Node> {
    steps.iter().try_fold(node, |node, step| match step {
        Step::Key(key) => node.as_map()?.get(key),
        Step::Index(index) => node.as_seq()?.get(*index),
    })
}

/// As [`at`], to change it.
pub(crate) fn at_mut<'a>(node: &'a mut Node, steps: &[Step]) -> Option<&'a mut Node> {
    steps.iter().try_fold(node, |node, step| match step {
        Step::Key(key) => node.as_map_mut()?.get_mut(key),
        Step::Index(index) => node.as_seq_mut()?.get_mut(*index),
    })
}

/// Calls `set` on every node that the path names and says how many there were.
pub(crate) fn visit(
    node: &mut Node,
    path: &[String],
    make: Make,
    set: &mut dyn FnMut(&mut Node) -> Res<()>,
) -> Res<usize> {
    visit_below(node, path, make, &mut Vec::new(), &mut |node, _| set(node))
}

/// Where every node stands that the path names, now that what is missing is made.
pub(crate) fn places(node: &mut Node, path: &[String], make: Make) -> Res<Vec<Vec<Step>>> {
    let mut all = Vec::new();
    visit_below(node, path, make, &mut Vec::new(), &mut |_, steps| {
        all.push(steps.to_vec());
        Ok(())
    })?;
    Ok(all)
}

type Set<'a> = &'a mut dyn FnMut(&mut Node, &[Step]) -> Res<()>;
/// Visits what the rest of a path names in a node, one step further.
type Go<'a> = &'a mut dyn FnMut(&mut Node, Step, &[String]) -> Res<usize>;

/// Visits a node that stands at `steps`, or what is in it.
fn visit_below(
    node: &mut Node,
    path: &[String],
    make: Make,
    steps: &mut Vec<Step>,
    set: Set<'_>,
) -> Res<usize> {
    let Some((part, rest)) = path.split_first() else {
        set(node, steps)?;
        return Ok(1);
    };
    let mut go = |node: &mut Node, step: Step, rest: &[String]| {
        steps.push(step);
        let count = visit_below(node, rest, make, steps, set);
        steps.pop();
        count
    };
    if let Some(index) = number(part) {
        let Some(len) = node.as_seq().map(|s| s.len()) else { return Err(wrong_kind("SequenceNode", node)) };
        let seq = node.as_seq_mut().expect("checked above");
        if len == index && make != Make::Nothing {
            seq.push(kind_for(rest.first().map(String::as_str), make).node());
        }
        let len = seq.len();
        return match seq.get_mut(index) {
            Some(item) => go(item, Step::Index(index), rest),
            None => fail!("index {index} specified but only {len} elements found"),
        };
    }
    if is_list_index(part) {
        return visit_matching(node, part, rest, make, &mut go);
    }
    if part == "*" {
        if !node.is_seq() {
            return Err(wrong_kind("SequenceNode", node));
        }
        let mut count = 0;
        for (n, item) in node.as_seq_mut().expect("checked above").iter_mut().enumerate() {
            count += go(item, Step::Index(n), rest)?;
        }
        return Ok(count);
    }
    if !node.is_map() {
        return Err(wrong_kind("MappingNode", node));
    }
    if part.is_empty() {
        return fail!("a part of the path is empty");
    }
    let map = node.as_map_mut().expect("checked above");
    if !map.contains_key(part) {
        if make == Make::Nothing {
            return Ok(0);
        }
        map.push(Node::string(part.as_str()), kind_for(rest.first().map(String::as_str), make).node());
    }
    let child = map.get_mut(part).expect("found or made above");
    if child.is_scalar() && !rest.is_empty() && !child.is_null() {
        // Structured text that has no such field: what is in it cannot be set from here.
        return fail!("the field '{part}' is a text without the field '{}'", rest[0]);
    }
    go(child, Step::Key(part.clone()), rest)
}

fn visit_matching(node: &mut Node, part: &str, rest: &[String], make: Make, go: Go<'_>) -> Res<usize> {
    let (name, pattern) = index_name_value(part)?;
    if !node.is_seq() {
        return Err(wrong_kind("SequenceNode", node));
    }
    let seq = node.as_seq_mut().expect("checked above");
    let matcher = regex(pattern).map_err(|e: Fail| e.context(part))?;
    let is_match = |item: &Node| -> bool {
        let value = if name.is_empty() { Some(item) } else { item.get(name) };
        value.is_some_and(|v| matcher.is_match(flotilla_yaml::write(v).trim()))
    };
    let rest = if name.is_empty() { &[] } else { rest };
    let mut count = 0;
    for (n, item) in seq.iter_mut().enumerate().filter(|(_, item)| is_match(item)) {
        count += go(item, Step::Index(n), rest)?;
    }
    if count > 0 || make == Make::Nothing {
        return Ok(count);
    }
    seq.push(named(name, pattern, make));
    let last = seq.len() - 1;
    let item = seq.last_mut().expect("pushed above");
    if !is_match(item) {
        return fail!("the pattern {part} does not match what it would create");
    }
    go(item, Step::Index(last), rest)
}
