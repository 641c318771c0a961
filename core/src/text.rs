//! Texts of others, made fit to be shown.

/// At most `limit` bytes of a text and a mark. What is left out is in the middle: who refuses a value names it first, however
/// long it is, and says what is wrong with it last.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let tail = limit / 3;
    let head_end = (0..=limit - tail).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let tail_from =
        (text.len() - tail..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    format!("{}…{}", &text[..head_end], &text[tail_from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_stay() {
        assert_eq!(shorten("short", 5), "short");
        assert_eq!(shorten("", 0), "");
        let long = format!("Deployment \"web\" is invalid: {}: must be an integer", "x".repeat(500));
        let shown = shorten(&long, 120);
        assert!(shown.starts_with("Deployment \"web\" is invalid: xxx"), "{shown}");
        assert!(shown.ends_with("xx: must be an integer"), "{shown}");
        assert_eq!(shown.len(), 120 + '…'.len_utf8());
        for limit in 0..20 {
            let shown = shorten("日本語日本語", limit);
            assert!(shown.len() <= limit.max(18) + '…'.len_utf8(), "{shown}");
        }
    }
}
