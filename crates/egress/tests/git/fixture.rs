//! A gateway on loopback, a desk that a test tells what to say, and git.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Output,
    sync::{Arc, Mutex},
    time::Duration,
};

use boatyard_egress::{
    Guard, Record,
    gateway::{Calls, Gateway, Secret, Settings},
    git::{
        BranchPattern, Credential, Desk, GitGateway, Grant, Later, Refusal, RefusalKind,
        Settings as GitSettings, Wish, sign::SigningKey,
    },
    https::Https,
    log::Channel,
    resolve::System,
};
use boatyard_model::WorkspaceId;
use boatyard_testkit::github::{AUTHORITY, GitHub};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};

/// Far beyond what anything here takes; a hang becomes a failure.
const DEADLINE: Duration = Duration::from_secs(60);
/// The token that the stand-in takes.
pub(crate) const TOKEN: &str = "ghp_real0123456789";
/// The repository.
pub(crate) const OWN: &str = "acme/app";

/// What the desk says, and what it was told.
#[derive(Debug, Default)]
pub(crate) struct Word {
    /// Sent along.
    pub(crate) token: Option<String>,
    /// Sent along when the other was not taken.
    pub(crate) fresh: Option<String>,
    /// Whom it turns down, and with what words.
    pub(crate) refuses: Option<(&'static str, &'static str)>,
    pub(crate) not_taken: u32,
    pub(crate) taken: u32,
}

#[derive(Debug, Clone, Default)]
struct Clerk(Arc<Mutex<Word>>);

fn credential(token: &str) -> Credential {
    let token = Secret::new(token.to_owned());
    Credential::basic("our-github", "give it another value", "x-access-token", &token)
}

fn now<T: Send + 'static>(value: T) -> Later<T> {
    Box::pin(std::future::ready(value))
}

impl Desk for Clerk {
    fn admit(&self, wish: Wish) -> Later<Result<Grant, Refusal>> {
        let word = self.0.lock().unwrap();
        if let Some((path, text)) = word.refuses
            && wish.remote.path.contains(path)
        {
            let (text, rule) = (text.to_owned(), Some("a rule".into()));
            return now(Err(Refusal { text, rule, kind: RefusalKind::Forbidden, asked: None }));
        }
        now(Ok(Grant {
            rule: "own".into(),
            credential: word.token.as_deref().map(credential),
            guard: Guard::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]),
            branches: vec![BranchPattern::own()],
            asked: None,
        }))
    }

    fn not_taken(&self, _: Wish, grant: Grant) -> Later<Option<Grant>> {
        let mut word = self.0.lock().unwrap();
        word.not_taken += 1;
        let fresh = word.fresh.take();
        word.token = fresh.clone().or(word.token.take());
        now(fresh.map(|fresh| Grant { credential: Some(credential(&fresh)), ..grant }))
    }

    fn taken(&self, _: &Wish) {
        self.0.lock().unwrap().taken += 1;
    }

    fn signing_key(&self, _: WorkspaceId) -> Later<Result<String, Refusal>> {
        now(Ok(SigningKey::generate().unwrap().0.public()))
    }

    fn sign(&self, _: WorkspaceId, object: Bytes) -> Later<Result<String, Refusal>> {
        now(Ok(format!("{} bytes", object.len())))
    }
}

pub(crate) struct Fixture {
    pub(crate) github: GitHub,
    pub(crate) records: mpsc::Receiver<Record>,
    pub(crate) address: SocketAddr,
    clerk: Clerk,
    folder: tempfile::TempDir,
}

/// What git said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Fixture {
    /// With one repository, which needs a token, and a desk that has it.
    pub(crate) async fn start() -> Self {
        Self::with(GitSettings::default()).await
    }

    pub(crate) async fn with(settings: GitSettings) -> Self {
        let github = GitHub::start().await;
        github.create(OWN);
        github.take(TOKEN);
        let clerk = Clerk::default();
        clerk.0.lock().unwrap().token = Some(TOKEN.to_owned());
        let (log, records) = Channel::new(1000);
        let https = Https::new(Default::default(), AUTHORITY.as_bytes(), Arc::new(System)).unwrap();
        let git = GitGateway::new(https, Arc::new(clerk.clone()), log, settings);
        let (calls, _) = Calls::new(1);
        let settings = Settings { git: Some(git), ..Settings::default() };
        let gateway = Gateway::new(Vec::new(), settings, Arc::new(System), calls).unwrap();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let served =
                gateway.serve(WorkspaceId::new(), listener.into(), std::future::pending()).await;
            served.unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        Self { github, records, address, clerk, folder }
    }

    pub(crate) fn word(&self) -> std::sync::MutexGuard<'_, Word> {
        self.clerk.0.lock().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs git in a folder, as a workspace is set up for it.
    pub(crate) async fn git(&self, folder: &str, args: &[&str]) -> Said {
        let base = format!("url.http://{}/git/.insteadOf", self.address);
        let config = [
            (&*base, "https://"),
            (&*base, "ssh://"),
            (&*base, "git@"),
            ("user.name", "T"),
            ("user.email", "t@example.com"),
            ("init.defaultBranch", "main"),
            ("protocol.file.allow", "always"),
        ];
        let mut command = tokio::process::Command::new("git");
        command
            .args(args)
            .current_dir(self.path(folder))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.folder.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_COUNT", config.len().to_string())
            .kill_on_drop(true);
        for (i, (key, value)) in config.into_iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{i}"), key);
            command.env(format!("GIT_CONFIG_VALUE_{i}"), value);
        }
        let output = tokio::time::timeout(DEADLINE, command.output()).await;
        let Output { status, stdout, stderr } = output.expect("in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
        Said { ok: status.success(), out: text(stdout), err: text(stderr) }
    }

    /// Runs git, which has to work.
    pub(crate) async fn done(&self, folder: &str, args: &[&str]) -> String {
        let said = self.git(folder, args).await;
        assert!(said.ok, "git {args:?}: {}", said.err);
        said.out
    }

    /// A clone of the repository in `folder`.
    pub(crate) async fn clone_to(&self, folder: &str) {
        self.done(".", &["clone", "-q", &self.github.url(OWN), folder]).await;
    }

    /// A commit of a file in a clone.
    pub(crate) async fn commit(&self, folder: &str, name: &str, content: &[u8]) {
        std::fs::write(self.path(folder).join(name), content).unwrap();
        self.done(folder, &["add", "-A"]).await;
        self.done(folder, &["commit", "-q", "-m", name]).await;
    }

    /// Sends a request as it stands and gives the whole answer.
    pub(crate) async fn raw(&self, head: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head =
            format!("{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        tokio::time::timeout(DEADLINE, read).await.expect("in time").unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The requests to the repository's service that reached the stand-in.
    pub(crate) fn seen(&self, part: &str) -> usize {
        self.github.seen().iter().filter(|seen| seen.line.contains(part)).count()
    }
}

/// Bytes that no packer makes smaller.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
