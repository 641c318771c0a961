//! Debian packages: the same static programs as in the images, with their systemd units, as archives that `dpkg` reads (deb(5)).

use anyhow::{Context, bail};

use crate::architecture::Architecture;
use crate::image::{Origin, Program};
use crate::tarball::Tree;

/// Which program a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Package {
    Agent,
    Hub,
    Cli,
}

/// The units of `deploy/`, in which the programs are where an administrator puts them.
const AGENT_UNIT: &str = include_str!("../../deploy/flotilla-agent.service");
const HUB_UNIT: &str = include_str!("../../deploy/flotilla-hub.service");
/// Where the hub's package has helm: out of the way of another one.
const HELM: &str = "/usr/libexec/flotilla/helm";
const HUB_SETTINGS: &str = "\
# Options of flotilla-hub run (`flotilla-hub run --help`), as environment variables. Restart the service after a change.
#FLOTILLA_REPO=https://git.example.com/fleet.git
#FLOTILLA_ADVERTISE=hub.example.com:8443
#FLOTILLA_HOST=hub.example.com
";

impl Package {
    pub const ALL: [Self; 3] = [Self::Agent, Self::Hub, Self::Cli];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "flotilla-agent",
            Self::Hub => "flotilla-hub",
            Self::Cli => "flotilla",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::Agent => {
                "agent of Flotilla, a manager of fleets of Kubernetes clusters\n It applies in one cluster what the hub says. \
                 `flotilla-agent install` makes\n it a service beside the Kubernetes of the machine."
            }
            Self::Hub => {
                "hub of Flotilla, a manager of fleets of Kubernetes clusters\n It renders a Git repository for all clusters. Its \
                 settings are in\n /etc/flotilla/hub.env; `systemctl enable --now flotilla-hub` starts it."
            }
            Self::Cli => {
                "command line of Flotilla, a manager of fleets of Kubernetes clusters\n It talks to a hub, and renders and \
                          compares fleet repositories without one."
            }
        }
    }

    /// The service that the package has, if it has one.
    fn service(self) -> Option<&'static str> {
        match self {
            Self::Agent => Some("flotilla-agent.service"),
            Self::Hub => Some("flotilla-hub.service"),
            Self::Cli => None,
        }
    }

    fn unit(self) -> Option<String> {
        let packaged = |unit: &str| unit.replace("/usr/local/bin/", "/usr/bin/");
        match self {
            Self::Agent => Some(packaged(AGENT_UNIT)),
            Self::Hub => {
                let with_helm = format!("[Service]\nEnvironment=FLOTILLA_HELM={HELM}\n");
                Some(packaged(HUB_UNIT).replace("[Service]\n", &with_helm))
            }
            Self::Cli => None,
        }
    }

    /// The file's name.
    #[must_use]
    pub fn file(self, origin: &Origin, architecture: Architecture) -> String {
        format!("{}_{}_{}.deb", self.name(), origin.version, architecture.oci())
    }

    /// The package.
    ///
    /// # Errors
    /// Where a program that it holds is missing, not static or for another architecture.
    pub fn build(
        self,
        origin: &Origin,
        architecture: Architecture,
        programs: &[Program],
    ) -> anyhow::Result<Vec<u8>> {
        let program = |name: &str| {
            let Some((_, content)) = programs.iter().find(|(known, _)| known == name) else {
                bail!("there is no program {name} for {}", architecture.rust());
            };
            architecture.check(content).with_context(|| format!("{name} cannot be in a package"))?;
            Ok(content.as_slice())
        };
        let own = program(self.name())?;
        let mut size = own.len();
        let mut data = Tree::default().program(&format!("usr/bin/{}", self.name()), own);
        if self == Self::Hub {
            let helm = program("helm")?;
            size += helm.len();
            data =
                data.program(HELM.trim_start_matches('/'), helm).file("etc/flotilla/hub.env", HUB_SETTINGS);
        }
        if let (Some(service), Some(unit)) = (self.service(), self.unit()) {
            data = data.file(&format!("usr/lib/systemd/system/{service}"), unit);
        }
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\nMaintainer: The Flotilla authors <maintainers@flotilla.dev>\n\
             Installed-Size: {}\nSection: admin\nPriority: optional\nDescription: {}\n",
            self.name(),
            origin.version,
            architecture.oci(),
            size.div_ceil(1024),
            self.about(),
        );
        let mut about = Tree::default().file("control", control);
        if self == Self::Hub {
            about = about.file("conffiles", "/etc/flotilla/hub.env\n");
        }
        for (name, script) in self.service().into_iter().flat_map(scripts) {
            about = about.program(name, script);
        }
        let (control, data) = (about.gzip(origin.seconds)?, data.gzip(origin.seconds)?);
        let members: [(&str, &[u8]); 3] =
            [("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)];
        Ok(archive(&members, origin.seconds))
    }
}

/// What is run at an upgrade and a removal. A service that runs is started anew; one that does not is left so. Nobody's data is
/// deleted, at a purge neither: who has a hub's folder has its fleet.
fn scripts(service: &str) -> [(&'static str, String); 3] {
    let script = |when: &str, what: &str| {
        format!("#!/bin/sh\nset -e\nif {when} && [ -d /run/systemd/system ]; then\n{what}fi\n")
    };
    let reload = "    systemctl daemon-reload\n";
    [
        (
            "postinst",
            script("[ \"$1\" = configure ]", &format!("{reload}    systemctl try-restart {service}\n")),
        ),
        ("prerm", script("[ \"$1\" = remove ]", &format!("    systemctl stop {service}\n"))),
        ("postrm", script("true", reload)),
    ]
}

/// An archive of `ar`, as deb(5) wants it: each member begins at an even place.
fn archive(members: &[(&str, &[u8])], seconds: u64) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in members {
        out.extend(
            format!("{name:<16}{seconds:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 100_644, content.len()).bytes(),
        );
        out.extend(*content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
#[path = "deb_tests.rs"]
mod tests;
