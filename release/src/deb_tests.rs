use std::path::Path;
use std::process::Command;

use super::*;
use crate::image::tests::static_program;

fn origin() -> Origin {
    Origin { version: "0.1.0".to_owned(), revision: "c0ffee".to_owned(), seconds: 1_700_000_000 }
}

fn programs(architecture: Architecture) -> Vec<Program> {
    let names = ["flotilla", "flotilla-agent", "flotilla-hub", "helm"];
    names.map(|name| (name.to_owned(), static_program(architecture, name))).to_vec()
}

fn dpkg_deb(args: &[&str], file: &Path) -> String {
    let output = Command::new("dpkg-deb").args(args).arg(file).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn dpkg_reads_the_packages_and_finds_programs_units_and_settings() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        flotilla_leftout::note("dpkg-deb", "install dpkg");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for architecture in Architecture::ALL {
        for package in Package::ALL {
            let deb = package.build(&origin(), architecture, &programs(architecture)).unwrap();
            assert_eq!(deb, package.build(&origin(), architecture, &programs(architecture)).unwrap());
            let file = folder.path().join(package.file(&origin(), architecture));
            std::fs::write(&file, deb).unwrap();
            let fields = dpkg_deb(&["--show", "--showformat=${Package} ${Version} ${Architecture}"], &file);
            assert_eq!(fields, format!("{} 0.1.0 {}", package.name(), architecture.oci()));
            let listed = dpkg_deb(&["--contents"], &file);
            let has = |path: &str| listed.lines().any(|line| line.ends_with(path) && line.contains(" 0/0 "));
            assert!(has(&format!("usr/bin/{}", package.name())), "{listed}");
            let unit = format!("usr/lib/systemd/system/{}.service", package.name());
            assert_eq!(has(&unit), package != Package::Cli, "{listed}");
            assert_eq!(has("etc/flotilla/hub.env"), package == Package::Hub, "{listed}");
            if package == Package::Hub {
                assert_eq!(dpkg_deb(&["--info"], &file).matches("/etc/flotilla/hub.env").count(), 1);
                let info =
                    Command::new("dpkg-deb").arg("--info").arg(&file).arg("conffiles").output().unwrap();
                assert_eq!(String::from_utf8_lossy(&info.stdout), "/etc/flotilla/hub.env\n");
            }
        }
    }
}

#[test]
fn the_units_of_packages_name_the_programs_of_packages() {
    for (package, program) in [
        (Package::Agent, "ExecStart=/usr/bin/flotilla-agent run"),
        (Package::Hub, "ExecStart=/usr/bin/flotilla-hub run"),
        (Package::Hub, "Environment=FLOTILLA_HELM=/usr/libexec/flotilla/helm\n"),
    ] {
        let unit = package.unit().unwrap();
        assert_eq!(unit.matches(program).count(), 1, "{unit}");
        assert!(!unit.contains("/usr/local"), "{unit}");
    }
}

#[test]
fn the_scripts_are_shell_and_start_nothing_that_does_not_run() {
    for (name, script) in scripts("flotilla-hub.service") {
        assert!(!script.contains("enable") && !script.contains("systemctl start"), "{name}: {script}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        std::fs::write(&file, &script).unwrap();
        assert!(Command::new("sh").arg("-n").arg(&file).status().unwrap().success(), "{name}: {script}");
    }
}

#[test]
fn a_package_without_its_program_or_with_another_ones_is_not_made() {
    let without_helm: Vec<Program> =
        programs(Architecture::X86_64).into_iter().filter(|(name, _)| name != "helm").collect();
    let error = |package: Package, programs: &[Program]| {
        format!("{:#}", package.build(&origin(), Architecture::X86_64, programs).unwrap_err())
    };
    assert_eq!(error(Package::Hub, &without_helm), "there is no program helm for x86_64");
    assert!(error(Package::Cli, &programs(Architecture::Aarch64)).contains("not for x86_64"));
}
