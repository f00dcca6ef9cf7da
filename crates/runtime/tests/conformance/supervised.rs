//! The supervisor, with its two children.
//!
//! The server's part here does what it is told on standard input, a word a line, and answers a
//! line each.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
};

use boatyard_model::{WorkspaceId, WorkspaceLimits};
use boatyard_runtime::{
    Runtime as _, StartSpec,
    native::{
        NativeRuntime, Source,
        launch::SpawnerSettings,
        layout,
        supervisor::{Role, supervise},
    },
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    DATA, PART,
    data::Data,
    harness::{Test, test},
    suite::until,
};

pub fn tests() -> Vec<Test<()>> {
    vec![
        test!(the_server_has_no_rights_and_works),
        test!(a_spawner_that_is_killed_comes_again),
        test!(signals_and_exit_codes_pass_through),
        test!(the_server_ends_with_its_supervisor),
    ]
}

/// What the supervised server of these tests ends with when it is asked to.
const CODE: u8 = 7;

/// The supervisor's part, and then the server's.
pub fn main() -> ExitCode {
    let data = PathBuf::from(std::env::var_os(DATA).expect("a folder"));
    match supervise(&SpawnerSettings::new(data.clone())).expect("a supervisor") {
        Role::Over(code) => code,
        Role::Server(supervised) => {
            let runtime = tokio::runtime::Runtime::new().expect("a tokio runtime");
            let ended = runtime.block_on(async {
                let source = Source::supervisor(supervised).expect("a source");
                let native =
                    NativeRuntime::connect_spawner(source, &data).await.expect("a runtime");
                serve(native).await
            });
            // The thread that reads standard input never ends.
            runtime.shutdown_background();
            ended
        }
    }
}

async fn serve(native: NativeRuntime) -> ExitCode {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).expect("signals");
    let mut hangup = signal(SignalKind::hangup()).expect("signals");
    let (lines, mut words) = tokio::sync::mpsc::channel(8);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    let say = |text: String| {
        writeln!(io::stdout(), "{text}").and_then(|()| io::stdout().flush()).expect("a reader");
    };
    let mut place = None;
    say(format!("ready {}", std::process::id()));
    loop {
        let word = tokio::select! {
            word = words.recv() => word,
            _ = hangup.recv() => {
                say("hung up".to_owned());
                continue;
            }
            _ = terminate.recv() => return ExitCode::from(CODE),
        };
        match word.as_deref() {
            Some("start") => {
                let id = WorkspaceId::new();
                native.create(id).await.expect("a workspace");
                let spec = StartSpec {
                    generation: 1,
                    layers: Vec::new(),
                    mirror: None,
                    limits: WorkspaceLimits::default(),
                };
                native.start(id, &spec).await.expect("a start");
                native.connect(id).await.expect("a connection");
                place = Some(id);
                say("started".to_owned());
            }
            Some("list") => {
                let running = native.list().await.expect("a list");
                say(format!("{} run", running.iter().filter(|w| w.running.is_some()).count()));
            }
            Some("remove") => {
                let id = place.take().expect("a workspace");
                native.kill(id).await.expect("a kill");
                native.remove(id).await.expect("a removal");
                say("removed".to_owned());
            }
            _ => return ExitCode::FAILURE,
        }
    }
}

/// The test's side.
struct Supervised {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    server: u32,
    data: Data,
}

impl Supervised {
    fn start() -> Self {
        let data = Data::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(PART, "supervisor")
            .env(DATA, data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, stdin, stdout, server: 0, data };
        let ready = this.line();
        this.server = ready.strip_prefix("ready ").expect("a server").parse().unwrap();
        this
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn say(&mut self, word: &str) -> String {
        writeln!(self.stdin, "{word}").unwrap();
        self.line()
    }

    /// The supervisor's other child.
    fn spawner(&self) -> Option<u32> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            // A first process whose spawner died is a child as well; it is in a pid namespace.
            .find(|pid: &u32| *pid != self.server && !is_first_process(*pid))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // It may have ended already; its children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_first_process(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("NSpid:") && line.split_whitespace().count() > 2)
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

async fn the_server_has_no_rights_and_works(_: &()) {
    let mut supervised = Supervised::start();
    let status = fs::read_to_string(format!("/proc/{}/status", supervised.server)).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let user = layout::server_uid().to_string();
    assert_eq!(field("Uid:"), [&*user, &*user, &*user, &*user]);
    if rustix::process::geteuid().is_root() {
        assert_eq!(field("Gid:"), [&*user, &*user, &*user, &*user]);
        assert_eq!(field("Groups:"), [] as [&str; 0]);
        assert_eq!(field("NoNewPrivs:"), ["1"]);
    }
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    // It works all the same.
    assert_eq!(supervised.say("start"), "started");
    assert_eq!(supervised.say("list"), "1 run");
    assert_eq!(supervised.say("remove"), "removed");
    assert!(layout::sandboxes(supervised.data.path()).exists());
    send(supervised.child.id(), Signal::TERM);
    assert_eq!(supervised.child.wait().unwrap().code(), Some(CODE.into()));
}

async fn a_spawner_that_is_killed_comes_again(_: &()) {
    let mut supervised = Supervised::start();
    assert_eq!(supervised.say("start"), "started");
    for _ in 0..3 {
        let spawner = supervised.spawner().expect("a spawner");
        send(spawner, Signal::KILL);
        until("another spawner", || supervised.spawner().is_some_and(|pid| pid != spawner)).await;
        assert_eq!(supervised.say("list"), "1 run");
    }
    assert_eq!(supervised.say("remove"), "removed");
    assert_eq!(supervised.say("list"), "0 run");
    send(supervised.child.id(), Signal::TERM);
    assert_eq!(supervised.child.wait().unwrap().code(), Some(CODE.into()));
}

async fn signals_and_exit_codes_pass_through(_: &()) {
    let mut supervised = Supervised::start();
    let spawner = supervised.spawner().expect("a spawner");
    send(supervised.child.id(), Signal::HUP);
    assert_eq!(supervised.line(), "hung up");
    send(supervised.server, Signal::KILL);
    // 128 and the signal, as shells have it; and the spawner is gone as well.
    assert_eq!(supervised.child.wait().unwrap().code(), Some(128 + 9));
    assert!(fs::read_to_string(format!("/proc/{spawner}/status")).is_err());
}

async fn the_server_ends_with_its_supervisor(_: &()) {
    let mut supervised = Supervised::start();
    let (server, spawner) = (supervised.server, supervised.spawner().expect("a spawner"));
    supervised.child.kill().unwrap();
    supervised.child.wait().unwrap();
    until("the server and the spawner end", || {
        [server, spawner].iter().all(|pid| {
            fs::read_to_string(format!("/proc/{pid}/status"))
                .map_or(true, |status| status.contains("State:\tZ"))
        })
    })
    .await;
}
