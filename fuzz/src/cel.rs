//! An expression, evaluated on a status: whatever is written, it is refused or has an answer.

use crate::inputs::on_thread;
use flotilla_core::expr::{Expr, Variables};
use serde_json::json;

pub fn run(bytes: &[u8]) {
    on_thread(|| check(bytes));
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(expression) = Expr::new(text) else { return };
    let status =
        json!({"phase": "Ready", "replicas": 3, "conditions": [{"type": "Ready", "status": "True"}]});
    let _ = expression.holds(&Variables::default().with("status", &status));
}
