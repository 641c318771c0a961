//! What one ArtifactGenerator may do: its rules name the same files as often as their author likes.

use flotilla_kustomize::files::{Entry, Files, TreePath, Visits};

/// The most that one generator may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Names looked at, once for each pattern that they are held against; a long one counts as several.
    pub(crate) steps: u64,
    /// Files of all artifacts together.
    pub(crate) files: u64,
    /// Bytes that are unpacked and merged, each as often as that is done.
    pub(crate) bytes: u64,
}

pub(crate) const MOST: Most = Most { steps: 10_000_000, files: 200_000, bytes: 256 << 20 };

pub(crate) struct Work {
    most: Most,
    left: Most,
    visits: Visits,
}

impl Work {
    pub(crate) fn within(most: Most) -> Self {
        Self { most, left: most, visits: Visits::default() }
    }

    /// What is in a folder, to be held against patterns of this [weight].
    ///
    /// # Errors
    /// Beyond the bounds, and where it cannot be read.
    pub(crate) fn list(
        &mut self,
        files: &dyn Files,
        folder: &TreePath,
        patterns: u64,
    ) -> Result<Vec<(String, Entry)>, String> {
        self.visits.enter(folder).map_err(|error| error.to_string())?;
        let found = files.list(folder).map_err(|error| error.to_string())?;
        self.steps((found.len() as u64).saturating_mul(1 + patterns))?;
        Ok(found)
    }

    /// # Errors
    /// Beyond the bound.
    pub(crate) fn steps(&mut self, steps: u64) -> Result<(), String> {
        let left = self.left.steps.checked_sub(steps);
        self.left.steps = left.ok_or_else(|| {
            let most = self.most.steps;
            format!("the generator looks at more than {most} files; name smaller parts of its sources")
        })?;
        Ok(())
    }

    /// Counts a file that is put out.
    ///
    /// # Errors
    /// Beyond the bound.
    pub(crate) fn file(&mut self) -> Result<(), String> {
        let left = self.left.files.checked_sub(1);
        self.left.files =
            left.ok_or_else(|| format!("the generator puts out more than {} files", self.most.files))?;
        Ok(())
    }

    /// # Errors
    /// Beyond the bound.
    pub(crate) fn bytes(&mut self, bytes: u64) -> Result<(), String> {
        let left = self.left.bytes.checked_sub(bytes);
        self.left.bytes = left.ok_or_else(|| {
            format!("the generator unpacks and merges more than {} KiB in all", self.most.bytes >> 10)
        })?;
        Ok(())
    }
}

/// What it costs to hold a name against patterns.
pub(crate) fn weight(patterns: &[impl AsRef<str>]) -> u64 {
    patterns.iter().map(|pattern| 1 + pattern.as_ref().len() as u64 / 16).sum()
}
