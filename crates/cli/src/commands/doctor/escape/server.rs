//! Attacks on what the server reads and writes in a workspace: traps are laid inside, and the
//! server is asked, by its own interface, to step into them.

mod events;
mod git;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use boatyard_api::{
    model::WorkspaceId,
    workspace::{ExecRequest, ForkRequest, NewWorkspace, WriteFileQuery},
};
use boatyard_runtime::escape::{Finding, Group, Outcome, Report};
use tokio::time::timeout;

use super::{Scene, report};

/// How long the server may take over a trap.
const WITHIN: Duration = Duration::from_secs(20);
/// How often the server is asked while somebody changes what it reads.
const RACES: usize = 300;
/// What a trap that got out leaves on the host.
const LEFT: &str = "left-by-an-attack";

/// Tries all of them.
pub(super) async fn attack(scene: &Scene) -> Result<Vec<Report>> {
    let mut traps = Traps { scene, found: Vec::new() };
    traps.reading().await?;
    traps.endless().await?;
    traps.writing().await?;
    traps.racing().await?;
    traps.names().await?;
    traps.git().await?;
    traps.events().await?;
    traps.removing().await?;
    Ok(traps.found)
}

struct Traps<'a> {
    scene: &'a Scene,
    found: Vec<Report>,
}

impl Traps<'_> {
    fn tell(&mut self, name: &str, tries: &str, finding: &Finding) {
        self.found.push(report(Group::Server, name, tries, finding.outcome, &finding.detail));
    }

    /// Runs a script in an attacking workspace.
    async fn inside(&self, workspace: WorkspaceId, script: &str) -> Result<String> {
        let request = ExecRequest {
            command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
            timeout: Some(60),
            cwd: Some("/work".to_owned()),
            ..ExecRequest::default()
        };
        let result = self.scene.client().exec_in_workspace(workspace, &request).await?;
        Ok(result.stdout)
    }

    /// Reads files by the server's interface: the first that gives away something, or the last.
    async fn read(&self, paths: &[String]) -> Finding {
        let mut last = Finding::new(Outcome::Blocked, "there is nothing to try");
        for path in paths {
            let read = self.scene.client().read_file(self.scene.attacker, path);
            last = match timeout(WITHIN, read).await {
                Err(_) => Finding::new(Outcome::Escaped, "the server waits for ever"),
                Ok(Err(error)) => Finding::new(Outcome::Blocked, error),
                Ok(Ok(bytes)) => judge(&bytes),
            };
            if last.outcome == Outcome::Escaped {
                last.detail = format!("{path}: {}", last.detail);
                return last;
            }
        }
        last
    }

    async fn reading(&mut self) -> Result<()> {
        let attacker = self.scene.attacker;
        let file = self.scene.bait.host.file.display().to_string();
        let secret = self.scene.server.data().join("client.toml").display().to_string();
        let script = format!(
            "ln -sfn {file} to-file; ln -sfn {secret} to-secret; ln -sfn / to-root; \
             ln -sfn /proc/self/environ to-environ; ln -sfn /proc/1/environ to-first; \
             ln -sfn /proc/self/fd to-descriptors; ln -sfn /proc/1/root to-first-root; \
             ln -sfn to-file to-link; mkdir -p folder; ln -sfn ../../.. folder/up"
        );
        self.inside(attacker, &script).await?;
        let inner = file.trim_start_matches('/');
        let found = self.read(&["to-file", "to-link", "to-secret"].map(str::to_owned)).await;
        self.tell(
            "read-by-link",
            "Has the server read a file of the host by a symbolic link",
            &found,
        );
        let paths = ["to-root", "folder/up", "to-first-root"].map(|at| format!("{at}/{inner}"));
        let found = self.read(&paths).await;
        self.tell("read-by-folder-link", "The same by a link to a folder", &found);
        let climbing = [
            format!("../..{file}"),
            file.clone(),
            format!("folder/../../../../../..{file}"),
            format!("//{inner}"),
            format!("..%2f..{file}"),
            "/etc/shadow".to_owned(),
            format!("x\0/../..{file}"),
        ];
        let found = self.read(&climbing).await;
        self.tell("read-by-path", "Asks the server for a path that climbs out", &found);
        let numbers = (0..24).map(|fd| format!("to-descriptors/{fd}"));
        let paths = ["to-environ", "to-first"].map(str::to_owned).into_iter().chain(numbers);
        let found = self.read(&paths.collect::<Vec<_>>()).await;
        self.tell("read-runners-own", "Has the runner read its own environment and files", &found);
        Ok(())
    }

    /// What never ends, or has no end.
    async fn endless(&mut self) -> Result<()> {
        let script =
            "mkfifo pipe; ln -sfn /dev/zero zero; truncate -s 1T sparse; ln -sfn loop loop";
        self.inside(self.scene.attacker, script).await?;
        for (name, tries, path) in [
            ("read-pipe", "Has the server read a pipe that nobody writes to", "pipe"),
            ("read-device", "Has the server read a device that has no end", "zero"),
            ("read-giant", "Has the server read a file of a terabyte", "sparse"),
            ("read-loop", "Has the server follow a link to itself", "loop"),
        ] {
            let found = self.read(&[path.to_owned()]).await;
            self.tell(name, tries, &found);
        }
        self.inside(self.scene.attacker, "rm -f sparse").await?;
        Ok(())
    }

    /// Where on the host everybody may write, and nobody from inside should be able to.
    fn left_at(&self) -> PathBuf {
        self.scene.outside().join(LEFT)
    }

    /// Whether something was left there; `refused` is what was seen instead.
    fn left(&self, refused: &str) -> Finding {
        let path = self.left_at();
        if path.exists() {
            Finding::new(Outcome::Escaped, format!("{} was written", path.display()))
        } else {
            Finding::new(Outcome::Blocked, refused)
        }
    }

    async fn writing(&mut self) -> Result<()> {
        let left = self.left_at().display().to_string();
        let folder = shown(&self.scene.outside());
        let script = format!(
            "ln -sfn {left} write-to; ln -sfn {folder} write-in; \
             ln -sfn /home/sessions/{LEFT} write-own; ln -sfn /opt/boatyard/{LEFT} write-opt"
        );
        self.inside(self.scene.attacker, &script).await?;
        let mut refused = String::new();
        let paths =
            ["write-to".to_owned(), format!("write-in/{LEFT}"), format!("../..{left}"), left];
        for path in paths {
            refused = self.write(&path).await;
        }
        let found = self.left(&refused);
        self.tell("write-by-link", "Has the server write to the host by links and paths", &found);
        self.write("write-own").await;
        let refused = self.write("write-opt").await;
        let script = format!("ls /home/sessions/{LEFT} /opt/boatyard/{LEFT} 2>/dev/null");
        let seen = self.inside(self.scene.attacker, &script).await?;
        let found = match seen.trim() {
            "" => Finding::new(Outcome::Blocked, refused),
            seen => Finding::new(Outcome::Escaped, format!("{seen} was written")),
        };
        self.tell("write-as-runner", "Has the runner write where the worker may not", &found);
        Ok(())
    }

    /// Has the server write; what it says to that.
    async fn write(&self, path: &str) -> String {
        let query = WriteFileQuery { path: path.to_owned(), executable: true };
        let write = self.scene.client().write_file(self.scene.attacker, &query, "left");
        match timeout(WITHIN, write).await {
            Err(_) => "the server waits for ever".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(written)) => format!("{} was written inside", written.path),
        }
    }

    /// Somebody exchanges a folder for a link while the server reads.
    async fn racing(&mut self) -> Result<()> {
        let file = &self.scene.bait.host.file;
        let folder = shown(&self.scene.outside());
        let name = file.file_name().unwrap_or_default().display().to_string();
        let script = format!(
            "mkdir -p real; echo mine > real/{name}; ln -sfn {folder} fake; \
             end=$(($(date +%s) + 5)); while [ $(date +%s) -lt $end ]; do \
             ln -sfn real turn.1; mv -T turn.1 turn; ln -sfn fake turn.2; mv -T turn.2 turn; \
             done; rm -f turn"
        );
        let turning = self.inside(self.scene.attacker, &script);
        let reading = async {
            let mut found = Finding::new(Outcome::Blocked, "never");
            for _ in 0..RACES {
                found = self.read(&[format!("turn/{name}")]).await;
                if found.outcome == Outcome::Escaped {
                    break;
                }
            }
            found
        };
        let (turned, found) = tokio::join!(turning, reading);
        turned?;
        self.tell("read-in-a-race", "Exchanges a folder for a link while the server reads", &found);
        Ok(())
    }

    async fn names(&mut self) -> Result<()> {
        let script = r#"mkdir -p names/many; cd names
            touch "$(printf 'a\033]0;x\007b')" "$(printf 'line\nbreak')" "$(printf '\377\376')" '..%2f..'
            cd many; i=0; while [ $i -lt 12000 ]; do echo $i; i=$((i+1)); done | xargs touch"#;
        self.inside(self.scene.attacker, script).await?;
        let found = self.list("names").await;
        self.tell(
            "strange-names",
            "Has the server list names that hold breaks and commands",
            &found,
        );
        let found = self.list("names/many").await;
        self.tell("many-names", "Has the server list more names than it should hold", &found);
        Ok(())
    }

    async fn list(&self, path: &str) -> Finding {
        let listing = self.scene.client().list_files(self.scene.attacker, path);
        match timeout(WITHIN, listing).await {
            Err(_) => Finding::new(Outcome::Escaped, "the server waits for ever"),
            Ok(Err(error)) => Finding::new(Outcome::Blocked, error),
            Ok(Ok(listing)) if listing.entries.len() > 10_000 => {
                Finding::new(Outcome::Escaped, format!("{} at once", listing.entries.len()))
            }
            Ok(Ok(listing)) => {
                let cut = if listing.cut { ", cut there" } else { "" };
                Finding::new(Outcome::Contained, format!("{} as text{cut}", listing.entries.len()))
            }
        }
    }

    /// A workspace with links to the host is forked and removed.
    async fn removing(&mut self) -> Result<()> {
        let client = self.scene.client();
        let workspace = client.create_workspace(&NewWorkspace::default(), None).await?.id;
        let file = &self.scene.bait.host.file;
        let folder = shown(&self.scene.outside());
        let script = format!(
            "ln -sfn {folder} all; ln -sfn {} one; mkdir -p deep && cd deep && i=0; \
             while [ $i -lt 200 ]; do mkdir d && cd d && ln -s {folder} l; i=$((i+1)); done",
            file.display()
        );
        self.inside(workspace, &script).await?;
        client.stop_workspace(workspace).await?;
        let fork = client.fork_workspace(workspace, &ForkRequest::default(), None).await?.id;
        for id in [fork, workspace] {
            client.delete_workspace(id).await?;
        }
        let found = if file.exists() {
            Finding::new(Outcome::Blocked, "what the links lead to is still there")
        } else {
            Finding::new(Outcome::Escaped, "what a link led to was removed")
        };
        self.tell("remove-by-link", "Has the host remove its own files with a workspace", &found);
        Ok(())
    }
}

/// Whether bytes are what must not be had: the host's, the neighbour's, the runner's.
fn judge(bytes: &[u8]) -> Finding {
    let text = String::from_utf8_lossy(bytes);
    // The path of a bait holds half of that, and is no secret.
    let has_token = text.match_indices("boatyard-bait-").any(|(at, found)| {
        let rest = text[at + found.len()..].bytes();
        rest.take_while(u8::is_ascii_hexdigit).count() == 32
    });
    if has_token {
        Finding::new(Outcome::Escaped, "the token was there")
    } else if text.contains("BOATYARD_GENERATION") {
        Finding::new(Outcome::Escaped, "the runner's environment was there")
    } else {
        Finding::new(Outcome::Contained, format!("{} bytes of its own", bytes.len()))
    }
}

/// A path in a script.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
