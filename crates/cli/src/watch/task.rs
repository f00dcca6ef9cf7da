//! A task, followed from order to result.

use std::{collections::HashMap, time::Duration};

use anyhow::Result;
use boatyard_api::{
    Client,
    model::{
        AttemptState, TaskId, Timestamp,
        time::{Clock as _, SystemClock},
    },
    task::{Attempt, CheckState, Phase, PushState, Task},
};
use tokio::time::MissedTickBehavior;

use super::{
    TICK, compare, interrupts,
    phase::{phase_line, phase_under_way},
    screen::Screen,
    session::{self, End, Followed, Until},
    stat,
};
use crate::{
    failure::Exit,
    ids,
    output::{Look, Output},
    text::{clean, clean_line, duration},
};

/// How long the server may be away while a task is prepared.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of a failed check's end that are shown.
const CHECK_LINES: usize = 8;

/// Follows a task to its end. Answers with the task and the code to end with.
pub(crate) async fn follow(client: &Client, output: &Output, task: Task) -> Result<(Task, Exit)> {
    let mut screen =
        if output.is_json() { Screen::silent(output.err) } else { Screen::new(output.err) };
    let (task, end) = match task.attempts.len() {
        0 | 1 => follow_one(client, output, &mut screen, task).await?,
        _ => follow_many(client, output, &mut screen, task).await?,
    };
    drop(screen);
    let how = format!(
        "Detached: the task goes on.\n  watch it   boatyard attach {id}\n  stop it    boatyard cancel {id}",
        id = task.id
    );
    let exit = end.exit(output, &how).unwrap_or(match task.state {
        AttemptState::Succeeded => Exit::Done,
        _ => Exit::Failed,
    });
    Ok((task, exit))
}

async fn follow_one(
    client: &Client,
    output: &Output,
    screen: &mut Screen,
    task: Task,
) -> Result<(Task, End)> {
    let id = task.id;
    let number = task.attempts.first().map_or(1, |attempt| attempt.n);
    let (task, end) = begin(client, output, screen, task, number).await?;
    if let Some(end) = end {
        return Ok((task, end));
    }
    let Some(session) = ids::attempt_of(&task, Some(number))?.session else {
        return Ok((task, End::Over));
    };
    let until = Until::AttemptOver(id, number);
    let Followed { end, task: seen, .. } =
        session::follow(client, output, screen, session, 0, until).await?;
    let task = match seen {
        Some(task) => task,
        None => client.find_task(id).await?,
    };
    Ok((task, end))
}

/// Waits until there is a session, which tells everything from then on, or until the attempt is
/// over without one.
async fn begin(
    client: &Client,
    output: &Output,
    screen: &mut Screen,
    mut task: Task,
    number: u32,
) -> Result<(Task, Option<End>)> {
    let mut tick = tokio::time::interval(TICK);
    let mut interrupt = interrupts()?;
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_seen = tokio::time::Instant::now();
    loop {
        let attempt = ids::attempt_of(&task, Some(number))?;
        if attempt.session.is_some() {
            return Ok((task, None));
        }
        if attempt.state.is_terminal() {
            let ended = |phase: &Phase| {
                let detail = phase.detail.as_deref().unwrap_or_default();
                phase.millis.map(|millis| phase_line(output.err, &phase.name, millis, detail))
            };
            let lines: Vec<String> = attempt.phases.iter().filter_map(ended).collect();
            screen.show(&lines, &[]);
            return Ok((task, Some(End::Over)));
        }
        let live: Vec<String> =
            under_way(attempt, output.err, SystemClock.now()).into_iter().collect();
        screen.show(&[], &live);
        tokio::select! {
            _ = tick.tick() => match client.find_task(task.id).await {
                Ok(fresh) => {
                    task = fresh;
                    last_seen = tokio::time::Instant::now();
                }
                Err(error) if error.is_transient() && last_seen.elapsed() < PATIENCE => {}
                Err(error) => return Err(error.into()),
            },
            _ = interrupt.recv() => return Ok((task, Some(End::Detached))),
        }
    }
}

/// Several attempts: a line each.
async fn follow_many(
    client: &Client,
    output: &Output,
    screen: &mut Screen,
    mut task: Task,
) -> Result<(Task, End)> {
    let look = output.err;
    let mut tick = tokio::time::interval(TICK * 2);
    let mut interrupt = interrupts()?;
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen: HashMap<u32, AttemptState> = HashMap::new();
    let mut last_seen = tokio::time::Instant::now();
    loop {
        let now = SystemClock.now();
        let mut lines = Vec::new();
        for attempt in &task.attempts {
            let before = seen.insert(attempt.n, attempt.state);
            // A terminal is told once how each ended; a file gets every change.
            if before != Some(attempt.state) && (attempt.state.is_terminal() || !look.terminal) {
                lines.push(attempt_line(attempt, look, now));
            }
        }
        let alive: Vec<String> = task
            .attempts
            .iter()
            .filter(|attempt| !attempt.state.is_terminal())
            .map(|attempt| attempt_line(attempt, look, now))
            .collect();
        screen.show(&lines, &alive);
        if alive.is_empty() {
            return Ok((task, End::Over));
        }
        let waits = task
            .attempts
            .iter()
            .all(|attempt| attempt.state.is_terminal() || attempt.state == AttemptState::Waiting);
        if waits && !look.terminal {
            let commands = task.attempts.iter().filter(|a| a.state == AttemptState::Waiting);
            let attach = |a: &Attempt| format!("boatyard attach {} --attempt {}", task.id, a.n);
            return Ok((task.clone(), End::Waiting(commands.map(attach).collect())));
        }
        tokio::select! {
            _ = tick.tick() => match client.find_task(task.id).await {
                Ok(fresh) => {
                    task = fresh;
                    last_seen = tokio::time::Instant::now();
                }
                Err(error) if error.is_transient() && last_seen.elapsed() < PATIENCE => {}
                Err(error) => return Err(error.into()),
            },
            _ = interrupt.recv() => {
                return Ok((task, End::Detached));
            }
        }
    }
}

fn attempt_line(attempt: &Attempt, look: Look, now: Timestamp) -> String {
    let mark = mark(attempt.state, look);
    let since = attempt.started.unwrap_or(attempt.created);
    let time = duration(attempt.ended.unwrap_or(now).since(since));
    let what = match (&attempt.result, &attempt.reason) {
        (Some(result), _) if attempt.state.is_terminal() => stat::sum(result),
        (_, Some(reason)) => clean_line(&reason.text),
        _ => attempt
            .phases
            .last()
            .filter(|phase| phase.millis.is_none())
            .map(|phase| clean_line(&phase.name))
            .unwrap_or_default(),
    };
    let n = attempt.n;
    let agent = match &attempt.model {
        Some(model) => format!("{} {}", clean_line(&attempt.agent), clean_line(model)),
        None => clean_line(&attempt.agent),
    };
    let agent = look.name(agent);
    format!("  {mark} attempt {n}  {agent}  {:<9}  {}  {what}", attempt.state, look.dim(time))
}

/// The sign of a state.
pub(crate) fn mark(state: AttemptState, look: Look) -> String {
    match state {
        AttemptState::Queued => look.dim("○"),
        AttemptState::Preparing | AttemptState::Running => look.name("◐"),
        AttemptState::Waiting => look.warn("?"),
        AttemptState::Succeeded => look.good("✓"),
        AttemptState::Failed => look.bad("✗"),
        AttemptState::Cancelled => look.warn("◌"),
    }
}

/// The phase of an attempt that is under way, or why there is none.
pub(crate) fn under_way(attempt: &Attempt, look: Look, now: Timestamp) -> Option<String> {
    if attempt.state.is_terminal() {
        return None;
    }
    let running = attempt.phases.iter().find(|phase| phase.millis.is_none());
    let (what, since) = match running {
        Some(phase) => (phase.name.as_str(), phase.started),
        None if attempt.state == AttemptState::Queued => {
            ("waits for a free place", attempt.created)
        }
        None if attempt.state == AttemptState::Preparing => {
            ("preparing", attempt.started.unwrap_or(attempt.created))
        }
        None => return None,
    };
    Some(phase_under_way(look, what, since, now))
}

/// The last lines about a task: how it ended, what changed, what to do next. To be printed as
/// data.
pub(crate) fn ending(task: &Task, look: Look) -> Vec<String> {
    let Ok(attempt) = ids::attempt_of(task, None) else { return Vec::new() };
    let mut lines = Vec::new();
    if task.attempts.len() > 1 {
        lines.extend(compare::table(task, look, SystemClock.now()).lines().map(str::to_owned));
        lines.push(String::new());
    }
    let time = match (attempt.started, attempt.ended) {
        (Some(started), Some(ended)) => format!(" in {}", duration(ended.since(started))),
        _ => String::new(),
    };
    let mark = mark(attempt.state, look);
    let state = look.bold(format!("{}{time}", attempt.state));
    let which = match task.attempts.len() {
        0 | 1 => String::new(),
        all => format!(" (attempt {} of {all}, the best)", attempt.n),
    };
    let sum = attempt.result.as_ref().map(|result| format!(": {}", stat::sum(result)));
    lines.push(format!("{mark} {state}{which}{}", sum.unwrap_or_default()));
    if let Some(reason) =
        attempt.reason.as_ref().filter(|_| attempt.state != AttemptState::Succeeded)
    {
        lines.extend(clean(&reason.text).lines().map(|line| format!("  {line}")));
    }
    if let Some(result) = &attempt.result {
        lines.extend(stat::diffstat(&result.files, look));
        match &result.pushed {
            PushState::Pushed { remote, branch, .. } => {
                lines.push(format!("pushed {} to {}", clean_line(branch), clean_line(remote)));
            }
            PushState::Refused { reason } => {
                lines.push(format!("{} not pushed: {}", look.warn("!"), clean_line(reason)));
            }
            PushState::NotPushed => {}
        }
        if let Some(check) = &result.check {
            let took = duration(Duration::from_millis(check.millis));
            let state = compare::check(attempt, look);
            lines.push(format!("check {state}: {} ({took})", clean_line(&check.command)));
            if check.state != CheckState::Passed {
                let output = clean(&check.output);
                let all: Vec<&str> = output.lines().collect();
                let end = &all[all.len().saturating_sub(CHECK_LINES)..];
                lines.extend(end.iter().map(|line| look.dim(format!("  {line}"))));
            }
        }
        if let Some(usage) = stat::usage(&result.usage) {
            lines.push(look.dim(usage));
        }
    }
    lines
}

/// How wide the column of next steps is at least.
const STEP_WIDTH: usize = 47;

/// What may be done next with a task that is over.
pub(crate) fn next_steps(task: &Task) -> String {
    let id: TaskId = task.id;
    let changed = task
        .attempts
        .iter()
        .any(|attempt| attempt.result.as_ref().is_some_and(|result| !result.files.is_empty()));
    let mut steps = Vec::new();
    if changed {
        steps.push((format!("diff {id}"), "see it"));
        steps.push((format!("apply {id}"), "bring it into your checkout"));
        if task.attempts.len() > 1 {
            steps.push((format!("apply {id} --attempt N"), "bring another attempt"));
        }
    }
    // Where no agent was ever reached, there is nobody to say more to.
    if task.attempts.iter().flat_map(|attempt| &attempt.phases).any(|phase| phase.name == "agent") {
        steps.push((format!("prompt {id} \"…\""), "say more"));
    }
    if task.state == AttemptState::Failed {
        steps.push((format!("logs {id}"), "read what happened"));
    }
    let width = steps.iter().map(|(step, _)| step.chars().count() + 2).max().unwrap_or(0);
    let width = width.max(STEP_WIDTH);
    let lines = steps.iter().map(|(step, what)| format!("\n  boatyard {step:<width$}{what}"));
    lines.collect()
}
