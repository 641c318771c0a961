//! Expressions (CEL) over objects: what says that one is healthy, or a dependency ready. As Flux's: the fields of the
//! object are the variables.

mod cost;

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{Context, Program, Value as Cel};
use serde_json::Value;

use cost::Size;

/// Longer ones are refused: parsing takes time and room.
const LONGEST: usize = 4096;
/// Deeper ones are refused: the parser's own limit comes after the stack is gone.
const DEEPEST: usize = 8;
const LONGEST_CHAIN: usize = 40;

/// An expression that was read.
#[derive(Debug)]
pub struct Expr {
    text: String,
    program: Program,
}

/// A text that is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExpr {
    #[error("an expression is longer than {LONGEST} characters")]
    Long,
    #[error("an expression is nested deeper than {DEEPEST}, or chains more than {LONGEST_CHAIN} operators")]
    Deep,
    #[error("'{text}' is not a CEL expression: {why}")]
    Syntax { text: String, why: String },
}

impl Expr {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn new(text: &str) -> Result<Self, InvalidExpr> {
        if text.len() > LONGEST {
            return Err(InvalidExpr::Long);
        }
        let (nesting, chain) = depth(text);
        if nesting > DEEPEST || chain > LONGEST_CHAIN {
            return Err(InvalidExpr::Deep);
        }
        let program = Program::compile(text).map_err(|errors| InvalidExpr::Syntax {
            text: text.to_owned(),
            // Without the list of all that could stand there.
            why: {
                let words = errors.to_string();
                let first = words.lines().next().unwrap_or_default();
                first.split(" expecting ").next().unwrap_or_default().trim_start_matches("ERROR: ").to_owned()
            },
        })?;
        Ok(Self { text: text.to_owned(), program })
    }

    /// Whether it reads any variable but these and those that it declares itself, as in `list.all(x, …)`.
    pub fn reads_beyond(&self, known: &[&str]) -> bool {
        let declared = |name: &str| self.text.contains(&format!("({name},"));
        let references = self.program.references();
        references.variables().iter().any(|name| !known.contains(name) && !declared(name))
    }

    /// Whether it is true of these variables.
    ///
    /// # Errors
    /// In words: a field that is not there, a result that is neither true nor false, or what would take too long.
    pub fn holds(&self, variables: &Variables) -> Result<bool, String> {
        if cost::most(&self.program.expression().expr, variables.size) > cost::MOST {
            return Err(format!(
                "'{}' takes too long over an object of this size; go through fewer lists inside each other",
                self.text
            ));
        }
        let mut context = Context::default();
        for (name, value) in &variables.values {
            context.add_variable_from_value(name.clone(), value.clone());
        }
        match self.program.execute(&context) {
            Ok(Cel::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("'{}' gives {:?}, not true or false", self.text, other.type_of())),
            Err(error) => Err(format!("'{}': {error}", self.text)),
        }
    }
}

/// How deep the brackets of an expression are nested, and how long its longest chain of operators and accesses is, that
/// of the brackets around it included. What `&&`, `||` and commas join stands side by side.
fn depth(text: &str) -> (usize, usize) {
    let mut chains = vec![0_usize];
    let (mut nesting, mut longest) = (0, 0);
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => {
                chains.last_mut().into_iter().for_each(|chain| *chain += 1);
                chains.push(0);
            }
            ')' | ']' | '}' if chains.len() > 1 => drop(chains.pop()),
            ',' | '&' | '|' => chains.last_mut().into_iter().for_each(|chain| *chain = 0),
            '!' | '-' => chains.last_mut().into_iter().for_each(|chain| *chain += 1),
            '.' | '?' | ':' | '+' | '*' | '/' | '%' | '<' | '>' | '=' if !"<>=!".contains(before) => {
                chains.last_mut().into_iter().for_each(|chain| *chain += 1);
            }
            _ => {}
        }
        before = c;
        nesting = nesting.max(chains.len() - 1);
        longest = longest.max(chains.iter().sum());
    }
    (nesting, longest)
}

/// What an expression may read.
#[derive(Debug, Default, Clone)]
pub struct Variables {
    values: Vec<(String, Cel)>,
    size: Size,
}

impl Variables {
    /// Adds a variable.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: &Value) -> Self {
        self.values.push((name.into(), convert(value)));
        self.size = self.size.and(Size::of(value));
        self
    }
}

/// Whole numbers are ints, as Kubernetes' own tools read them.
fn convert(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(int), _) => Cel::Int(int),
            (None, Some(uint)) => Cel::UInt(uint),
            (None, None) => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(convert).collect())),
        Value::Object(fields) => {
            let key = |name: &String| Key::String(Arc::new(name.clone()));
            let map: HashMap<Key, Cel> =
                fields.iter().map(|(name, value)| (key(name), convert(value))).collect();
            Cel::Map(Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_read_objects() {
        let status = json!({"phase": "Succeeded", "replicas": 3, "ratio": 0.5, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False", "reason": "x"}]});
        let variables =
            Variables::default().with("status", &status).with("metadata", &json!({"generation": 3}));
        for (text, expected) in [
            ("status.phase == 'Succeeded'", Ok(true)),
            ("status.phase in ['Initialized', 'Failed']", Ok(false)),
            ("status.replicas == metadata.generation", Ok(true)),
            ("status.replicas >= 2 && status.ratio < 1.0", Ok(true)),
            ("status.conditions.filter(e, e.type == 'Ready').all(e, e.status == 'True')", Ok(true)),
            ("has(status.missing) && status.missing == 1", Ok(false)),
            ("status.conditions.exists(e, has(e.reason) && e.reason.startsWith('x'))", Ok(true)),
            ("size(status.conditions) == 2", Ok(true)),
            ("status.phase.matches('^Succ')", Ok(true)),
            ("status.missing == 1", Err("No such key")),
            ("spec.x", Err("Undeclared reference")),
            ("status.replicas", Err("not true or false")),
        ] {
            let found = Expr::new(text).unwrap().holds(&variables);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
        assert!(Expr::new("status.x && spec.y").unwrap().reads_beyond(&["status"]));
        assert!(!Expr::new("status.all(e, e == 1)").unwrap().reads_beyond(&["status"]));
    }

    #[test]
    fn what_is_no_expression_says_so() {
        assert!(Expr::new("status.phase ==").unwrap_err().to_string().contains("is not a CEL expression"));
        for deep in ["(".repeat(100), "!".repeat(100), "[".repeat(100)] {
            assert_eq!(Expr::new(&deep).unwrap_err(), InvalidExpr::Deep);
        }
        // The longest of each kind of chain fits the stack of a thread, unoptimised too.
        for chain in ["a.", "1 + ", "a ? 1 : ", "a[0].", "!", "-"] {
            let text = chain.repeat(LONGEST_CHAIN / depth(chain).1) + "a";
            assert!(Expr::new(&text).unwrap().holds(&Variables::default()).is_err(), "{chain}");
            assert_eq!(
                Expr::new(&chain.repeat(LONGEST_CHAIN + 1)).unwrap_err(),
                InvalidExpr::Deep,
                "{chain}"
            );
        }
        let nested = format!("{}a{}", "(".repeat(DEEPEST), ")".repeat(DEEPEST));
        assert!(Expr::new(&nested).unwrap().holds(&Variables::default()).is_err());
        let long = vec!["a == 1"; 200].join(" || ");
        assert!(Expr::new(&long).unwrap().holds(&Variables::default()).is_err());
        assert_eq!(Expr::new(&"a".repeat(5000)).unwrap_err(), InvalidExpr::Long);
    }

    /// Each of these took from seconds to hours.
    #[test]
    fn what_goes_through_lists_for_each_other_is_bounded() {
        let status = json!({"l": vec![1; 300], "m": {"a": [1, 2]}, "s": "x".repeat(100_000)});
        let variables = Variables::default().with("status", &status);
        let literal = format!("[{}]", vec!["1"; 200].join(","));
        for text in [
            "status.l.all(a, status.l.all(b, status.l.all(c, c == 1)))",
            "status.l.exists_one(a, status.l.filter(b, status.l.map(c, c) == [a]) == [])",
            "status.l.map(a, status.l.map(b, status.l)) == status.l.map(a, status.l.map(b, status.l))",
            "status.l.map(a, status.s + status.s).size() > 0",
            "status.l.all(a, status.l.all(b, status.s.matches('(x*)*y')))",
            "status.l.all(a, status.l.all(b, 'y' in status.l || status.s.contains('y')))",
            "(status.l + status.l + status.l + status.l).all(a, (status.l + status.l).all(b, status.l.exists(c, c > a)))",
            &format!("{literal}.all(a, {literal}.all(b, {literal}.all(c, {literal}.all(d, d == 1))))"),
        ] {
            let error = Expr::new(text).unwrap().holds(&variables).unwrap_err();
            assert!(error.contains("takes too long over an object of this size"), "{error}");
        }
        // What people write goes on, over objects as large as they get.
        let condition =
            |n: i32| json!({"type": format!("Type{n}"), "status": "True", "message": "m".repeat(200)});
        let status = json!({"conditions": (0..1000).map(condition).collect::<Vec<_>>(), "phase": "Ready"});
        let variables = Variables::default().with("status", &status).with("spec", &status);
        for text in [
            "status.conditions.filter(e, e.type == 'Type7').all(e, e.status == 'True')",
            "status.conditions.exists(e, e.type == 'Type999' && e.status == 'True') && status.phase in ['Ready', 'Done']",
            "status.conditions.all(e, spec.conditions.size() == status.conditions.size())",
        ] {
            assert_eq!(Expr::new(text).unwrap().holds(&variables), Ok(true), "{text}");
        }
    }
}
