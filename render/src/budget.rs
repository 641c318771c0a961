//! What units and clusters may come to, whatever a repository says. What exceeds it is a problem of that unit and holds it;
//! everything else is rendered in the same round. The operator sets it; nothing that is read can raise it.

use flotilla_kustomize::Limits;

/// Bounds on what is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Objects of one unit; units and sources that it defines are some. Default 20,000.
    pub unit_objects: usize,
    /// Bytes of a unit's objects, as they are sent. Default 64 MiB.
    pub unit_bytes: u64,
    /// Kustomizations of one build, each as often as it is named. Default 5,000.
    pub unit_kustomizations: usize,
    /// Steps of work of one build: a node looked at, eight bytes written. Default 50 million.
    pub unit_steps: u64,
    /// Units of one cluster. Default 10,000.
    pub cluster_units: usize,
    /// Bytes of all objects of one cluster. Default 512 MiB.
    pub cluster_bytes: u64,
    /// Units of one cluster that are applied under the accounts of one namespace: a tenant's. Default 1,000.
    pub tenant_units: usize,
    /// Bytes of the objects of those. Default 128 MiB.
    pub tenant_bytes: u64,
}

impl Default for Budget {
    fn default() -> Self {
        let kustomize = Limits::default();
        Self {
            unit_objects: 20_000,
            unit_bytes: 64 << 20,
            unit_kustomizations: kustomize.kustomizations,
            unit_steps: kustomize.steps,
            cluster_units: 10_000,
            cluster_bytes: 512 << 20,
            tenant_units: 1_000,
            tenant_bytes: 128 << 20,
        }
    }
}

/// Documents of one build beside those that become objects: what patches delete, local configuration.
const SPARE: usize = 2;

impl Budget {
    /// Bounds on a build of a unit.
    pub(crate) fn of_build(&self) -> Limits {
        Limits {
            kustomizations: self.unit_kustomizations,
            objects: self.unit_objects.saturating_mul(SPARE),
            steps: self.unit_steps,
        }
    }
}

/// What a unit comes to: its objects, and the units and sources that it defines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    pub objects: usize,
    /// Of their bodies.
    pub bytes: u64,
}

impl Weight {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.objects += 1;
        self.bytes += bytes as u64;
    }

    /// # Errors
    /// What there is too much of for one unit.
    pub(crate) fn check(self, budget: &Budget) -> Result<(), String> {
        let Budget { unit_objects, unit_bytes, .. } = *budget;
        if self.objects > unit_objects {
            return Err(format!("the unit has more than {unit_objects} objects; make several units of it"));
        }
        if self.bytes > unit_bytes {
            let most = size(unit_bytes);
            return Err(format!("the unit's objects are more than {most}; make several units of it"));
        }
        Ok(())
    }
}

/// `64 MiB`
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes < 1 << 20 => format!("{bytes} bytes"),
        bytes => format!("{} MiB", bytes >> 20),
    }
}
