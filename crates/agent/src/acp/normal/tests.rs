//! Stories and properties of what an agent's updates become.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What an agent may do.
#[derive(Debug, Clone)]
enum Act {
    Update(Value),
    Permission(Value),
    Retry,
    Garbage,
    Cancel,
    Turn,
}

fn id() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0..4u8).prop_map(|n| json!(format!("id{n}"))),
        1 => Just(Value::Null),
        1 => Just(json!("")),
        1 => Just(json!(7)),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z \\n`é]{0,12}",
        Just("[MODE_UPDATE] yolo".to_owned()),
        Just("Info: Retrying...".to_owned()),
        Just("```sh\nx\n```".to_owned()),
        Just("Exit code 3\noops".to_owned()),
        Just("y".repeat(200_000)),
    ]
}

fn content() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        text().prop_map(|t| json!({ "type": "content", "content": { "type": "text", "text": t } })),
        text().prop_map(|t| json!({ "type": "diff", "path": "p", "oldText": null, "newText": t })),
        Just(json!({ "type": "content", "content":
            { "type": "image", "mimeType": "image/png", "data": "aGVsbG8=" } })),
        Just(json!({ "type": "terminal", "terminalId": "t" })),
        Just(json!(3)),
    ];
    prop_oneof![
        3 => proptest::collection::vec(part, 0..3).prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn tool() -> impl Strategy<Value = Value> {
    let update = prop_oneof![Just("tool_call"), Just("tool_call_update")];
    let status = prop_oneof![
        3 => Just(json!("in_progress")),
        1 => Just(Value::Null),
        1 => Just(json!("completed")),
        1 => Just(json!("failed")),
    ];
    let title = prop_oneof![
        5 => text().prop_map(Value::from),
        1 => Just(json!("todowrite")),
        1 => Just(Value::Null),
    ];
    let kind = prop_oneof![Just("execute"), Just("edit"), Just("nonsense")];
    let delta = prop_oneof![
        3 => Just(Value::Null),
        1 => text().prop_map(|t| json!({ "terminal_output_delta": { "data": t } })),
        1 => Just(json!({ "claudeCode": {} })),
    ];
    (update, id(), status, title, kind, content(), delta, text()).prop_map(
        |(update, id, status, title, kind, content, meta, input)| {
            json!({
                "sessionUpdate": update, "toolCallId": id, "status": status, "title": title,
                "kind": kind, "content": content, "_meta": meta,
                "rawInput": { "text": input, "todos": [{ "content": "x", "status": "completed" }] },
            })
        },
    )
}

fn act() -> impl Strategy<Value = Act> {
    let speech =
        (prop_oneof![Just("agent_message_chunk"), Just("agent_thought_chunk")], id(), text())
            .prop_map(|(kind, id, text)| {
                let content = json!({ "type": "text", "text": text });
                json!({ "sessionUpdate": kind, "messageId": id, "content": content })
            });
    let other = prop_oneof![
        Just(json!({ "sessionUpdate": "plan", "entries": [{ "content": "a" }, 3] })),
        Just(json!({ "sessionUpdate": "usage_update", "used": 3, "size": "x" })),
        Just(json!({ "sessionUpdate": "session_info_update", "title": "t" })),
        Just(json!({ "sessionUpdate": 5 })),
        Just(Value::Null),
    ];
    prop_oneof![
        6 => speech.prop_map(Act::Update),
        8 => tool().prop_map(Act::Update),
        2 => other.prop_map(Act::Update),
        2 => tool().prop_map(Act::Permission),
        1 => Just(Act::Retry),
        1 => Just(Act::Garbage),
        1 => Just(Act::Cancel),
        2 => Just(Act::Turn),
    ]
}

/// Checks what comes out, as it comes.
#[derive(Default)]
struct Checker {
    texts: HashMap<String, String>,
    open: Option<String>,
    tools: HashMap<String, bool>,
    ended: u32,
}

impl Checker {
    fn take(&mut self, normal: &mut Normal) -> Result<(), TestCaseError> {
        while let Some(output) = normal.sink.pop() {
            match output {
                Output::Event { turn, body } => {
                    prop_assert!(turn.is_none_or(|turn| turn > self.ended));
                    let size = serde_json::to_vec(&body).unwrap_or_default().len();
                    prop_assert!(size < 1 << 20, "{} has {size} bytes", body.kind());
                    self.event(body)?;
                }
                Output::TurnEnded { turn, .. } => {
                    prop_assert_eq!(turn, self.ended + 1);
                    prop_assert!(self.texts.is_empty(), "{:?}", self.texts);
                    prop_assert!(self.tools.values().all(|done| *done), "{:?}", self.tools);
                    self.ended = turn;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, body: EventBody) -> Result<(), TestCaseError> {
        match body {
            EventBody::MessageDelta { message: item, text }
            | EventBody::ThoughtDelta { thought: item, text } => {
                prop_assert!(self.open.as_ref().is_none_or(|open| *open == item));
                self.open = Some(item.clone());
                self.texts.entry(item).or_default().push_str(&text);
            }
            EventBody::MessageCompleted { message: item, text, .. }
            | EventBody::ThoughtCompleted { thought: item, text } => {
                let said = self.texts.remove(&item);
                prop_assert!(said.is_some(), "completed without a delta");
                let said = said.unwrap_or_default();
                prop_assert!(text.is_empty() || text == said || said.len() > 256 << 10);
                self.open = None;
            }
            EventBody::ToolStarted { tool } => {
                prop_assert!(self.open.is_none(), "a text is complete before a tool starts");
                prop_assert!(self.tools.insert(tool.tool, false).is_none(), "started once");
            }
            EventBody::ToolUpdated { tool } => {
                prop_assert_eq!(self.tools.get(&tool.tool), Some(&false));
            }
            EventBody::ToolCompleted { tool, .. } => {
                prop_assert_eq!(self.tools.insert(tool.tool, true), Some(false));
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_an_agent_does_its_turns_are_whole(
        acts in proptest::collection::vec(act(), 0..60),
        seldom in any::<bool>(),
    ) {
        let mut normal = Normal::new(UsageScope::Turn, Blame::default());
        let mut checker = Checker::default();
        let mut turn = 1;
        normal.begin(turn);
        for act in acts {
            match act {
                Act::Update(update) => normal.update(&update),
                Act::Permission(call) => normal.tool(&call),
                Act::Retry => normal.claude_message(&json!({ "subtype": "api_retry" })),
                Act::Garbage => normal.garbage("x".into()),
                Act::Cancel => normal.cancelling = Cancelling::Yes,
                Act::Turn => {
                    let verdict = normal.verdict(&json!({ "stopReason": "end_turn" }));
                    normal.end(verdict);
                    turn += 1;
                    normal.begin(turn);
                }
            }
            // A slow consumer lets deltas be joined; nothing else may differ.
            if !seldom {
                checker.take(&mut normal)?;
            }
        }
        normal.end((TurnOutcome::Completed, None));
        checker.take(&mut normal)?;
        prop_assert_eq!(checker.ended, turn);
    }

    #[test]
    fn growing_content_is_told_piece_by_piece(pieces in proptest::collection::vec("[a-z\\n]{1,9}", 1..20)) {
        let mut normal = Normal::new(UsageScope::Turn, Blame::default());
        normal.begin(1);
        let mut all = String::new();
        let update = |text: &str, status: &str| {
            let content = json!([{ "type": "content", "content": { "type": "text", "text": text } }]);
            json!({ "sessionUpdate": "tool_call_update", "toolCallId": "t", "kind": "read",
                "status": status, "content": content })
        };
        normal.update(&update("", "in_progress"));
        for piece in &pieces {
            all.push_str(piece);
            normal.update(&update(&all, "in_progress"));
        }
        normal.update(&update(&all, "completed"));
        let (mut live, mut whole) = (String::new(), None);
        while let Some(output) = normal.sink.pop() {
            if let Output::Event { body, .. } = output {
                match body {
                    EventBody::ToolUpdated { tool } => {
                        live.push_str(tool.output.as_deref().unwrap_or_default());
                    }
                    EventBody::ToolCompleted { tool, .. } => whole = tool.output,
                    _ => {}
                }
            }
        }
        prop_assert_eq!(&live, &all);
        prop_assert_eq!(whole, Some(all));
    }
}

#[test]
fn a_window_that_moves_on_is_told_by_what_is_new() {
    let mut normal = Normal::new(UsageScope::Turn, Blame::default());
    normal.begin(1);
    let lines: Vec<String> = (0..100).map(|n| format!("line {n}\n")).collect();
    for end in 10..=100 {
        let content = json!([{ "type": "content",
            "content": { "type": "text", "text": lines[end - 10..end].concat() } }]);
        normal.update(&json!({ "sessionUpdate": "tool_call_update", "toolCallId": "t",
            "status": "in_progress", "content": content }));
    }
    normal.settle();
    let (mut live, mut whole) = (String::new(), None);
    while let Some(output) = normal.sink.pop() {
        match output {
            Output::Event { body: EventBody::ToolStarted { tool }, .. }
            | Output::Event { body: EventBody::ToolUpdated { tool }, .. } => {
                live.push_str(tool.output.as_deref().unwrap_or_default());
            }
            Output::Event { body: EventBody::ToolCompleted { tool, .. }, .. } => {
                whole = tool.output
            }
            _ => {}
        }
    }
    // Live each line once, though the windows overlap; at the end what it told last.
    assert_eq!(live, lines.concat());
    assert_eq!(whole.unwrap(), lines[90..].concat());
}
