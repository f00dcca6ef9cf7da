//! The Messages API of Anthropic.
//!
//! ```text
//!   message_start, ping,
//!   for each part: content_block_start, content_block_delta …, content_block_stop,
//!   message_delta (stop reason, usage), message_stop
//! ```

use serde_json::{Value, json};

use super::{
    answer::{Answer, Input, Part, pieces},
    conversation::{Conversation, Delivery, Thoughts, Tool, ToolInput, list, text, texts},
    wire::named_event,
};

/// Reads a request of `/v1/messages`.
pub(super) fn read(body: &Value) -> Conversation {
    let mut conversation =
        Conversation { model: text(body, "model").to_owned(), ..Default::default() };
    if body["stream"] == true {
        conversation.delivery = Delivery::Events;
    }
    if matches!(text(&body["thinking"], "type"), "enabled" | "adaptive") {
        conversation.thoughts = Thoughts::Shown;
    }
    let format = &body["output_config"]["format"];
    let format = if format.is_object() { format } else { &body["output_format"] };
    conversation.schema = format.get("schema").cloned();
    for text in texts(&body["system"]) {
        conversation.background(text);
    }
    for message in list(body, "messages") {
        let content = &message["content"];
        match text(message, "role") {
            "assistant" => conversation.assistant(),
            "system" => texts(content).into_iter().for_each(|text| conversation.background(text)),
            _ => {
                for result in list(message, "content")
                    .iter()
                    .filter(|block| text(block, "type") == "tool_result")
                {
                    conversation.result(texts(&result["content"]).join("\n"));
                }
                // What a person said while a tool ran stands beside what the tool said.
                conversation.user(&texts(content));
            }
        }
    }
    // Tools of the provider's own have no schema and are not ours to call.
    conversation.tools = list(body, "tools")
        .iter()
        .filter_map(|tool| {
            Some(Tool {
                name: text(tool, "name").to_owned(),
                namespace: None,
                input: ToolInput::Json(tool.get("input_schema")?.clone()),
            })
        })
        .collect();
    conversation
}

/// The answer as one document.
pub(super) fn whole(answer: &Answer) -> Value {
    let mut message = opening(answer);
    message["content"] =
        answer.parts.iter().enumerate().map(|(index, part)| block(answer, index, part)).collect();
    message["stop_reason"] = json!(stop_reason(answer));
    message["usage"]["output_tokens"] = json!(answer.output_tokens);
    message
}

/// The answer as events.
pub(super) fn events(answer: &Answer) -> Vec<String> {
    let mut events = vec![
        event(json!({"type": "message_start", "message": opening(answer)})),
        event(json!({"type": "ping"})),
    ];
    for (index, part) in answer.parts.iter().enumerate() {
        let mut start = block(answer, index, part);
        let (key, kind, whole) = match part {
            Part::Thought(text) => ("thinking", "thinking_delta", text.clone()),
            Part::Text(text) => ("text", "text_delta", text.clone()),
            Part::Call(call) => ("partial_json", "input_json_delta", call.input.as_text()),
        };
        match part {
            Part::Thought(_) => {
                start["thinking"] = json!("");
                start["signature"] = json!("");
            }
            Part::Text(_) => start["text"] = json!(""),
            Part::Call(_) => start["input"] = json!({}),
        }
        events.push(event(
            json!({"type": "content_block_start", "index": index, "content_block": start}),
        ));
        let mut delta = |delta: Value| {
            events.push(event(
                json!({"type": "content_block_delta", "index": index, "delta": delta}),
            ));
        };
        for piece in pieces(&whole) {
            delta(json!({"type": kind, key: piece}));
        }
        if matches!(part, Part::Thought(_)) {
            delta(json!({"type": "signature_delta", "signature": signature(answer)}));
        }
        events.push(event(json!({"type": "content_block_stop", "index": index})));
    }
    events.push(event(json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(answer), "stop_sequence": null},
        "usage": {"output_tokens": answer.output_tokens},
    })));
    events.push(event(json!({"type": "message_stop"})));
    events
}

fn event(data: Value) -> String {
    named_event(&data)
}

fn opening(answer: &Answer) -> Value {
    json!({
        "id": format!("msg_{}", answer.stem),
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": answer.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        },
    })
}

fn block(answer: &Answer, index: usize, part: &Part) -> Value {
    match part {
        Part::Thought(text) => {
            json!({"type": "thinking", "thinking": text, "signature": signature(answer)})
        }
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Call(call) => {
            let input = match &call.input {
                Input::Json(value) => value.clone(),
                Input::Text(text) => json!({ "input": text }),
            };
            let id = format!("toolu_{}{index}", answer.stem);
            json!({"type": "tool_use", "id": id, "name": call.name, "input": input})
        }
    }
}

/// Agents keep it and send it back; nobody here checks it.
fn signature(answer: &Answer) -> String {
    format!("signature{}", answer.stem)
}

fn stop_reason(answer: &Answer) -> &'static str {
    if answer.calls() { "tool_use" } else { "end_turn" }
}
