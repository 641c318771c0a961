//! A bound on work, counted in steps: the same input always stops at the same place, on any machine and under any load.

/// The steps that are left. A step is about what a byte written or a character compared costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    left: u64,
}

/// All steps are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent;

impl Work {
    pub const fn new(steps: u64) -> Self {
        Self { left: steps }
    }

    /// A part of it.
    #[must_use]
    pub fn at_most(self, steps: u64) -> Self {
        Self { left: self.left.min(steps) }
    }

    /// Takes what of a part was spent.
    pub fn pay(&mut self, before: Self, after: Self) {
        self.left = self.left.saturating_sub(before.left.saturating_sub(after.left));
    }

    /// Takes steps before they are made.
    ///
    /// # Errors
    /// Where fewer are left; none is left after that.
    pub fn spend(&mut self, steps: usize) -> Result<(), Spent> {
        let left = self.left.checked_sub(steps as u64);
        self.left = left.unwrap_or_default();
        left.map(drop).ok_or(Spent)
    }
}
