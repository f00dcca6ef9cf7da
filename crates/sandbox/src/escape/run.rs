//! Running attacks: each in a process of its own, with a deadline.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use super::{
    Attack, Bait, Context, Finding, Group, Neighbour, Outcome, Place, Report, bait, bombs,
};
use crate::{
    spawn::pipe,
    sys::{check, process, socket},
};

/// How long an attack may take. The slowest wait for answers that don't come.
const LIMIT: Duration = Duration::from_secs(20);
/// The same for a bomb, which needs time to reach a limit.
const BOMB_LIMIT: Duration = Duration::from_secs(60);
/// The most bytes of a bait's description.
const BAIT_MAX: u64 = 256 << 10;

/// The program: reads a [`Bait`] from standard input, tries the groups and attacks that its arguments
/// name (all if there are none), and writes a line of JSON for each attack as it ends.
///
/// Ends with 2 when it is not told what it needs to know, else with 0 whatever came out.
pub fn main() -> ExitCode {
    let mut text = String::new();
    let bait = io::stdin().take(BAIT_MAX).read_to_string(&mut text).map_err(io::Error::other);
    let bait = bait.and_then(|_| serde_json::from_str::<Bait>(&text).map_err(io::Error::other));
    // Programs that attacks start must not inherit it, and none reads it again.
    let bait = match bait {
        Ok(bait) => bait,
        Err(error) => {
            let _ = writeln!(io::stderr(), "no description of baits on standard input: {error}");
            return ExitCode::from(2);
        }
    };
    let wanted: Vec<String> = std::env::args().skip(2).collect();
    for group in Group::ALL {
        let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
        for attack in group.attacks() {
            if !is_wanted(group.as_str()) && !is_wanted(attack.name) {
                continue;
            }
            let Finding { outcome, detail } = try_one(group, attack, &bait);
            let (name, tries) = (attack.name.to_owned(), attack.tries.to_owned());
            let report = Report { name, outcome, detail, group, tries };
            let told = serde_json::to_string(&report).map_err(io::Error::other).and_then(|line| {
                let mut out = io::stdout().lock();
                writeln!(out, "{line}")?;
                out.flush()
            });
            // Nobody listens any more.
            if told.is_err() {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// The program in the other workspace: lays out what a neighbour must not find, says where in a
/// line of JSON, and stays until it is killed.
pub fn neighbour() -> ExitCode {
    let token = std::env::args().nth(2).unwrap_or_default();
    match bait::Shared::lay(Path::new("/work"), &token) {
        Ok((_kept, shared)) => {
            let neighbour = Neighbour { token, shared, ..Neighbour::default() };
            let line = serde_json::to_string(&neighbour).unwrap_or_default();
            let mut out = io::stdout();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return ExitCode::FAILURE;
            }
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "nothing can be laid out: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tries one attack, in a child.
fn try_one(group: Group, attack: &Attack, bait: &Bait) -> Finding {
    if attack.place == Place::Inside && bait.outside {
        return Finding::skipped("would harm the machine outside a sandbox");
    }
    let limit = if group == Group::Bombs { BOMB_LIMIT } else { LIMIT };
    if group == Group::Bombs
        && let Some(why) = bombs::unlimited(attack.name, bait)
    {
        return Finding::new(Outcome::Unlimited, why);
    }
    match attempt(attack, bait, limit) {
        Ok(finding) => finding,
        Err(error) => Finding::skipped(format!("it could not be tried: {error}")),
    }
}

fn attempt(attack: &Attack, bait: &Bait, limit: Duration) -> io::Result<Finding> {
    let (reader, writer) = pipe().map_err(io::Error::other)?;
    // SAFETY: this process has one thread, so the child may do whatever a process may.
    let pid = check(unsafe { libc::fork() })?;
    if pid == 0 {
        drop(reader);
        // What it starts ends with it.
        // SAFETY: integers only.
        unsafe { libc::setpgid(0, 0) };
        let finding = (attack.attempt)(&Context { name: attack.name, bait });
        let line = serde_json::to_vec(&finding).unwrap_or_default();
        let told = File::from(writer).write_all(&line);
        process::exit(if told.is_ok() { 0 } else { 1 });
    }
    drop(writer);
    let finding = listen(reader, limit);
    // SAFETY: integers only: our own child, not reaped yet, and its group.
    unsafe {
        libc::kill(-pid, libc::SIGKILL);
        libc::kill(pid, libc::SIGKILL);
    }
    let mut status = 0;
    // SAFETY: `status` is writable.
    check(unsafe { libc::waitpid(pid, &raw mut status, 0) })?;
    Ok(match finding? {
        Answer::Finding(finding) => finding,
        Answer::Late => Finding::skipped(format!("it had not ended after {} s", limit.as_secs())),
        Answer::Nothing if libc::WIFSIGNALED(status) => match libc::WTERMSIG(status) {
            libc::SIGSYS => Finding::blocked("SIGSYS: the system-call filter ended it"),
            libc::SIGKILL => Finding::contained("SIGKILL: a limit ended it"),
            other => Finding::skipped(format!("the attack broke: signal {other}")),
        },
        Answer::Nothing => Finding::skipped("the attack broke"),
    })
}

enum Answer {
    Finding(Finding),
    Nothing,
    Late,
}

fn listen(reader: OwnedFd, limit: Duration) -> io::Result<Answer> {
    let deadline = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut file = File::from(reader);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Answer::Late);
        }
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if socket::wait(file.as_fd(), libc::POLLIN, Some(millis))? == 0 {
            continue;
        }
        let mut piece = [0; 4096];
        match file.read(&mut piece)? {
            0 => {
                let finding = serde_json::from_slice(&bytes);
                return Ok(finding.map_or(Answer::Nothing, Answer::Finding));
            }
            n => bytes.extend_from_slice(&piece[..n]),
        }
        // What an attack left running holds the pipe too.
        if let Ok(finding) = serde_json::from_slice(&bytes) {
            return Ok(Answer::Finding(finding));
        }
    }
}

/// A pair of descriptors from a call that fills two.
pub(super) fn owned(fd: i32) -> OwnedFd {
    // SAFETY: callers pass a descriptor that they just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
