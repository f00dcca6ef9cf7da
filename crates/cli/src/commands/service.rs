//! `boatyard service`: run at boot, by systemd.

use std::{
    path::{Path, PathBuf},
    process::Command as Program,
};

use anyhow::{Context as _, Result};
use boatyard_server::providers::Builtin;

use crate::{
    args::Global,
    data::{self, write_whole},
    failure::{Exit, Failure},
    output::Output,
};

const UNIT: &str = "boatyard.service";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Install and start the service: for the machine as root, else for your account
    Install {
        /// The settings file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Only print the unit file
        #[arg(long)]
        print: bool,
    },
    /// Stop and remove the service; the data folder stays
    Uninstall,
}

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    System,
    User,
}

impl Scope {
    fn current() -> Self {
        if data::is_root() { Self::System } else { Self::User }
    }

    fn unit(self) -> Result<PathBuf> {
        match self {
            Self::System => Ok(Path::new("/etc/systemd/system").join(UNIT)),
            Self::User => {
                let absolute = |name: &str| {
                    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
                };
                let config = absolute("XDG_CONFIG_HOME")
                    .or_else(|| absolute("HOME").map(|home| home.join(".config")))
                    .ok_or_else(|| Failure::usage("neither XDG_CONFIG_HOME nor HOME is set"))?;
                Ok(config.join("systemd/user").join(UNIT))
            }
        }
    }

    /// Whether a service manager is there to be asked.
    fn check_systemd(self) -> Result<()> {
        const PRINT: &str = "`boatyard service install --print` shows the unit";
        // What sd_booted(3) looks at.
        if !Path::new("/run/systemd/system").exists() {
            return Err(Failure::new("systemd does not run on this machine")
                .next(format!("have `boatyard up` started by what starts services here; {PRINT}"))
                .into());
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        if self == Self::User && !runtime.is_some_and(|path| path.join("systemd").exists()) {
            return Err(Failure::new("no service manager of your account runs in this session")
                .next(
                    "sign in directly rather than by `su`, or run `loginctl enable-linger` and \
                     sign in again; as root, the service is the machine's",
                )
                .into());
        }
        Ok(())
    }

    fn systemctl(self, args: &[&str]) -> Result<()> {
        let mut program = Program::new("systemctl");
        if self == Self::User {
            program.arg("--user");
        }
        let output = program.args(args).output().map_err(|error| {
            Failure::new("systemctl can't be started")
                .next("this machine may not run systemd; `boatyard service install --print` shows the unit")
                .because(error)
        })?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Failure::new(format!("`systemctl {}` failed: {said}", args.join(" ")))
            .next("`journalctl -u boatyard` may say more")
            .into())
    }
}

/// How the workspaces of a service outlive its restart.
///
/// Limits need control groups below the service's own, and a group with such groups may hold no
/// process itself: a service manager that starts the server right there, beside workspaces that
/// still run, is refused by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Survival {
    /// systemd starts the server in a group beside those of the workspaces.
    Beside,
    /// An older systemd, as root: groups of workspaces lie outside the service.
    Outside,
    /// An older systemd, as an ordinary user: workspaces end with the service, and the next prompt
    /// starts them again.
    No,
}

impl Survival {
    /// The first systemd that knows `DelegateSubgroup`.
    const SUBGROUPS_SINCE: u32 = 254;

    /// `systemd` is its version; none where it is not known.
    fn of(scope: Scope, systemd: Option<u32>) -> Self {
        match (systemd, scope) {
            (Some(version), Scope::System) if version < Self::SUBGROUPS_SINCE => Self::Outside,
            (Some(version), Scope::User) if version < Self::SUBGROUPS_SINCE => Self::No,
            _ => Self::Beside,
        }
    }

    const fn lines(self) -> &'static str {
        match self {
            Self::Beside => {
                "# Control groups of our own below this unit, for the limits of workspaces; the server\n\
                 # sits in one of them.\n\
                 Delegate=yes\n\
                 DelegateSubgroup=control\n\
                 # Workspaces and the agents in them outlive the server.\n\
                 KillMode=process\n"
            }
            Self::Outside => {
                "# Workspaces and the agents in them outlive the server, in control groups of their own\n\
                 # beside this unit's.\n\
                 KillMode=process\n"
            }
            Self::No => {
                "# Control groups of our own below this unit, for the limits of workspaces.\n\
                 Delegate=yes\n\
                 # Before systemd 254, a unit can't be started around workspaces that run: they end\n\
                 # with it, and the next prompt starts them again.\n\
                 KillMode=mixed\n"
            }
        }
    }
}

/// The version of this machine's systemd.
fn systemd_version() -> Option<u32> {
    let output = Program::new("systemctl").arg("--version").output().ok()?;
    // `systemd 252 (252.38-1~deb12u1)`
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

/// The unit file.
fn unit(
    scope: Scope,
    survival: Survival,
    program: &Path,
    data: Option<&Path>,
    config: Option<&Path>,
) -> String {
    let mut start = vec![quoted(program), "up".to_owned()];
    for (flag, path) in [("--data", data), ("--config", config)] {
        if let Some(path) = path {
            start.extend([flag.to_owned(), quoted(path)]);
        }
    }
    let target = match scope {
        Scope::System => "multi-user.target",
        Scope::User => "default.target",
    };
    format!(
        "# Made by `boatyard service install`.\n\
         [Unit]\n\
         Description=Boatyard\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=all\n\
         ExecStart={}\n\
         {}\
         TimeoutStopSec=15\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         LimitNOFILE=1048576\n\
         TasksMax=infinity\n\
         \n\
         [Install]\n\
         WantedBy={target}\n",
        start.join(" "),
        survival.lines()
    )
}

/// A path as a unit file takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    if text.contains([' ', '"', '\'', '\\']) { format!("\"{text}\"") } else { text }
}

pub(crate) fn run(command: Command, global: &Global, output: &Output) -> Result<Exit> {
    let scope = Scope::current();
    let path = scope.unit()?;
    match command {
        Command::Install { config, print } => {
            let program = std::env::current_exe().context("our own program can't be found")?;
            let absolute = |path: Option<&Path>| path.map(std::path::absolute).transpose();
            let data = absolute(global.data.as_deref())?;
            let config = absolute(config.as_deref())?;
            let survival = Survival::of(scope, systemd_version());
            let text = unit(scope, survival, &program, data.as_deref(), config.as_deref());
            if print {
                output.data(text)?;
                return Ok(Exit::Done);
            }
            scope.check_systemd()?;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("{} can't be made", parent.display()))?;
            }
            write_whole(&path, text.as_bytes(), 0o644)
                .with_context(|| format!("{} can't be written", path.display()))?;
            scope.systemctl(&["daemon-reload"])?;
            scope.systemctl(&["enable", UNIT])?;
            // An older one may run by an older unit.
            scope.systemctl(&["restart", UNIT])?;
            done(output, "installed", &path)?;
            // Nor are they written into the unit, which everybody can read.
            for builtin in Builtin::ALL {
                if std::env::var_os(builtin.variable).is_some_and(|value| !value.is_empty()) {
                    output.warning(format!(
                        "the service does not get {} of this shell; put the key into a file, and \
                         the file's path into boatyard.toml as `key_file` in [providers.{}]",
                        builtin.variable,
                        builtin.api.as_str()
                    ));
                }
            }
            if survival == Survival::No {
                output.note(
                    "Workspaces end when the service does: systemd 254 or newer, or a service of \
                     root, lets them live on.",
                );
            }
            if scope == Scope::User {
                output.note("To run without you being logged in: loginctl enable-linger");
            }
        }
        Command::Uninstall => {
            if !path.exists() {
                return Err(Failure::not_found(format!("{} is not there", path.display()))
                    .next("a service of the machine is removed as root, yours as yourself")
                    .into());
            }
            scope.check_systemd()?;
            scope.systemctl(&["disable", "--now", UNIT])?;
            std::fs::remove_file(&path)
                .with_context(|| format!("{} can't be removed", path.display()))?;
            scope.systemctl(&["daemon-reload"])?;
            done(output, "removed", &path)?;
            output
                .note("The data folder stays; so do workspaces that run, until they are deleted.");
        }
    }
    Ok(Exit::Done)
}

fn done(output: &Output, what: &str, path: &Path) -> Result<()> {
    if output.is_json() {
        output.json(&serde_json::json!({ "unit": path, "done": what }))
    } else {
        output.line(format!("The service is {what}: {}", path.display()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_spares_the_workspaces_as_well_as_its_systemd_can() {
        let check = |scope, systemd, lines: &[&str], absent: &str| {
            let text = unit(
                scope,
                Survival::of(scope, systemd),
                Path::new("/usr/local/bin/boatyard"),
                Some(Path::new("/srv/my data")),
                None,
            );
            for line in lines {
                assert!(text.lines().any(|l| l == *line), "{line} is missing in\n{text}");
            }
            assert!(!text.contains(absent), "{absent} is in\n{text}");
            assert!(text.contains("\nTimeoutStopSec=15\n"), "{text}");
        };
        let start = "ExecStart=/usr/local/bin/boatyard up --data \"/srv/my data\"";
        let beside = ["Delegate=yes", "DelegateSubgroup=control", "KillMode=process"];
        check(Scope::System, Some(255), &beside, "mixed");
        check(Scope::User, None, &beside, "mixed");
        check(
            Scope::System,
            Some(252),
            &[start, "KillMode=process", "WantedBy=multi-user.target"],
            "Delegate",
        );
        check(
            Scope::User,
            Some(252),
            &["Delegate=yes", "KillMode=mixed", "WantedBy=default.target"],
            "Subgroup",
        );
    }
}
