//! The escape suite: a program of attacks that runs inside a sandbox and must fail in every one.
//!
//! ```text
//! host: Baits::lay ─► Bait ══ JSON on standard input ══► escape::main, in the sandbox
//!         ▲                                                  │ one process for each attack
//!         └────────── what was touched ◄── attack            ▼
//!                                            a line of JSON for each: name, outcome, detail
//! ```
//!
//! - [`Attack`]: a stable name, what it tries, and the function that tries it; one table for each
//!   [`Group`] in the module of that name.
//! - [`bait`]: what the host lays out to be found (files, sockets, processes, a terminal), each
//!   with a token that no sandbox may come to know, so that an attack has something to win and can
//!   come out as [`Outcome::Escaped`].
//! - [`run`]: each attack in a process of its own, with a deadline.
//!
//! An attack is honest: it does what an attacker would do, to the end where that harms nothing, and
//! is judged by what it got. A refusal counts only when it is one: a call that was looked at and
//! found wrong in its arguments has passed the guard. Outside a sandbox the same program comes out
//! as `escaped` for most of them; attacks that would harm the machine there are left out.

mod bait;
mod bombs;
mod calls;
mod credentials;
mod devices;
mod dns;
mod files;
mod forger;
mod gateway;
mod house;
mod http;
mod kernel;
mod mounts;
mod namespaces;
mod neighbours;
mod network;
mod privilege;
mod proc;
mod processes;
mod proxy;
mod run;
mod runner;
mod sockets;
mod terminal;

use std::{fmt, io};

use serde::{Deserialize, Serialize};

pub use self::{
    bait::{Bait, Baits, Limited, Neighbour, Shared, Touch, token},
    credentials::BOUND,
    forger::{FORGED, forger},
    house::House,
    network::ALLOWED,
    run::{main, neighbour},
};

/// The argument of the runner's program that makes it this one.
pub const ARGUMENT: &str = "escape";
/// The argument that makes it the other workspace's process, which attacks look for.
pub const NEIGHBOUR_ARGUMENT: &str = "escape-neighbour";

/// The argument that makes it an agent that speaks for others.
pub const FORGER_ARGUMENT: &str = "escape-forger";

/// How an attack ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was refused, or there was nothing to attack.
    Blocked,
    /// It did something that stays within the workspace.
    Contained,
    /// It got out.
    Escaped,
    /// It was not tried: nothing here would stop it.
    Unlimited,
    /// It was not tried, or broke, for another reason.
    Skipped,
}

impl Outcome {
    /// The word in JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Contained => "contained",
            Self::Escaped => "escaped",
            Self::Unlimited => "unlimited",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an attack is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the title of each says it")]
pub enum Group {
    Files,
    Neighbours,
    Proc,
    Devices,
    Sockets,
    Processes,
    Mounts,
    Namespaces,
    Kernel,
    Privilege,
    Terminal,
    Network,
    Dns,
    Proxy,
    Gateway,
    Credentials,
    Runner,
    /// Tried from outside, by the server's own interface.
    Server,
    Bombs,
}

impl Group {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 19] = [
        Self::Files,
        Self::Neighbours,
        Self::Proc,
        Self::Devices,
        Self::Sockets,
        Self::Processes,
        Self::Mounts,
        Self::Namespaces,
        Self::Kernel,
        Self::Privilege,
        Self::Terminal,
        Self::Network,
        Self::Dns,
        Self::Proxy,
        Self::Gateway,
        Self::Credentials,
        Self::Runner,
        Self::Server,
        Self::Bombs,
    ];

    /// The word in JSON and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Neighbours => "neighbours",
            Self::Proc => "proc",
            Self::Devices => "devices",
            Self::Sockets => "sockets",
            Self::Processes => "processes",
            Self::Mounts => "mounts",
            Self::Namespaces => "namespaces",
            Self::Kernel => "kernel",
            Self::Privilege => "privilege",
            Self::Terminal => "terminal",
            Self::Network => "network",
            Self::Dns => "dns",
            Self::Proxy => "proxy",
            Self::Gateway => "gateway",
            Self::Credentials => "credentials",
            Self::Runner => "runner",
            Self::Server => "server",
            Self::Bombs => "bombs",
        }
    }

    /// What it is about, for a table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Files => "Files of the host",
            Self::Neighbours => "Other workspaces",
            Self::Proc => "/proc and /sys",
            Self::Devices => "Devices",
            Self::Sockets => "Sockets",
            Self::Processes => "Other processes, their memory and descriptors",
            Self::Mounts => "Mounts",
            Self::Namespaces => "Namespaces",
            Self::Kernel => "The kernel and the machine",
            Self::Privilege => "Rights and ids",
            Self::Terminal => "Terminals",
            Self::Network => "Network",
            Self::Dns => "Names",
            Self::Proxy => "The proxy",
            Self::Gateway => "The gateways to models and git",
            Self::Credentials => "Credentials",
            Self::Runner => "The runner and its link",
            Self::Server => "What the server reads and writes in a workspace",
            Self::Bombs => "Bombs",
        }
    }

    /// The attacks of this group that run inside; none for [`Group::Server`].
    pub const fn attacks(self) -> &'static [Attack] {
        match self {
            Self::Files => files::ATTACKS,
            Self::Neighbours => neighbours::ATTACKS,
            Self::Proc => proc::ATTACKS,
            Self::Devices => devices::ATTACKS,
            Self::Sockets => sockets::ATTACKS,
            Self::Processes => processes::ATTACKS,
            Self::Mounts => mounts::ATTACKS,
            Self::Namespaces => namespaces::ATTACKS,
            Self::Kernel => kernel::ATTACKS,
            Self::Privilege => privilege::ATTACKS,
            Self::Terminal => terminal::ATTACKS,
            Self::Network => network::ATTACKS,
            Self::Dns => dns::ATTACKS,
            Self::Proxy => proxy::ATTACKS,
            Self::Gateway => gateway::ATTACKS,
            Self::Credentials => credentials::ATTACKS,
            Self::Runner => runner::ATTACKS,
            Self::Server => &[],
            Self::Bombs => bombs::ATTACKS,
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// Its name, which stays.
    pub name: &'static str,
    /// What it tries, in a sentence.
    pub tries: &'static str,
    /// Where it may be tried.
    place: Place,
    attempt: fn(&Context<'_>) -> Finding,
}

/// Where an attack may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Everywhere: it puts right what it did, or does nothing.
    Anywhere,
    /// Only inside: elsewhere it would harm the machine.
    Inside,
}

/// An attack that may be tried anywhere.
const fn attack(
    name: &'static str,
    tries: &'static str,
    attempt: fn(&Context<'_>) -> Finding,
) -> Attack {
    Attack { name, tries, place: Place::Anywhere, attempt }
}

/// An attack that must not be tried outside a sandbox.
const fn inside_only(
    name: &'static str,
    tries: &'static str,
    attempt: fn(&Context<'_>) -> Finding,
) -> Attack {
    Attack { name, tries, place: Place::Inside, attempt }
}

/// What an attack knows.
#[derive(Debug)]
struct Context<'a> {
    /// Its own name, left where the host can see it.
    name: &'static str,
    bait: &'a Bait,
}

/// How an attack ended, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen: an error of the kernel, an answer.
    pub detail: String,
}

/// An attack and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The attack's name.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What was seen: an error of the kernel, an answer.
    pub detail: String,
    /// What it was aimed at.
    pub group: Group,
    /// What it tries, in a sentence.
    pub tries: String,
}

/// The longest detail in characters.
const DETAIL_MAX: usize = 200;

impl Finding {
    /// With a detail of one short line.
    pub fn new(outcome: Outcome, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string();
        let detail = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { outcome, detail: detail.take(DETAIL_MAX).collect() }
    }

    fn blocked(detail: impl fmt::Display) -> Self {
        Self::new(Outcome::Blocked, detail)
    }

    fn contained(detail: impl fmt::Display) -> Self {
        Self::new(Outcome::Contained, detail)
    }

    fn escaped(detail: impl fmt::Display) -> Self {
        Self::new(Outcome::Escaped, detail)
    }

    fn skipped(detail: impl fmt::Display) -> Self {
        Self::new(Outcome::Skipped, detail)
    }

    /// Success is an escape, whatever error is a refusal.
    fn of<T>(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::escaped("it worked"),
            Err(error) => Self::blocked(calls::errno(&error)),
        }
    }

    /// A system call with arguments that can't work: only an error that says "you may not" or
    /// "there is no such call" is a refusal; any other means that the call was looked at.
    fn guarded<T>(result: io::Result<T>) -> Self {
        match result {
            Ok(_) => Self::escaped("it worked"),
            Err(error) => match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES | libc::ENOSYS | libc::EAFNOSUPPORT) => {
                    Self::blocked(calls::errno(&error))
                }
                _ => Self::escaped(format!("it was looked at: {}", calls::errno(&error))),
            },
        }
    }
}

/// The first finding that is the worst of several ways to try the same.
fn worst(findings: impl IntoIterator<Item = (String, Finding)>) -> Finding {
    let rank = |outcome| match outcome {
        Outcome::Escaped => 3,
        Outcome::Skipped => 2,
        Outcome::Contained => 1,
        Outcome::Blocked | Outcome::Unlimited => 0,
    };
    let mut worst: Option<(String, Finding)> = None;
    let mut tried = 0;
    for (what, finding) in findings {
        tried += 1;
        if worst.as_ref().is_none_or(|(_, known)| rank(finding.outcome) > rank(known.outcome)) {
            worst = Some((what, finding));
        }
    }
    match worst {
        None => Finding::blocked("there is nothing to try here"),
        Some((what, finding)) => Finding::new(
            finding.outcome,
            format!(
                "{what}: {}{}",
                finding.detail,
                if tried > 1 { format!(" (of {tried})") } else { String::new() }
            ),
        ),
    }
}
