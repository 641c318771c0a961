//! Many seeds, worked on by all processors.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::Result;

/// Does `each` for the seeds in turn, until the deadline if there is one: on a thread for each processor, each with what
/// `start` gave it. Returns how many seeds were done: all those from the first.
///
/// # Errors
/// The first of a thread; the others end with what they are at.
pub fn run<W>(
    seeds: Range<u64>,
    deadline: Option<Instant>,
    start: &(dyn Fn() -> Result<W> + Sync),
    each: &(dyn Fn(&mut W, u64) -> Result<()> + Sync),
) -> Result<u64> {
    let next = AtomicU64::new(seeds.start);
    let is_late = || deadline.is_some_and(|end| Instant::now() >= end);
    let take = || {
        let more = |seed: u64| (seed < seeds.end && !is_late()).then(|| seed + 1);
        next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()
    };
    let work = || -> Result<()> {
        let mut worker = start()?;
        while let Some(seed) = take() {
            if let Err(error) = each(&mut worker, seed) {
                next.store(seeds.end, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let ends = handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ends.collect::<Result<Vec<()>>>()
    })?;
    Ok(next.load(Ordering::Relaxed) - seeds.start)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn each_seed_is_done_once_and_an_error_ends_all() {
        let done = Mutex::new(Vec::new());
        let each = |_: &mut (), seed| {
            done.lock().unwrap().push(seed);
            Ok(())
        };
        assert_eq!(run(5..40, None, &|| Ok(()), &each).unwrap(), 35);
        let mut all = done.into_inner().unwrap();
        all.sort_unstable();
        assert_eq!(all, (5..40).collect::<Vec<_>>());

        assert_eq!(run(0..9, Some(Instant::now()), &|| Ok(()), &|_, _| unreachable!()).unwrap(), 0);
        let fails = |_: &mut (), seed: u64| if seed == 3 { anyhow::bail!("at {seed}") } else { Ok(()) };
        assert_eq!(run(0..u64::MAX, None, &|| Ok(()), &fails).unwrap_err().to_string(), "at 3");
    }
}
