//! What a server sent is unpacked and parsed only after somebody was told, who may know that an earlier process died over the
//! same bytes. Waiting for the network is no part of it: whoever kills a process that waits says nothing of what it waited for.

use flotilla_core::Digest;

use super::SourceError;

/// Is told of what was received, before it is decoded.
pub trait Decode: Sync {
    /// Does the work over content of this digest.
    ///
    /// # Errors
    /// Why the content is set aside: then nothing was done with it.
    fn decode(&self, content: Digest, work: &mut dyn FnMut()) -> Result<(), String>;
}

/// Nobody has to know.
#[derive(Debug, Clone, Copy)]
pub struct Untold;

impl Decode for Untold {
    fn decode(&self, _: Digest, work: &mut dyn FnMut()) -> Result<(), String> {
        work();
        Ok(())
    }
}

pub(super) fn decoded<T>(
    told: &dyn Decode,
    content: &[u8],
    work: impl FnOnce() -> Result<T, SourceError>,
) -> Result<T, SourceError> {
    let (mut work, mut done) = (Some(work), None);
    let mut once = || done = work.take().map(|work| work());
    told.decode(Digest::of(content), &mut once).map_err(SourceError::Wrong)?;
    done.unwrap_or_else(|| Err(SourceError::Wrong("what was received was not looked at".into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses;

    impl Decode for Refuses {
        fn decode(&self, content: Digest, _: &mut dyn FnMut()) -> Result<(), String> {
            Err(format!("set aside: {content}"))
        }
    }

    #[test]
    fn what_is_set_aside_is_not_decoded() {
        let mut runs = 0;
        let mut count = |told: &dyn Decode| {
            decoded(told, b"content", || {
                runs += 1;
                Ok(runs)
            })
        };
        let refused = count(&Refuses).unwrap_err().to_string();
        assert_eq!(refused, format!("set aside: {}", Digest::of(b"content")));
        assert_eq!(count(&Untold).unwrap(), 1);
    }
}
