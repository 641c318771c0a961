//! What an expression may cost where it is evaluated, estimated before it is: a macro in a macro goes through a list for each
//! item of another one, so a line of text over a long list takes hours. CEL's crate counts nothing while it runs.

use cel::common::ast::{CallExpr, EntryExpr, Expr, operators};
use serde_json::Value;

/// About a second and a hundred megabytes at worst.
pub(super) const MOST: u64 = 1 << 26;

/// What each part of an expression costs, beside what it does with its values; units are about 64 bytes that are looked at.
const STEP: u64 = 16;
/// Written values cost more than ones that are looked at: memory is less than time.
const WRITTEN: u64 = 32;

/// How large variables are.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Size {
    /// Items of the longest list or mapping.
    longest: u64,
    /// Values in all of them, and their texts by 64 bytes.
    weight: u64,
}

impl Size {
    pub(super) fn of(value: &Value) -> Self {
        let (mut size, mut open) = (Self::default(), vec![value]);
        while let Some(value) = open.pop() {
            size.weight += 1;
            match value {
                Value::String(text) => size.weight += text.len() as u64 / 64,
                Value::Array(items) => {
                    size.longest = size.longest.max(items.len() as u64);
                    open.extend(items);
                }
                Value::Object(fields) => {
                    size.longest = size.longest.max(fields.len() as u64);
                    size.weight += fields.keys().map(|name| name.len() as u64 / 64).sum::<u64>();
                    open.extend(fields.values());
                }
                Value::Null | Value::Bool(_) | Value::Number(_) => {}
            }
        }
        size
    }

    /// Of two variables.
    pub(super) fn and(self, other: Self) -> Self {
        Self { longest: self.longest.max(other.longest), weight: self.weight.saturating_add(other.weight) }
    }
}

/// The most that an expression costs over variables of this size. Every list that a macro goes through counts as the
/// longest that there can be.
pub(super) fn most(expr: &Expr, variables: Size) -> u64 {
    let own = own(expr);
    let grown = 1 + own.additions;
    let size = Size {
        longest: variables.longest.max(own.longest).saturating_mul(grown),
        weight: variables.weight.saturating_add(own.weight).saturating_mul(grown),
    };
    cost(expr, size)
}

/// What stands in an expression itself.
#[derive(Default)]
struct Own {
    additions: u64,
    /// Items of the longest list or mapping that is written out.
    longest: u64,
    weight: u64,
}

fn own(expr: &Expr) -> Own {
    let mut own = Own::default();
    each(expr, &mut |expr| {
        own.weight += 1;
        match expr {
            Expr::Call(call) if call.func_name == operators::ADD => own.additions += 1,
            Expr::List(list) => own.longest = own.longest.max(list.elements.len() as u64),
            Expr::Map(map) => own.longest = own.longest.max(map.entries.len() as u64),
            _ => {}
        }
    });
    own
}

/// As deep as expressions nest, which is bounded where they are read.
fn each<'a>(expr: &'a Expr, look: &mut dyn FnMut(&'a Expr)) {
    look(expr);
    parts(expr).into_iter().for_each(|part| each(part, look));
}

fn parts(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Call(call) => {
            call.target.iter().map(|it| &it.expr).chain(call.args.iter().map(|it| &it.expr)).collect()
        }
        Expr::Comprehension(it) => [&it.iter_range, &it.accu_init, &it.loop_cond, &it.loop_step, &it.result]
            .map(|it| &it.expr)
            .into(),
        Expr::List(list) => list.elements.iter().map(|it| &it.expr).collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|it| entry(&it.expr)).collect(),
        Expr::Struct(it) => it.entries.iter().flat_map(|it| entry(&it.expr)).collect(),
        Expr::Select(select) => vec![&select.operand.expr],
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
    }
}

fn entry(entry: &EntryExpr) -> Vec<&Expr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value.expr],
        EntryExpr::MapEntry(entry) => vec![&entry.key.expr, &entry.value.expr],
    }
}

fn cost(expr: &Expr, size: Size) -> u64 {
    let of = |expr: &Expr| cost(expr, size);
    let all = match expr {
        Expr::Comprehension(it) => {
            let each = of(&it.loop_cond.expr).saturating_add(of(&it.loop_step.expr));
            let once = [&it.iter_range, &it.accu_init, &it.result].map(|it| of(&it.expr));
            once.into_iter().fold(size.longest.saturating_mul(each), u64::saturating_add)
        }
        other => parts(other).into_iter().map(of).fold(values(other, size), u64::saturating_add),
    };
    all.saturating_add(STEP)
}

/// What an operator or function does with the values that it is given.
fn values(expr: &Expr, size: Size) -> u64 {
    let Expr::Call(call) = expr else { return 0 };
    match call.func_name.as_str() {
        // The accumulator of `map` and `filter` is not copied.
        operators::ADD if is_accumulator(call) => 0,
        operators::ADD => size.weight.saturating_mul(WRITTEN),
        operators::CONDITIONAL
        | operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::NOT_STRICTLY_FALSE
        | operators::NEGATE
        | operators::INDEX
        | operators::OPT_INDEX
        | operators::OPT_SELECT => 0,
        // One that is written out bounds what is compared.
        operators::EQUALS
        | operators::NOT_EQUALS
        | operators::GREATER
        | operators::GREATER_EQUALS
        | operators::LESS
        | operators::LESS_EQUALS
        | "startsWith"
        | "endsWith"
            if call.args.iter().any(|it| matches!(it.expr, Expr::Literal(_))) =>
        {
            0
        }
        _ => size.weight,
    }
}

fn is_accumulator(call: &CallExpr) -> bool {
    matches!(call.args.first().map(|it| &it.expr), Some(Expr::Ident(name)) if name.starts_with('@'))
}
