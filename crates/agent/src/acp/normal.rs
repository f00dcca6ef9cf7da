//! Makes one vocabulary of what ACP agents say.
//!
//! A state machine without I/O: updates and results in, outputs in its [`Sink`]. It holds the
//! knowledge of what each agent was seen to do otherwise than the others.

use std::collections::HashSet;

use boatyard_model::{
    EventBody, TurnOutcome,
    event::{NoticeLevel, PlanEntry, ToolKind, Usage},
};
use serde_json::Value;

use super::{
    failure::{Blame, QUOTED, sentence},
    tools::{Cancelling, Tools, plan_of},
    wire::RpcError,
};
use crate::{
    capture::{plain, prefix, preview, suffix},
    catalogue::UsageScope,
    driver::Output,
    sink::Sink,
    speech::{Anew, Kind, Speech},
};

/// How many ids of things told again are kept.
const REPLAYED: usize = 4096;
/// A title that begins as what the agent was told before the prompt, for so many bytes, is made of it.
const SAME: usize = 12;
/// How much of the conversation is kept for a seed.
const TRANSCRIPT: usize = 64 << 10;

/// The state of a session as far as its events need it.
#[derive(Debug, Default)]
pub(crate) struct Normal {
    /// What is to be handed out.
    pub(crate) sink: Sink,
    /// The turn is being cancelled.
    pub(crate) cancelling: Cancelling,
    speech: Speech,
    tools: Tools,
    plan: Vec<PlanEntry>,
    usage: Usage,
    /// The usage that was told last.
    told: Usage,
    scope: UsageScope,
    blame: Blame,
    /// The attempt that was told last, as `1 of 3`: some agents tell it in two ways.
    attempt: Option<String>,
    /// The agent said that the turn failed, whatever its end will say.
    failure: Option<String>,
    garbage: Option<Garbage>,
    /// The agent tells again what we have already.
    replay: Option<Replay>,
    title: Option<String>,
    /// What the agent was told before the person's first words, in one line: no title is made of it.
    preface: String,
    /// What was said since the driver started, for an agent that forgets it.
    transcript: String,
}

#[derive(Debug)]
struct Garbage {
    lines: u64,
    first: String,
}

/// What an agent tells of a conversation that it takes up again. It may go on telling in the next
/// turn: what has the id of something that was told before is left out, until something new comes.
#[derive(Debug, Default)]
struct Replay {
    /// It still tells; nothing of it is new.
    going: bool,
    seen: bool,
    ids: HashSet<String>,
}

/// How a turn ended, and what went wrong.
pub(crate) type Verdict = (TurnOutcome, Option<String>);

impl Normal {
    /// Of an agent whose token counts at a turn's end are counted from `scope`.
    pub(crate) fn new(scope: UsageScope, blame: Blame) -> Self {
        Self { scope, blame, ..Self::default() }
    }

    /// Whom to name when something fails.
    pub(crate) fn blame(&self) -> &Blame {
        &self.blame
    }

    /// A turn begins.
    pub(crate) fn begin(&mut self, turn: u32) {
        self.settle();
        self.sink.turn = Some(turn);
        self.cancelling = Cancelling::No;
        self.failure = None;
        self.attempt = None;
        self.plan.clear();
    }

    /// The turn is over: completes all that is open and says how it ended.
    pub(crate) fn end(&mut self, (outcome, error): Verdict) {
        self.settle();
        let said = self.speech.take_said();
        self.remember("The agent", &said);
        if let Some(garbage) = self.garbage.take() {
            self.sink.notice_with(
                NoticeLevel::Warning,
                "agent_garbage",
                format!(
                    "The agent printed {} that are no messages; they were ignored.",
                    if garbage.lines == 1 {
                        "a line".into()
                    } else {
                        format!("{} lines", garbage.lines)
                    }
                ),
                Some(serde_json::json!({ "lines": garbage.lines, "first": garbage.first })),
            );
        }
        if let Some(turn) = self.sink.turn.take() {
            self.sink.output(Output::TurnEnded { turn, outcome, error });
        }
        self.cancelling = Cancelling::No;
    }

    /// Remembers what the person said.
    pub(crate) fn person_said(&mut self, text: &str) {
        self.remember("The person", text);
    }

    fn remember(&mut self, who: &str, text: &str) {
        let text = text.trim();
        if !text.is_empty() {
            self.transcript.push_str(&format!("{who}: {}\n\n", preview(text, TRANSCRIPT / 4)));
            self.transcript = suffix(&self.transcript, TRANSCRIPT).to_owned();
        }
    }

    /// What was said since the driver started, the latest 64 KiB of it.
    pub(crate) fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Completes all that is open.
    pub(crate) fn settle(&mut self) {
        self.speech.close(&mut self.sink);
        self.tools.close_all(&mut self.sink);
    }

    /// How many tool calls run.
    pub(crate) fn running_tools(&self) -> usize {
        self.tools.running()
    }

    /// The name that events use for the open tool call with the agent's id.
    pub(crate) fn tool_item(&self, id: &str) -> Option<&str> {
        self.tools.item(id)
    }

    /// What the open tool call with the agent's id does.
    pub(crate) fn tool_kind(&self, id: &str) -> Option<ToolKind> {
        self.tools.kind(id)
    }

    /// A line that is no message.
    pub(crate) fn garbage(&mut self, line: String) {
        self.garbage.get_or_insert(Garbage { lines: 0, first: line }).lines += 1;
    }

    /// From now on the agent tells what we have already, also where a turn has begun.
    pub(crate) fn begin_replay(&mut self) {
        self.replay = Some(Replay { going: true, ..Replay::default() });
    }

    /// The agent has told what we have already, but for what may be late.
    pub(crate) fn end_replay(&mut self) {
        if let Some(replay) = &mut self.replay {
            replay.going = false;
        }
    }

    /// Whether updates are about the turn that runs.
    pub(crate) fn is_live(&self) -> bool {
        self.sink.turn.is_some() && !self.replay.as_ref().is_some_and(|replay| replay.going)
    }

    /// What the agent tells is new.
    pub(crate) fn no_replay(&mut self) {
        self.replay = None;
    }

    /// Whether the agent has told something again.
    pub(crate) fn has_replay(&self) -> bool {
        self.replay.as_ref().is_some_and(|replay| replay.seen)
    }

    /// Whether an update in a turn still belongs to what is told again.
    fn replayed(&mut self, update: &Value) -> bool {
        let Some(replay) = &self.replay else { return false };
        let Some(id) = item_of(update) else { return false };
        let again = update["sessionUpdate"] == "user_message_chunk"
            || id.is_some_and(|id| replay.ids.contains(id));
        if !again {
            self.replay = None;
        }
        again
    }

    /// Takes the `update` of a `session/update`.
    pub(crate) fn update(&mut self, update: &Value) {
        if self.replayed(update) {
            return;
        }
        match update["sessionUpdate"].as_str().unwrap_or_default() {
            "agent_message_chunk" => self.chunk(Kind::Message, update),
            "agent_thought_chunk" => self.chunk(Kind::Thought, update),
            "tool_call" | "tool_call_update" => self.tool(update),
            "plan" => {
                if let Some(entries) = update["entries"].as_array() {
                    self.new_plan(plan_of(entries));
                }
            }
            "usage_update" => self.usage_update(update),
            "session_info_update" => self.info(update),
            "notice" => {
                let text = update["message"].as_str().or(update["title"].as_str());
                if let Some(text) = text {
                    let level = match update["level"].as_str() {
                        Some("error") => NoticeLevel::Error,
                        Some("warning") => NoticeLevel::Warning,
                        _ => NoticeLevel::Info,
                    };
                    self.sink.notice(level, "agent", prefix(text, QUOTED));
                }
            }
            "compaction_update" if update["status"] == "completed" => {
                let text = "The agent summed up the conversation to make room in its context.";
                self.sink.notice(NoticeLevel::Info, "compaction", text);
            }
            // Commands, sub-agents, our own words: the vocabulary has no place for them.
            kind => tracing::debug!(update = prefix(kind, 100), "left out"),
        }
    }

    /// Takes an update that belongs to no turn that runs: only what is about the session as a whole.
    pub(crate) fn quiet_update(&mut self, update: &Value) {
        if let Some(replay) = &mut self.replay
            && let Some(id) = item_of(update)
        {
            replay.seen = true;
            if let Some(id) = id.filter(|id| id.len() <= 200 && replay.ids.len() < REPLAYED) {
                replay.ids.insert(id.to_owned());
            }
        }
        match update["sessionUpdate"].as_str() {
            Some("usage_update") => self.usage_update(update),
            Some("session_info_update") => self.set_title(update),
            _ => {}
        }
    }

    /// Takes the `toolCall` of a permission request, which may be the first that is heard of it.
    pub(crate) fn tool(&mut self, update: &Value) {
        if self.tools.is_new(update) {
            self.attempt = None;
            self.speech.close(&mut self.sink);
        }
        if let Some(plan) = self.tools.update(update, self.cancelling, &mut self.sink) {
            self.new_plan(plan);
        }
    }

    fn chunk(&mut self, kind: Kind, update: &Value) {
        let id = update["messageId"].as_str();
        let content = &update["content"];
        if let Some((mime, bytes)) = super::tools::image_of(content) {
            // The vocabulary has no picture in a message: it is a tool's result.
            let size = bytes.len();
            self.speech.close(&mut self.sink);
            let blob = self.sink.blob(&mime, bytes.into());
            self.sink.notice_with(
                NoticeLevel::Info,
                "image",
                format!("The agent sent a picture ({mime}, {size} bytes)."),
                Some(serde_json::json!({ "blob": blob, "mime": mime })),
            );
            return;
        }
        let text = match content["type"].as_str() {
            Some("resource_link") => content["uri"].as_str(),
            _ => content["text"].as_str(),
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else { return };
        if kind == Kind::Message && id.is_none() {
            // Gemini tells its mode as a message.
            if text.starts_with("[MODE_UPDATE] ") {
                return;
            }
            // Copilot tells what it does as messages.
            if let Some(info) = text.strip_prefix("Info: ") {
                let retry = info.to_ascii_lowercase().contains("retrying");
                if retry {
                    // It says all of it again, without telling one text from the other.
                    self.speech.retry(Anew::Always);
                }
                let (level, code) = if retry {
                    (NoticeLevel::Warning, "retry")
                } else {
                    (NoticeLevel::Info, "agent")
                };
                self.sink.notice(level, code, prefix(info.trim(), QUOTED));
                return;
            }
        }
        self.attempt = None;
        self.speech.push(kind, id, text, &mut self.sink);
    }

    fn new_plan(&mut self, plan: Vec<PlanEntry>) {
        if self.plan != plan {
            // What was said before it is whole then, so that it keeps its place before it, also for
            // those who come later and find the whole in the place of its pieces.
            self.speech.close(&mut self.sink);
            self.plan.clone_from(&plan);
            self.sink.event(EventBody::Plan { entries: plan });
        }
    }

    fn usage_update(&mut self, update: &Value) {
        let number = |key: &str| update[key].as_u64();
        self.usage.context_used = number("used").unwrap_or(self.usage.context_used);
        self.usage.context_size = number("size").unwrap_or(self.usage.context_size);
        let cost = &update["cost"];
        if cost["currency"].as_str().is_none_or(|currency| currency == "USD") {
            let amount = cost["amount"].as_f64().filter(|a| a.is_finite() && *a >= 0.0);
            self.usage.cost_usd = amount.or(self.usage.cost_usd);
        }
        self.tell_usage();
    }

    /// Takes the token counts of a prompt's result.
    pub(crate) fn result_usage(&mut self, result: &Value) {
        let quota = &result["_meta"]["quota"]["token_count"];
        let usage = &result["usage"];
        let number = |a: &str, b: &str| {
            usage[a].as_u64().or_else(|| quota[a].as_u64()).or_else(|| quota[b].as_u64())
        };
        let turn = [
            number("inputTokens", "input_tokens"),
            number("outputTokens", "output_tokens"),
            number("cachedReadTokens", "cachedInputTokens"),
        ]
        .map(Option::unwrap_or_default);
        let sums = [
            &mut self.usage.input_tokens,
            &mut self.usage.output_tokens,
            &mut self.usage.cached_tokens,
        ];
        for (sum, count) in sums.into_iter().zip(turn) {
            *sum = match self.scope {
                UsageScope::Turn => sum.saturating_add(count),
                UsageScope::Session => (*sum).max(count),
            };
        }
        self.tell_usage();
    }

    fn tell_usage(&mut self) {
        if self.usage != self.told {
            self.told = self.usage;
            self.sink.event(EventBody::Usage { usage: self.usage });
        }
    }

    /// Notes what the agent is told before the person's first words.
    pub(crate) fn prefaced(&mut self, texts: &[String]) {
        let words = texts.iter().flat_map(|text| text.split_whitespace());
        self.preface = words.collect::<Vec<_>>().join(" ");
    }

    /// A title without what the person did not say; none if nothing is left.
    fn own_title(&self, title: &str) -> Option<String> {
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        if self.preface.is_empty() {
            return Some(title).filter(|title| !title.is_empty());
        }
        let rest = title.strip_prefix(&self.preface).map(str::trim);
        let begun = title.trim_end_matches(['.', '…', ' ']);
        let cut = rest.is_none() && begun.len() > SAME && self.preface.starts_with(begun);
        let own = rest.unwrap_or(&title);
        (!own.is_empty() && !cut).then(|| own.to_owned())
    }

    fn set_title(&mut self, update: &Value) {
        if let Some(title) = update["title"].as_str().and_then(|title| self.own_title(title)) {
            let title = prefix(&title, 200).to_owned();
            if self.title.as_ref() != Some(&title) {
                self.title = Some(title.clone());
                self.sink.output(Output::Title(title));
            }
        }
    }

    fn info(&mut self, update: &Value) {
        self.set_title(update);
        let meta = &update["_meta"];
        let codex = &meta["codex"];
        if codex["threadStatus"]["type"] == "systemError" && self.failure.is_none() {
            // It does not say what went wrong; what the agent said last may.
            self.failure = Some(String::new());
        }
        let error = &codex["error"];
        if let Some(message) = error["message"].as_str() {
            let details = error["additionalDetails"].as_str().unwrap_or_default();
            if error["willRetry"] == true {
                self.retry(message, details, None);
            } else {
                self.failure = Some(sentence(message, details));
            }
        }
        self.air(&meta["jetbrains"]["air"]["sessionFailure"]);
    }

    /// A failure as claude and codex tell it to clients that understand it.
    fn air(&mut self, failure: &Value) {
        let Some(title) = failure["title"].as_str() else { return };
        let details = failure["description"].as_str().unwrap_or_default();
        if failure["severity"] == "error" {
            self.failure = Some(sentence(title, details));
        } else {
            self.retry(title, details, None);
        }
    }

    /// Takes a native message that the claude adapter passes on.
    pub(crate) fn claude_message(&mut self, message: &Value) {
        if message["subtype"] != "api_retry" {
            return;
        }
        let figures = ["attempt", "max_retries", "retry_delay_ms", "error_status", "error"];
        let figures = figures.into_iter().filter_map(|key| {
            let value = &message[key];
            let small = value.as_str().is_none_or(|text| text.len() <= 200);
            (small && !value.is_object() && !value.is_array() && !value.is_null())
                .then(|| (key.to_owned(), value.clone()))
        });
        let text = format!(
            "The provider answered {} ({}); attempt {} of {}.",
            message["error_status"].as_u64().map_or("nothing".into(), |status| status.to_string()),
            message["error"].as_str().unwrap_or("unknown"),
            message["attempt"].as_u64().unwrap_or_default(),
            message["max_retries"].as_u64().unwrap_or_default(),
        );
        self.retry(&text, "", Some(Value::Object(figures.collect())));
        self.speech.retry(Anew::Always);
    }

    fn retry(&mut self, message: &str, details: &str, data: Option<Value>) {
        self.speech.retry(Anew::OtherId);
        let attempt = attempt_of(message);
        if attempt.is_some() && self.attempt == attempt {
            return;
        }
        self.attempt = attempt;
        let text = sentence(message, details);
        self.sink.notice_with(NoticeLevel::Warning, "retry", text, data);
    }

    /// Judges a prompt's result. `end_turn` is not success: several agents say it of a turn that
    /// failed.
    pub(crate) fn verdict(&mut self, result: &Value) -> Verdict {
        self.air(&result["_meta"]["jetbrains"]["air"]["sessionFailure"]);
        match result["stopReason"].as_str() {
            Some("cancelled") => return (TurnOutcome::Cancelled, None),
            Some("refusal") => {
                let text = "The agent's model refused to go on. Say it otherwise, or choose another model.";
                return (TurnOutcome::Refused, Some(text.into()));
            }
            Some(reason @ ("max_tokens" | "max_turn_requests")) => {
                let text = format!(
                    "The agent reached a limit of its own ({reason}). Prompt again to let it go on."
                );
                return (TurnOutcome::LimitReached, Some(text));
            }
            _ => {}
        }
        // What was said last tells best what went wrong.
        let said = self.speech.open_message().map(str::trim).unwrap_or_default();
        let error_text = said.starts_with("Error: ") || said.starts_with("API Error");
        let no_usage = result["usage"]["totalTokens"].as_u64().unwrap_or(0) == 0
            && result["usage"]["inputTokens"].as_u64().unwrap_or(0) == 0;
        let said = || plain(prefix(said, QUOTED));
        let error = match self.failure.take() {
            Some(unknown) if unknown.is_empty() => Some(said()),
            Some(failure) => Some(failure),
            None => (error_text && no_usage).then(said),
        };
        let error = error.map(|error| {
            if error.is_empty() {
                "The agent reported an error of its own".to_owned()
            } else {
                error
            }
        });
        match error {
            Some(error) => (TurnOutcome::Failed, Some(self.blame.explain(&error))),
            None => (TurnOutcome::Completed, None),
        }
    }

    /// What a refused prompt means.
    pub(crate) fn refused(&self, error: &RpcError) -> Verdict {
        (TurnOutcome::Failed, Some(self.blame.refused(error)))
    }
}

/// The id of the message, thought or tool call that an update is about, where it has one; none for
/// updates about other things.
fn item_of(update: &Value) -> Option<Option<&str>> {
    match update["sessionUpdate"].as_str()? {
        "user_message_chunk" | "agent_message_chunk" | "agent_thought_chunk" => {
            Some(update["messageId"].as_str())
        }
        "tool_call" | "tool_call_update" => Some(update["toolCallId"].as_str()),
        _ => None,
    }
}

/// The attempt that a text speaks of, as `1 of 3`.
fn attempt_of(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("attempt ")?;
    let mut words = rest.split([' ', '.', ',']);
    let (attempt, of, all) = (words.next()?, words.next()?, words.next()?);
    (of == "of").then(|| prefix(&format!("{attempt} of {all}"), 40).to_owned())
}

#[cfg(test)]
mod tests;
