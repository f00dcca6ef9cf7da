//! The Responses API of OpenAI, as Codex uses it.
//!
//! ```text
//!   response.created, response.in_progress,
//!   for each item: response.output_item.added, its parts and deltas, response.output_item.done,
//!   response.completed (the whole response, with usage)
//! ```
//!
//! Each event has a `sequence_number`; there is no `[DONE]`.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Input, Part, pieces},
    conversation::{Conversation, Delivery, Thoughts, Tool, ToolInput, list, text, texts},
    wire::named_event,
};

/// Reads a request of `/v1/responses`.
pub(super) fn read(body: &Value) -> Conversation {
    let mut conversation =
        Conversation { model: text(body, "model").to_owned(), ..Default::default() };
    if body["stream"] == true {
        conversation.delivery = Delivery::Events;
    }
    if body["reasoning"].is_object() {
        conversation.thoughts = Thoughts::Shown;
    }
    let format = &body["text"]["format"];
    if text(format, "type") == "json_schema" {
        conversation.schema = format.get("schema").cloned();
    }
    conversation.background(text(body, "instructions"));
    if let Some(prompt) = body["input"].as_str() {
        conversation.user(&[prompt]);
    }
    let mut offered = list(body, "tools").to_vec();
    for item in list(body, "input") {
        match text(item, "type") {
            "additional_tools" => offered.extend_from_slice(list(item, "tools")),
            "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" => {
                conversation.result(texts(&item["output"]).join("\n"));
            }
            "message" | "" => match text(item, "role") {
                "user" => conversation.user(&texts(&item["content"])),
                "assistant" => conversation.assistant(),
                _ => texts(&item["content"])
                    .into_iter()
                    .for_each(|text| conversation.background(text)),
            },
            _ => conversation.assistant(),
        }
    }
    for tool in &offered {
        if text(tool, "type") == "namespace" {
            let namespace = text(tool, "name");
            conversation.tools.extend(
                list(tool, "tools").iter().filter_map(|tool| read_tool(tool, Some(namespace))),
            );
        } else {
            conversation.tools.extend(read_tool(tool, None));
        }
    }
    conversation
}

fn read_tool(tool: &Value, namespace: Option<&str>) -> Option<Tool> {
    let input = match text(tool, "type") {
        "function" => ToolInput::Json(tool["parameters"].clone()),
        "custom" => ToolInput::Text,
        _ => return None,
    };
    let name = text(tool, "name").to_owned();
    Some(Tool { name, namespace: namespace.map(str::to_owned), input })
}

/// The answer as one document.
pub(super) fn whole(answer: &Answer) -> Value {
    let items = answer.parts.iter().enumerate().map(|(at, part)| item(answer, at, part)).collect();
    response(answer, "completed", items)
}

/// The answer as events.
pub(super) fn events(answer: &Answer) -> Vec<String> {
    let mut stream = Stream::default();
    let running = response(answer, "in_progress", json!([]));
    stream.send("response.created", json!({"response": running}));
    stream.send("response.in_progress", json!({"response": running}));
    for (index, part) in answer.parts.iter().enumerate() {
        let done = item(answer, index, part);
        let mut added = done.clone();
        added["status"] = json!("in_progress");
        match part {
            Part::Thought(_) => added["summary"] = json!([]),
            Part::Text(_) => added["content"] = json!([]),
            Part::Call(call) => match call.input {
                Input::Json(_) => added["arguments"] = json!(""),
                Input::Text(_) => added["input"] = json!(""),
            },
        }
        stream.send("response.output_item.added", json!({"output_index": index, "item": added}));
        let place = json!({"item_id": done["id"], "output_index": index});
        match part {
            Part::Thought(text) => stream.part(
                &with(&place, json!({"summary_index": 0})),
                ["response.reasoning_summary_part", "response.reasoning_summary_text"],
                |text| json!({"type": "summary_text", "text": text}),
                text,
            ),
            Part::Text(text) => stream.part(
                &with(&place, json!({"content_index": 0})),
                ["response.content_part", "response.output_text"],
                |text| json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
                text,
            ),
            Part::Call(call) => {
                let (kind, key) = match call.input {
                    Input::Json(_) => ("response.function_call_arguments", "arguments"),
                    Input::Text(_) => ("response.custom_tool_call_input", "input"),
                };
                let text = call.input.as_text();
                for piece in pieces(&text) {
                    stream.send(&format!("{kind}.delta"), with(&place, json!({"delta": piece})));
                }
                stream.send(&format!("{kind}.done"), with(&place, json!({key: text})));
            }
        }
        stream.send("response.output_item.done", json!({"output_index": index, "item": done}));
    }
    stream.send("response.completed", json!({"response": whole(answer)}));
    stream.events
}

/// The events so far. Their numbers count up without a gap.
#[derive(Default)]
struct Stream {
    events: Vec<String>,
}

impl Stream {
    fn send(&mut self, kind: &str, data: Value) {
        let head = json!({"type": kind, "sequence_number": self.events.len()});
        self.events.push(named_event(&with(&head, data)));
    }

    /// A part of an item: added, its deltas, done, and done as a part.
    fn part(
        &mut self,
        place: &Value,
        [part, text]: [&str; 2],
        form: fn(&str) -> Value,
        whole: &str,
    ) {
        self.send(&format!("{part}.added"), with(place, json!({"part": form("")})));
        for piece in pieces(whole) {
            self.send(&format!("{text}.delta"), with(place, json!({"delta": piece})));
        }
        self.send(&format!("{text}.done"), with(place, json!({"text": whole})));
        self.send(&format!("{part}.done"), with(place, json!({"part": form(whole)})));
    }
}

/// One object with the fields of both.
fn with(one: &Value, other: Value) -> Value {
    let mut all = one.clone();
    if let (Value::Object(all), Value::Object(other)) = (&mut all, other) {
        all.extend(other);
    }
    all
}

fn response(answer: &Answer, status: &str, output: Value) -> Value {
    let usage = match status {
        "completed" => json!({
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }),
        _ => Value::Null,
    };
    json!({
        "id": format!("resp_{}", answer.stem),
        "object": "response",
        "created_at": super::CREATED,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": false,
        "usage": usage,
    })
}

fn item(answer: &Answer, index: usize, part: &Part) -> Value {
    let id = |kind: &str| format!("{kind}_{}{index}", answer.stem);
    match part {
        Part::Thought(text) => json!({
            "id": id("rs"),
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": text}],
            "encrypted_content": null,
        }),
        Part::Text(text) => json!({
            "id": id("msg"),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}],
        }),
        Part::Call(call) => {
            let mut item = match &call.input {
                Input::Json(value) => json!({
                    "id": id("fc"), "type": "function_call", "arguments": value.to_string(),
                }),
                Input::Text(text) => json!({
                    "id": id("ctc"), "type": "custom_tool_call", "input": text,
                }),
            };
            item["status"] = json!("completed");
            item["call_id"] = json!(call.id);
            item["name"] = json!(call.name);
            if let Some(namespace) = &call.namespace {
                item["namespace"] = json!(namespace);
            }
            item
        }
    }
}
