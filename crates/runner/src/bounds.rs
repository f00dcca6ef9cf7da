//! What an agent may say at once. The drivers bound it already; here is the last look before it is
//! written, whatever the driver.

use boatyard_model::{BlobId, EventBody, event::ToolCall};
use bytes::Bytes;

/// The longest text of a message or thought in an event, in bytes; the whole goes to a blob.
const TEXT_MAX: usize = 256 << 10;

/// The longest output of a tool in an event.
const OUTPUT_MAX: usize = 96 << 10;

/// The longest title, question or subject.
const LINE_MAX: usize = 4 << 10;

/// The largest JSON of a tool's arguments, in bytes.
const INPUT_MAX: usize = 96 << 10;

/// How many bytes of edits one call may tell, in how many files.
const DIFFS_BYTES: usize = 512 << 10;
const DIFFS_MAX: usize = 100;

/// How many files a call may say that it touches, and the longest path.
const PLACES_MAX: usize = 200;
const PATH_MAX: usize = 512;

/// How many steps a plan, or answers a question, may have.
const ENTRIES_MAX: usize = 200;

/// Text that did not fit, to be kept as a blob before the event that names it.
pub type Rest = Option<(BlobId, Bytes)>;

/// Cuts a text at a character's boundary.
pub fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
}

/// Bounds an event. What was cut off a message is given back whole.
pub fn event(body: &mut EventBody) -> Rest {
    match body {
        EventBody::MessageDelta { text, .. }
        | EventBody::ThoughtDelta { text, .. }
        | EventBody::ThoughtCompleted { text, .. } => cut(text, TEXT_MAX),
        EventBody::MessageCompleted { text, blob, .. } => {
            if text.len() > TEXT_MAX && blob.is_none() {
                let id = BlobId::new();
                let whole = Bytes::copy_from_slice(text.as_bytes());
                cut(text, TEXT_MAX);
                *blob = Some(id);
                return Some((id, whole));
            }
            cut(text, TEXT_MAX);
        }
        EventBody::ToolStarted { tool }
        | EventBody::ToolUpdated { tool }
        | EventBody::ToolCompleted { tool, .. } => tool_call(tool),
        EventBody::Plan { entries } => {
            entries.truncate(ENTRIES_MAX);
            entries.iter_mut().for_each(|entry| cut(&mut entry.text, LINE_MAX));
        }
        EventBody::PermissionRequested { title, options, .. } => {
            cut(title, LINE_MAX);
            options.truncate(ENTRIES_MAX);
            options.iter_mut().for_each(|option| cut(&mut option.name, LINE_MAX));
        }
        EventBody::QuestionAsked { text, options, .. } => {
            cut(text, 4 * LINE_MAX);
            options.truncate(ENTRIES_MAX);
            options.iter_mut().for_each(|option| cut(option, LINE_MAX));
        }
        EventBody::GitCommit { subject, .. } => cut(subject, LINE_MAX),
        EventBody::Notice { text, .. } => cut(text, 4 * LINE_MAX),
        EventBody::TurnCompleted { error: Some(error), .. } => cut(error, 4 * LINE_MAX),
        _ => {}
    }
    None
}

fn tool_call(tool: &mut ToolCall) {
    if let Some(title) = &mut tool.title {
        cut(title, LINE_MAX);
    }
    if let Some(output) = &mut tool.output {
        cut(output, OUTPUT_MAX);
    }
    if tool.input.as_ref().is_some_and(|input| input.to_string().len() > INPUT_MAX) {
        tool.input = None;
    }
    tool.diffs.truncate(DIFFS_MAX);
    let mut room = DIFFS_BYTES;
    for diff in &mut tool.diffs {
        cut(&mut diff.path, PATH_MAX);
        for text in diff.old.iter_mut().chain([&mut diff.new]) {
            cut(text, room);
            room -= text.len();
        }
    }
    tool.locations.truncate(PLACES_MAX);
    tool.locations.iter_mut().for_each(|place| cut(place, PATH_MAX));
    tool.images.truncate(PLACES_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_whole_in_a_blob() {
        let whole = "é".repeat(TEXT_MAX);
        let mut body =
            EventBody::MessageCompleted { message: "m".into(), text: whole.clone(), blob: None };
        let (id, bytes) = event(&mut body).unwrap();
        assert_eq!(bytes, whole.as_bytes());
        let EventBody::MessageCompleted { text, blob, .. } = body else { unreachable!() };
        assert_eq!((text.len(), blob), (TEXT_MAX, Some(id)));
    }

    #[test]
    fn the_largest_tool_call_fits_a_record() {
        let big = "\u{1}".repeat(2 << 20);
        let diff = boatyard_model::event::ToolDiff {
            path: big.clone(),
            old: Some("x".repeat(2 << 20)),
            new: "y".repeat(2 << 20),
        };
        let tool = ToolCall {
            tool: "t".into(),
            title: Some(big.clone()),
            input: Some(serde_json::json!(big)),
            output: Some(big.clone()),
            diffs: vec![diff; 100],
            locations: vec![big; 100],
            ..ToolCall::default()
        };
        let mut body = EventBody::ToolUpdated { tool };
        assert!(event(&mut body).is_none());
        let length = serde_json::to_vec(&body).unwrap().len();
        assert!(length < boatyard_link::record::RECORD_JSON_MAX, "{length}");
    }
}
