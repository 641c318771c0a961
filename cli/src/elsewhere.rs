//! What people type who know other tools, and what does it here.

/// A verb of flux, argocd, kubectl or helm that is none of ours.
pub(crate) fn hint(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "describe" | "app" | "show" => {
            "`flotilla status CLUSTER` shows a cluster, `flotilla get units -o wide` units, `flotilla tree CLUSTER` objects"
        }
        "sync" | "refresh" => {
            "`flotilla reconcile` has the hub read Git now, `flotilla reconcile CLUSTER` the agent compare now"
        }
        "rollback" | "undo" => {
            "`git revert` in the fleet repo is the way back; `flotilla reconcile` has it read at once"
        }
        "apply" | "edit" | "patch" | "scale" | "upgrade" => {
            "Flotilla runs what Git says: commit it; `flotilla diff --cluster NAME --repo DIR` shows what that changes"
        }
        "delete" | "remove" => {
            "remove it from Git; `flotilla cluster delete NAME` ends Flotilla's work in a cluster"
        }
        "bootstrap" | "install" | "join" | "add" => {
            "`flotilla hub install --help` says how a hub is started in a cluster; `flotilla cluster add NAME` lets a cluster join it"
        }
        "clusters" | "units" | "sources" => {
            "`flotilla get clusters`, `flotilla get units` and `flotilla get sources` list them"
        }
        "lint" | "validate" => "`flotilla check --repo .` checks a folder",
        "template" => "`flotilla render --repo . --cluster NAME` prints all of a cluster",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn what_is_a_command_here_needs_no_hint() {
        let command = crate::args::Cli::command();
        for own in command.get_subcommands() {
            assert_eq!(hint(own.get_name()), None, "{}", own.get_name());
        }
        assert!(hint("describe").is_some() && hint("no-such-verb").is_none());
    }
}
