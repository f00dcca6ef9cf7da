//! An answer before it is put into a protocol's form.

use serde_json::Value;

use super::conversation::{Conversation, Delivery};

/// How long one piece of a streamed text is, in bytes: about what real providers send at once.
const PIECE: usize = 24;

/// Longer texts are sent in pieces so that there are no more than this many of them.
const MOST_PIECES: usize = 1000;

/// What goes back.
#[derive(Debug)]
pub(super) struct Answer {
    /// What ids are made from: the same request has the same.
    pub(super) stem: String,
    pub(super) model: String,
    pub(super) delivery: Delivery,
    pub(super) parts: Vec<Part>,
    /// Tokens as estimated from bytes.
    pub(super) input_tokens: usize,
    pub(super) output_tokens: usize,
}

/// One part of an answer.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Thought(String),
    Text(String),
    Call(Call),
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Unique within its conversation.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) input: Input,
}

/// What a tool is called with.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Json(Value),
    Text(String),
}

impl Input {
    pub(super) fn as_text(&self) -> String {
        match self {
            Self::Json(value) => value.to_string(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl Answer {
    pub(super) fn new(conversation: &Conversation, parts: Vec<Part>) -> Self {
        let bytes: usize = parts
            .iter()
            .map(|part| match part {
                Part::Thought(text) | Part::Text(text) => text.len(),
                Part::Call(call) => call.name.len() + call.input.as_text().len(),
            })
            .sum();
        Self {
            stem: stem(conversation),
            model: conversation.model.clone(),
            delivery: conversation.delivery,
            parts,
            input_tokens: tokens(conversation.bytes),
            output_tokens: tokens(bytes),
        }
    }

    /// Whether a tool is called.
    pub(super) fn calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call(_)))
    }
}

/// What the ids of this answer share: where the conversation stands, and what it is about.
pub(super) fn stem(conversation: &Conversation) -> String {
    let hash = fnv(conversation.prompt.as_bytes());
    format!("scripted{:04}{hash:016x}", conversation.messages)
}

/// FNV-1a: an id need not be hard to guess, only the same for the same text.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// About four bytes make a token.
pub(super) fn tokens(bytes: usize) -> usize {
    bytes / 4 + 1
}

/// A text as the pieces that it is streamed in, cut between characters.
pub(super) fn pieces(text: &str) -> Vec<&str> {
    let size = PIECE.max(text.len() / MOST_PIECES);
    let mut rest = text;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        // A character has at most four bytes, so a piece is never empty.
        let (piece, tail) = rest.split_at(rest.floor_char_boundary(size.min(rest.len())));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_text() {
        for text in ["", "short", &"grüße, 世界 🚢! ".repeat(9), &"x".repeat(5_000_000)] {
            let pieces = pieces(text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.len() <= MOST_PIECES + 1);
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
        }
    }
}
