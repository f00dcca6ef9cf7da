//! Whether something may begin: what the machine bears, and what quotas allow.
//!
//! ```text
//!  queued attempt ─► memory? pressure? ─► places, turns, quotas (in the store) ─► it begins
//!  prompt ─────────► its workspace sleeps: the same ─► quotas of turns ─────────► its turn begins
//!  new workspace ──► memory? ─► quotas of workspaces: refused
//! ```
//!
//! Memory is what counts: too little of it and the kernel ends what it likes. What a workspace will
//! take is not known when it begins, so that each that is being prepared is reckoned with a share
//! of its limit, until what it takes is seen. Pressure (PSI) is the share of the last ten seconds
//! in which something waited; where the kernel does not tell it, memory alone decides.

use std::{fmt, fs, time::Duration};

use boatyard_api::Problem;
use boatyard_model::{SessionState, TurnOutcome, WorkspaceState, event::NoticeLevel};
use boatyard_store::{Owner, QuotaKind, SessionFilter, SessionRow};

use super::finish;
use crate::{app::App, settings::Limits};

/// What an attempt is reckoned to need before one sees, if neither its limit is lower nor this share
/// of the machine's memory: a small one runs small things.
const ATTEMPT: u64 = 512 << 20;
const SHARE: u64 = 8;
/// What a workspace needs in which nothing works yet.
const WORKSPACE: u64 = 32 << 20;
/// How soon it is looked again whether a turn may begin.
const AGAIN: Duration = Duration::from_secs(5);
/// Sessions that are looked at for those that go past a quota.
const LOOKED_AT: u32 = 1000;
/// The code of the notice that tells that a prompt waits, and why.
const NOTICE: &str = "held";
/// The code of the notice that tells that a quota is reached.
const NOTICE_QUOTA: &str = "quota";
/// The code of the notice that tells why a turn ended.
const NOTICE_LIMIT: &str = "limit_quota";

/// How the machine is. What it does not tell is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Machine {
    /// Bytes of memory that there are.
    pub total: Option<u64>,
    /// Bytes of it that can still be had.
    pub available: Option<u64>,
    /// For how much of the last ten seconds something waited for memory, in percent.
    pub memory_pressure: Option<f64>,
    /// For how much of them something waited for a processor.
    pub cpu_pressure: Option<f64>,
}

/// Why nothing begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Busy {
    /// There is too little memory.
    Memory {
        /// What can be had.
        available: u64,
        /// What would be needed, with what is kept free.
        needed: u64,
    },
    /// What runs waits for memory already.
    MemoryPressure(f64),
    /// What runs waits for processors already.
    CpuPressure(f64),
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { available, needed } => write!(
                f,
                "This machine has {} MiB of memory left, and {} MiB are needed to begin this \
                 without harm to what runs. It begins when there is room.",
                available >> 20,
                needed >> 20
            ),
            Self::MemoryPressure(percent) => write!(
                f,
                "What runs on this machine waits for memory {percent:.0} % of the time. This \
                 begins when that is over."
            ),
            Self::CpuPressure(percent) => write!(
                f,
                "What runs on this machine waits for processors {percent:.0} % of the time. This \
                 begins when that is over."
            ),
        }
    }
}

impl Machine {
    /// How it is now. Reads a few files that are in memory.
    pub fn look() -> Self {
        let read = |path: &str| fs::read_to_string(path).ok();
        let memory = read("/proc/meminfo").unwrap_or_default();
        let whole = |name| field(&memory, name).map(|kib| kib.saturating_mul(1024));
        let (limit, left) = left_in_group(&read).unzip();
        let total = whole("MemTotal:").into_iter().chain(limit).min();
        let available = whole("MemAvailable:").into_iter().chain(left).min();
        let pressure = |path: &str| read(path).and_then(|text| some_avg10(&text));
        Self {
            total,
            available,
            memory_pressure: pressure("/proc/pressure/memory"),
            cpu_pressure: pressure("/proc/pressure/cpu"),
        }
    }

    /// What an attempt is reckoned to need here.
    fn attempt(&self, limits: &Limits) -> u64 {
        let share = self.total.map_or(ATTEMPT, |total| (total / SHARE).max(WORKSPACE));
        limits.memory.bytes().min(ATTEMPT).min(share)
    }

    /// Whether something may begin that needs so much; why not.
    pub fn bears(&self, limits: &Limits, need: u64) -> Result<(), Busy> {
        let needed = need.saturating_add(limits.memory_reserve.bytes());
        if let Some(available) = self.available.filter(|available| *available < needed) {
            return Err(Busy::Memory { available, needed });
        }
        let is_over = |most: u32, found: Option<f64>| {
            found.filter(|found| most > 0 && *found > f64::from(most))
        };
        if let Some(percent) = is_over(limits.memory_pressure, self.memory_pressure) {
            return Err(Busy::MemoryPressure(percent));
        }
        match is_over(limits.cpu_pressure, self.cpu_pressure) {
            Some(percent) => Err(Busy::CpuPressure(percent)),
            None => Ok(()),
        }
    }
}

/// The limit of this container's control group, where it has one, and what that leaves.
fn left_in_group(read: &impl Fn(&str) -> Option<String>) -> Option<(u64, u64)> {
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let places = [
        (
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory.current",
            "/sys/fs/cgroup/memory.stat",
        ),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            "/sys/fs/cgroup/memory/memory.stat",
        ),
    ];
    places.into_iter().find_map(|(limit, used, stat)| {
        let (limit, used) = (number(limit)?, number(used)?);
        // What was read from files and not changed is given up when it is needed.
        let given_up = read(stat).and_then(|text| {
            field(&text, "total_inactive_file").or_else(|| field(&text, "inactive_file"))
        });
        Some((limit, limit.saturating_sub(used.saturating_sub(given_up.unwrap_or(0)))))
    })
}

/// The number that follows a word at a line's beginning.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

/// `some avg10=1.23 …`
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
}

/// Whether an attempt may begin while so many are being prepared; why not.
pub(super) fn attempt(app: &App, preparing: u64) -> Result<(), Busy> {
    let (limits, machine) = (&app.settings.limits, Machine::look());
    let each = machine.attempt(limits);
    machine.bears(limits, each.saturating_mul(preparing.saturating_add(1)))
}

/// Refuses to make or start a workspace where the machine would not bear it.
///
/// # Errors
/// Why, and when to try again.
pub fn workspace(app: &App) -> Result<(), Problem> {
    Machine::look().bears(&app.settings.limits, WORKSPACE).map_err(|busy| {
        Problem::unavailable(busy.to_string())
            .with_next("Try again in a moment, or stop what is not needed.")
    })
}

/// Whether a session's next turn may begin; else when to look again. What keeps it is told there.
pub(super) async fn turn(app: &App, session: &SessionRow) -> anyhow::Result<Option<Duration>> {
    let reached = app.store.quota_reached(session.owner, &QuotaKind::OF_TURNS).await?;
    let why = match reached {
        Some(reached) => Some(reached.to_string()),
        None => {
            let state = app.store.workspace(session.workspace).await?.state;
            // One that is awake has its memory.
            let busy = match state {
                WorkspaceState::Asleep => attempt(app, 0).err(),
                _ => None,
            };
            busy.map(|busy| busy.to_string())
        }
    };
    let Some(why) = why else {
        app.places.untell(session.id);
        return Ok(None);
    };
    let queued = Some(boatyard_model::PromptState::Queued);
    if app.store.list_prompts(session.id, queued, 0, 1).await?.is_empty() {
        return Ok(None);
    }
    if app.places.is_news(session.id, &why) {
        let text = format!("The prompt waits. {why}");
        app.hub.notice(session, NoticeLevel::Warning, NOTICE, text, None).await?;
    }
    Ok(Some(AGAIN))
}

/// Looks after turns that go past a quota. Their next request to a model is held, and a person
/// asked; those that make none are told, and the next time ended: their work is kept.
pub(super) async fn look_after_turns(app: &App) -> anyhow::Result<()> {
    app.store.write(|tx| Box::pin(async move { tx.count_clocks().await })).await?;
    app.hub.ledger().refresh();
    for (organization, member) in app.store.working_under_quota().await? {
        let owner = Owner { organization, member };
        let reached = app.store.quota_reached(owner, &QuotaKind::OF_TURNS).await?;
        let Some(reached) = reached else { continue };
        let filter =
            SessionFilter { state: Some(SessionState::Running), ..SessionFilter::default() };
        let sessions = app.store.list_sessions(organization, filter, LOOKED_AT).await?;
        for session in sessions.into_iter().filter(|session| session.owner == owner) {
            let why = reached.to_string();
            if app.places.is_news(session.id, &why) {
                let text = format!(
                    "{why} The turn is held when its agent asks its model next; one that does not \
                     ask is ended within two minutes, and its work is kept."
                );
                app.hub.notice(&session, NoticeLevel::Warning, NOTICE_QUOTA, text, None).await?;
            } else {
                let text = format!("The turn was ended: {why}");
                app.hub.notice(&session, NoticeLevel::Warning, NOTICE_LIMIT, text, None).await?;
                finish::stop(app, session.id, TurnOutcome::LimitReached).await?;
                app.places.untell(session.id);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_bears_what_leaves_the_reserve() {
        let limits = Limits {
            memory_reserve: crate::settings::ByteSize::from_bytes(100 << 20),
            memory_pressure: 40,
            cpu_pressure: 0,
            ..Limits::default()
        };
        let machine = |available: u64, memory_pressure: f64| Machine {
            total: Some(1 << 30),
            available: Some(available << 20),
            memory_pressure: Some(memory_pressure),
            cpu_pressure: Some(99.0),
        };
        assert_eq!(machine(600, 40.0).bears(&limits, 500 << 20), Ok(()));
        let busy = machine(599, 0.0).bears(&limits, 500 << 20).unwrap_err();
        assert!(busy.to_string().contains("599 MiB of memory left, and 600 MiB"), "{busy}");
        let busy = machine(600, 41.0).bears(&limits, 500 << 20).unwrap_err();
        assert_eq!(busy, Busy::MemoryPressure(41.0));
        // A small machine runs small things.
        assert_eq!(machine(0, 0.0).attempt(&limits), 128 << 20);
        assert_eq!(Machine::default().attempt(&limits), ATTEMPT);
        // What the kernel does not tell keeps nothing back.
        assert_eq!(Machine::default().bears(&limits, u64::MAX), Ok(()));
        let strict = Limits { cpu_pressure: 90, ..limits };
        assert_eq!(machine(600, 0.0).bears(&strict, 0), Err(Busy::CpuPressure(99.0)));
    }

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let text = "some avg10=12.50 avg60=2.28 avg300=3.63 total=12\nfull avg10=1.00 total=0\n";
        assert_eq!(some_avg10(text), Some(12.5));
        let text = "MemTotal:       24684084 kB\nMemAvailable:   23620584 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(23_620_584));
        let files = |path: &str| {
            let text = match path {
                "/sys/fs/cgroup/memory.max" => "1000\n",
                "/sys/fs/cgroup/memory.current" => "900\n",
                "/sys/fs/cgroup/memory.stat" => "anon 5\ninactive_file 300\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        assert_eq!(left_in_group(&files), Some((1000, 400)));
        let unlimited = |path: &str| (path == "/sys/fs/cgroup/memory.max").then(|| "max".into());
        assert_eq!(left_in_group(&unlimited), None);
        assert!(Machine::look().available.is_some_and(|bytes| bytes > 0));
    }
}
