//! What the agent asked and waits for: permissions and questions.

use std::time::Duration;

use boatyard_model::{
    Autonomy, EventBody, PermissionId, QuestionId,
    agent::Answers,
    event::{PermissionKind, PermissionOption, PermissionOutcome},
    time::Clock,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    normal::Normal,
    tools::kind_of,
    wire::{self, REQUEST_CANCELLED},
};
use crate::{
    capture::prefix,
    driver::{Ask, Output},
};

/// How many may wait at once; more are refused, so that a broken agent can't fill memory.
const OPEN: usize = 64;
/// How many options one may have.
const OPTIONS: usize = 16;
/// A title or an option's name.
const TEXT: usize = 500;
/// The longest option's id.
const ID: usize = 1 << 10;
/// A question.
const QUESTION: usize = 8 << 10;

#[derive(Debug)]
struct Waiting {
    ask: Ask,
    /// The agent's request.
    id: Value,
    options: Options,
    until: Instant,
}

/// What may be answered to a permission.
#[derive(Debug, Default)]
struct Options {
    /// All, for a person.
    all: Vec<PermissionOption>,
    /// The one that is a yes, where nobody is asked. Of a kind that the protocol knows: what
    /// another kind allows only a person can tell from its name.
    yes: Option<String>,
    /// The one that is a no, where nobody answers. As with the yes.
    no: Option<String>,
}

/// The open permissions and questions of a session.
#[derive(Debug)]
pub(crate) struct Asks {
    open: Vec<Waiting>,
    autonomy: Autonomy,
    timeout: Duration,
}

impl Asks {
    pub(crate) fn new(autonomy: Autonomy, timeout: Duration) -> Self {
        Self { open: Vec::new(), autonomy, timeout }
    }

    /// When the next one expires.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.iter().map(|waiting| waiting.until).min()
    }

    /// Takes a `session/request_permission`. Gives the answer, where it is known at once.
    pub(crate) fn permission(
        &mut self,
        id: Value,
        params: &Value,
        normal: &mut Normal,
        clock: &dyn Clock,
    ) -> Option<Bytes> {
        let call = &params["toolCall"];
        normal.tool(call);
        let options = Options::read(&params["options"]);
        // An agent may want a person for something whatever the autonomy: that only asks more.
        let for_person = params["_meta"]["boatyard"]["person"] == true;
        let kind = kind_of(call["kind"].as_str())
            .or_else(|| normal.tool_kind(call["toolCallId"].as_str()?));
        if !for_person
            && self.autonomy.answers(kind) == Answers::Yes
            && let Some(option) = &options.yes
        {
            return Some(wire::response(&id, selected(option)));
        }
        if options.all.is_empty() || self.open.len() >= OPEN {
            return Some(wire::response(&id, cancelled()));
        }
        let permission = PermissionId::new();
        let tool = call["toolCallId"].as_str().and_then(|id| normal.tool_item(id));
        let title = call["title"].as_str().filter(|t| !t.is_empty());
        let body = EventBody::PermissionRequested {
            permission,
            tool: tool.map(str::to_owned),
            title: prefix(title.unwrap_or("the agent asks for permission"), TEXT).into(),
            options: options.all.clone(),
            deadline: clock.now().after(self.timeout),
        };
        normal.sink.event(body);
        let until = Instant::now() + self.timeout;
        self.open.push(Waiting { ask: Ask::Permission(permission), id, options, until });
        None
    }

    /// Takes a `_boatyard/question`: `{sessionId, question, options?: [text]}`, answered with
    /// `{answer: text | null}`. Gives the answer, where it is known at once.
    pub(crate) fn question(
        &mut self,
        id: Value,
        params: &Value,
        normal: &mut Normal,
        clock: &dyn Clock,
    ) -> Option<Bytes> {
        let text = params["question"].as_str().filter(|text| !text.trim().is_empty());
        let Some(text) = text.filter(|_| self.open.len() < OPEN) else {
            return Some(wire::response(&id, json!({ "answer": null })));
        };
        let question = QuestionId::new();
        let options = params["options"].as_array().map(Vec::as_slice).unwrap_or_default();
        let options = options.iter().filter_map(Value::as_str).take(OPTIONS);
        normal.sink.event(EventBody::QuestionAsked {
            question,
            text: prefix(text, QUESTION).to_owned(),
            options: options.map(|text| prefix(text, TEXT).to_owned()).collect(),
            deadline: clock.now().after(self.timeout),
        });
        let until = Instant::now() + self.timeout;
        let options = Options::default();
        self.open.push(Waiting { ask: Ask::Question(question), id, options, until });
        None
    }

    /// A person's answer to a permission. Gives what the agent is to be told; none when it was
    /// answered already, or the option is not one of its options.
    pub(crate) fn answer_permission(
        &mut self,
        permission: PermissionId,
        option: Option<&str>,
    ) -> Option<Bytes> {
        let at = self.open.iter().position(|w| w.ask == Ask::Permission(permission))?;
        let known = |option| self.open[at].options.all.iter().any(|o| o.id == option);
        if option.is_some_and(|option| !known(option)) {
            return None;
        }
        let waiting = self.open.remove(at);
        Some(wire::response(&waiting.id, option.map_or_else(cancelled, selected)))
    }

    /// A person's answer to a question. Gives what the agent is to be told.
    pub(crate) fn answer_question(
        &mut self,
        question: QuestionId,
        answer: Option<&str>,
    ) -> Option<Bytes> {
        let at = self.open.iter().position(|w| w.ask == Ask::Question(question))?;
        let waiting = self.open.remove(at);
        Some(wire::response(&waiting.id, json!({ "answer": answer })))
    }

    /// Closes what has expired: no answer is a no. Gives what the agent is to be told.
    pub(crate) fn expire(&mut self, now: Instant, normal: &mut Normal) -> Vec<Bytes> {
        let late = self.open.extract_if(.., |waiting| waiting.until <= now).collect();
        Self::close(late, PermissionOutcome::Expired, normal)
    }

    /// Takes a `$/cancel_request`: the agent does not wait for this any more. Gives what it is to be
    /// told, if it did wait.
    pub(crate) fn withdraw(&mut self, request: &Value, normal: &mut Normal) -> Option<Bytes> {
        let at = self.open.iter().position(|waiting| waiting.id == *request)?;
        let Waiting { ask, id, .. } = self.open.remove(at);
        normal.sink.output(Output::AskClosed { ask, outcome: PermissionOutcome::Cancelled });
        Some(wire::refusal(&id, REQUEST_CANCELLED, "cancelled"))
    }

    /// Closes all: the turn is cancelled or over. Gives what the agent is to be told.
    pub(crate) fn cancel(&mut self, normal: &mut Normal) -> Vec<Bytes> {
        let all = std::mem::take(&mut self.open);
        Self::close(all, PermissionOutcome::Cancelled, normal)
    }

    fn close(all: Vec<Waiting>, outcome: PermissionOutcome, normal: &mut Normal) -> Vec<Bytes> {
        let answers = all.into_iter().map(|waiting| {
            normal.sink.output(Output::AskClosed { ask: waiting.ask, outcome });
            let answer = match (waiting.ask, outcome) {
                (Ask::Question(_), _) => json!({ "answer": null }),
                (Ask::Permission(_), PermissionOutcome::Expired) => {
                    waiting.options.no.as_deref().map_or_else(cancelled, selected)
                }
                (Ask::Permission(_), _) => cancelled(),
            };
            wire::response(&waiting.id, answer)
        });
        answers.collect()
    }
}

impl Options {
    fn read(options: &Value) -> Self {
        let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
        let (mut all, mut known) = (Vec::new(), Vec::new());
        for option in options.iter().take(OPTIONS) {
            let id = option["optionId"].as_str().filter(|id| !id.is_empty() && id.len() <= ID);
            let Some(id) = id.map(str::to_owned) else { continue };
            let word = option["kind"].as_str().unwrap_or_default();
            let kind = kind_named(word);
            if let Some(kind) = kind {
                known.push((kind, id.clone()));
            }
            let kind = kind.unwrap_or_else(|| kind_like(word));
            let name = option["name"].as_str().unwrap_or(&id);
            all.push(PermissionOption { name: prefix(name, TEXT).to_owned(), id, kind });
        }
        // The smaller one first.
        let first = |wanted: [PermissionKind; 2]| {
            let of = |kind| known.iter().find(|(known, _)| *known == kind);
            wanted.into_iter().find_map(of).map(|(_, id)| id.clone())
        };
        let yes = first([PermissionKind::AllowOnce, PermissionKind::AllowAlways]);
        let no = first([PermissionKind::RejectOnce, PermissionKind::RejectAlways]);
        Self { all, yes, no }
    }
}

fn kind_named(word: &str) -> Option<PermissionKind> {
    match word {
        "allow_once" => Some(PermissionKind::AllowOnce),
        "allow_always" => Some(PermissionKind::AllowAlways),
        "reject_once" => Some(PermissionKind::RejectOnce),
        "reject_always" => Some(PermissionKind::RejectAlways),
        _ => None,
    }
}

/// What a kind that the protocol does not know is shown as. What does not look like a no is shown
/// as the largest yes: to take a yes for a no would be the worse mistake.
fn kind_like(word: &str) -> PermissionKind {
    let no = ["reject", "deny", "refuse", "cancel", "abort"].iter().any(|no| word.starts_with(no));
    if no { PermissionKind::RejectOnce } else { PermissionKind::AllowAlways }
}

fn selected(option: &str) -> Value {
    json!({ "outcome": { "outcome": "selected", "optionId": option } })
}

fn cancelled() -> Value {
    json!({ "outcome": { "outcome": "cancelled" } })
}
