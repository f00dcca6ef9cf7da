//! A session's events as lines for people: a pure function of what came so far.
//!
//! ```text
//! event ─► Renderer ─► take(): lines that stand for good, to be printed once
//!                 └──► live(): what is under way, to be drawn over
//! ```
//!
//! What a workspace says is hostile: every text goes through [`clean`].

use std::{collections::HashMap, time::Duration};

use boatyard_api::model::{
    Content, Event, EventBody, Timestamp, TurnOutcome,
    event::{CommitKind, FileChange, NoticeLevel, PermissionOutcome, PlanEntry, PlanStatus},
};

use self::tools::Open;
use super::{
    egress::{answered, wanted},
    phase::{Told, phase_line},
    wrap::Wrap,
};
use crate::{
    output::Look,
    text::{clean, clean_line, duration},
};

/// Everything of a session stands so far in.
const INDENT: &str = "  ";
/// Lines of a prompt that are shown.
const PROMPT_LINES: usize = 6;
/// The wheel that turns while something is under way, eight times a second.
const WHEEL: [&str; 8] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧"];

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// What a person wants to follow.
    Normal,
    /// Checkpoints, files, and the output of every command as well.
    Everything,
}

/// What kind of lines came last, so that different ones are set apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Start,
    Phases,
    Prompt,
    Message,
    Thought,
    Tools,
    Notice,
}

/// What the agent is saying or thinking.
#[derive(Debug)]
struct Flow {
    id: String,
    block: Block,
    wrap: Wrap,
    in_code: bool,
    /// Bytes of it that were taken in.
    taken: usize,
}

/// Turns events into lines.
#[derive(Debug)]
pub(crate) struct Renderer {
    look: Look,
    detail: Detail,
    lines: Vec<String>,
    last: Block,
    flow: Option<Flow>,
    tools: Vec<Open>,
    /// How many bytes of each unfinished message or thought were shown.
    shown: HashMap<String, usize>,
    plan: Vec<PlanEntry>,
    /// Titles of permissions and questions that wait.
    asked: HashMap<String, String>,
    turn_since: Option<Timestamp>,
}

impl Renderer {
    /// For a terminal, or what stands in for one.
    pub(crate) fn new(look: Look, detail: Detail) -> Self {
        Self {
            look,
            detail,
            lines: Vec::new(),
            last: Block::Start,
            flow: None,
            tools: Vec::new(),
            shown: HashMap::new(),
            plan: Vec::new(),
            asked: HashMap::new(),
            turn_since: None,
        }
    }

    /// The lines that stand for good since the last time.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// What is under way, to be drawn over.
    pub(crate) fn live(&self, now: Timestamp) -> Vec<String> {
        let wheel = WHEEL[usize::try_from(now.0 / 125).unwrap_or(0) % WHEEL.len()];
        let since = |then| duration(Duration::from_secs(now.since(then).as_secs()));
        let mut lines = Vec::new();
        if let Some(flow) = &self.flow
            && !flow.wrap.pending().is_empty()
        {
            lines.push(self.flowing(flow, flow.wrap.pending()));
        }
        for open in &self.tools {
            let title = self.title(&open.call);
            let time = self.look.dim(since(open.since));
            let pad = INDENT.repeat(1 + self.depth(open.call.parent.as_deref()));
            lines.push(format!("{pad}{} {title}  {time}", self.look.name(wheel)));
        }
        if let (true, Some(turn)) = (self.tools.is_empty(), self.turn_since) {
            let step = self.plan.iter().find(|entry| entry.status == PlanStatus::InProgress);
            let what = step.map_or("working".to_owned(), |entry| clean_line(&entry.text));
            let line = format!("{INDENT}{wheel} {what}  {}", since(turn));
            lines.push(self.look.dim(line));
        }
        lines
    }

    /// Whether the agent has something to do.
    pub(crate) const fn is_at_work(&self) -> bool {
        self.turn_since.is_some()
    }

    /// Whatever is unfinished is given out as it is.
    pub(crate) fn finish(&mut self) {
        self.end_flow();
    }

    /// Takes in an event.
    pub(crate) fn event(&mut self, event: &Event) {
        match &event.body {
            EventBody::TurnStarted { content, author, .. } => {
                self.turn_since = Some(event.time);
                self.prompt(content, author.as_deref(), "");
            }
            EventBody::TurnSteered { content, restarted, .. } => {
                let how = if *restarted { " (the turn began again)" } else { " (into the turn)" };
                self.prompt(content, None, how);
            }
            EventBody::MessageDelta { message, text } => self.delta(message, text, Block::Message),
            EventBody::MessageCompleted { message, text, .. } => {
                self.whole(message, text, Block::Message);
            }
            EventBody::ThoughtDelta { thought, text } => self.delta(thought, text, Block::Thought),
            EventBody::ThoughtCompleted { thought, text } => {
                self.whole(thought, text, Block::Thought);
            }
            EventBody::ToolStarted { tool } => self.tool_started(tool, event.time),
            EventBody::ToolUpdated { tool } => self.tool_updated(tool, event.time),
            EventBody::ToolCompleted { tool, status, exit_code, .. } => {
                self.tool_completed(tool, *status, *exit_code, event.time);
            }
            EventBody::Plan { entries } => self.plan(entries),
            EventBody::PermissionRequested { permission, title, .. } => {
                let title = clean_line(title);
                let line = format!("{} It asks to be allowed: {title}", self.look.warn("?"));
                self.say(Block::Notice, line);
                self.asked.insert(permission.to_string(), title);
            }
            EventBody::PermissionResolved { permission, outcome, by, .. } => {
                self.permission_resolved(&permission.to_string(), *outcome, by.as_deref());
            }
            EventBody::QuestionAsked { question, text, .. } => {
                let text = clean_line(text);
                let line = format!("{} It asks: {text}", self.look.warn("?"));
                self.say(Block::Notice, line);
                self.asked.insert(question.to_string(), text);
            }
            EventBody::QuestionAnswered { question, answer, .. } => {
                self.asked.remove(&question.to_string());
                let line = match answer {
                    Some(answer) => format!("{} {}", self.look.name("↳"), clean_line(answer)),
                    None => format!("{} Nobody answered in time.", self.look.warn("!")),
                };
                self.say(Block::Notice, line);
            }
            // The end of a task tells the sum.
            EventBody::Usage { .. } => {}
            EventBody::FileChanged { path, change, .. } => {
                if self.detail == Detail::Everything {
                    let sign = match change {
                        FileChange::Added => "+",
                        FileChange::Modified => "~",
                        FileChange::Deleted => "-",
                        FileChange::Renamed => ">",
                    };
                    let line = self.look.dim(format!("{sign} {}", clean_line(path)));
                    self.say(Block::Notice, line);
                }
            }
            EventBody::GitCommit { commit, kind, subject } => {
                if *kind == CommitKind::Agent || self.detail == Detail::Everything {
                    let short: String = clean_line(commit).chars().take(9).collect();
                    let subject = clean_line(subject);
                    let line = format!("{} {short} {subject}", self.look.name("●"));
                    self.say(Block::Tools, line);
                }
            }
            EventBody::EgressBlocked { host, port, rule } => {
                let line = format!(
                    "{} blocked: {}:{port} {}",
                    self.look.warn("!"),
                    clean_line(host),
                    self.look.dim(format!("({})", clean_line(rule)))
                );
                self.say(Block::Notice, line);
            }
            EventBody::EgressAsked {
                host, port, method, path, program, credential, rule, ..
            } => {
                let what = wanted(method.as_deref(), host, *port, path.as_deref());
                let mut about = vec![format!("rule {}", clean_line(rule))];
                about.extend(program.iter().map(|name| format!("by {}", clean_line(name))));
                about.extend(credential.iter().map(|name| format!("with {}", clean_line(name))));
                let line = format!(
                    "{} asks to reach {what} {}",
                    self.look.warn("?"),
                    self.look.dim(format!("({})", about.join(", ")))
                );
                self.say(Block::Notice, line);
            }
            EventBody::EgressAnswered { state, answer, by, .. } => {
                let said = answered(*state, *answer, by.as_deref());
                let line = format!("{} {said}", self.look.name("↳"));
                self.say(Block::Notice, line);
            }
            EventBody::EgressPlaceholder { host, port, connection, reason } => {
                let about = connection.as_deref().map(clean_line).unwrap_or_default();
                let line = format!(
                    "{} credential refused: {about} to {}:{port} {}",
                    self.look.warn("!"),
                    clean_line(host),
                    self.look.dim(format!("({})", clean_line(reason)))
                );
                self.say(Block::Notice, line);
            }
            EventBody::TurnCompleted { outcome, error, .. } => {
                self.turn_completed(*outcome, error.as_deref());
            }
            EventBody::SessionState { reason, .. } => {
                if let Some(reason) = reason {
                    let line = self.look.dim(clean_line(reason));
                    self.say(Block::Notice, line);
                }
            }
            EventBody::Notice { level, code, text, data } => {
                match data.as_ref().filter(|_| code == "phase").and_then(Told::read) {
                    Some(phase) => {
                        self.end_flow();
                        self.begin(Block::Phases);
                        let line = phase_line(self.look, &phase.name, phase.millis, &phase.detail);
                        self.lines.push(line);
                    }
                    // The agent's own title of the conversation: there is one above already.
                    None if code == "title" && self.detail == Detail::Normal => {}
                    None => self.notice(*level, text),
                }
            }
        }
    }

    /// A line of its own.
    fn say(&mut self, block: Block, line: impl Into<String>) {
        self.end_flow();
        self.begin(block);
        self.lines.push(format!("{INDENT}{}", line.into()));
    }

    /// Sets blocks of different kinds apart.
    fn begin(&mut self, block: Block) {
        let apart = match (self.last, block) {
            (Block::Start, _) => false,
            // The commands of a setup belong to the phases.
            (Block::Phases, Block::Tools) | (Block::Tools, Block::Phases) => false,
            (Block::Message | Block::Thought | Block::Prompt, _) => true,
            (a, b) => a != b,
        };
        if apart {
            self.lines.push(String::new());
        }
        self.last = block;
    }

    fn prompt(&mut self, content: &[Content], author: Option<&str>, how: &str) {
        self.end_flow();
        self.begin(Block::Prompt);
        let mut pictures = 0;
        let mut texts = Vec::new();
        for piece in content {
            match piece {
                Content::Text { text } => texts.push(clean(text)),
                Content::Image { .. } => pictures += 1,
            }
        }
        let mut wrap = Wrap::new(self.look.width - 4);
        let mut lines = wrap.push(texts.join("\n").trim());
        lines.extend(wrap.finish());
        if let Some(author) = author.filter(|_| self.detail == Detail::Everything) {
            let author = clean_line(author);
            self.lines.push(self.look.dim(format!("{author}{how}")));
        } else if !how.is_empty() {
            self.lines.push(self.look.dim(how.trim()));
        }
        let more = lines.len().saturating_sub(PROMPT_LINES);
        for line in lines.iter().take(PROMPT_LINES) {
            self.lines.push(format!("{} {}", self.look.name(">"), self.look.bold(line)));
        }
        if more > 0 {
            self.lines.push(
                self.look.dim(format!("> … {}", crate::text::count(more as u64, "more line"))),
            );
        }
        if pictures > 0 {
            self.lines
                .push(self.look.dim(format!("> {}", crate::text::count(pictures, "picture"))));
        }
    }

    fn delta(&mut self, id: &str, text: &str, block: Block) {
        if self.flow.as_ref().is_none_or(|flow| flow.id != id) {
            self.end_flow();
            let wrap = Wrap::new(self.look.width - INDENT.len());
            self.flow = Some(Flow { id: id.to_owned(), block, wrap, in_code: false, taken: 0 });
        }
        let Some(mut flow) = self.flow.take() else { return };
        flow.taken += text.len();
        *self.shown.entry(id.to_owned()).or_default() += text.len();
        let lines = flow.wrap.push(&clean(text));
        self.give(&mut flow, lines);
        self.flow = Some(flow);
    }

    /// The whole of a message: only what the pieces before did not bring is shown.
    fn whole(&mut self, id: &str, text: &str, block: Block) {
        // Something else may have come between: what was shown of it stands.
        let taken = self.shown.get(id).copied().unwrap_or(0);
        if let Some(rest) = text.get(taken..).filter(|rest| !rest.is_empty()) {
            self.delta(id, rest, block);
        }
        self.end_flow();
        self.shown.remove(id);
    }

    fn end_flow(&mut self) {
        if let Some(mut flow) = self.flow.take() {
            let lines = flow.wrap.finish();
            self.give(&mut flow, lines);
        }
    }

    fn give(&mut self, flow: &mut Flow, lines: Vec<String>) {
        for line in lines {
            if self.last != flow.block || flow.taken == 0 {
                self.begin(flow.block);
            }
            let shown = self.flowing(flow, &line);
            if line.trim_start().starts_with("```") {
                flow.in_code = !flow.in_code;
            }
            self.lines.push(shown.trim_end().to_owned());
        }
    }

    /// A line of what the agent says or thinks.
    fn flowing(&self, flow: &Flow, line: &str) -> String {
        let is_fence = line.trim_start().starts_with("```");
        let is_heading = line.starts_with('#') && line.trim_start_matches('#').starts_with(' ');
        let styled = match flow.block {
            Block::Thought => self.look.dim(line),
            _ if is_fence => self.look.dim(line),
            _ if flow.in_code => self.look.name(line),
            _ if is_heading => self.look.bold(line),
            _ => line.to_owned(),
        };
        if line.is_empty() { String::new() } else { format!("{INDENT}{styled}") }
    }

    fn plan(&mut self, entries: &[PlanEntry]) {
        let same = entries.len() == self.plan.len()
            && entries.iter().zip(&self.plan).all(|(a, b)| a.text == b.text);
        self.plan = entries.to_vec();
        if same || entries.is_empty() {
            return;
        }
        self.end_flow();
        self.begin(Block::Notice);
        for entry in entries {
            let mark = match entry.status {
                PlanStatus::Pending => "○",
                PlanStatus::InProgress => "◐",
                PlanStatus::Completed => "●",
            };
            let text = clean_line(&entry.text);
            let line = console::truncate_str(&text, self.look.width - 6, "…");
            self.lines.push(format!("{INDENT}{}", self.look.dim(format!("{mark} {line}"))));
        }
    }

    fn permission_resolved(&mut self, id: &str, outcome: PermissionOutcome, by: Option<&str>) {
        let title = self.asked.remove(id).unwrap_or_else(|| "that".to_owned());
        let by = by.map(|by| format!(" by {}", clean_line(by))).unwrap_or_default();
        let line = match outcome {
            PermissionOutcome::Allowed => format!("{} allowed{by}: {title}", self.look.good("✓")),
            PermissionOutcome::Denied => format!("{} denied{by}: {title}", self.look.bad("✗")),
            PermissionOutcome::Expired => {
                format!("{} nobody answered in time, so no: {title}", self.look.bad("✗"))
            }
            PermissionOutcome::Cancelled => {
                format!("{} no longer asked: {title}", self.look.warn("◌"))
            }
        };
        self.say(Block::Notice, line);
    }

    fn turn_completed(&mut self, outcome: TurnOutcome, error: Option<&str>) {
        self.end_flow();
        self.tools.clear();
        self.turn_since = None;
        let what = match outcome {
            TurnOutcome::Completed => return,
            TurnOutcome::Cancelled => self.look.warn("◌ The turn was stopped"),
            TurnOutcome::Refused => self.look.bad("✗ The agent refused to go on"),
            TurnOutcome::Failed => self.look.bad("✗ The turn failed"),
            TurnOutcome::RunnerLost => self.look.bad("✗ The turn was lost with its process"),
            TurnOutcome::LimitReached => self.look.bad("✗ A limit was reached"),
        };
        let line = match error {
            Some(error) => format!("{what}: {}", clean_line(error)),
            None => what,
        };
        self.say(Block::Notice, line);
    }

    fn notice(&mut self, level: NoticeLevel, text: &str) {
        let text = clean(text);
        let mark = match level {
            NoticeLevel::Info => self.look.dim("·"),
            NoticeLevel::Warning => self.look.warn("!"),
            NoticeLevel::Error => self.look.bad("✗"),
        };
        let mut wrap = Wrap::new(self.look.width - 4);
        let mut lines = wrap.push(text.trim());
        lines.extend(wrap.finish());
        for (i, line) in lines.iter().enumerate() {
            let line = match level {
                NoticeLevel::Info => self.look.dim(line),
                _ => line.clone(),
            };
            if i == 0 {
                self.say(Block::Notice, format!("{mark} {line}"));
            } else {
                self.lines.push(format!("{INDENT}  {line}"));
            }
        }
    }
}

mod tools;

#[cfg(test)]
mod tests;
