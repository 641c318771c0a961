//! Who may work: all at once, or one alone.

use std::sync::{Condvar, Mutex, PoisonError};

use flotilla_runtime::lock;

#[derive(Default)]
pub(super) struct Gate {
    inside: Mutex<Inside>,
    left: Condvar,
}

#[derive(Default)]
struct Inside {
    shared: usize,
    is_alone: bool,
    /// Who wants to be alone is not kept waiting by those that come later.
    want_alone: usize,
}

/// A place inside, until it is dropped.
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    is_alone: bool,
}

impl Gate {
    /// `None`: it has to be waited for.
    pub(super) fn try_enter(&self, alone: bool) -> Option<Pass<'_>> {
        let mut inside = lock(&self.inside);
        let is_free = match alone {
            true => !inside.is_alone && inside.shared == 0,
            false => !inside.is_alone && inside.want_alone == 0,
        };
        is_free.then(|| self.take(&mut inside, alone))
    }

    pub(super) fn enter(&self, alone: bool) -> Pass<'_> {
        let mut inside = lock(&self.inside);
        inside.want_alone += usize::from(alone);
        let is_taken = |inside: &mut Inside| match alone {
            true => inside.is_alone || inside.shared > 0,
            false => inside.is_alone || inside.want_alone > 0,
        };
        inside = self.left.wait_while(inside, is_taken).unwrap_or_else(PoisonError::into_inner);
        inside.want_alone -= usize::from(alone);
        self.take(&mut inside, alone)
    }

    fn take(&self, inside: &mut Inside, is_alone: bool) -> Pass<'_> {
        inside.is_alone = is_alone;
        inside.shared += usize::from(!is_alone);
        Pass { gate: self, is_alone }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inside = lock(&self.gate.inside);
        match self.is_alone {
            true => inside.is_alone = false,
            false => inside.shared -= 1,
        }
        drop(inside);
        self.gate.left.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn one_alone_or_many_together() {
        let gate = Gate::default();
        let first = gate.try_enter(false).unwrap();
        let second = gate.try_enter(false).unwrap();
        assert!(gate.try_enter(true).is_none());
        drop((first, second));
        let alone = gate.try_enter(true).unwrap();
        assert!(gate.try_enter(true).is_none());
        assert!(gate.try_enter(false).is_none());
        drop(alone);
        assert!(gate.try_enter(false).is_some());
    }

    #[test]
    fn who_wants_to_be_alone_comes_before_those_that_come_later() {
        let gate = Gate::default();
        let first = gate.enter(false);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let alone = tell.clone();
            scope.spawn(|| {
                let pass = gate.enter(true);
                alone.send("alone").unwrap();
                drop((pass, alone));
            });
            while gate.inside.lock().unwrap().want_alone == 0 {
                thread::yield_now();
            }
            assert!(gate.try_enter(false).is_none());
            scope.spawn(|| {
                let pass = gate.enter(false);
                tell.send("later").unwrap();
                drop((pass, tell));
            });
            drop(first);
            assert_eq!(told.iter().collect::<Vec<_>>(), ["alone", "later"]);
        });
    }
}
