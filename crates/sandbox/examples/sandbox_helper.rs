//! What the tests run on both sides of a sandbox, in one program as the product has it: the
//! spawner, the first process, a small `serve`, and what misbehaves inside.
//!
//! `serve` here takes one JSON line on each connection (see [`Order`]), does it and answers with
//! one line.
#![allow(unsafe_code, reason = "probes make raw system calls")]

#[path = "helper/misbehave.rs"]
mod misbehave;

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::ExitCode,
    time::Duration,
};

use boatyard_sandbox::{
    cgroup::SessionGroup,
    escape, init, serve,
    spawn::{Command, Identity, Status, Stdio},
    spawner,
};
use serde::{Deserialize, Serialize};

fn main() -> ExitCode {
    if spawner::is_spawner() {
        spawner::main();
    }
    let arguments: Vec<String> = std::env::args().collect();
    let argument = |index: usize| arguments.get(index).map_or("", String::as_str);
    match argument(1) {
        "init" => init::main(small_serve),
        escape::ARGUMENT => return escape::main(),
        escape::NEIGHBOUR_ARGUMENT => return escape::neighbour(),
        "fork-bomb" => misbehave::fork_bomb(),
        "memory-bomb" => misbehave::memory_bomb(),
        "hide" => misbehave::hide(),
        other => panic!("no such part: {other}"),
    }
    ExitCode::SUCCESS
}

/// What a test asks of the small `serve`.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Order {
    /// Run a command as the worker, to its end.
    Run {
        argv: Vec<String>,
        #[serde(default)]
        cwd: Option<String>,
        #[serde(default)]
        env: HashMap<String, String>,
        #[serde(default)]
        group: Option<String>,
        /// As the runner itself instead of as the worker.
        #[serde(default)]
        as_runner: bool,
        /// Do not wait for the end.
        #[serde(default)]
        detach: bool,
        /// Do not wait for the end, but for a first line.
        #[serde(default)]
        first_line: bool,
        /// What it reads.
        #[serde(default)]
        input: String,
    },
    /// Kill a group and wait until it is empty.
    KillGroup { group: String },
    /// Say how this `serve` came to be.
    Story,
    /// Read or append to the spool.
    Spool { append: Option<String> },
    /// End like this.
    Exit { code: i32 },
    /// Be slow to take the next connection, then end.
    Linger { ms: u64 },
    /// Time how processes start, in this many rounds: plain, and in a group.
    Bench { rounds: u32 },
}

#[derive(Debug, Serialize, Default)]
struct Answer {
    status: Option<i32>,
    signal: Option<i32>,
    pid: u32,
    output: String,
    error: String,
}

fn small_serve(inherited: serve::Inherited) -> i32 {
    let notes = inherited.spool.try_clone().expect("spool");
    // Nobody sees the standard error of `serve`; a test that fails finds this in the spool.
    std::panic::set_hook(Box::new(move |panic| {
        let _ = (&notes).write_all(panic.to_string().as_bytes());
    }));
    let mut groups: HashMap<String, SessionGroup> = HashMap::new();
    if let Some(parent) = &inherited.group {
        boatyard_sandbox::cgroup::clear(parent.as_fd()).expect("clear groups");
    }
    loop {
        let mut poll = libc::pollfd {
            fd: inherited.connections.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        let Some(connection) = inherited.connections.next().expect("connections") else { continue };
        set_blocking(&connection);
        let mut stream = std::os::unix::net::UnixStream::from(connection);
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("an order");
        if line.is_empty() {
            continue;
        }
        let order: Order = serde_json::from_str(&line).expect("a valid order");
        let answer = obey(order, &inherited, &mut groups).unwrap_or_else(|error| Answer {
            error: format!(
                "{error}: {}",
                std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default()
            ),
            ..Answer::default()
        });
        let mut text = serde_json::to_string(&answer).expect("an answer");
        text.push('\n');
        // The test may have gone.
        let _ = stream.write_all(text.as_bytes());
    }
}

fn obey(
    order: Order,
    inherited: &serve::Inherited,
    groups: &mut HashMap<String, SessionGroup>,
) -> boatyard_sandbox::Result<Answer> {
    let parent = inherited.group.as_ref().map(|group| group.as_fd());
    match order {
        Order::Run { argv, cwd, env, group, as_runner, detach, first_line, input } => {
            let (output, theirs) = std::io::pipe().expect("pipe");
            let theirs = OwnedFd::from(theirs);
            let mut command = Command::new(&argv[0])
                .args(&argv[1..])
                .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
                .env("HOME", "/home/agent")
                .env("GIT_CONFIG_SYSTEM", "/etc/gitconfig")
                .envs(env)
                .cwd(cwd.as_deref().unwrap_or("/work"))
                .identity(if as_runner { Identity::Caller } else { Identity::Worker })
                .stderr(Stdio::Fd(theirs.try_clone().expect("dup")))
                .stdout(Stdio::Fd(theirs));
            if !input.is_empty() {
                command = command.stdin(Stdio::Pipe);
            }
            if let Some(name) = group {
                if !groups.contains_key(&name) {
                    groups.insert(name.clone(), SessionGroup::create(parent, &name)?);
                }
                command = command.group(&groups[&name])?;
            }
            let mut child = command.spawn()?;
            let pid = child.pid;
            if let Some(stdin) = child.stdin.take() {
                // One that ends without reading is as well.
                let _ = File::from(stdin).write_all(input.as_bytes());
            }
            if first_line {
                let mut line = String::new();
                BufReader::new(File::from(OwnedFd::from(output)))
                    .read_line(&mut line)
                    .expect("a line");
                return Ok(Answer { pid, output: line, ..Answer::default() });
            }
            if detach {
                return Ok(Answer { pid, ..Answer::default() });
            }
            let mut text = Vec::new();
            File::from(OwnedFd::from(output)).read_to_end(&mut text).expect("output");
            let (status, signal) = match child.wait()? {
                Status::Exited(code) => (Some(code), None),
                Status::Signaled(number) => (None, Some(number)),
            };
            let output = String::from_utf8_lossy(&text).into_owned();
            Ok(Answer { status, signal, pid, output, error: String::new() })
        }
        Order::KillGroup { group } => {
            let group = groups.remove(&group).expect("a known group");
            let started = std::time::Instant::now();
            group.kill()?;
            let events = group.events()?;
            while !group.is_empty()? {
                match &events {
                    Some(events) => {
                        let mut poll = libc::pollfd {
                            fd: events.as_raw_fd(),
                            events: libc::POLLPRI,
                            revents: 0,
                        };
                        // SAFETY: one pollfd.
                        unsafe { libc::poll(&raw mut poll, 1, 5000) };
                    }
                    None => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            let took = started.elapsed();
            group.remove().map_err(|(_, error)| error)?;
            Ok(Answer { output: format!("{}", took.as_micros()), ..Answer::default() })
        }
        Order::Story => Ok(Answer {
            output: format!(
                "generation {} starts {} last {:?} group {}",
                inherited.generation,
                inherited.starts,
                inherited.last,
                inherited.group.is_some()
            ),
            pid: std::process::id(),
            ..Answer::default()
        }),
        Order::Spool { append } => {
            use std::os::unix::fs::FileExt as _;
            let length = inherited.spool.metadata().expect("spool").len();
            if let Some(text) = append {
                inherited.spool.write_all_at(text.as_bytes(), length).expect("spool");
            }
            Ok(Answer { output: length.to_string(), ..Answer::default() })
        }
        Order::Exit { code } => std::process::exit(code),
        Order::Linger { ms } => {
            std::thread::sleep(Duration::from_millis(ms));
            std::process::exit(0)
        }
        Order::Bench { rounds } => bench(rounds, parent),
    }
}

/// How long from `spawn` to reaped, in microseconds: medians.
fn bench(
    rounds: u32,
    parent: Option<std::os::fd::BorrowedFd<'_>>,
) -> boatyard_sandbox::Result<Answer> {
    let median = |group: Option<&SessionGroup>, identity| -> boatyard_sandbox::Result<String> {
        let (mut running, mut reaped) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let started = std::time::Instant::now();
            let mut command = Command::new("/bin/true").identity(identity);
            if let Some(group) = group {
                command = command.group(group)?;
            }
            let child = command.spawn()?;
            running.push(started.elapsed().as_micros());
            child.wait()?;
            reaped.push(started.elapsed().as_micros());
        }
        running.sort_unstable();
        reaped.sort_unstable();
        let at = |list: &[u128], part: usize| list[list.len() * part / 100];
        Ok(format!(
            "exec p50 {} p95 {}, reaped p50 {} p95 {}",
            at(&running, 50),
            at(&running, 95),
            at(&reaped, 50),
            at(&reaped, 95)
        ))
    };
    let group = SessionGroup::create(parent, "bench")?;
    let output = format!(
        "runner: {}\nworker: {}\nworker in group: {}",
        median(None, Identity::Caller)?,
        median(None, Identity::Worker)?,
        median(Some(&group), Identity::Worker)?
    );
    group.remove().map_err(|(_, error)| error)?;
    Ok(Answer { output, ..Answer::default() })
}

fn set_blocking(fd: &OwnedFd) {
    // SAFETY: integers only.
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK);
    }
}
