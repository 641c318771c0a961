//! A bound on work, counted in steps: the same input always stops at the same place, on any machine and under any load.

/// The steps that are left. A step is about what a byte written or a character compared costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    remaining: u64,
}

/// All steps are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent;

impl Work {
    pub const fn new(steps: u64) -> Self {
        Self { remaining: steps }
    }

    /// A part of it.
    #[must_use]
    pub fn at_most(self, steps: u64) -> Self {
        Self { remaining: self.remaining.min(steps) }
    }

    /// Takes what of a part was spent.
    pub fn pay(&mut self, before: Self, after: Self) {
        self.remaining = self.remaining.saturating_sub(before.remaining.saturating_sub(after.remaining));
    }

    /// Takes steps before they are made.
    ///
    /// # Errors
    /// Where fewer are left; none is left after that.
    pub fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        let remaining = self.remaining.checked_sub(steps as u64);
        self.remaining = remaining.unwrap_or_default();
        remaining.map(drop).ok_or(Spent)
    }
}
