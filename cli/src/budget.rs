//! The hub's budgets of units and clusters, as flags: where its operator set others, a check goes by the same.

use clap::Args;
use flotilla_render::Budget;

/// As the options of `flotilla-hub run`, with the same names and defaults.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Budgets, where the hub's were changed")]
pub(crate) struct BudgetArgs {
    /// Objects of one unit, with the units and sources that it defines
    #[arg(long, default_value = "20000", value_name = "COUNT", requires = "repo")]
    max_unit_objects: usize,
    /// MiB of one unit's objects
    #[arg(long, default_value = "64", value_name = "MIB", value_parser = mib(), requires = "repo")]
    max_unit_size: u64,
    /// Kustomizations of one build, each counted as often as it is named
    #[arg(long, default_value = "5000", value_name = "COUNT", requires = "repo")]
    max_unit_kustomizations: usize,
    /// Millions of steps of work of one build; about ten million take a second
    #[arg(long, default_value = "50", value_name = "MILLIONS",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000), requires = "repo")]
    max_unit_work: u64,
    /// Units of one cluster
    #[arg(long, default_value = "10000", value_name = "COUNT", requires = "repo")]
    max_cluster_units: usize,
    /// MiB of all objects of one cluster
    #[arg(long, default_value = "512", value_name = "MIB", value_parser = mib(), requires = "repo")]
    max_cluster_size: u64,
    /// Units of one cluster under the service accounts of one namespace: a tenant's
    #[arg(long, default_value = "1000", value_name = "COUNT", requires = "repo")]
    max_tenant_units: usize,
    /// MiB of the objects of those units
    #[arg(long, default_value = "128", value_name = "MIB", value_parser = mib(), requires = "repo")]
    max_tenant_size: u64,
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
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[arg(long)]
        repo: Option<String>,
        #[command(flatten)]
        budget: BudgetArgs,
    }

    #[test]
    fn the_flags_are_the_hubs_with_its_defaults() {
        let only = Only::parse_from(["x"]);
        assert_eq!((only.budget.budget(), only.repo), (Budget::default(), None));
        let only = Only::parse_from(["x", "--repo", ".", "--max-unit-size", "2"]);
        assert_eq!(only.budget.budget().unit_bytes, 2 << 20);
        assert!(Only::try_parse_from(["x", "--max-unit-size", "2"]).is_err(), "without a folder");
        // The table of the hub's options.
        let documented = include_str!("../../docs/operations.md");
        for flag in
            Only::command().get_arguments().filter_map(|arg| arg.get_long()).filter(|it| *it != "repo")
        {
            assert!(documented.contains(&format!("| `--{flag}` |")), "{flag} is not an option of the hub");
        }
    }
}
