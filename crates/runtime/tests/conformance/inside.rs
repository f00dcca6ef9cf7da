//! Commands in a workspace, over its real link.

use std::{collections::BTreeMap, time::Duration};

use boatyard_link::{
    Link, Options, Role, Stream,
    message::{
        EXEC_PIECE_MAX, ExecChannel, ExecExit, ExecRequest, FromRunner, Header, MESSAGE_MAX, Reply,
        Request, ToRunner,
    },
};
use boatyard_model::WorkspaceId;
use boatyard_runtime::{Error, Runtime};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, task::JoinHandle, time::timeout};

/// Longer than anything here takes on a busy machine, and short enough that a hang is noticed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A link to a workspace.
pub struct Inside {
    link: Link,
    driver: JoinHandle<()>,
}

/// What a command did.
#[derive(Debug)]
pub struct Output {
    pub exit: ExecExit,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// What it printed, if it ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.exit, ExecExit::Exited { code: 0 }, "{} {}", self.stdout, self.stderr);
        self.stdout
    }
}

/// A command under way. Dropping it ends it.
pub struct Running {
    stream: Stream,
}

impl Inside {
    /// Connects to the workspace's runner.
    pub async fn connect(runtime: &dyn Runtime, workspace: WorkspaceId) -> Result<Self, Error> {
        let connection = runtime.connect(workspace).await?;
        let (link, driver) = Link::start(connection, Role::Connector, Options::new("conformance"));
        let driver = tokio::spawn(async move {
            // How it ended is told to each stream and to `ended`.
            let _ = driver.await;
        });
        Ok(Self { link, driver })
    }

    /// Runs a shell script to its end.
    pub async fn sh(&self, script: &str) -> Output {
        self.run(&["/bin/sh", "-c", script]).await
    }

    /// Runs a command to its end.
    pub async fn run(&self, command: &[&str]) -> Output {
        timeout(PATIENCE, self.start(command, None).await.output())
            .await
            .expect("the command ends in time")
    }

    /// Starts a command that is killed after `deadline`.
    pub async fn start(&self, command: &[&str], deadline: Option<Duration>) -> Running {
        let request = ExecRequest {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: BTreeMap::new(),
            cwd: None,
            deadline_millis: deadline.map(|deadline| deadline.as_millis() as u64),
            stdin: true,
        };
        Running { stream: self.link.open(&Header::Exec(request)).expect("the link takes a stream") }
    }

    /// Starts a script and waits until it has printed a line.
    pub async fn start_until_line(&self, script: &str) -> (Running, String) {
        let mut running = self.start(&["/bin/bash", "-c", script], None).await;
        let line = timeout(PATIENCE, running.line()).await.expect("the command says something");
        (running, line)
    }

    /// Asks the runner for something.
    pub async fn ask(&self, request: Request) -> Reply {
        let mut control = self.link.open(&Header::Control).expect("the link takes a stream");
        control.send_message(&ToRunner { id: 1, request }).await.expect("the request is taken");
        let answer = timeout(PATIENCE, control.recv_message(MESSAGE_MAX));
        match answer.await.expect("an answer in time").expect("a whole answer") {
            Some(FromRunner::Reply { id: 1, result }) => result.expect("it goes well"),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the other side is gone.
    pub async fn ended(&self) {
        timeout(PATIENCE, self.link.ended()).await.expect("the link ends");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.link.abort();
        self.driver.abort();
    }
}

impl Running {
    /// The next piece of output; nothing when the stream has ended without an exit.
    async fn piece(&mut self) -> Option<(u8, Vec<u8>)> {
        let channel = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_u32_le().await.ok()? as usize;
        assert!(length <= EXEC_PIECE_MAX);
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.ok()?;
        Some((channel, bytes))
    }

    /// The first line of what it prints.
    pub async fn line(&mut self) -> String {
        let mut text = Vec::new();
        while !text.ends_with(b"\n") {
            let (channel, bytes) = self.piece().await.expect("the command goes on");
            let bytes = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(channel, ExecChannel::Stdout as u8, "{bytes}");
            text.extend_from_slice(bytes.as_bytes());
        }
        String::from_utf8_lossy(&text).trim_end().to_owned()
    }

    /// Whether it prints something within this time.
    pub async fn speaks_within(&mut self, limit: Duration) -> bool {
        timeout(limit, self.piece()).await.is_ok_and(|piece| piece.is_some())
    }

    /// Sends this to its standard input.
    pub async fn send(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap();
        self.stream.write_u8(ExecChannel::Stdin as u8).await.unwrap();
        self.stream.write_u32_le(length).await.unwrap();
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Everything until it ends.
    pub async fn output(mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            let Some((channel, bytes)) = self.piece().await else {
                panic!("the stream ended without an exit: {}", String::from_utf8_lossy(&stderr));
            };
            match channel {
                1 => stdout.extend_from_slice(&bytes),
                2 => stderr.extend_from_slice(&bytes),
                3 => {
                    return Output {
                        exit: serde_json::from_slice(&bytes).expect("an exit"),
                        stdout: String::from_utf8_lossy(&stdout).into_owned(),
                        stderr: String::from_utf8_lossy(&stderr).into_owned(),
                    };
                }
                other => panic!("channel {other}"),
            }
        }
    }
}
