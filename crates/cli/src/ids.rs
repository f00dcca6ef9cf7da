//! What a person types for an id.
//!
//! A whole id (`tsk_…`, `ses_…`, `ws_…`), the beginning or the end of one if it is unambiguous, or
//! `@last` for the newest task. A task may stand for its session: that of its best attempt, or of
//! the one that `--attempt` names.

use std::{path::Path, str::FromStr};

use anyhow::Result;
use boatyard_api::{
    Client,
    model::{RepositoryId, SessionId, TaskId, WorkspaceId},
    repository::NewRepository,
    session::SessionFilter,
    task::{Attempt, Task, TaskFilter, best},
    workspace::WorkspaceFilter,
};

use crate::{
    checkout::{Checkout, send},
    failure::Failure,
};

/// How many of the newest are looked through for a part of an id.
const LOOKED_THROUGH: u32 = 200;
/// A shorter part is more likely a mistake.
const SHORTEST: usize = 4;

/// The help of an argument that takes an id.
pub(crate) const HELP: &str = "An id, a unique part of its beginning or end, or @last";

/// A task or a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A task.
    Task(TaskId),
    /// A session.
    Session(SessionId),
}

/// The task that is meant.
pub(crate) async fn task(client: &Client, text: &str) -> Result<TaskId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    refuse_other_kind(text, TaskId::PREFIX, "task")?;
    let tasks = newest_tasks(client).await?;
    pick(text, tasks, "task", "boatyard task list")
}

/// The workspace that is meant; a task stands for that of its best attempt.
pub(crate) async fn workspace(client: &Client, text: &str) -> Result<WorkspaceId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if text == "@last" || text.starts_with(TaskId::PREFIX) {
        let task = client.find_task(task(client, text).await?).await?;
        let workspace = attempt_of(&task, None)?.workspace;
        return workspace.ok_or_else(|| {
            Failure::new(format!("task {} has no workspace yet", task.id))
                .next(format!("see how far it is with `boatyard task show {}`", task.id))
                .into()
        });
    }
    refuse_other_kind(text, WorkspaceId::PREFIX, "workspace")?;
    let filter = WorkspaceFilter { limit: Some(LOOKED_THROUGH), ..WorkspaceFilter::default() };
    let all = client.list_workspaces(&filter).await?.items.into_iter().map(|w| w.id).collect();
    pick(text, all, "workspace", "boatyard workspace list")
}

/// The task or session that is meant.
pub(crate) async fn target(client: &Client, text: &str) -> Result<Target> {
    if let Ok(id) = text.parse() {
        return Ok(Target::Task(id));
    }
    if let Ok(id) = text.parse() {
        return Ok(Target::Session(id));
    }
    if text.starts_with("ses_") {
        return session_by_part(client, text).await.map(Target::Session);
    }
    if let Some(kind) = text.split_once('_').map(|(kind, _)| kind)
        && ["ws", "per", "qst", "job", "rep"].contains(&kind)
    {
        return Err(Failure::usage(format!("{text} is no task or session"))
            .next("name a task (tsk_…) or a session (ses_…); `boatyard task list` shows them")
            .into());
    }
    let tasks = newest_tasks(client).await?;
    if text == "@last" || text.starts_with("tsk_") || tasks.iter().any(|id| matches(id, text)) {
        return pick(text, tasks, "task", "boatyard task list").map(Target::Task);
    }
    session_by_part(client, text).await.map(Target::Session)
}

/// The session that is meant; a task stands for that of an attempt.
pub(crate) async fn session(
    client: &Client,
    text: &str,
    attempt: Option<u32>,
) -> Result<SessionId> {
    match target(client, text).await? {
        Target::Session(id) => Ok(id),
        Target::Task(id) => {
            let task = client.find_task(id).await?;
            let attempt = attempt_of(&task, attempt)?;
            attempt.session.ok_or_else(|| {
                let message = match &attempt.reason {
                    Some(reason) => format!("{} has no session: {}", task.id, reason.text),
                    None => format!("{} has no session yet: it is {}", task.id, attempt.state),
                };
                Failure::new(message)
                    .next(format!("see how far it is with `boatyard task show {}`", task.id))
                    .into()
            })
        }
    }
}

/// The task, workspace or session that is meant, as an id.
pub(crate) async fn thing(client: &Client, text: &str) -> Result<String> {
    if text.starts_with(WorkspaceId::PREFIX) {
        return Ok(workspace(client, text).await?.to_string());
    }
    Ok(match target(client, text).await? {
        Target::Task(id) => id.to_string(),
        Target::Session(id) => id.to_string(),
    })
}

/// The repository that is meant: its id, its address, or a checkout here.
pub(crate) async fn repository(client: &Client, text: &str) -> Result<RepositoryId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let looks_so = text == "." || text == ".." || text.starts_with(['/', '.']);
    if looks_so || Path::new(text).is_dir() {
        let checkout = Checkout::find(Path::new(text)).await?;
        return Ok(send::registered(client, &checkout).await?.id);
    }
    let new = NewRepository { source: text.to_owned() };
    Ok(client.create_repository(&new).await?.id)
}

/// The attempt that is meant: that of this number, else the best.
pub(crate) fn attempt_of(task: &Task, number: Option<u32>) -> Result<&Attempt> {
    let found = match number {
        Some(number) => task.attempts.iter().find(|attempt| attempt.n == number),
        None => best(&task.attempts),
    };
    found.ok_or_else(|| {
        let wanted = number.map_or("no attempt".to_owned(), |n| format!("no attempt {n}"));
        Failure::not_found(format!("task {} has {wanted}", task.id))
            .next(format!("it has {}; see `boatyard task show {}`", task.attempts.len(), task.id))
            .into()
    })
}

async fn newest_tasks(client: &Client) -> Result<Vec<TaskId>> {
    let filter = TaskFilter { limit: Some(LOOKED_THROUGH), ..TaskFilter::default() };
    Ok(client.list_tasks(&filter).await?.items.into_iter().map(|task| task.id).collect())
}

async fn session_by_part(client: &Client, text: &str) -> Result<SessionId> {
    let filter = SessionFilter { limit: Some(LOOKED_THROUGH), ..SessionFilter::default() };
    let all = client.list_sessions(&filter).await?.items.into_iter().map(|s| s.id).collect();
    pick(text, all, "task or session", "boatyard task list")
}

fn refuse_other_kind(text: &str, wanted: &str, kind: &str) -> Result<()> {
    match text.split_once('_') {
        Some((prefix, _)) if prefix != wanted && prefix.len() <= 3 => {
            Err(Failure::usage(format!("{text} is no {kind}"))
                .next(format!("an id of a {kind} begins with {wanted}_"))
                .into())
        }
        _ => Ok(()),
    }
}

fn matches(id: &impl ToString, text: &str) -> bool {
    let id = id.to_string();
    let part = text.to_ascii_uppercase();
    let bare = id.split_once('_').map_or(id.as_str(), |(_, bare)| bare);
    text.len() >= SHORTEST
        && (id.starts_with(text) || bare.starts_with(&part) || bare.ends_with(&part))
}

/// The one of `all` (the newest first) that `text` means.
fn pick<T: Copy + ToString + FromStr>(
    text: &str,
    all: Vec<T>,
    kind: &str,
    list: &str,
) -> Result<T> {
    if text == "@last" {
        return all.first().copied().ok_or_else(|| {
            Failure::not_found(format!("there is no {kind} yet"))
                .next("begin one with `boatyard run \"PROMPT\" --repo .`")
                .into()
        });
    }
    let found: Vec<T> = all.into_iter().filter(|id| matches(id, text)).collect();
    match found[..] {
        [one] => Ok(one),
        [] => Err(Failure::not_found(format!("there is no {kind} {text}"))
            .next(format!("see `{list}` for what there is; `@last` is the newest task"))
            .into()),
        _ => {
            let names: Vec<String> = found.iter().take(4).map(ToString::to_string).collect();
            Err(Failure::usage(format!("{text} may mean {} {kind}s", found.len()))
                .next(format!("write more of the id: {}", names.join(", ")))
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<usize, &str>) {
        let ids: Vec<TaskId> = [
            "tsk_01KAJ5X8Z4J6Q0V9W3T7R2K1M5",
            "tsk_01KAJ5X8Z4J6Q0V9W3T7R2ZZZZ",
            "tsk_01KBBBBBBBBBBBBBBBBBBBABCD",
        ]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
        let got = pick(text, ids.clone(), "task", "boatyard task list");
        match expected {
            Ok(n) => assert_eq!(got.unwrap(), ids[n], "{text}"),
            Err(words) => {
                let error = got.unwrap_err().to_string();
                assert!(error.contains(words), "{text}: {error}");
            }
        }
    }

    #[test]
    fn a_unique_part_is_enough() {
        check("@last", Ok(0));
        check("zzzz", Ok(1));
        check("ABCD", Ok(2));
        check("tsk_01KB", Ok(2));
        check("01KA", Err("may mean 2 tasks"));
        check("CD", Err("there is no task CD"));
        check("nothing", Err("there is no task nothing"));
    }
}
