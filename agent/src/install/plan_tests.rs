use std::process::Command;

use super::*;

fn machine(found: &[&str], program: &str) -> Machine {
    let found = DISTRIBUTIONS.into_iter().filter(|it| found.contains(&it.name)).collect();
    Machine { found, program: program.into(), has_identity: false }
}

fn unit_of(plan: &Plan) -> &str {
    match &plan.files.last().unwrap().content {
        Content::Text(text) => text,
        Content::CopyOf(path) => panic!("{}", path.display()),
    }
}

#[test]
fn the_unit_is_for_the_kubernetes_that_is_there() {
    for (name, kubeconfig, service) in [
        ("k3s", "/etc/rancher/k3s/k3s.yaml", "k3s.service"),
        ("RKE2", "/etc/rancher/rke2/rke2.yaml", "rke2-server.service"),
        ("k0s", "/var/lib/k0s/pki/admin.conf", "k0scontroller.service"),
        (
            "MicroK8s",
            "/var/snap/microk8s/current/credentials/client.config",
            "snap.microk8s.daemon-kubelite.service",
        ),
    ] {
        let plan = plan(&machine(&[name], "/tmp/flotilla-agent"), None, Some("t"), true).unwrap();
        let unit = unit_of(&plan);
        assert!(unit.contains(&format!("--kubeconfig {kubeconfig} ")), "{unit}");
        assert!(unit.contains(&format!("After=network-online.target {service}\n")), "{unit}");
        assert_eq!(unit.matches("/usr/local/bin/flotilla-agent run").count(), 1, "{unit}");
        assert_eq!(unit.contains("k3s"), name == "k3s", "{unit}");
    }
}

#[test]
fn one_kubernetes_is_taken_and_of_several_one_has_to_be_named() {
    let of = |found: &[&str], kubeconfig: Option<&str>| {
        let plan = plan(&machine(found, "/x"), kubeconfig.map(Path::new), Some("t"), true);
        plan.map(|plan| plan.kubeconfig).map_err(|error| error.to_string())
    };
    assert_eq!(of(&["k0s"], None).unwrap(), Path::new("/var/lib/k0s/pki/admin.conf"));
    assert!(of(&[], None).unwrap_err().contains("no Kubernetes"));
    let several = of(&["k3s", "k0s"], None).unwrap_err();
    assert!(
        several.contains("/etc/rancher/k3s/k3s.yaml (k3s), /var/lib/k0s/pki/admin.conf (k0s)"),
        "{several}"
    );
    // It may not be there before the first boot.
    for path in ["/etc/rancher/k3s/k3s.yaml", "/root/config@2"] {
        assert_eq!(of(&["k3s", "k0s"], Some(path)).unwrap(), Path::new(path));
    }
    for path in ["config", "/a b", "/a%i", "/a\nExecStartPre=/x", "/$HOME/x", "/a\"b", "/a;b"] {
        assert!(of(&[], Some(path)).unwrap_err().contains("cannot stand in a systemd unit"), "{path}");
    }
}

#[test]
fn the_program_is_copied_where_no_package_put_it_and_a_token_is_for_root_alone() {
    let paths = |program: &str, token: Option<&str>| {
        let machine = Machine { has_identity: true, ..machine(&["k3s"], program) };
        let plan = plan(&machine, None, token, true).unwrap();
        plan.files.iter().map(|file| (file.path.display().to_string(), file.mode)).collect::<Vec<_>>()
    };
    let (program, token, unit) = (
        ("/usr/local/bin/flotilla-agent".to_owned(), 0o755),
        ("/etc/flotilla/join-token".to_owned(), 0o600),
        ("/etc/systemd/system/flotilla-agent.service".to_owned(), 0o644),
    );
    assert_eq!(paths("/tmp/x", Some("t")), [program, token.clone(), unit.clone()]);
    assert_eq!(paths("/usr/local/bin/flotilla-agent", Some("t")), [token.clone(), unit.clone()]);
    assert_eq!(paths("/usr/bin/flotilla-agent", None), [unit], "it has joined");
    let none = plan(&machine(&["k3s"], "/x"), None, None, true).unwrap_err();
    assert!(matches!(none, InstallError::NoToken), "{none}");
    let stopped = plan(&machine(&["k3s"], "/x"), None, Some("t"), false).unwrap();
    assert!(!stopped.commands.iter().any(|command| command.contains(&"restart")));
}

/// What systemd says of both units of `deploy/`, and of one that is made for another Kubernetes.
#[test]
fn systemd_takes_the_units_and_finds_them_hardened() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        flotilla_leftout::note("systemd-analyze", "install systemd");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // `verify` looks for the program.
    let program = std::env::current_exe().unwrap();
    let hub =
        include_str!("../../../deploy/flotilla-hub.service").replace("/usr/local/bin/flotilla-hub", PROGRAM);
    let rke2 = plan(&machine(&["RKE2"], PROGRAM), None, Some("t"), true).unwrap();
    for (name, unit) in [("flotilla-agent", UNIT), ("flotilla-hub", &hub), ("flotilla-rke2", unit_of(&rke2))]
    {
        let file = folder.path().join(format!("{name}.service"));
        let unit = unit.replace("After=network-online.target k3s.service", "After=network-online.target");
        std::fs::write(&file, unit.replace(PROGRAM, program.to_str().unwrap())).unwrap();
        let analyze = |args: &[&str]| {
            let output = Command::new("systemd-analyze").args(args).arg(&file).output().unwrap();
            let said = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&said).into_owned())
        };
        let (taken, said) = analyze(&["verify", "--man=no"]);
        assert!(taken && !said.contains(&format!("{name}.service:")), "{name}: {said}");
        let (is_hardened, said) = analyze(&["security", "--offline=true", "--threshold=30", "--no-pager"]);
        assert!(is_hardened, "{name}: {said}");
    }
}
