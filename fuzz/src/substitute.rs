//! A line with the value of `v`, and the text of a document that variables are put into: it ends, within its budget.

use crate::inputs::on_thread;
use flotilla_core::envsubst::{LONGEST, Template};
use flotilla_core::template::Variables;

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (value, text) = text.split_once('\n').unwrap_or(("", text));
    let mut variables = Variables { always: true, ..Variables::default() };
    variables.add([("v".to_owned(), value.to_owned())]).expect("v names a variable");
    let _ = variables.substitute(text);
    if let Ok(template) = Template::parse(text)
        && let Ok(done) = template.expand(&|name| (name == "v").then_some(value))
    {
        assert!(done.len() <= LONGEST.max(text.len()));
    }
}
