//! How much repositories and sources may cost: options of `run`.

use clap::Args;
use flotilla_render::Budget;
use flotilla_source::flux::SourceLimits;

/// Bounds that the operator sets, and nobody else.
#[derive(Args)]
#[command(next_help_heading = "Budgets")]
pub(crate) struct BudgetArgs {
    /// Objects of one unit, with the units and sources that it defines
    #[arg(long, env = "FLOTILLA_MAX_UNIT_OBJECTS", default_value = "20000", value_name = "COUNT")]
    max_unit_objects: usize,
    /// MiB of one unit's objects
    #[arg(long, env = "FLOTILLA_MAX_UNIT_SIZE", default_value = "64", value_name = "MIB", value_parser = mib())]
    max_unit_size: u64,
    /// Kustomizations of one build, each counted as often as it is named
    #[arg(long, env = "FLOTILLA_MAX_UNIT_KUSTOMIZATIONS", default_value = "5000", value_name = "COUNT")]
    max_unit_kustomizations: usize,
    /// Millions of steps of work of one build; about ten million take a second
    #[arg(long, env = "FLOTILLA_MAX_UNIT_WORK", default_value = "50", value_name = "MILLIONS",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_unit_work: u64,
    /// Units of one cluster
    #[arg(long, env = "FLOTILLA_MAX_CLUSTER_UNITS", default_value = "10000", value_name = "COUNT")]
    max_cluster_units: usize,
    /// MiB of all objects of one cluster
    #[arg(long, env = "FLOTILLA_MAX_CLUSTER_SIZE", default_value = "512", value_name = "MIB", value_parser = mib())]
    max_cluster_size: u64,
    /// Units of one cluster under the service accounts of one namespace: a tenant's
    #[arg(long, env = "FLOTILLA_MAX_TENANT_UNITS", default_value = "1000", value_name = "COUNT")]
    max_tenant_units: usize,
    /// MiB of the objects of those units
    #[arg(long, env = "FLOTILLA_MAX_TENANT_SIZE", default_value = "128", value_name = "MIB", value_parser = mib())]
    max_tenant_size: u64,
    /// MiB of one source, as it is downloaded, and unpacked
    #[arg(long, env = "FLOTILLA_MAX_SOURCE_SIZE", default_value = "256", value_name = "MIB", value_parser = mib())]
    max_source_size: u64,
    /// Files of one source
    #[arg(long, env = "FLOTILLA_MAX_SOURCE_FILES", default_value = "100000", value_name = "COUNT")]
    max_source_files: usize,
}

fn mib() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=1 << 20)
}

impl BudgetArgs {
    pub(crate) fn budget(&self) -> Budget {
        Budget {
            unit_objects: self.max_unit_objects,
            unit_bytes: self.max_unit_size << 20,
            unit_kustomizations: self.max_unit_kustomizations,
            unit_steps: self.max_unit_work * 1_000_000,
            cluster_units: self.max_cluster_units,
            cluster_bytes: self.max_cluster_size << 20,
            tenant_units: self.max_tenant_units,
            tenant_bytes: self.max_tenant_size << 20,
        }
    }

    pub(crate) fn sources(&self) -> SourceLimits {
        SourceLimits {
            bytes: self.max_source_size << 20,
            files: self.max_source_files,
            ..SourceLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        budget: BudgetArgs,
    }

    #[test]
    fn what_nobody_sets_is_the_default() {
        let only = Only::parse_from(["x"]);
        assert_eq!(
            (only.budget.budget(), only.budget.sources()),
            (Budget::default(), SourceLimits::default())
        );
        let only = Only::parse_from(["x", "--max-unit-size", "2", "--max-source-files", "3"]);
        assert_eq!((only.budget.budget().unit_bytes, only.budget.sources().files), (2 << 20, 3));
        assert!(Only::try_parse_from(["x", "--max-unit-size", "0"]).is_err());
    }
}
