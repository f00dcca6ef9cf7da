//! Tool calls in words and numbers.

use boatyard_api::model::event::{ToolCall, ToolKind};

/// Lines that a call adds and removes, as its edits tell it.
pub(super) fn changed_lines(call: &ToolCall) -> (usize, usize) {
    let mut sum = (0, 0);
    for diff in &call.diffs {
        let (added, removed) = lines_between(diff.old.as_deref().unwrap_or(""), &diff.new);
        sum.0 += added;
        sum.1 += removed;
    }
    sum
}

/// How many lines differ between two texts, their common beginning and end left out.
fn lines_between(old: &str, new: &str) -> (usize, usize) {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    (new.len() - tail, old.len() - tail)
}

/// A kind of tool, where the call has no title.
pub(super) const fn kind_name(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Read => "read",
        ToolKind::Edit => "edit",
        ToolKind::Delete => "delete",
        ToolKind::Move => "move",
        ToolKind::Search => "search",
        ToolKind::Execute => "a command",
        ToolKind::Think => "think",
        ToolKind::Fetch => "fetch",
        ToolKind::SwitchMode => "another mode",
        ToolKind::Other => "a tool",
    }
}
