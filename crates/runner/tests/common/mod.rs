//! A runner in this process, in folders of its own, and a server's side of its link.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::{collections::BTreeMap, fs::File, path::PathBuf, sync::Arc, time::Duration};

use boatyard_link::{
    Link, Options, RecvHalf, Role, SendHalf, Stream,
    message::{
        Ack, AgentLaunch, AgentProtocol, ExecChannel, ExecExit, ExecRequest, Failure, FromRunner,
        Header, MESSAGE_MAX, OpenSession, Position, Record, RecordKind, Reply, Request, ToRunner,
    },
    record,
};
use boatyard_model::{Content, EventBody, SessionId, TurnOutcome};
use boatyard_runner::{
    layout::Layout,
    serve::{Runner, Setup},
};
use boatyard_sandbox::spawn::Identity;
use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt, net::UnixStream, time::timeout};

/// Longer than anything here takes; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("in time")
}

/// The folders of a workspace.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub spool: File,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["work/repo", "home/agent"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let spool = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(dir.path().join("spool"))
            .unwrap();
        Self { dir, spool }
    }

    pub fn with_repository() -> Self {
        let place = Self::new();
        place.write("README", "one\ntwo\n");
        for args in [
            &["init", "-q", "-b", "main"][..],
            &["config", "user.name", "Test"],
            &["config", "user.email", "test@example.org"],
            &["add", "."],
            &["commit", "-q", "-m", "first"],
        ] {
            place.git(args);
        }
        place
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.path().join("work/repo")
    }

    pub fn path(&self, below: &str) -> String {
        self.dir.path().join(below).to_str().unwrap().to_owned()
    }

    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.repo().join(path), text).unwrap();
    }

    pub fn git(&self, args: &[&str]) -> String {
        let mut git = std::process::Command::new("git");
        let output = git.args(args).current_dir(self.repo()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub async fn runner(&self) -> Arc<Runner> {
        self.runner_with(64 << 20).await
    }

    pub async fn runner_with(&self, spool_capacity: u64) -> Arc<Runner> {
        let layout = Layout {
            work: self.path("work"),
            home: self.path("home/agent"),
            mirror: self.path("mirror"),
            path: std::env::var("PATH").unwrap(),
        };
        let setup = Setup {
            generation: 1,
            layout,
            identity: Identity::Caller,
            owner: None,
            cgroup: None,
            spool: self.spool.try_clone().unwrap(),
            spool_capacity,
            finder: Default::default(),
        };
        Runner::new(setup).await.unwrap()
    }

    pub fn open(&self, session: SessionId, protocol: AgentProtocol, command: &[&str]) -> Request {
        Request::OpenSession(OpenSession {
            session,
            agent: AgentLaunch {
                name: "test".into(),
                protocol,
                command: command.iter().map(|part| (*part).to_owned()).collect(),
                files: BTreeMap::from([(".quiet/settings".into(), "quiet".into())]),
                ..AgentLaunch::default()
            },
            cwd: self.path("work/repo"),
            home: self.path("home/agent"),
            resume: None,
            seed: None,
            last_turn: 0,
            checkpoint: Some(self.path("work/repo")),
        })
    }

    pub fn open_shell(&self, session: SessionId) -> Request {
        self.open(session, AgentProtocol::Script, &["/bin/sh", "-c", "{prompt}"])
    }

    pub fn open_demo(&self, session: SessionId) -> Request {
        let runner = env!("CARGO_BIN_EXE_boatyard-runner");
        self.open(session, AgentProtocol::Acp, &[runner, "demo-agent"])
    }
}

/// The server's side of a link.
pub struct Server {
    pub link: Link,
    control: Stream,
    next: u64,
}

pub fn text(text: &str) -> Vec<Content> {
    vec![Content::Text { text: text.into() }]
}

impl Server {
    pub async fn connect(runner: &Arc<Runner>) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        runner.clone().link(theirs);
        Self::over(ours)
    }

    pub fn over(io: UnixStream) -> Self {
        let (link, driver) = Link::start(io, Role::Connector, Options::new("test"));
        tokio::spawn(driver);
        let control = link.open(&Header::Control).unwrap();
        Self { link, control, next: 1 }
    }

    pub async fn send(&mut self, request: Request) -> u64 {
        let id = self.next;
        self.next += 1;
        self.control.send_message(&ToRunner { id, request }).await.unwrap();
        id
    }

    pub async fn answer(&mut self) -> (u64, Result<Reply, Failure>) {
        let FromRunner::Reply { id, result } =
            soon(self.control.recv_message(MESSAGE_MAX)).await.unwrap().unwrap();
        (id, result)
    }

    pub async fn ask(&mut self, request: Request) -> Result<Reply, Failure> {
        let id = self.send(request).await;
        let (answered, result) = self.answer().await;
        assert_eq!(answered, id);
        result
    }

    pub fn events(&self, after: Option<Position>) -> Events {
        let (send, recv) = self.link.open(&Header::Events { after }).unwrap().split();
        Events { send, recv, buffer: BytesMut::new() }
    }

    pub async fn exec(&self, request: ExecRequest) -> Exec {
        let (send, recv) = self.link.open(&Header::Exec(request)).unwrap().split();
        Exec { send, recv }
    }

    pub async fn run(&self, command: &[&str]) -> Ended {
        let command = command.iter().map(|part| (*part).to_owned()).collect();
        self.exec(ExecRequest { command, ..ExecRequest::default() }).await.ended().await
    }
}

/// The `events` stream.
pub struct Events {
    send: SendHalf,
    recv: RecvHalf,
    buffer: BytesMut,
}

impl Events {
    pub async fn next(&mut self) -> (Record, Bytes) {
        soon(async {
            loop {
                if let Some(found) = record::take(&mut self.buffer).unwrap() {
                    return found;
                }
                let bytes = self.recv.recv_bytes().await.unwrap().expect("events go on");
                self.buffer.extend_from_slice(&bytes);
            }
        })
        .await
    }

    pub async fn ack(&mut self, position: Position) {
        self.send.send_message(&Ack { position }).await.unwrap();
    }

    /// All events up to the end of a turn, and how it ended.
    pub async fn turn(&mut self) -> (Vec<Record>, TurnOutcome) {
        let mut all = Vec::new();
        loop {
            let (record, _) = self.next().await;
            // What the agent offers is told when it has started, before any turn.
            if all.is_empty() && record.turn.is_none() {
                continue;
            }
            all.push(record.clone());
            if let RecordKind::Event(EventBody::TurnCompleted { outcome, .. }) = record.what {
                return (all, outcome);
            }
        }
    }

    /// Waits for an event.
    pub async fn until<T>(&mut self, wanted: impl Fn(&EventBody) -> Option<T>) -> T {
        loop {
            let (record, _) = self.next().await;
            if let RecordKind::Event(body) = &record.what
                && let Some(found) = wanted(body)
            {
                return found;
            }
        }
    }
}

pub fn kinds(records: &[Record]) -> Vec<&'static str> {
    records
        .iter()
        .map(|record| match &record.what {
            RecordKind::Event(body) => body.kind(),
            RecordKind::Blob { .. } => "blob",
            RecordKind::AgentSession(_) => "agent_session",
            RecordKind::Offers(_) => "offers",
        })
        .collect()
}

/// An `exec` stream.
pub struct Exec {
    pub send: SendHalf,
    pub recv: RecvHalf,
}

#[derive(Debug, PartialEq)]
pub struct Ended {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub exit: ExecExit,
}

impl Exec {
    pub async fn write(&mut self, bytes: &[u8]) {
        let mut piece = vec![ExecChannel::Stdin as u8];
        piece.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        piece.extend_from_slice(bytes);
        self.send.send_bytes(piece.into()).await.unwrap();
    }

    pub async fn piece(&mut self) -> (u8, Vec<u8>) {
        soon(async {
            let channel = self.recv.read_u8().await.unwrap();
            let length = self.recv.read_u32_le().await.unwrap();
            let mut bytes = vec![0; length as usize];
            self.recv.read_exact(&mut bytes).await.unwrap();
            (channel, bytes)
        })
        .await
    }

    pub async fn ended(mut self) -> Ended {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.piece().await {
                (1, bytes) => stdout.extend(bytes),
                (2, bytes) => stderr.extend(bytes),
                (3, json) => {
                    let exit = serde_json::from_slice(&json).unwrap();
                    assert_eq!(soon(self.recv.recv_bytes()).await.unwrap(), None);
                    return Ended { stdout, stderr, exit };
                }
                (channel, _) => panic!("channel {channel}"),
            }
        }
    }
}
