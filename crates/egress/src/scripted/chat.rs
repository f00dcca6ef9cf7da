//! Chat Completions, OpenAI's older API, which nearly every provider has.
//!
//! Chunks of a role, deltas of text, thoughts and calls, one with the finish reason, one with the
//! usage where it is asked for, then `[DONE]`. Thoughts are `reasoning_content`, as the providers
//! that show them call it.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Call, Input, Part, pieces},
    conversation::{Conversation, Delivery, Thoughts, Tool, ToolInput, list, text, texts},
    wire::event,
};

/// Reads a request of `/v1/chat/completions`.
pub(super) fn read(body: &Value) -> Conversation {
    let mut conversation = Conversation {
        model: text(body, "model").to_owned(),
        thoughts: Thoughts::Shown,
        ..Default::default()
    };
    if body["stream"] == true {
        conversation.delivery = Delivery::Events;
    }
    let format = &body["response_format"];
    match text(format, "type") {
        "json_schema" => conversation.schema = format["json_schema"].get("schema").cloned(),
        "json_object" => conversation.schema = Some(json!({"type": "object"})),
        _ => {}
    }
    for message in list(body, "messages") {
        let texts = texts(&message["content"]);
        match text(message, "role") {
            "user" => conversation.user(&texts),
            "tool" | "function" => conversation.result(texts.join("\n")),
            "assistant" => conversation.assistant(),
            _ => texts.into_iter().for_each(|text| conversation.background(text)),
        }
    }
    conversation.tools = list(body, "tools")
        .iter()
        .filter_map(|tool| {
            let function = tool.get("function")?;
            Some(Tool {
                name: text(function, "name").to_owned(),
                namespace: None,
                input: ToolInput::Json(function["parameters"].clone()),
            })
        })
        .collect();
    conversation
}

/// The answer as one document.
pub(super) fn whole(answer: &Answer) -> Value {
    let mut message = json!({"role": "assistant", "content": null, "refusal": null});
    let mut calls = Vec::new();
    for part in &answer.parts {
        match part {
            Part::Thought(text) => message["reasoning_content"] = json!(text),
            Part::Text(text) => message["content"] = json!(text),
            Part::Call(call) => calls.push(tool_call(call, &arguments(call))),
        }
    }
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    json!({
        "id": id(answer),
        "object": "chat.completion",
        "created": super::CREATED,
        "model": answer.model,
        "choices": [{
            "index": 0, "message": message, "logprobs": null, "finish_reason": finish(answer),
        }],
        "usage": usage(answer),
    })
}

/// The answer as chunks. `body` says whether the usage is asked for.
pub(super) fn events(answer: &Answer, body: &Value) -> Vec<String> {
    let delta = |delta: Value, finish: Option<&str>| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        event(&chunk(answer, json!([choice])))
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), None)];
    let mut calls = 0;
    for part in &answer.parts {
        match part {
            Part::Thought(text) => {
                events.extend(
                    pieces(text)
                        .into_iter()
                        .map(|piece| delta(json!({"reasoning_content": piece}), None)),
                );
            }
            Part::Text(text) => {
                events.extend(
                    pieces(text).into_iter().map(|piece| delta(json!({"content": piece}), None)),
                );
            }
            Part::Call(call) => {
                let mut first = tool_call(call, "");
                first["index"] = json!(calls);
                events.push(delta(json!({"tool_calls": [first]}), None));
                events.extend(pieces(&arguments(call)).into_iter().map(|piece| {
                    let more = json!({"index": calls, "function": {"arguments": piece}});
                    delta(json!({"tool_calls": [more]}), None)
                }));
                calls += 1;
            }
        }
    }
    events.push(delta(json!({}), Some(finish(answer))));
    if body["stream_options"]["include_usage"] == true {
        let mut last = chunk(answer, json!([]));
        last["usage"] = usage(answer);
        events.push(event(&last));
    }
    events.push("data: [DONE]\n\n".into());
    events
}

fn chunk(answer: &Answer, choices: Value) -> Value {
    json!({
        "id": id(answer),
        "object": "chat.completion.chunk",
        "created": super::CREATED,
        "model": answer.model,
        "choices": choices,
    })
}

fn tool_call(call: &Call, arguments: &str) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    })
}

/// This API has no tools of free text, so a text goes as an argument.
fn arguments(call: &Call) -> String {
    match &call.input {
        Input::Json(value) => value.to_string(),
        Input::Text(text) => json!({ "input": text }).to_string(),
    }
}

fn id(answer: &Answer) -> String {
    format!("chatcmpl-{}", answer.stem)
}

fn finish(answer: &Answer) -> &'static str {
    if answer.calls() { "tool_calls" } else { "stop" }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    })
}
