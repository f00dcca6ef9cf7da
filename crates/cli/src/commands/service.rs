//! `boatyard service`: run at boot, by systemd.

use std::{
    path::{Path, PathBuf},
    process::Command as Program,
};

use anyhow::{Context as _, Result};

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

/// The unit file.
///
/// - `Delegate=yes` gives Boatyard the control groups below its own, for the limits of workspaces.
/// - `KillMode=process` ends the server alone: workspaces outlive a restart.
fn unit(scope: Scope, program: &Path, data: Option<&Path>, config: Option<&Path>) -> String {
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
         # Control groups of our own below this unit, for the limits of workspaces.\n\
         Delegate=yes\n\
         # Workspaces and the agents in them outlive the server.\n\
         KillMode=process\n\
         TimeoutStopSec=15\n\
         Restart=on-failure\n\
         RestartSec=1\n\
         LimitNOFILE=1048576\n\
         TasksMax=infinity\n\
         \n\
         [Install]\n\
         WantedBy={target}\n",
        start.join(" ")
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
            let text = unit(scope, &program, data.as_deref(), config.as_deref());
            if print {
                output.data(text)?;
                return Ok(Exit::Done);
            }
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)
                    .with_context(|| format!("{} can't be made", parent.display()))?;
            }
            write_whole(&path, text.as_bytes(), 0o644)
                .with_context(|| format!("{} can't be written", path.display()))?;
            scope.systemctl(&["daemon-reload"])?;
            scope.systemctl(&["enable", "--now", UNIT])?;
            done(output, "installed", &path)?;
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
    fn the_unit_delegates_and_spares_the_workspaces() {
        let text = unit(
            Scope::System,
            Path::new("/usr/local/bin/boatyard"),
            Some(Path::new("/srv/my data")),
            None,
        );
        for line in [
            "ExecStart=/usr/local/bin/boatyard up --data \"/srv/my data\"",
            "Delegate=yes",
            "KillMode=process",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
