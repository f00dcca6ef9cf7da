//! Several attempts at a task, side by side.

use boatyard_api::{
    model::Timestamp,
    task::{Attempt, CheckState, Task},
};

use super::task::mark;
use crate::{
    output::{Look, table::Table},
    text::{clean_line, duration},
};

/// A table with a line for each attempt; the best one is marked.
pub(crate) fn table(task: &Task, look: Look, now: Timestamp) -> String {
    let mut table = Table::new(
        &["ATTEMPT", "AGENT", "MODEL", "STATE", "+/-", "FILES", "TIME", "TOKENS", "COST", "CHECK"],
        2,
    );
    for attempt in &task.attempts {
        let result = attempt.result.as_ref();
        let best = if attempt.n == task.best { " best" } else { "" };
        let time = attempt.started.map(|from| duration(attempt.ended.unwrap_or(now).since(from)));
        table.row(vec![
            format!("{}{}", attempt.n, look.good(best)),
            clean_line(&attempt.agent),
            attempt.model.as_deref().map(clean_line).unwrap_or_default(),
            format!("{} {}", mark(attempt.state, look), attempt.state),
            result.map(|r| format!("+{} -{}", r.added, r.removed)).unwrap_or_default(),
            result.map(|r| r.files.len().to_string()).unwrap_or_default(),
            time.unwrap_or_default(),
            tokens(attempt),
            result
                .and_then(|r| r.usage.cost_usd)
                .map(|cost| format!("${cost:.2}"))
                .unwrap_or_default(),
            check(attempt, look),
        ]);
    }
    table.render(look)
}

fn tokens(attempt: &Attempt) -> String {
    let Some(result) = &attempt.result else { return String::new() };
    let all = result.usage.input_tokens + result.usage.cached_tokens + result.usage.output_tokens;
    if all == 0 { String::new() } else { all.to_string() }
}

/// What the check said of an attempt's work.
pub(crate) fn check(attempt: &Attempt, look: Look) -> String {
    let check = attempt.result.as_ref().and_then(|result| result.check.as_ref());
    let Some(check) = check else { return String::new() };
    let state = check.state.as_str();
    match (check.state, check.exit_code) {
        (CheckState::Passed, _) => look.good(state),
        (CheckState::Failed, Some(code)) => look.bad(format!("{state} ({code})")),
        _ => look.bad(state),
    }
}
