//! A spawner with a data folder of its own, and what is inside its sandboxes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use boatyard_sandbox::{
    client::Client,
    fds::{Hello, Kind, PONG_LENGTH, Pong},
    protocol::{Limits, Network, Ready, Reply, Request, Start, Started},
    spawner::{Config, IdsSetting, Launched, Runner, launch},
};
use serde_json::{Value, json};

/// How long anything may take here.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The user that a server of root becomes.
const SERVER: u32 = 0x3fff_0001;

/// The ordinary user of these tests.
const USER: u32 = 4242;

/// As whom the spawner runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    User,
}

/// Every level that can be tried here: both as root, the own one as an ordinary user.
pub(crate) fn levels() -> Vec<Who> {
    if is_root() { vec![Who::Root, Who::User] } else { vec![Who::User] }
}

pub(crate) fn is_root() -> bool {
    // SAFETY: always sound.
    unsafe { libc::geteuid() == 0 }
}

/// A spawner and its data folder.
pub(crate) struct Host {
    pub(crate) who: Who,
    pub(crate) config: Config,
    pub(crate) ready: Ready,
    pub(crate) client: Client,
    pub(crate) child: std::process::Child,
    folder: tempfile::TempDir,
}

impl Host {
    pub(crate) fn new(who: Who) -> Self {
        Self::with(who, |_, _| {})
    }

    /// With a change to the configuration, which gets the folder that everybody may enter.
    pub(crate) fn with(who: Who, change: impl FnOnce(&mut Config, &Path)) -> Self {
        let (folder, helper, mut config) = prepare(who);
        change(&mut config, folder.path());
        let (launched, ready) =
            start(who, &config, &helper).unwrap_or_else(|error| panic!("the spawner: {error}"));
        let client = Client::new(launched.socket);
        Self { who, config, ready, client, child: launched.child, folder }
    }

    /// Ends the spawner by `signal` and starts another on the same data.
    pub(crate) fn restart(&mut self, signal: i32) {
        if self.child.try_wait().unwrap().is_none() {
            // SAFETY: integers only: our own child, which is not reaped.
            unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        }
        self.child.wait().unwrap();
        let (launched, ready) = start(self.who, &self.config, &self.helper())
            .unwrap_or_else(|error| panic!("the spawner: {error}"));
        self.client = Client::new(launched.socket);
        self.child = launched.child;
        self.ready = ready;
    }

    pub(crate) fn helper(&self) -> PathBuf {
        self.folder.path().join("helper")
    }

    pub(crate) fn call(&mut self, request: &Request) -> Reply {
        self.try_call(request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
    }

    pub(crate) fn try_call(&mut self, request: &Request) -> boatyard_sandbox::Result<Reply> {
        self.client.call(request, LIMIT).map(|(reply, _)| reply)
    }

    pub(crate) fn create(&mut self) -> u128 {
        let ws = new_id();
        assert_eq!(self.call(&Request::Create { ws }), Reply::Done);
        ws
    }

    pub(crate) fn start(&mut self, ws: u128, generation: u64) -> Started {
        self.start_with(ws, generation, |_| {})
    }

    pub(crate) fn start_with(
        &mut self,
        ws: u128,
        generation: u64,
        change: impl FnOnce(&mut Start),
    ) -> Started {
        let mut start = plain_start(ws, generation);
        change(&mut start);
        match self.call(&Request::Start(start)) {
            Reply::Started(started) => started,
            other => panic!("{other:?}"),
        }
    }

    /// A new workspace that runs.
    pub(crate) fn running(&mut self) -> u128 {
        let ws = self.create();
        self.start(ws, 1);
        ws
    }

    pub(crate) fn kill(&mut self, ws: u128) {
        assert_eq!(self.call(&Request::Kill { ws }), Reply::Done);
    }

    pub(crate) fn socket(&self, ws: u128) -> PathBuf {
        self.config.data.join("run").join(format!("{}.sock", name(ws)))
    }

    pub(crate) fn ping(&self, ws: u128) -> std::io::Result<Pong> {
        let mut stream = UnixStream::connect(self.socket(ws))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&Hello { kind: Kind::Ping }.encode())?;
        let mut pong = [0; PONG_LENGTH];
        stream.read_exact(&mut pong)?;
        Ok(Pong::decode(&pong).expect("a pong"))
    }

    /// Gives `serve` an order and returns its answer.
    pub(crate) fn order(&self, ws: u128, order: &Value) -> Value {
        let mut stream = self.link(ws);
        writeln!(stream, "{order}").unwrap();
        let mut line = String::new();
        if let Err(error) = BufReader::new(stream).read_line(&mut line) {
            let spool = self.config.data.join("sandboxes/ws").join(name(ws)).join("spool");
            panic!("{order}: {error}: {:?}", fs::read_to_string(spool));
        }
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{order}: {line:?}: {error}"))
    }

    pub(crate) fn link(&self, ws: u128) -> UnixStream {
        let mut stream = UnixStream::connect(self.socket(ws)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&Hello { kind: Kind::Link }.encode()).unwrap();
        stream
    }

    /// Runs a command as the worker; its output, which must end well.
    pub(crate) fn run(&self, ws: u128, argv: &[&str]) -> String {
        let answer = self.order(ws, &json!({ "op": "run", "argv": argv }));
        assert_eq!(answer["error"], "", "{argv:?}");
        assert_eq!(answer["status"], 0, "{argv:?}: {answer}");
        answer["output"].as_str().unwrap().to_owned()
    }

    /// Runs a shell script as the worker; its output, which must end well.
    pub(crate) fn sh(&self, ws: u128, script: &str) -> String {
        self.run(ws, &["/bin/sh", "-ec", script])
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let running: Vec<u128> = match self.client.call(&Request::List { after: 0 }, LIMIT) {
            Ok((Reply::Workspaces { entries, .. }, _)) => {
                entries.iter().filter(|entry| entry.pid != 0).map(|entry| entry.ws).collect()
            }
            _ => Vec::new(),
        };
        for ws in running {
            let _ = self.client.call(&Request::Kill { ws }, LIMIT);
        }
        let _ = self.client.call(&Request::Shutdown, LIMIT);
        let _ = self.child.wait();
    }
}

pub(crate) fn plain_start(ws: u128, generation: u64) -> Start {
    Start {
        ws,
        generation,
        lowers: Vec::new(),
        mirror: None,
        limits: Limits {
            memory_bytes: 1 << 30,
            processes: 128,
            cpu_millis: 0,
            tmp_bytes: 64 << 20,
            disk_bytes: 0,
        },
        network: Network::Egress,
    }
}

/// An id as the server makes them: the time, then what is random (here: counted).
pub(crate) fn new_id() -> u128 {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    now << 80
        | u128::from(std::process::id()) << 40
        | u128::from(COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn name(ws: u128) -> String {
    named("ws", ws)
}

pub(crate) fn named(prefix: &str, id: u128) -> String {
    let alphabet = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let digits: String = (0..26)
        .rev()
        .map(|index| char::from(alphabet[(id >> (5 * index)) as usize & 31]))
        .collect();
    format!("{prefix}_{digits}")
}

/// Why a spawner with this configuration does not start.
pub(crate) fn refused(who: Who, change: impl FnOnce(&mut Config)) -> String {
    let (_folder, helper, mut config) = prepare(who);
    change(&mut config);
    match start(who, &config, &helper) {
        Err(error) => error.to_string(),
        Ok((_, ready)) => panic!("it started: {ready:?}"),
    }
}

fn prepare(who: Who) -> (tempfile::TempDir, PathBuf, Config) {
    let folder = tempfile::Builder::new().prefix("boatyard-test-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let helper = folder.path().join("helper");
    fs::copy(helper_path(), &helper).unwrap();
    let owner = match who {
        Who::Root => SERVER,
        Who::User if is_root() => USER,
        // SAFETY: always sound.
        Who::User => unsafe { libc::geteuid() },
    };
    if is_root() {
        std::os::unix::fs::chown(&data, Some(owner), Some(owner)).unwrap();
    }
    let mut config = Config::new(&data, owner, owner);
    config.runner = Some(helper.clone());
    config.ids = IdsSetting::Single;
    (folder, helper, config)
}

fn start(who: Who, config: &Config, helper: &Path) -> boatyard_sandbox::Result<(Launched, Ready)> {
    let runner = Runner::Path(helper);
    let launched = if who == Who::User && is_root() {
        let script = helper.with_file_name("as-user");
        let text = format!(
            "#!/bin/sh\nexec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all {} \"$@\"\n",
            helper.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        launch(config, runner, Some(&script)).unwrap()
    } else {
        launch(config, runner, Some(helper)).unwrap()
    };
    let ready = launched.ready(LIMIT)?;
    Ok((launched, ready))
}

/// The program that cargo has built from `examples/sandbox_helper.rs`.
fn helper_path() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.parent().and_then(Path::parent).unwrap();
    let path = target.join("examples/sandbox_helper");
    assert!(path.exists(), "build the examples too: cargo test -p boatyard-sandbox");
    path
}
