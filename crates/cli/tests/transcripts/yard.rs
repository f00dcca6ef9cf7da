//! A place for transcripts: a folder of its own, an environment without surprises, and a server if
//! one is wanted.

use std::{fmt::Write as _, path::PathBuf, process::Command};

/// A folder in which commands are run.
pub(crate) struct Yard {
    dir: tempfile::TempDir,
}

impl Yard {
    /// One whose commands find no server.
    pub(crate) fn without_server() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        // A server that gives up its rights must reach its folder.
        let dir = tempfile::Builder::new()
            .prefix("yard-")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        Self { dir }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A command of ours in it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_boatyard"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("BOATYARD_DATA", self.path("data"))
            .env("COLUMNS", "100")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    /// Runs a command and tells what it did.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        self.run_with(args, &[])
    }

    /// The same with variables.
    pub(crate) fn run_with(&self, args: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.command(args).envs(variables.iter().copied()).output().unwrap();
        let mut text = String::new();
        for (name, value) in variables {
            write!(text, "{name}={value} ").unwrap();
        }
        let shown: Vec<String> = args
            .iter()
            .map(|arg| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() })
            .collect();
        writeln!(text, "$ boatyard {}", shown.join(" ")).unwrap();
        for (stream, bytes) in [("", &output.stdout), ("2> ", &output.stderr)] {
            for line in String::from_utf8_lossy(bytes).lines() {
                writeln!(text, "{}", format!("{stream}{line}").trim_end()).unwrap();
            }
        }
        let code = output.status.code().map_or("killed".to_owned(), |code| code.to_string());
        writeln!(text, "[{code}]").unwrap();
        self.filtered(&text)
    }

    /// Replaces what differs from run to run.
    fn filtered(&self, text: &str) -> String {
        let program = env!("CARGO_BIN_EXE_boatyard");
        let own = self.dir.path().to_string_lossy();
        let text = text.replace(own.as_ref(), "[YARD]").replace(program, "[BOATYARD]");
        let version = concat!("boatyard ", env!("CARGO_PKG_VERSION"));
        let text = text.replace(version, "boatyard [VERSION]");
        // A service of an account, when tests don't run as root.
        let text = text.replace("WantedBy=default.target", "WantedBy=multi-user.target");
        text.replace(
            concat!("\"version\": \"", env!("CARGO_PKG_VERSION")),
            "\"version\": \"[VERSION]",
        )
    }
}
