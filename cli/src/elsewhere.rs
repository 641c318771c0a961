//! What people type who know other tools, and what does it here.

use clap::error::{ContextKind, ContextValue};

/// What to type in place of a command line that does not parse, if another tool would have taken it.
///
/// `words` are those of the command line without the name of the program.
pub(crate) fn hint(words: &[String], error: &clap::Error) -> Option<&'static str> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let command: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).take(2).collect();
    let of_command = match command[..] {
        [verb, object] => pair(verb, object),
        _ => None,
    };
    of_command
        .or_else(|| text(ContextKind::InvalidSubcommand).and_then(verb))
        .or_else(|| text(ContextKind::InvalidArg).and_then(|flag| argument(command.first()?, flag)))
}

/// A verb of flux, argocd, kubectl or helm that is none of ours, or what they list.
fn verb(verb: &str) -> Option<&'static str> {
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
        "template" | "envsubst" => {
            "`flotilla render --repo . --cluster NAME` prints all of a cluster, with variables put in"
        }
        "stats" | "list" => "`flotilla status` counts clusters and units, `flotilla get all` lists them",
        "push" | "pull" | "tag" => {
            "artifacts are made by `flux push artifact` or `oras push`; the hub reads them"
        }
        "pods" | "pod" | "deployments" | "deployment" | "deploy" | "services" | "svc" | "nodes" => {
            "`flotilla tree CLUSTER` shows the objects that Flotilla manages; for all others ask the cluster, by kubectl"
        }
        "alerts" | "alert" | "alert-providers" | "alert-provider" | "receivers" | "receiver" => {
            "they are no objects that the hub acts on: docs/flux.md says what becomes of them; `flotilla events --warnings` lists what went wrong"
        }
        _ => return None,
    })
}

/// A command of flux whose object is another command's here.
fn pair(verb: &str, object: &str) -> Option<&'static str> {
    Some(match (verb, object) {
        ("create", "secret") => "`flotilla secret create` stores it at the hub, sealed: see its --help",
        ("create", "tenant") => {
            "a tenant is a namespace, a service account with its rights, and units under it, written in Git: docs/security.md lists what it can do"
        }
        ("suspend" | "resume", "source" | "image" | "alert" | "receiver") => {
            "only clusters and units are suspended by hand; for others set `spec.suspend` in Git"
        }
        ("debug", "kustomization" | "ks" | "helmrelease" | "hr") => {
            "`flotilla build kustomization|helmrelease NAME -c CLUSTER --repo .` prints what it comes to; `flotilla blame` says where a field is from"
        }
        ("reconcile", "image" | "receiver" | "alert" | "alert-provider") => {
            "`flotilla reconcile` has the hub read all of Git now"
        }
        ("get", "images" | "image" | "artifacts") => {
            "`flotilla get units --image NAME` lists who runs an image, `flotilla get sources` what was fetched"
        }
        _ => return None,
    })
}

/// A flag or argument that another tool takes with the same verb.
fn argument(verb: &str, argument: &str) -> Option<&'static str> {
    let argument = argument.split('=').next().unwrap_or(argument);
    Some(match (verb, argument) {
        ("suspend" | "resume", "--all") => "without a unit, all of the cluster: `flotilla suspend CLUSTER`",
        ("build" | "diff", "--path") => {
            "--repo DIR names the working tree of the fleet repo; the path is the unit's own"
        }
        ("build" | "diff", "--kustomization-file" | "--dry-run") => {
            "the unit is taken from the fleet repo that --repo names; nothing is sent"
        }
        ("get", "--status-selector") => "`flotilla get units --phase Failed,Held` chooses by state",
        ("events", "--types") => "--warnings leaves only warnings",
        ("reconcile", "--force" | "--reset") => {
            "set it in Git: `flotilla reconcile` only has it read at once"
        }
        (_, "--context" | "--kube-context" | "--kubeconfig") => {
            "-c NAME or --cluster NAME names a cluster as the hub knows it; no kubeconfig is needed"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::args::Cli;

    fn said(line: &str) -> Option<&'static str> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let error = Cli::try_parse_from(["flotilla".to_owned()].iter().chain(&words)).expect_err(line);
        hint(&words, &error)
    }

    #[test]
    fn what_is_a_command_here_needs_no_hint() {
        let command = Cli::command();
        for own in command.get_subcommands() {
            assert_eq!(verb(own.get_name()), None, "{}", own.get_name());
        }
        assert!(verb("describe").is_some() && verb("no-such-verb").is_none());
    }

    /// What Flux's users type: it parses, or they are told what to type.
    #[test]
    fn the_commands_of_flux_are_taken_or_answered() {
        for line in [
            "suspend ks web -c a",
            "suspend kustomization web -c a -n team --reason freeze",
            "suspend hr web --cluster a",
            "resume kustomization web -c a",
            "resume helmrelease web -n team -c a",
            "trace deployment web -c a",
            "trace deployment/web -n team -c a --repo .",
            "diff ks web -c a",
            "diff kustomization web -n team --cluster a --repo .",
            "tree ks web -c a --units",
            "tree kustomization web -c a -o json",
            "events --for Kustomization/web -n team",
            "events --for hr/web --watch",
            "events -A",
            "logs --all-namespaces --level=error",
            "logs --kind=Kustomization --name=web -n team -f",
            "get ks -A",
            "get all --all-namespaces",
            "get sources git -A",
            "get sources all",
            "get helmreleases web --watch",
            "reconcile ks web -c a --with-source",
            "reconcile source git web",
            "build ks web -c a --repo .",
            "export ks web -c a",
            "export hr --all -c a",
            "version --client",
            "completion zsh",
        ] {
            if let Err(error) = Cli::try_parse_from(["flotilla"].into_iter().chain(line.split(' '))) {
                panic!("{line}: {error}");
            }
        }
        for (line, says) in [
            ("suspend source git web", "`spec.suspend` in Git"),
            ("suspend ks --all -c a", "`flotilla suspend CLUSTER`"),
            ("get ks --status-selector ready=false", "--phase Failed,Held"),
            ("get ks web --context staging", "-c NAME or --cluster NAME"),
            ("get images all", "--image NAME"),
            ("get alerts", "docs/flux.md"),
            ("get pods", "`flotilla tree CLUSTER`"),
            ("events --types Warning", "--warnings"),
            ("build ks web --path ./apps -c a", "--repo DIR"),
            ("diff ks web --path=./apps -c a", "--repo DIR"),
            ("stats", "`flotilla status`"),
            ("envsubst", "`flotilla render"),
            ("push artifact x", "`flux push artifact`"),
            ("delete ks web", "remove it from Git"),
            ("debug hr web --show-values", "`flotilla build"),
            ("create secret git x", "`flotilla secret create`"),
            ("create tenant x", "docs/security.md"),
            ("reconcile image repository x", "`flotilla reconcile`"),
            ("reconcile hr web -c a --force", "set it in Git"),
            ("bootstrap github", "`flotilla hub install --help`"),
        ] {
            let said = said(line);
            assert!(said.is_some_and(|said| said.contains(says)), "{line}: {said:?}");
        }
    }
}
