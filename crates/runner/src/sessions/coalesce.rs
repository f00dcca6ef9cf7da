//! Joins what waits: deltas of one message that piled up while the spool was busy become one.
//! Never by a timer: what does not wait is not held back.

use boatyard_agent::driver::Output;
use boatyard_model::EventBody;

/// The longest joined delta, in bytes.
const JOINED_MAX: usize = 64 << 10;

/// Appends `next` to `last` if both are deltas of the same thing; else gives it back.
pub(super) fn join(last: &mut Output, next: Output) -> Option<Output> {
    let (Output::Event { turn, body: into }, Output::Event { turn: same, body }) = (last, &next)
    else {
        return Some(next);
    };
    if turn != same {
        return Some(next);
    }
    let (text, more) = match (into, body) {
        (
            EventBody::MessageDelta { message, text },
            EventBody::MessageDelta { message: same, text: more },
        ) if message == same => (text, more),
        (
            EventBody::ThoughtDelta { thought, text },
            EventBody::ThoughtDelta { thought: same, text: more },
        ) if thought == same => (text, more),
        _ => return Some(next),
    };
    if text.len() + more.len() > JOINED_MAX {
        return Some(next);
    }
    text.push_str(more);
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delta(message: u8, text: &str) -> Output {
        Output::Event {
            turn: Some(1),
            body: EventBody::MessageDelta { message: message.to_string(), text: text.into() },
        }
    }

    fn said(outputs: &[Output]) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        for output in outputs {
            let Output::Event { body: EventBody::MessageDelta { message, text }, .. } = output
            else {
                unreachable!()
            };
            match all.last_mut() {
                Some((last, whole)) if last == message => whole.push_str(text),
                _ => all.push((message.clone(), text.clone())),
            }
        }
        all
    }

    proptest! {
        #[test]
        fn joining_changes_nothing_of_what_was_said(
            pieces in proptest::collection::vec((0_u8..3, "[a-z]{1,9}"), 0..30)
        ) {
            let outputs: Vec<_> = pieces.iter().map(|(m, t)| delta(*m, t)).collect();
            let mut joined: Vec<Output> = Vec::new();
            for output in outputs.clone() {
                let rest = match joined.last_mut() {
                    Some(last) => join(last, output),
                    None => Some(output),
                };
                joined.extend(rest);
            }
            prop_assert_eq!(said(&joined), said(&outputs));
            prop_assert_eq!(joined.len(), said(&outputs).len());
        }
    }
}
