//! A place for tests of the whole program: a folder of its own, an environment without surprises,
//! and a server if one is wanted.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// What differs from run to run: a pattern, and what stands in its place.
pub(crate) const FILTERS: [(&str, &str); 10] = [
    (
        r"\b(tsk|ses|ws|prm|per|qst|rep|blb|lay|job|att|ask|egr|con|bud)_[0-9A-HJKMNP-TV-Z]{26}\b",
        "[$1]",
    ),
    (r"\b[0-9a-f]{40}\b", "[COMMIT]"),
    (r"\bindex [0-9a-f]{7,40}\.\.[0-9a-f]{7,40}", "index [BLOBS]"),
    (r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z", "[TIME]"),
    (r" *\b\d+(\.\d+)? (ms|s|min)\b", " [TIME]"),
    (r"\b(just now|\d+ s ago)\b", "[AGO]"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
    (r"\bprocess \d+", "process [PID]"),
    (r"\bkill \d+", "kill [PID]"),
    (r"\b([a-z]+)-[0-9a-f]{8}\b", "$1-[HASH]"),
];

/// Where a workspace's record of its last start names the boot.
const BOOT_AT: usize = 32;
/// How long anything may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A process of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The one that speaks HTTP and owns the database.
    Server,
    /// The one that makes sandboxes.
    Spawner,
}

/// A folder in which commands are run.
pub(crate) struct Yard {
    dir: tempfile::TempDir,
    /// The data folder's name in it.
    data: &'static str,
    /// What every command of it has in its environment besides.
    variables: Vec<(String, String)>,
    server: Option<Child>,
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
        Self { dir, data: "data", variables: Vec::new(), server: None }
    }

    /// The same, with these variables in the environment of its commands.
    pub(crate) fn with_variables(mut self, variables: Vec<(String, String)>) -> Self {
        self.variables = variables;
        self
    }

    /// One with a server of its own.
    pub(crate) fn with_server() -> Self {
        let mut yard = Self::without_server();
        yard.start_server();
        yard
    }

    /// Starts a server over the folder's data and waits until it is up.
    pub(crate) fn start_server(&mut self) {
        let mut server = self
            .command(&["--json", "up", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says one line when it is up, and ends its output when it can't be.
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"pid\""), "the server did not come up: {line}");
        self.server = Some(server);
    }

    /// Kills a process of the server with no chance to clean up, and waits until all of it but the
    /// workspaces is gone, or, for the spawner, leaves the rest running.
    pub(crate) fn kill(&mut self, victim: Victim) {
        let mut server = self.server.take().unwrap();
        let pid = server.id();
        let child = child_of(pid, victim);
        let killed = Command::new("kill").args(["-s", "KILL", &child]).status().unwrap();
        assert!(killed.success());
        match victim {
            Victim::Spawner => self.server = Some(server),
            Victim::Server => drop(server.wait().unwrap()),
        }
    }

    /// Ends the server in good order; workspaces go on.
    pub(crate) fn stop_server(&mut self) {
        let mut server = self.server.take().unwrap();
        signal("TERM", server.id());
        assert!(server.wait().unwrap().success());
    }

    /// From here on, commands mean another data folder.
    pub(crate) fn use_data(&mut self, name: &'static str) {
        self.data = name;
    }

    /// Does what a crash of the host does: everything is dead at once, nothing was cleaned up, and
    /// the next server runs in another boot.
    pub(crate) fn crash_host(&mut self) {
        let mut server = self.server.take().unwrap();
        let pid = server.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let victims = children.split_whitespace().map(|child| child.parse().unwrap());
        for victim in std::iter::once(pid).chain(victims) {
            signal("KILL", victim);
        }
        server.wait().unwrap();
        let workspaces = self.path(&format!("{}/sandboxes/ws", self.data));
        for entry in std::fs::read_dir(workspaces).unwrap() {
            let folder = entry.unwrap().path();
            let upper = format!("ws/{}/u", folder.file_name().unwrap().to_str().unwrap());
            end_those_over(&upper);
            // The record of its last start, which names the boot in sixteen bytes.
            let meta = folder.join("meta");
            let mut record = std::fs::read(&meta).unwrap();
            record[BOOT_AT] ^= 0xff;
            std::fs::write(&meta, record).unwrap();
        }
    }

    /// A git repository in it with one commit.
    pub(crate) fn repository(&self, name: &str) {
        self.write(&format!("{name}/README.md"), "# An example\n");
        self.git(name, &["init", "-q", "-b", "main"]);
        self.git(name, &["add", "-A"]);
        self.git(name, &["commit", "-q", "-m", "First"]);
    }

    /// Runs git in a folder of it.
    pub(crate) fn git(&self, folder: &str, args: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(self.path(folder))
            .env("HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that prints JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.command(args).arg("--json").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("boatyard {args:?}: {error}: {said}"))
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
            .env("BOATYARD_DATA", self.path(self.data))
            .env("COLUMNS", "100")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
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

impl Drop for Yard {
    fn drop(&mut self) {
        self.end();
    }
}

impl Yard {
    /// The ids in a list, as far as the server still tells them.
    fn ids_of(&self, kind: &str) -> Vec<String> {
        let list = self.command(&["--json", kind, "list", "--limit", "200"]).output();
        let list = list
            .ok()
            .and_then(|output| serde_json::from_slice::<serde_json::Value>(&output.stdout).ok());
        list.iter()
            .filter_map(|list| list["items"].as_array())
            .flatten()
            .filter_map(|item| item["id"].as_str().map(str::to_owned))
            .collect()
    }

    /// Ends workspaces and server; the folder stays until the yard goes.
    pub(crate) fn end(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // Workspaces outlive their server: they go first, and what works in them before.
        for id in self.ids_of("task") {
            // Only cleaning up: what fails here has failed the test before, or is over.
            let _ = self.command(&["-q", "cancel", &id]).output();
        }
        for id in self.ids_of("workspace") {
            let _ = self.command(&["-q", "workspace", "delete", &id]).output();
        }
        let pid = server.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let _ = server.wait();
    }
}

/// The server's or the spawner's process. One that was killed before takes a moment to be replaced,
/// longer the more often that happened.
fn child_of(pid: u32, victim: Victim) -> String {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let found = children.split_whitespace().find(|child| {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            let is_spawner = String::from_utf8_lossy(&line).contains("__boatyard-spawner");
            is_spawner == (victim == Victim::Spawner)
        });
        if let Some(child) = found {
            return child.to_owned();
        }
        assert!(std::time::Instant::now() < deadline, "no {victim:?} among {children}");
        std::thread::yield_now();
    }
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success(), "SIG{name} to {pid}");
}

/// Kills every process whose files lie over this folder of changes, and waits until they are gone.
fn end_those_over(upper: &str) {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        let over: Vec<u32> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                std::fs::read_to_string(format!("/proc/{pid}/mountinfo"))
                    .is_ok_and(|mounts| mounts.contains(upper))
            })
            .collect();
        if over.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "still there: {over:?}");
        for pid in over {
            // With its first process, all others of a workspace end.
            let _ = Command::new("kill").args(["-s", "KILL", &pid.to_string()]).output();
        }
    }
}
