//! Which values of a file are encrypted.

use flotilla_select::Regexp;

use crate::error::SopsError;

/// The rule of a file; SOPS allows one.
#[derive(Debug)]
pub(crate) enum Rule {
    /// All values but those below a key that ends so.
    NotSuffix(String),
    Suffix(String),
    NotKey(Regexp),
    Key(Regexp),
    NotComment(Regexp),
    Comment(Regexp),
}

/// What SOPS leaves clear where a file names no rule.
const UNENCRYPTED: &str = "_unencrypted";

impl Rule {
    /// `fields` are the names of rules that a file has, and their texts.
    pub(crate) fn of(fields: &[(&str, &str)]) -> Result<Self, SopsError> {
        let (name, text) = match fields {
            [] => return Ok(Self::NotSuffix(UNENCRYPTED.to_owned())),
            [field] => *field,
            [_, (second, _), ..] => {
                return Err(SopsError::field(
                    *second,
                    "a file has one rule of what is encrypted, not several",
                ));
            }
        };
        let regexp = || Regexp::new(text).map_err(|error| SopsError::field(name, error.to_string()));
        Ok(match name {
            "unencrypted_suffix" => Self::NotSuffix(text.to_owned()),
            "encrypted_suffix" => Self::Suffix(text.to_owned()),
            "unencrypted_regex" => Self::NotKey(regexp()?),
            "encrypted_regex" => Self::Key(regexp()?),
            "unencrypted_comment_regex" => Self::NotComment(regexp()?),
            _ => Self::Comment(regexp()?),
        })
    }

    /// Whether a value is encrypted: by the keys above it, or by the comments above it, the outermost first. `is_comment`: it is
    /// the last of these comments itself.
    pub(crate) fn covers(&self, path: &[String], comments: &[Vec<String>], is_comment: bool) -> bool {
        match self {
            Self::NotSuffix(suffix) => !path.iter().any(|key| key.ends_with(suffix.as_str())),
            Self::Suffix(suffix) => path.iter().any(|key| key.ends_with(suffix.as_str())),
            Self::NotKey(regexp) => !path.iter().any(|key| regexp.is_match(key)),
            Self::Key(regexp) => path.iter().any(|key| regexp.is_match(key)),
            Self::NotComment(regexp) => !comments.iter().flatten().any(|comment| regexp.is_match(comment)),
            Self::Comment(regexp) => {
                // The comment that says so stays clear itself.
                let own = usize::from(is_comment);
                let (last, above) = comments.split_last().map_or((&[][..], &[][..]), |(l, a)| (&l[..], a));
                let last = &last[..last.len().saturating_sub(own)];
                above.iter().flatten().chain(last).any(|comment| regexp.is_match(comment))
            }
        }
    }
}
