//! Messages and thoughts: pieces in, deltas and wholes out.
//!
//! One text is open at a time. It is completed when the kind changes, the agent gives another id, a
//! tool starts or the turn ends, so that the order of the log is the order of what was said. The
//! same id after that is another item (`id.2`).

use std::collections::{HashMap, VecDeque};

use boatyard_model::{BlobId, EventBody};

use crate::{
    capture::{PIECE, WHOLE, prefix, preview, suffix},
    sink::Sink,
};

/// What `message.completed` carries; the rest is in its blob.
const MESSAGE: usize = 256 << 10;
/// How much of what was said in a turn is kept for a seed.
const SAID: usize = 16 << 10;
/// How many ids are remembered, to tell a repeated one.
const IDS: usize = 4096;
/// The longest id that is taken from an agent.
const ID_LEN: usize = 200;

/// Who speaks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The agent to the person.
    Message,
    /// The agent to itself.
    Thought,
}

/// What of a text that is said anew tells it from one that goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anew {
    /// Its id is another.
    OtherId,
    /// Nothing: the agent never goes on.
    Always,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    agent_id: Option<String>,
    item: String,
    text: String,
    total: usize,
}

/// The texts of a session.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    open: Option<Open>,
    used: HashMap<String, u32>,
    order: VecDeque<String>,
    count: u64,
    /// The agent began to answer anew: what comes next takes the place of the open text.
    retried: Option<Anew>,
    /// The ends of the messages that were completed since it was taken last.
    said: String,
}

impl Speech {
    /// Takes a piece.
    pub(crate) fn push(&mut self, kind: Kind, id: Option<&str>, text: &str, sink: &mut Sink) {
        let id = id.filter(|id| !id.is_empty() && id.len() <= ID_LEN);
        let continues = self.open.as_ref().is_some_and(|open| {
            open.kind == kind
                && self.retried != Some(Anew::Always)
                && (id.is_none() || open.agent_id.is_none() || open.agent_id.as_deref() == id)
        });
        if !continues {
            let replaced = self.retried.is_some_and(|anew| {
                let same =
                    |o: &Open| o.kind == kind && (o.agent_id.is_some() || anew == Anew::Always);
                self.open.as_ref().is_some_and(same)
            });
            if replaced {
                self.withdraw(sink);
            } else {
                self.close(sink);
            }
            let item = self.name(id, sink.turn);
            self.open = Some(Open {
                kind,
                agent_id: id.map(str::to_owned),
                item,
                text: String::new(),
                total: 0,
            });
        }
        self.retried = None;
        let Some(open) = &mut self.open else { return };
        open.total += text.len();
        let mut rest = prefix(text, WHOLE - open.text.len());
        open.text.push_str(rest);
        while !rest.is_empty() {
            let piece = prefix(rest, PIECE);
            rest = &rest[piece.len()..];
            let (item, text) = (open.item.clone(), piece.to_owned());
            sink.event(match kind {
                Kind::Message => EventBody::MessageDelta { message: item, text },
                Kind::Thought => EventBody::ThoughtDelta { thought: item, text },
            });
        }
    }

    /// Completes the open text.
    pub(crate) fn close(&mut self, sink: &mut Sink) {
        let Some(open) = self.open.take() else { return };
        let mut whole = open.text;
        if open.total > whole.len() {
            whole.push_str(&format!("\n[… {} bytes were not kept …]", open.total - whole.len()));
        }
        let body = match open.kind {
            Kind::Thought => {
                EventBody::ThoughtCompleted { thought: open.item, text: preview(&whole, MESSAGE) }
            }
            Kind::Message => {
                self.said.push_str(suffix(&whole, SAID));
                self.said.push('\n');
                if self.said.len() > 4 * SAID {
                    self.said = suffix(&self.said, SAID).to_owned();
                }
                let text = preview(&whole, MESSAGE);
                let blob = if whole.len() > MESSAGE {
                    Some(sink.blob("text/markdown; charset=utf-8", whole.into()))
                } else {
                    None
                };
                EventBody::MessageCompleted { message: open.item, text, blob }
            }
        };
        sink.event(body);
    }

    /// The agent's provider failed in mid-answer and is asked again: what comes next takes the place
    /// of what came so far.
    pub(crate) fn retry(&mut self, anew: Anew) {
        self.retried = self.open.as_ref().map(|_| anew);
    }

    /// The messages since the last time, the latest 16 KiB of them.
    pub(crate) fn take_said(&mut self) -> String {
        let said = std::mem::take(&mut self.said);
        suffix(&said, SAID).to_owned()
    }

    /// What was said last in this turn and is still open.
    pub(crate) fn open_message(&self) -> Option<&str> {
        self.open.as_ref().filter(|o| o.kind == Kind::Message).map(|o| o.text.as_str())
    }

    /// Completes the open text as empty, which makes its deltas void.
    fn withdraw(&mut self, sink: &mut Sink) {
        let Some(open) = self.open.take() else { return };
        sink.event(match open.kind {
            Kind::Message => {
                EventBody::MessageCompleted { message: open.item, text: String::new(), blob: None }
            }
            Kind::Thought => {
                EventBody::ThoughtCompleted { thought: open.item, text: String::new() }
            }
        });
    }

    /// A name that no other text of the session has.
    fn name(&mut self, id: Option<&str>, turn: Option<u32>) -> String {
        self.count += 1;
        let Some(id) = id else {
            // Between turns the number of the turn does not make it unique over restarts.
            return match turn {
                Some(turn) => format!("text-{turn}-{}", self.count),
                None => format!("text-{:x}", BlobId::new().to_u128()),
            };
        };
        if let Some(times) = self.used.get_mut(id) {
            *times += 1;
            return format!("{id}.{times}");
        }
        if self.order.len() == IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.used.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.used.insert(id.to_owned(), 1);
        id.to_owned()
    }
}
