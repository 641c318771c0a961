//! Which hub, and how to be let in: flags before environment before configuration file.
//!
//! In each of these the data folder of a hub on this machine stands for what is not said otherwise there:
//!
//! ```text
//! --hub --token --token-file --ca --data DIR      DIR/addresses.json, DIR/ca.pem, DIR/admin-token
//! FLOTILLA_HUB …                                  the same in the environment
//! ~/.config/flotilla/config.yaml                  hub, token, tokenFile, ca, data
//! ```

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::args::ConnectionArgs;
use crate::env::{self, Lookup};
use crate::error::Error;
use crate::exit::Code;
use crate::output::Terminal;

/// Everything that a connection needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `https://HOST:PORT`, without a path.
    pub(crate) hub: String,
    /// PEM.
    pub(crate) ca: String,
    pub(crate) token: String,
}

/// Puts the settings together.
pub(crate) fn resolve(
    flags: &ConnectionArgs,
    env: Lookup<'_>,
    terminal: &Terminal,
) -> Result<Settings, Error> {
    let (file, unknown) = read_file(env)?;
    for warning in unknown {
        terminal.warn(&warning);
    }
    let variables = ConnectionArgs {
        hub: env(env::HUB),
        token: env(env::TOKEN),
        token_file: env(env::TOKEN_FILE).map(PathBuf::from),
        ca: env(env::CA).map(PathBuf::from),
        data: env(env::DATA).map(PathBuf::from),
    };
    let layers = [flags, &variables, &file];
    let hub = first(&layers, |layer| match (&layer.hub, &layer.data) {
        (Some(hub), _) => Some(Ok(hub.clone())),
        (None, data) => data.as_deref().map(address_in),
    });
    let Some(hub) = hub.transpose()? else {
        return Err(Error::usage("no hub is named").hint(
            "give --hub https://HOST:PORT, set FLOTILLA_HUB, write both and more into ~/.config/flotilla/config.yaml (see \
             docs/cli.md), or give --data with the data folder of a hub on this machine",
        ));
    };
    let hub = url(&hub)?;
    let ca = first(&layers, |layer| match (&layer.ca, &layer.data) {
        (Some(ca), _) => Some(ca.clone()),
        (None, data) => data.as_ref().map(|data| data.join("ca.pem")),
    });
    let Some(ca) = ca else {
        return Err(Error::usage("the CA of the hub is not named")
            .hint("give --ca FILE or set FLOTILLA_CA; the hub keeps it as ca.pem in its data folder"));
    };
    let token = first(&layers, |layer| match (&layer.token, &layer.token_file, &layer.data) {
        (Some(token), _, _) => Some(Ok(token.clone())),
        (None, Some(file), _) => Some(read(file, "the API token")),
        (None, None, data) => data.as_ref().map(|data| read(&data.join("admin-token"), "the API token")),
    });
    let Some(token) = token.transpose()? else {
        return Err(Error::usage("no API token is given").hint(
            "give --token-file FILE or set FLOTILLA_TOKEN_FILE; the hub's first one is admin-token in its data folder",
        ));
    };
    Ok(Settings { hub, ca: read(&ca, "the CA of the hub")?, token: token.trim().to_owned() })
}

fn first<T>(layers: &[&ConnectionArgs], get: impl Fn(&ConnectionArgs) -> Option<T>) -> Option<T> {
    layers.iter().find_map(|layer| get(layer))
}

fn read(path: &Path, what: &str) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| {
        Error::new(Code::Usage, format!("cannot read {what} from {}", path.display())).because(source)
    })
}

/// The first address in what the hub writes about itself.
fn address_in(data: &Path) -> Result<String, Error> {
    let path = data.join("addresses.json");
    let text = read(&path, "the hub's addresses").map_err(|error| {
        error.hint("a hub writes this file as it starts: is the folder right, and did the hub start?")
    })?;
    let value: Value = serde_json::from_str(&text)
        .map_err(|e| Error::usage(format!("{} is not JSON", path.display())).because(e))?;
    let api = match &value["api"] {
        Value::Array(several) => several.first().and_then(Value::as_str),
        one => one.as_str(),
    };
    api.map(str::to_owned)
        .ok_or_else(|| Error::usage(format!("{} does not name the address of the API", path.display())))
}

/// Makes `https://host:port` of what people write.
fn url(text: &str) -> Result<String, Error> {
    let address = text.strip_prefix("https://").unwrap_or(text).trim_end_matches('/');
    let wrong = || {
        Error::usage(format!("'{text}' is not an address of a hub")).hint(
            "it looks like https://hub.example:8444, the port for people (--api-listen of flotilla-hub)",
        )
    };
    if text.starts_with("http://") {
        return Err(Error::usage(format!("'{text}' is not safe: a token would go over it in the open"))
            .hint("a hub speaks https only"));
    }
    let with_port = if has_port(address) { address.to_owned() } else { format!("{address}:443") };
    let parsed: flotilla_runtime::tls::HubAddress =
        with_port.parse().map_err(|error| wrong().because(error))?;
    Ok(format!("https://{parsed}"))
}

fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'))
}

/// The configuration file, if there is one, and warnings about it.
fn read_file(env: Lookup<'_>) -> Result<(ConnectionArgs, Vec<String>), Error> {
    let (path, named) = match env(env::CONFIG) {
        Some(path) => (PathBuf::from(path), true),
        None => {
            let folder = env(env::XDG_CONFIG_HOME)
                .map(PathBuf::from)
                .or_else(|| env(env::HOME).map(|home| Path::new(&home).join(".config")));
            let Some(folder) = folder else { return Ok(Default::default()) };
            (folder.join("flotilla").join("config.yaml"), false)
        }
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => parse_file(&path, &text),
        Err(error) if !named && error.kind() == std::io::ErrorKind::NotFound => Ok(Default::default()),
        Err(error) => {
            Err(Error::usage(format!("cannot read the configuration file {}", path.display())).because(error))
        }
    }
}

fn parse_file(path: &Path, text: &str) -> Result<(ConnectionArgs, Vec<String>), Error> {
    let place = path.display();
    let documents = flotilla_yaml::parse(text).map_err(|error| {
        Error::usage(format!("{place}:{}:{}: {}", error.pos.line, error.pos.column, error.message))
    })?;
    let mut file = ConnectionArgs::default();
    let mut warnings = Vec::new();
    let Some(document) = documents.first() else { return Ok((file, warnings)) };
    let Some(map) = document.as_map() else {
        return Err(Error::usage(format!("{place}: the configuration must be a mapping")));
    };
    // Paths are relative to the file that names them.
    let relative = |text: &str| path.parent().unwrap_or(Path::new("")).join(text);
    for entry in map.iter() {
        let key = entry.key.text().unwrap_or_default();
        let line = entry.key.pos.line;
        if !["hub", "token", "tokenFile", "ca", "data"].contains(&key) {
            warnings
                .push(format!("{place}:{line}: '{key}' is not known: use hub, ca, token, tokenFile or data"));
            continue;
        }
        let value = entry
            .value
            .as_str()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Error::usage(format!("{place}:{line}: '{key}' must be a text")))?;
        match key {
            "hub" => file.hub = Some(value.to_owned()),
            "token" => file.token = Some(value.to_owned()),
            "tokenFile" => file.token_file = Some(relative(value)),
            "ca" => file.ca = Some(relative(value)),
            _ => file.data = Some(relative(value)),
        }
    }
    Ok((file, warnings))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn terminal() -> Terminal {
        Terminal::of_process(crate::args::Color::Never)
    }

    #[test]
    fn addresses_as_people_write_them() {
        for (text, expected) in [
            ("https://hub.example:8444", Some("https://hub.example:8444")),
            ("https://hub.example:8444/", Some("https://hub.example:8444")),
            ("hub.example:8444", Some("https://hub.example:8444")),
            ("https://hub.example", Some("https://hub.example:443")),
            ("https://[::1]:8444", Some("https://[::1]:8444")),
            ("https://[::1]", Some("https://[::1]:443")),
            ("127.0.0.1:1", Some("https://127.0.0.1:1")),
            ("http://hub.example:80", None),
            ("https://hub.example:8444/path", None),
            ("ftp://hub", None),
            ("", None),
        ] {
            assert_eq!(url(text).ok().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn nearer_layers_win_and_a_data_folder_stands_for_the_rest_of_its_layer() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let write = |name: &str, text: &str| -> anyhow::Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap())?;
            std::fs::write(&path, text)?;
            Ok(path)
        };
        for folder in ["one", "two"] {
            write(&format!("{folder}/addresses.json"), &format!(r#"{{"api": "https://{folder}:1"}}"#))?;
            write(&format!("{folder}/ca.pem"), folder)?;
            write(&format!("{folder}/admin-token"), &format!("{folder}\n"))?;
        }
        write("config/flotilla/config.yaml", "hub: three:3\nca: ca3.pem\ntoken: t3\n")?;
        write("config/flotilla/ca3.pem", "three")?;
        let data = |name: &str| Some(dir.path().join(name));
        let config = dir.path().join("config").display().to_string();
        let resolve = |flags: ConnectionArgs, variables: &[(&str, String)]| {
            let variables: BTreeMap<&str, String> = variables.iter().cloned().collect();
            let lookup = |name: &str| variables.get(name).cloned();
            super::resolve(&flags, &lookup, &terminal())
                .map(|s| (s.hub, s.ca, s.token))
                .map_err(|e| e.chain())
        };
        let home = (env::XDG_CONFIG_HOME, config);
        let two = (env::DATA, dir.path().join("two").display().to_string());
        let three = ("https://three:3".into(), "three".into(), "t3".into());
        let of = |name: &str| (format!("https://{name}:1"), name.to_owned(), name.to_owned());
        let none = ConnectionArgs::default();
        assert_eq!(resolve(none.clone(), std::slice::from_ref(&home)), Ok(three));
        assert_eq!(resolve(none.clone(), &[home.clone(), two.clone()]), Ok(of("two")));
        let flags = ConnectionArgs { data: data("one"), ..none.clone() };
        assert_eq!(resolve(flags.clone(), &[home.clone(), two.clone()]), Ok(of("one")));
        let flags = ConnectionArgs { token: Some("mine".into()), ..flags };
        assert_eq!(resolve(flags, &[home.clone(), two]), Ok((of("one").0, of("one").1, "mine".into())));
        assert!(resolve(none.clone(), &[]).unwrap_err().contains("no hub"));
        let only_hub = ConnectionArgs { hub: Some("h:1".into()), ..none.clone() };
        assert!(resolve(only_hub.clone(), &[]).unwrap_err().contains("CA"));
        let no_token = ConnectionArgs { ca: data("one/ca.pem"), ..only_hub };
        assert!(resolve(no_token, &[]).unwrap_err().contains("token"));
        let absent = ConnectionArgs { data: data("nowhere"), ..none };
        assert!(resolve(absent, &[]).unwrap_err().contains("nowhere"));
        Ok(())
    }

    #[test]
    fn the_file_is_read_strictly_and_unknown_keys_are_said() {
        let parse = |text: &str| parse_file(Path::new("/x/config.yaml"), text).map_err(|e| e.chain());
        let (file, warnings) = parse("hub: h:1\ntokenFile: t\nca: /abs/ca\ncontexts: []\n").unwrap();
        assert_eq!((file.hub.as_deref(), file.token_file), (Some("h:1"), Some("/x/t".into())));
        assert_eq!(file.ca, Some("/abs/ca".into()));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("/x/config.yaml:4: 'contexts'"), "{warnings:?}");
        assert!(parse("hub: [1]").unwrap_err().starts_with("/x/config.yaml:1: 'hub'"));
        assert!(parse("a: b: c").unwrap_err().starts_with("/x/config.yaml:1:"));
        assert!(parse("- a").is_err());
        assert_eq!(parse("").unwrap().1.len(), 0);
    }
}
