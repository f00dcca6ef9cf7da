//! The tool calls of a session: piecemeal updates in, started / updated / completed out.
//!
//! Agents differ in what they tell and when (a permission request may be the first that is heard of
//! a call; arguments arrive in pieces; output comes as growing content, as deltas in `_meta`, at the
//! end as text in a fence, or never). What comes out is the same for all: `tool.started` once,
//! `tool.updated` with what is new, `tool.completed` once with the whole.

use std::collections::{HashMap, HashSet, VecDeque};

use boatyard_model::{
    EventBody,
    event::{PlanEntry, PlanStatus, ToolCall, ToolDiff, ToolKind, ToolStatus},
};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::{
    capture::{Capture, WHOLE, prefix, preview, suffix},
    sink::Sink,
};

/// How many calls may be open at once.
const OPEN: usize = 256;
/// How many ended calls are remembered, to drop what comes late about them.
const ENDED: usize = 4096;
/// The longest id that is taken from an agent.
const ID_LEN: usize = 200;
/// A tool's arguments in an event.
const INPUT: usize = 64 << 10;
/// One side of a diff in an event: files come from git, this is what the agent says.
const DIFF: usize = 64 << 10;
/// All diffs of a call together; what comes after is told by its path only.
const DIFFS: usize = 256 << 10;
/// How many diffs, locations and pictures of one call are kept.
const PARTS: usize = 64;
/// A title.
const TITLE: usize = 500;
/// The most that is held of the outputs of all open calls together.
const HELD: usize = 32 << 20;
/// How much of the end of a content is looked for in the next one: the more is found the surer it is,
/// but a small window keeps little.
const SEAMS: [usize; 3] = [1 << 10, 128, 16];
/// How Claude begins what it tells its model of a tool that was stopped.
const CLAUDE_STOPPED: &str = "The user doesn't want to proceed with this tool use.";
/// The largest picture.
const IMAGE: usize = 16 << 20;

/// The calls of a session.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// In the order in which they started.
    open: Vec<Tool>,
    ended: HashSet<String>,
    order: VecDeque<String>,
    renamed: HashMap<String, u32>,
}

#[derive(Debug)]
struct Tool {
    /// The agent's id.
    id: String,
    /// All that is known, without the output.
    call: ToolCall,
    output: Capture,
    /// The text of the content as last told, to find what is new in it.
    content: String,
    exit_code: Option<i32>,
    /// It is shown as a plan instead.
    hidden: bool,
}

impl Tools {
    /// Whether this update begins a call that was not heard of.
    pub(crate) fn is_new(&self, update: &Value) -> bool {
        let Some(id) = id_of(update) else { return false };
        let known = self.open.iter().any(|tool| tool.id == id);
        !known && (update["sessionUpdate"] == "tool_call" || !self.ended.contains(id))
    }

    /// How many calls run.
    pub(crate) fn running(&self) -> usize {
        self.open.len()
    }

    /// The event's name of the open call with the agent's id.
    pub(crate) fn item(&self, id: &str) -> Option<&str> {
        self.open.iter().find(|t| t.id == id && !t.hidden).map(|t| t.call.tool.as_str())
    }

    /// What the open call with the agent's id does.
    pub(crate) fn kind(&self, id: &str) -> Option<ToolKind> {
        self.open.iter().find(|tool| tool.id == id)?.call.kind
    }

    /// Takes a `tool_call`, a `tool_call_update` or the `toolCall` of a permission request.
    /// `cancelling`: the turn is being cancelled, so that a failure means that. Gives a plan where
    /// the call is one in disguise.
    pub(crate) fn update(
        &mut self,
        update: &Value,
        cancelling: Cancelling,
        sink: &mut Sink,
    ) -> Option<Vec<PlanEntry>> {
        let id = id_of(update)?;
        let new = self.is_new(update);
        if new {
            if self.open.len() >= OPEN {
                return None;
            }
            let item = self.name(id);
            let hidden = is_todo_list(update);
            let call = ToolCall { tool: item, ..ToolCall::default() };
            self.open.push(Tool {
                id: id.to_owned(),
                call,
                output: Capture::default(),
                content: String::new(),
                exit_code: None,
                hidden,
            });
        }
        let held: usize = self.open.iter().map(|tool| tool.output.held()).sum();
        let at = self.open.iter().position(|tool| tool.id == id)?;
        let tool = &mut self.open[at];
        let status = update["status"].as_str().unwrap_or_default();
        let done = matches!(status, "completed" | "failed");
        let plan = if tool.hidden { todo_list(&update["rawInput"]) } else { None };
        let mut told = tool.facts(update, sink);
        told.output = tool.output(update, done, cancelling, HELD.saturating_sub(held));
        if !tool.hidden {
            let nothing = ToolCall { tool: tool.call.tool.clone(), ..ToolCall::default() };
            if new {
                // At its end the whole of it comes: the output is not told twice.
                let output = told.output.take().filter(|_| !done);
                let call = ToolCall { output, ..tool.call.clone() };
                sink.event(EventBody::ToolStarted { tool: call });
            } else if !done && told != nothing {
                sink.event(EventBody::ToolUpdated { tool: told });
            }
        }
        if done {
            let status = match (status, cancelling) {
                ("failed", Cancelling::Yes) => ToolStatus::Cancelled,
                ("failed", Cancelling::No) => ToolStatus::Failed,
                _ => ToolStatus::Completed,
            };
            let tool = self.open.remove(at);
            self.end(tool, status, sink);
        }
        plan
    }

    /// Ends the calls that are open at the end of a turn.
    pub(crate) fn close_all(&mut self, sink: &mut Sink) {
        for tool in std::mem::take(&mut self.open) {
            self.end(tool, ToolStatus::Cancelled, sink);
        }
    }

    fn end(&mut self, tool: Tool, status: ToolStatus, sink: &mut Sink) {
        if self.order.len() == ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        if self.ended.insert(tool.id.clone()) {
            self.order.push_back(tool.id);
        }
        if tool.hidden {
            return;
        }
        let captured = tool.output.finish();
        let output_blob = captured.whole.map(|all| sink.blob("text/plain; charset=utf-8", all));
        // Some agents call a command that failed completed.
        let failed = tool.exit_code.is_some_and(|code| code != 0);
        let status = match status {
            ToolStatus::Completed if failed => ToolStatus::Failed,
            status => status,
        };
        sink.event(EventBody::ToolCompleted {
            tool: ToolCall { output: captured.text, ..tool.call },
            status,
            exit_code: tool.exit_code,
            output_blob,
        });
    }

    /// The agent's id, or another if a call of this id has ended already.
    fn name(&mut self, id: &str) -> String {
        if !self.ended.contains(id) {
            return id.to_owned();
        }
        if self.renamed.len() >= ENDED {
            self.renamed.clear();
        }
        let times = self.renamed.entry(id.to_owned()).or_insert(1);
        *times += 1;
        format!("{id}.{times}")
    }
}

/// Whether a turn is being cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Cancelling {
    #[default]
    No,
    Yes,
}

impl Tool {
    /// Takes what an update tells but the output, and gives what of it is new.
    fn facts(&mut self, update: &Value, sink: &mut Sink) -> ToolCall {
        let mut told = ToolCall { tool: self.call.tool.clone(), ..ToolCall::default() };
        if let Some(kind) = kind_of(update["kind"].as_str())
            && self.call.kind != Some(kind)
        {
            self.call.kind = Some(kind);
            told.kind = Some(kind);
        }
        if let Some(title) = update["title"].as_str().filter(|title| !title.is_empty()) {
            let title = Some(prefix(title, TITLE).to_owned());
            if self.call.title != title {
                self.call.title.clone_from(&title);
                told.title = title;
            }
        }
        let input = &update["rawInput"];
        if !input.is_null() && *input != json!({}) {
            let input = Some(cut(input));
            if self.call.input != input {
                self.call.input.clone_from(&input);
                told.input = input;
            }
        }
        if let Some(locations) = update["locations"].as_array().filter(|l| !l.is_empty()) {
            let paths = locations.iter().filter_map(|l| l["path"].as_str());
            let paths: Vec<String> =
                paths.take(PARTS).map(|path| prefix(path, TITLE).to_owned()).collect();
            if self.call.locations != paths {
                self.call.locations.clone_from(&paths);
                told.locations = paths;
            }
        }
        let parent = &update["_meta"]["claudeCode"]["parentToolUseId"];
        if let Some(parent) = parent.as_str().filter(|id| !id.is_empty() && id.len() <= ID_LEN)
            && self.call.parent.is_none()
        {
            self.call.parent = Some(parent.to_owned());
            told.parent = Some(parent.to_owned());
        }
        let content = update["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut room = DIFFS;
        let diffs = content.iter().filter_map(|part| diff_of(part, &mut room));
        let mut diffs: Vec<ToolDiff> = diffs.take(PARTS).collect();
        if diffs.is_empty()
            && self.call.diffs.is_empty()
            && let Some(patch) = update["rawInput"]["patchText"].as_str()
        {
            let parts = super::patch::diffs(patch);
            diffs = parts.iter().filter_map(|part| diff_of(part, &mut room)).take(PARTS).collect();
        }
        if !diffs.is_empty() && self.call.diffs != diffs {
            self.call.diffs.clone_from(&diffs);
            told.diffs = diffs;
        }
        let pictures = content.iter().map(|part| &part["content"]).filter_map(image_of);
        for (mime, bytes) in pictures.skip(self.call.images.len()).take(PARTS) {
            let id = sink.blob(&mime, bytes.into());
            self.call.images.push(id);
            told.images.push(id);
        }
        told
    }

    /// Takes the output that an update tells, and gives what of it is new and to be shown.
    fn output(
        &mut self,
        update: &Value,
        done: bool,
        cancelling: Cancelling,
        room: usize,
    ) -> Option<String> {
        let now = Instant::now();
        self.exit_code = exit_code(update).or(self.exit_code);
        // Codex: deltas, beside the content.
        if let Some(delta) = update["_meta"]["terminal_output_delta"]["data"].as_str() {
            return self.output.push(delta, room, now);
        }
        let claude = &update["_meta"]["claudeCode"];
        let stopped = |text: &str| text.starts_with(CLAUDE_STOPPED);
        let words = update["rawOutput"].as_str().is_some_and(stopped)
            || content_text(&update["content"])
                .is_some_and(|text| stopped(text.trim_start_matches("```\n")));
        if cancelling == Cancelling::Yes && (words || !claude["nonExecutionKind"].is_null()) {
            // Words for the model, not what the command printed.
            return None;
        }
        let mut text = content_text(&update["content"]);
        // What an agent tells only at the end, and not as content.
        if done && text.as_deref().unwrap_or_default().is_empty() && self.output.is_empty() {
            text = raw_output(&update["rawOutput"]);
        }
        let execute = self.call.kind == Some(ToolKind::Execute);
        if execute || !claude.is_null() {
            text = text.map(without_fence);
        }
        if execute {
            text = text.map(|text| self.without_frills(text));
        }
        let text = text.filter(|text| !text.is_empty())?;
        if let Some(more) = text.strip_prefix(self.content.as_str()) {
            let more = more.to_owned();
            let live = self.output.push(&more, room, now);
            self.content.push_str(&more);
            if self.content.len() > WHOLE {
                self.content.truncate(self.content.floor_char_boundary(WHOLE));
            }
            return live;
        }
        // Told anew, not grown: a window that moves on, or another text. Live watchers get what is
        // new in it, the end is exact.
        let seams = SEAMS.iter().map(|size| suffix(&self.content, *size)).filter(|s| !s.is_empty());
        let known = seams.filter_map(|seam| text.rfind(seam).map(|at| at + seam.len())).next();
        let known = known.unwrap_or(0);
        let live = self.output.replace(&text, room, &text[known..], now);
        self.content = prefix(&text, WHOLE).to_owned();
        live
    }

    /// A command's output without what agents put around it: Claude its exit code before it, Copilot
    /// after it, Gemini the folder in its place, Qwen a whole report.
    fn without_frills(&mut self, text: String) -> String {
        if text == "(Bash completed with no output)"
            || (text.starts_with("[current working directory ") && !text.contains('\n'))
        {
            return String::new();
        }
        if let Some(rest) = text.strip_prefix("Exit code ") {
            let (code, rest) = rest.split_once('\n').unwrap_or((rest, ""));
            if let Ok(code) = code.parse() {
                self.exit_code = Some(code);
                return rest.to_owned();
            }
        }
        if let Some(report) = text.strip_prefix("Command: ")
            && let Some((_, report)) = report.split_once("\nOutput: ")
            && let Some((output, trailer)) = report.rsplit_once("\nError: ")
        {
            // Qwen: a report, with the output in its middle.
            let code = trailer.split_once("\nExit Code: ").map(|(_, rest)| rest.split('\n').next());
            if let Some(Some(Ok(code))) = code.map(|code| code.map(str::parse)) {
                self.exit_code = Some(code);
            }
            let output = if output == "(empty)" { "" } else { output };
            return output.to_owned();
        }
        if let Some((output, trailer)) = text.rsplit_once("<shellId: ")
            && let Some((_, code)) = trailer.split_once(" completed with exit code ")
            && let Some(Ok(code)) = code.trim_end().strip_suffix('>').map(str::parse)
        {
            self.exit_code = Some(code);
            return output.to_owned();
        }
        text
    }
}

/// A text without the code fence that is around all of it.
fn without_fence(text: String) -> String {
    let inner = text.trim_end().strip_prefix("```").and_then(|rest| {
        let (language, inner) = rest.split_once('\n')?;
        let fence = language.chars().all(char::is_alphanumeric);
        inner.strip_suffix("\n```").filter(|_| fence)
    });
    inner.map(str::to_owned).unwrap_or(text)
}

fn id_of(update: &Value) -> Option<&str> {
    update["toolCallId"].as_str().filter(|id| !id.is_empty() && id.len() <= ID_LEN)
}

pub(super) fn kind_of(kind: Option<&str>) -> Option<ToolKind> {
    Some(match kind? {
        "read" => ToolKind::Read,
        "edit" => ToolKind::Edit,
        "delete" => ToolKind::Delete,
        "move" => ToolKind::Move,
        "search" => ToolKind::Search,
        "execute" => ToolKind::Execute,
        "think" => ToolKind::Think,
        "fetch" => ToolKind::Fetch,
        "switch_mode" => ToolKind::SwitchMode,
        _ => ToolKind::Other,
    })
}

fn diff_of(part: &Value, room: &mut usize) -> Option<ToolDiff> {
    if part["type"] != "diff" {
        return None;
    }
    let mut side = |text: &str| {
        let side = if *room == 0 { String::new() } else { preview(text, DIFF.min(*room)) };
        *room = room.saturating_sub(side.len());
        side
    };
    Some(ToolDiff {
        path: prefix(part["path"].as_str()?, TITLE).to_owned(),
        old: part["oldText"].as_str().filter(|text| !text.is_empty()).map(&mut side),
        new: side(part["newText"].as_str().unwrap_or_default()),
    })
}

/// The bytes of an image block.
pub(super) fn image_of(block: &Value) -> Option<(String, Vec<u8>)> {
    use base64::Engine as _;
    let data =
        block["data"].as_str().filter(|d| block["type"] == "image" && d.len() <= 2 * IMAGE)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    let mime = block["mimeType"]
        .as_str()
        .filter(|mime| matches!(*mime, "image/png" | "image/jpeg" | "image/gif" | "image/webp"))?;
    (bytes.len() <= IMAGE).then(|| (mime.to_owned(), bytes))
}

/// The text blocks of a call's content; none if it has no content.
fn content_text(content: &Value) -> Option<String> {
    let parts = content.as_array()?.iter().filter(|part| part["type"] == "content");
    let texts: Vec<&str> = parts.filter_map(|part| part["content"]["text"].as_str()).collect();
    Some(texts.join("\n"))
}

/// The text in a call's raw output, by any of the names seen.
fn raw_output(raw: &Value) -> Option<String> {
    if let Some(text) = raw.as_str() {
        return Some(text.to_owned());
    }
    ["aggregated_output", "formatted_output", "output", "stdout", "content", "message", "error"]
        .iter()
        .find_map(|key| raw[*key].as_str())
        .map(str::to_owned)
}

/// A command's exit code, by any of the names seen.
fn exit_code(update: &Value) -> Option<i32> {
    let raw = &update["rawOutput"];
    let contents = raw["contents"].as_array().and_then(|all| all.last());
    [
        &update["_meta"]["terminal_exit"]["exit_code"],
        &raw["exit_code"],
        &raw["exitCode"],
        &raw["metadata"]["exit"],
        contents.map_or(&Value::Null, |last| &last["exitCode"]),
    ]
    .iter()
    .find_map(|value| value.as_i64())
    .and_then(|code| i32::try_from(code).ok())
}

fn is_todo_list(update: &Value) -> bool {
    let named = |name: &Value| name.as_str().is_some_and(|n| n.eq_ignore_ascii_case("todowrite"));
    named(&update["title"]) || named(&update["name"])
}

/// OpenCode's plan: the arguments of its list tool.
fn todo_list(input: &Value) -> Option<Vec<PlanEntry>> {
    Some(plan_of(input["todos"].as_array()?))
}

/// A plan's entries.
pub(super) fn plan_of(entries: &[Value]) -> Vec<PlanEntry> {
    let entries = entries.iter().take(PARTS * 4).filter_map(|entry| {
        let status = match entry["status"].as_str() {
            Some("in_progress") => PlanStatus::InProgress,
            Some("completed") => PlanStatus::Completed,
            _ => PlanStatus::Pending,
        };
        Some(PlanEntry { text: prefix(entry["content"].as_str()?, TITLE * 2).to_owned(), status })
    });
    entries.collect()
}

/// A tool's arguments, with the long strings in it cut until all of it fits.
fn cut(input: &Value) -> Value {
    let mut limit = INPUT;
    let mut cut = input.clone();
    while cut.to_string().len() > INPUT {
        limit /= 4;
        if limit < 64 {
            return Value::String(preview(&input.to_string(), INPUT / 2));
        }
        cut = shorten(input, limit);
    }
    cut
}

fn shorten(value: &Value, limit: usize) -> Value {
    match value {
        Value::String(text) => Value::String(preview(text, limit)),
        Value::Array(all) => all.iter().take(limit).map(|v| shorten(v, limit)).collect(),
        Value::Object(all) => Value::Object(
            all.iter()
                .take(limit)
                .map(|(key, v)| (preview(key, limit), shorten(v, limit)))
                .collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}
