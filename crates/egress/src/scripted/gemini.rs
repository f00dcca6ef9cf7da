//! Google's generateContent and streamGenerateContent.
//!
//! A stream is a row of whole responses, each with some parts more; the last has the finish reason
//! and the usage. With `alt=sse` they are events, without it the elements of a JSON array.

use serde_json::{Value, json};

use super::{
    answer::{Answer, Input, Part, pieces},
    conversation::{Conversation, Delivery, Thoughts, Tool, ToolInput, list, text, texts},
    wire::event,
};

/// Reads a request for this model.
pub(super) fn read(body: &Value, model: &str, delivery: Delivery) -> Conversation {
    let mut conversation = Conversation { model: model.to_owned(), delivery, ..Default::default() };
    let config = either(body, "generationConfig", "generation_config");
    if config["thinkingConfig"]["includeThoughts"] == true {
        conversation.thoughts = Thoughts::Shown;
    }
    let schema = either(config, "responseJsonSchema", "responseSchema");
    if !schema.is_null() {
        conversation.schema = Some(schema.clone());
    } else if text(config, "responseMimeType") == "application/json" {
        conversation.schema = Some(json!({"type": "object"}));
    }
    for text in texts(&either(body, "systemInstruction", "system_instruction")["parts"]) {
        conversation.background(text);
    }
    for content in list(body, "contents") {
        if text(content, "role") == "model" {
            conversation.assistant();
            continue;
        }
        let mut results = list(content, "parts")
            .iter()
            .filter_map(|part| part.get("functionResponse"))
            .peekable();
        if results.peek().is_none() {
            conversation.user(&texts(&content["parts"]));
        }
        for result in results {
            conversation.result(said(&result["response"]));
        }
    }
    conversation.tools = list(body, "tools")
        .iter()
        .flat_map(|tools| list(tools, "functionDeclarations"))
        .map(|tool| Tool {
            name: text(tool, "name").to_owned(),
            namespace: None,
            input: ToolInput::Json(either(tool, "parametersJsonSchema", "parameters").clone()),
        })
        .collect();
    conversation
}

/// What a tool said: the text in its `output` or `error`, else all of it.
fn said(response: &Value) -> String {
    ["output", "error"]
        .iter()
        .find_map(|key| response.get(key)?.as_str())
        .map_or_else(|| response.to_string(), str::to_owned)
}

/// The first of these that is there.
fn either<'v>(value: &'v Value, one: &str, other: &str) -> &'v Value {
    if value[one].is_null() { &value[other] } else { &value[one] }
}

/// The answer as one document.
pub(super) fn whole(answer: &Answer) -> Value {
    finished(answer, answer.parts.iter().map(|part| part_of(part, None)).collect())
}

/// The answer as events.
pub(super) fn events(answer: &Answer) -> Vec<String> {
    // Google ends lines the long way.
    responses(answer).iter().map(|response| event(response).replace('\n', "\r\n")).collect()
}

/// The answer as an array in pieces.
pub(super) fn array(answer: &Answer) -> Vec<String> {
    let mut pieces: Vec<String> =
        responses(answer).iter().map(|response| format!(",\r\n{response}")).collect();
    if let Some(first) = pieces.first_mut() {
        first.replace_range(..1, "[");
    }
    pieces.push("]".into());
    pieces
}

fn responses(answer: &Answer) -> Vec<Value> {
    let mut responses = Vec::new();
    for part in &answer.parts {
        match part {
            Part::Thought(text) | Part::Text(text) => responses.extend(
                pieces(text)
                    .into_iter()
                    .map(|piece| response(answer, vec![part_of(part, Some(piece))])),
            ),
            Part::Call(_) => responses.push(response(answer, vec![part_of(part, None)])),
        }
    }
    responses.push(finished(answer, vec![json!({"text": ""})]));
    responses
}

/// A part; of a text or thought only this piece, where there is one.
fn part_of(part: &Part, piece: Option<&str>) -> Value {
    match part {
        Part::Thought(text) => json!({"text": piece.unwrap_or(text), "thought": true}),
        Part::Text(text) => json!({"text": piece.unwrap_or(text)}),
        Part::Call(call) => {
            let arguments = match &call.input {
                Input::Json(value) => value.clone(),
                Input::Text(text) => json!({ "input": text }),
            };
            json!({"functionCall": {"id": call.id, "name": call.name, "args": arguments}})
        }
    }
}

fn response(answer: &Answer, parts: Vec<Value>) -> Value {
    json!({
        "candidates": [{"content": {"parts": parts, "role": "model"}, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": answer.input_tokens,
            "totalTokenCount": answer.input_tokens,
        },
        "modelVersion": answer.model,
        "responseId": answer.stem,
    })
}

fn finished(answer: &Answer, parts: Vec<Value>) -> Value {
    let mut response = response(answer, parts);
    response["candidates"][0]["finishReason"] = json!("STOP");
    response["usageMetadata"]["candidatesTokenCount"] = json!(answer.output_tokens);
    response["usageMetadata"]["totalTokenCount"] =
        json!(answer.input_tokens + answer.output_tokens);
    response
}
