//! The environment variables that the program reads, all of them.

/// A variable and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

macro_rules! variables {
    ($($constant:ident = $name:literal, $about:literal;)*) => {
        $(pub(crate) const $constant: &str = $name;)*
        /// All of them, as help and documentation show them.
        pub(crate) const ALL: &[Variable] = &[$(Variable { name: $name, about: $about }),*];
    };
}

variables! {
    HUB = "FLOTILLA_HUB", "address of the hub's API, as --hub";
    TOKEN = "FLOTILLA_TOKEN", "API token, as --token";
    TOKEN_FILE = "FLOTILLA_TOKEN_FILE", "file with the API token, as --token-file";
    CA = "FLOTILLA_CA", "file with the hub's CA, as --ca";
    DATA = "FLOTILLA_DATA", "data folder of a hub on this machine, as --data";
    CONFIG = "FLOTILLA_CONFIG", "configuration file in place of ~/.config/flotilla/config.yaml";
    XDG_CONFIG_HOME = "XDG_CONFIG_HOME", "folder that holds flotilla/config.yaml in place of ~/.config";
    HOME = "HOME", "home folder";
    NO_COLOR = "NO_COLOR", "no colours if it is set and not empty";
    FORGE_TOKEN = "FLOTILLA_FORGE_TOKEN", "token of the Git server, for pull requests of `flotilla promote`";
    MANAGED_BY = "KUSTOMIZE_ENABLE_MANAGEDBY_LABEL", "`on`: as --enable-managedby-label of kustomize build";
}

/// Read by the HTTP library.
const PROXY: Variable = Variable {
    name: "HTTPS_PROXY",
    about: "proxy to the hub; not used for loopback addresses and those in NO_PROXY",
};

/// Read by the library that talks to clusters.
const KUBECONFIG: Variable =
    Variable { name: "KUBECONFIG", about: "kubeconfig of --context, where --kubeconfig names none" };

/// Looks a variable up; an empty one counts as absent.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub(crate) fn system(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The list for people.
pub(crate) fn table() -> String {
    let all = || ALL.iter().chain([&PROXY, &KUBECONFIG]);
    let width = all().map(|variable| variable.name.len()).max().unwrap_or_default();
    all().map(|Variable { name, about }| format!("  {name:width$}  {about}\n")).collect()
}
