//! Tool calls: one line each once they are over, those of a sub-agent below it.
//!
//! ```text
//!   ▸ Look at the tests          the sub-agent's own call, when the first below it is over
//!     ✓ $ ls tests  3 ms
//!   ✓ Look at the tests  2.1 s   and when it is over itself
//! ```

use boatyard_api::model::{
    Timestamp,
    event::{ToolCall, ToolKind, ToolStatus},
};

use super::{
    super::calls::{changed_lines, kind_name},
    Block, Detail, INDENT, Renderer,
};
use crate::text::{clean, clean_line, duration};

/// Lines of a failing command's output that are shown.
const OUTPUT_LINES: usize = 8;
/// As much of a running tool's output is kept, in bytes, to show its end should it fail.
const OUTPUT_KEPT: usize = 16 << 10;
/// Deeper than this nothing is moved to the right.
const DEEPEST: usize = 4;

/// A tool call that is not over.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) call: ToolCall,
    pub(super) since: Timestamp,
    /// Whether it was named above what it began.
    is_headed: bool,
}

impl Renderer {
    pub(super) fn tool_started(&mut self, call: &ToolCall, time: Timestamp) {
        self.end_flow();
        if !self.tools.iter().any(|open| open.call.tool == call.tool) {
            self.tools.push(Open { call: call.clone(), since: time, is_headed: false });
        }
    }

    pub(super) fn tool_updated(&mut self, call: &ToolCall, time: Timestamp) {
        self.tool_started(&ToolCall { output: None, ..call.clone() }, time);
        let Some(open) = self.tools.iter_mut().find(|open| open.call.tool == call.tool) else {
            return;
        };
        let known = &mut open.call;
        known.kind = call.kind.or(known.kind);
        if call.parent.is_some() {
            known.parent.clone_from(&call.parent);
        }
        if call.title.is_some() {
            known.title.clone_from(&call.title);
        }
        if !call.diffs.is_empty() {
            known.diffs.clone_from(&call.diffs);
        }
        if let Some(more) = &call.output {
            let output = known.output.get_or_insert_default();
            output.push_str(more);
            let over = output.len().saturating_sub(OUTPUT_KEPT);
            if let Some(cut) =
                (over..output.len()).find(|i| over > 0 && output.is_char_boundary(*i))
            {
                output.drain(..cut);
            }
        }
    }

    pub(super) fn tool_completed(
        &mut self,
        call: &ToolCall,
        status: ToolStatus,
        exit_code: Option<i32>,
        time: Timestamp,
    ) {
        let open = self.tools.iter().position(|open| open.call.tool == call.tool);
        let open = open.map(|at| self.tools.remove(at));
        // The completing event carries the whole; what it lacks was said before.
        let mut whole = call.clone();
        if let Some(open) = &open {
            whole.kind = whole.kind.or(open.call.kind);
            whole.parent = whole.parent.or_else(|| open.call.parent.clone());
            whole.title = whole.title.or_else(|| open.call.title.clone());
            whole.output = whole.output.or_else(|| open.call.output.clone());
            if whole.diffs.is_empty() {
                whole.diffs.clone_from(&open.call.diffs);
            }
        }
        let mark = match status {
            ToolStatus::Completed => self.look.good("✓"),
            ToolStatus::Failed => self.look.bad("✗"),
            ToolStatus::Cancelled => self.look.warn("◌"),
        };
        let mut facts = Vec::new();
        match status {
            ToolStatus::Failed => facts.push(match exit_code {
                Some(code) => self.look.bad(format!("exit {code}")),
                None => self.look.bad("failed"),
            }),
            ToolStatus::Cancelled => facts.push(self.look.warn("stopped")),
            ToolStatus::Completed => {}
        }
        let (added, removed) = changed_lines(&whole);
        if added + removed > 0 {
            facts.push(format!(
                "{} {}",
                self.look.good(format!("+{added}")),
                self.look.bad(format!("-{removed}"))
            ));
        }
        if let Some(open) = &open {
            facts.push(self.look.dim(duration(time.since(open.since))));
        }
        self.head(whole.parent.as_deref());
        let pad = INDENT.repeat(self.depth(whole.parent.as_deref()));
        let line = format!("{pad}{mark} {}  {}", self.title(&whole), facts.join("  "));
        self.say(Block::Tools, line.trim_end());
        let wanted = status == ToolStatus::Failed || self.detail == Detail::Everything;
        if let (true, Some(output)) = (wanted, &whole.output) {
            self.output(&pad, output);
        }
    }

    /// The last lines of a tool's output.
    fn output(&mut self, pad: &str, output: &str) {
        let cleaned = clean(output);
        let lines: Vec<&str> = cleaned.lines().map(str::trim_end).collect();
        let end = lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1);
        let shown = match self.detail {
            Detail::Normal => OUTPUT_LINES,
            Detail::Everything => usize::MAX,
        };
        let start = end.saturating_sub(shown);
        let width = self.look.width.saturating_sub(6 + pad.len());
        if start > 0 {
            self.lines.push(self.look.dim(format!("{pad}    │ … {start} lines before")));
        }
        for line in &lines[start..end] {
            let line = console::truncate_str(line, width, "…");
            self.lines.push(self.look.dim(format!("{pad}    │ {line}").trim_end()));
        }
    }

    pub(super) fn title(&self, call: &ToolCall) -> String {
        let title = call.title.as_deref().map(clean_line).filter(|title| !title.is_empty());
        let is_command = call.kind == Some(ToolKind::Execute);
        let title = match title {
            Some(title) if is_command => {
                format!("$ {}", title.trim_matches('`').trim_start_matches("$ "))
            }
            Some(title) => title,
            None => call.kind.map_or("a tool", kind_name).to_owned(),
        };
        // Room for the mark and what follows.
        console::truncate_str(&title, self.look.width.saturating_sub(26), "…").into_owned()
    }

    /// How many sub-agents that are at work stand above what this call began.
    pub(super) fn depth<'a>(&'a self, mut parent: Option<&'a str>) -> usize {
        let mut depth = 0;
        while let Some(id) = parent
            && let Some(open) = self.tools.iter().find(|open| open.call.tool == id)
            && depth < DEEPEST
        {
            depth += 1;
            parent = open.call.parent.as_deref();
        }
        depth
    }

    /// Names the sub-agent before the first of what it did.
    fn head(&mut self, parent: Option<&str>) {
        let Some(id) = parent else { return };
        let Some(open) = self.tools.iter_mut().find(|open| open.call.tool == id) else { return };
        if std::mem::replace(&mut open.is_headed, true) {
            return;
        }
        let call = open.call.clone();
        self.head(call.parent.as_deref());
        let pad = INDENT.repeat(self.depth(call.parent.as_deref()));
        let line = format!("{pad}{} {}", self.look.name("▸"), self.title(&call));
        self.say(Block::Tools, line);
    }
}
