//! What a driver has to say and the consumer has not taken yet.
//!
//! Nothing here waits: a driver puts outputs in, hands them to the consumer when it takes them, and
//! reads no more from its agent until the queue is empty. So the queue holds what one piece of the
//! agent's output made, and what commands made meanwhile.

use std::collections::VecDeque;

use boatyard_model::{
    BlobId, EventBody,
    event::{NoticeLevel, ToolCall},
};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    capture::PIECE,
    driver::{Blob, Output},
};

/// Nobody takes the outputs any more.
#[derive(Debug)]
pub(crate) struct Gone;

/// The outputs of a driver that wait to be taken.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    /// The turn that events belong to now.
    pub(crate) turn: Option<u32>,
    queue: VecDeque<Output>,
}

impl Sink {
    /// Adds an event of the present turn. A delta is joined with one before it that still waits.
    pub(crate) fn event(&mut self, body: EventBody) {
        let joined = match self.queue.back_mut() {
            Some(Output::Event { turn, body: last }) if *turn == self.turn => join(last, &body),
            _ => false,
        };
        if !joined {
            self.queue.push_back(Output::Event { turn: self.turn, body });
        }
    }

    /// Adds anything else.
    pub(crate) fn output(&mut self, output: Output) {
        self.queue.push_back(output);
    }

    /// Adds a notice.
    pub(crate) fn notice(&mut self, level: NoticeLevel, code: &str, text: impl Into<String>) {
        self.notice_with(level, code, text, None);
    }

    /// Adds a notice with data.
    pub(crate) fn notice_with(
        &mut self,
        level: NoticeLevel,
        code: &str,
        text: impl Into<String>,
        data: Option<serde_json::Value>,
    ) {
        self.event(EventBody::Notice { level, code: code.to_owned(), text: text.into(), data });
    }

    /// Hands out bytes under a new id, for the event that comes next.
    pub(crate) fn blob(&mut self, mime: &str, bytes: Bytes) -> BlobId {
        let id = BlobId::new();
        self.output(Output::Blob(Blob { id, mime: mime.to_owned(), bytes }));
        id
    }

    /// The oldest output.
    #[cfg(test)]
    pub(crate) fn pop(&mut self) -> Option<Output> {
        self.queue.pop_front()
    }

    /// Hands the oldest output to the consumer, once it has room. Bytes are handed over only when
    /// everything before them was taken, so that at most one large piece is on the way. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// When there is no consumer any more.
    pub(crate) async fn hand_out(&mut self, to: &mpsc::Sender<Output>) -> Result<(), Gone> {
        let permit = if matches!(self.queue.front(), Some(Output::Blob(_))) {
            let mut all = to.reserve_many(to.max_capacity()).await.map_err(|_| Gone)?;
            all.next()
        } else {
            Some(to.reserve().await.map_err(|_| Gone)?)
        };
        if let Some(permit) = permit
            && let Some(output) = self.queue.pop_front()
        {
            permit.send(output);
        }
        Ok(())
    }

    /// Whether all was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// Appends `next` to `last` if both are deltas of the same thing.
fn join(last: &mut EventBody, next: &EventBody) -> bool {
    let (into, more) = match (last, next) {
        (
            EventBody::MessageDelta { message, text },
            EventBody::MessageDelta { message: same, text: more },
        ) if message == same => (text, more),
        (
            EventBody::ThoughtDelta { thought, text },
            EventBody::ThoughtDelta { thought: same, text: more },
        ) if thought == same => (text, more),
        (EventBody::ToolUpdated { tool }, EventBody::ToolUpdated { tool: next })
            if tool.tool == next.tool && only_output(tool) && only_output(next) =>
        {
            match (&mut tool.output, &next.output) {
                (Some(text), Some(more)) => (text, more),
                _ => return false,
            }
        }
        _ => return false,
    };
    let fits = into.len() + more.len() <= PIECE;
    if fits {
        into.push_str(more);
    }
    fits
}

fn only_output(tool: &ToolCall) -> bool {
    tool.output.is_some()
        && tool.parent.is_none()
        && tool.kind.is_none()
        && tool.title.is_none()
        && tool.input.is_none()
        && tool.diffs.is_empty()
        && tool.locations.is_empty()
        && tool.images.is_empty()
}
