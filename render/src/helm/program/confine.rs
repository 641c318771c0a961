//! What a program may do that renders a stranger's chart: as little as the machine can enforce.
//!
//! ```text
//!   a thread of its own: empty network namespace ► Landlock ► seccomp ► spawn ──► sh: ulimit ► as nobody: helm
//! ```
//!
//! All of it holds for one thread and what that thread starts, so that nothing else of this process loses a right. What
//! the machine does not have is left out, and named by [`InForce`].

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// The user that has nothing, on every Linux.
const NOBODY: u32 = 65534;

/// What a run may reach beside the program itself.
pub(super) struct Reach<'a> {
    pub(super) read: &'a [&'a Path],
    pub(super) write: &'a [&'a Path],
}

/// What of it this machine enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InForce {
    /// Another user than ours.
    pub nobody: bool,
    /// Only the files that it needs.
    pub landlock: bool,
    /// No sockets, no mounts, no looking into other processes.
    pub seccomp: bool,
    /// A network that leads nowhere.
    pub network: bool,
}

impl fmt::Display for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let measures = [
            (self.nobody, "a user of its own"),
            (self.landlock, "Landlock"),
            (self.seccomp, "seccomp"),
            (self.network, "an empty network namespace"),
        ];
        let of = |wanted: bool| {
            let named = measures.iter().filter(|(is_there, _)| *is_there == wanted).map(|(_, name)| *name);
            named.collect::<Vec<_>>().join(", ")
        };
        match (of(true), of(false)) {
            (there, lacking) if lacking.is_empty() => write!(f, "in force: {there}"),
            (there, lacking) if there.is_empty() => write!(f, "in force: nothing; lacking: {lacking}"),
            (there, lacking) => write!(f, "in force: {there}; lacking: {lacking}"),
        }
    }
}

impl InForce {
    /// Finds out what the machine enforces for `program`, by beginning to run it with all of it.
    pub(super) fn on_this_machine(program: &Path) -> Self {
        let ours = Self { nobody: is_root(), ..Self::default() };
        for nobody in [ours.nobody, false] {
            // A folder of ours, or the program's own, may be closed to others.
            let Ok(folder) = tempfile::tempdir() else { break };
            let given = Self { nobody, ..Self::default() };
            if given.hand_over(folder.path(), folder.path()).is_err() {
                continue;
            }
            let mut command = Command::new(program);
            command.arg("version").env_clear().current_dir(folder.path());
            command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
            let reach = Reach { read: &[], write: &[folder.path()] };
            let begun = given.spawn(command.stderr(std::process::Stdio::null()), program, &reach);
            if let Ok((mut child, found)) = begun {
                drop(child.kill());
                drop(child.wait());
                return Self { nobody, ..found };
            }
        }
        Self::default()
    }

    /// Lets the program read `folder` and write in `scratch`.
    pub(super) fn hand_over(self, folder: &Path, scratch: &Path) -> io::Result<()> {
        if !self.nobody {
            return Ok(());
        }
        chown(folder, None, Some(NOBODY))?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o750))?;
        chown(scratch, Some(NOBODY), Some(NOBODY))
    }

    /// Starts a command that runs `program`; says what was in force.
    pub(super) fn spawn(
        self,
        command: &mut Command,
        program: &Path,
        reach: &Reach<'_>,
    ) -> io::Result<(Child, Self)> {
        if self.nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        // What is given up is given up by one thread, which ends.
        std::thread::scope(|scope| {
            let started = scope.spawn(|| {
                let network = kernel::without_network();
                let landlock = kernel::only_files(program, reach)?;
                let seccomp = kernel::only_harmless_calls();
                Ok((command.spawn()?, Self { nobody: self.nobody, landlock, seccomp, network }))
            });
            started.join().unwrap_or_else(|_| Err(io::Error::other("it went wrong inside of us")))
        })
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program, its interpreter where it is a script, and the libraries that either may need.
fn executables(program: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store", "/bin/sh"].map(PathBuf::from).into();
    all.push(program.to_owned());
    let mut start = [0; 2];
    let is_script = File::open(program)
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut start))
        .is_ok_and(|()| start == *b"#!");
    if is_script {
        all.extend(["/bin", "/usr/bin"].map(PathBuf::from));
    }
    all
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::collections::BTreeMap;
    use std::io;
    use std::path::Path;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
        RulesetCreatedAttr, RulesetStatus, Scope,
    };
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::{Reach, executables};

    /// What of Landlock we know; an older kernel enforces what it has of it.
    const LANDLOCK: ABI = ABI::V6;

    pub(super) fn without_network() -> bool {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
    }

    /// Whether the kernel has Landlock. An error where it has it, and does not take the rules.
    pub(super) fn only_files(program: &Path, reach: &Reach<'_>) -> io::Result<bool> {
        let failed = |error: landlock::RulesetError| io::Error::other(format!("Landlock: {error}"));
        let rules = || -> Result<RulesetCreated, landlock::RulesetError> {
            let mut rules = Ruleset::default()
                .handle_access(AccessFs::from_all(LANDLOCK))?
                .handle_access(AccessNet::from_all(LANDLOCK))?
                .scope(Scope::from_all(LANDLOCK))?
                .create()?;
            let read = AccessFs::ReadFile | AccessFs::ReadDir;
            for path in executables(program) {
                rules = allow(rules, &path, read | AccessFs::Execute)?;
            }
            for path in ["/usr/share/zoneinfo", "/etc/ld.so.cache"] {
                rules = allow(rules, Path::new(path), read)?;
            }
            rules = allow(rules, Path::new("/dev/null"), read | AccessFs::WriteFile)?;
            for path in reach.read {
                rules = allow(rules, path, read)?;
            }
            for path in reach.write {
                rules = allow(rules, path, AccessFs::from_all(LANDLOCK) & !AccessFs::Execute)?;
            }
            Ok(rules)
        };
        let status = rules().and_then(RulesetCreated::restrict_self).map_err(failed)?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }

    /// A path that is not there needs no rule.
    fn allow(
        rules: RulesetCreated,
        path: &Path,
        access: landlock::BitFlags<AccessFs>,
    ) -> Result<RulesetCreated, landlock::RulesetError> {
        let Ok(open) = PathFd::new(path) else { return Ok(rules) };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(LANDLOCK) };
        rules.add_rule(PathBeneath::new(open, access))
    }

    /// Refuses what a program that turns files into text never asks for, and whoever broke out of it would.
    pub(super) fn only_harmless_calls() -> bool {
        let refused = [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_listen,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_pidfd_open,
            libc::SYS_kcmp,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_memfd_create,
            libc::SYS_quotactl,
            libc::SYS_acct,
            libc::SYS_syslog,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_adjtimex,
        ];
        let rules: BTreeMap<i64, Vec<_>> = refused.map(|call| (call, Vec::new())).into();
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let Ok(machine) = std::env::consts::ARCH.try_into() else { return false };
        let Ok(filter) = SeccompFilter::new(rules, SeccompAction::Allow, refuse, machine) else {
            return false;
        };
        let Ok(filter) = BpfProgram::try_from(filter) else { return false };
        seccompiler::apply_filter(&filter).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use std::io;
    use std::path::Path;

    use super::{Reach, executables};

    pub(super) fn without_network() -> bool {
        false
    }

    pub(super) fn only_files(program: &Path, reach: &Reach<'_>) -> io::Result<bool> {
        let _ = (executables(program), reach.read, reach.write);
        Ok(false)
    }

    pub(super) fn only_harmless_calls() -> bool {
        false
    }
}
