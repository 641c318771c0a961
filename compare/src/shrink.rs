//! Makes a tree that shows a difference as small as it can be while it still shows it.

use anyhow::Result;

use crate::random::value::Value;
use crate::tree::{Content, Tree};

/// How many trees are tried at most.
const TRIES: usize = 4000;

/// The smallest tree found for which `shows` holds, by leaving out files, documents, entries and elements.
///
/// # Errors
/// Those of `shows`.
pub fn shrink(tree: &Tree, shows: &mut dyn FnMut(&Tree) -> Result<bool>) -> Result<Tree> {
    let mut shrinker = Shrinker { best: tree.clone(), shows, tries: 0 };
    shrinker.plain_styles()?;
    loop {
        let before = shrinker.best.clone();
        shrinker.files()?;
        shrinker.values()?;
        shrinker.lines()?;
        if shrinker.best == before || shrinker.tries >= TRIES {
            return Ok(shrinker.best);
        }
    }
}

struct Shrinker<'a> {
    best: Tree,
    shows: &'a mut dyn FnMut(&Tree) -> Result<bool>,
    tries: usize,
}

impl Shrinker<'_> {
    /// Takes the candidate if it shows the difference too.
    fn offer(&mut self, candidate: Tree) -> Result<bool> {
        self.tries += 1;
        let taken = self.tries < TRIES && (self.shows)(&candidate)?;
        if taken {
            self.best = candidate;
        }
        Ok(taken)
    }

    fn plain_styles(&mut self) -> Result<()> {
        let paths: Vec<String> = self.best.files.keys().cloned().collect();
        for path in paths {
            let mut candidate = self.best.clone();
            let Some(Content::Documents { style, .. }) = candidate.files.get_mut(&path) else { continue };
            if style.take().is_some() {
                self.offer(candidate)?;
            }
        }
        Ok(())
    }

    fn files(&mut self) -> Result<()> {
        let paths: Vec<String> = self.best.files.keys().cloned().collect();
        for path in paths {
            let mut candidate = self.best.clone();
            candidate.files.remove(&path);
            self.offer(candidate)?;
        }
        Ok(())
    }

    /// Leaves out one part after another, the large ones first.
    fn values(&mut self) -> Result<()> {
        let paths: Vec<String> = self.best.files.keys().cloned().collect();
        for path in paths {
            let mut part = 0;
            loop {
                let mut candidate = self.best.clone();
                let Some(Content::Documents { documents, .. }) = candidate.files.get_mut(&path) else {
                    break;
                };
                if !remove_from_list(documents, &mut { part }) {
                    break;
                }
                // What was left out makes room: the same number is another part then.
                if !self.offer(candidate)? {
                    part += 1;
                }
                if self.tries >= TRIES {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Shrinker<'_> {
    /// Leaves out lines of files that are texts.
    fn lines(&mut self) -> Result<()> {
        let paths: Vec<String> = self.best.files.keys().cloned().collect();
        for path in paths {
            let mut at = 0;
            loop {
                let mut candidate = self.best.clone();
                let Some(Content::Bytes(bytes)) = candidate.files.get_mut(&path) else { break };
                let mut lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                if at >= lines.len() || self.tries >= TRIES {
                    break;
                }
                lines.remove(at);
                *bytes = lines.concat();
                if !self.offer(candidate)? {
                    at += 1;
                }
            }
        }
        Ok(())
    }
}

/// Removes the part with this number, counted from outside inwards in the order of the text. False where there are
/// fewer parts.
fn remove_from_list(list: &mut Vec<Value>, part: &mut usize) -> bool {
    if *part < list.len() {
        list.remove(*part);
        return true;
    }
    *part -= list.len();
    list.iter_mut().any(|value| remove(value, part))
}

fn remove(value: &mut Value, part: &mut usize) -> bool {
    match value {
        Value::Map(entries) => {
            if *part < entries.len() {
                entries.remove(*part);
                return true;
            }
            *part -= entries.len();
            entries.iter_mut().any(|(_, value)| remove(value, part))
        }
        Value::List(list) | Value::Inline(list) => remove_from_list(list, part),
        Value::Anchor(_, value) => remove(value, part),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    #[test]
    fn what_does_not_matter_goes() {
        let tree = random::tree(3);
        let mut shows = |tree: &Tree| Ok(tree.to_text().contains("kind:"));
        let small = shrink(&tree, &mut shows).unwrap();
        assert!(small.to_text().contains("kind:"));
        assert_eq!(small.files.len(), 1);
        assert!(small.to_text().lines().count() <= 3, "{}", small.to_text());
    }
}
