//! Errors with their causes, for people.

/// An error and its causes on one line, for logs and reports. Many errors repeat what their cause says: that is said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) && !text.contains(&format!("{words}: ")) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}
