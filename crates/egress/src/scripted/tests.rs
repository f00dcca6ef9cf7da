//! Each protocol's wire form, from the request to the bytes of the answer, over real HTTP.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// A provider on a port of its own; it ends with the test.
struct Server {
    address: std::net::SocketAddr,
    _serving: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// What came back: status, head, body.
struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Settings { pace: Duration::ZERO, record: None }).await
    }

    async fn start_with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = service(settings);
        let serving = async move { service.serve(listener, std::future::pending()).await };
        Self { address, _serving: tokio::spawn(serving) }
    }

    /// One request on a connection of its own, read until its end.
    async fn send(&self, line: &str, headers: &str, body: &str) -> Answered {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { dechunked(body) } else { body.to_owned() };
        Answered { status, head: head.to_owned(), body }
    }

    async fn post(&self, path: &str, body: &Value) -> Answered {
        self.send(&format!("POST {path}"), "", &body.to_string()).await
    }

    /// The data of the events of an answer.
    async fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let answered = self.post(path, body).await;
        assert_eq!(answered.status, 200, "{}", answered.body);
        assert!(answered.head.contains("content-type: text/event-stream"), "{}", answered.head);
        data(&answered.body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self._serving.abort();
    }
}

fn dechunked(mut body: &str) -> String {
    let mut all = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        all.push_str(&rest[..size.min(rest.len())]);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    all
}

/// The data of a stream's events; each event's name, where it has one, is its type.
fn data(stream: &str) -> Vec<Value> {
    let stream = stream.replace("\r\n", "\n");
    assert!(stream.ends_with("\n\n"));
    let event = |event: &str| {
        let (name, data) = match event.strip_prefix("event: ") {
            Some(rest) => rest.split_once('\n').map(|(name, data)| (Some(name), data)).unwrap(),
            None => (None, event),
        };
        let data = data.strip_prefix("data: ").unwrap();
        if data == "[DONE]" {
            return json!("done");
        }
        let data: Value = serde_json::from_str(data).unwrap();
        if let Some(name) = name {
            assert_eq!(data["type"], name);
        }
        data
    };
    stream.split_terminator("\n\n").map(event).collect()
}

/// The kinds of these events, runs of one kind as one.
fn kinds(events: &[Value]) -> Vec<&str> {
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    kinds.dedup();
    kinds
}

/// All texts at this place, joined.
fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|event| event.pointer(pointer)?.as_str()).collect()
}

const COMMAND: &str = "[scripted] I run `ls`.";

fn command_schema(name: &str) -> Value {
    json!({"type": "object", "properties": {name: {"type": "string"}}, "required": [name]})
}

fn anthropic_request() -> Value {
    json!({
        "model": "claude-x", "max_tokens": 100, "stream": true, "thinking": {"type": "adaptive"},
        "system": [{"type": "text", "text": "Working directory: /work/a\n"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "[[think:hm]] [[run:ls]] [[say:saw {result}]]"}]}],
        "tools": [{"name": "Bash", "input_schema": command_schema("command")}, {"type": "web_search_20250305", "name": "web_search"}],
    })
}

#[tokio::test]
async fn anthropic_streams_blocks_and_takes_results() {
    let server = Server::start().await;
    let mut request = anthropic_request();
    let events = server.events("/v1/messages?beta=true", &request).await;
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    let expected = [
        &["message_start", "ping"][..],
        &block,
        &block,
        &block,
        &["message_delta", "message_stop"],
    ];
    assert_eq!(kinds(&events), expected.concat());
    assert_eq!(events[0]["message"]["model"], "claude-x");
    assert_eq!(joined(&events, "/delta/thinking"), "hm");
    assert_eq!(joined(&events, "/delta/text"), COMMAND);
    assert_eq!(joined(&events, "/delta/partial_json"), r#"{"command":"ls"}"#);
    assert_eq!(joined(&events, "/delta/stop_reason"), "tool_use");

    request["stream"] = json!(false);
    let whole: Value =
        serde_json::from_str(&server.post("/v1/messages", &request).await.body).unwrap();
    assert_eq!(whole["content"][1], json!({"type": "text", "text": COMMAND}));
    let call = &whole["content"][2];
    assert_eq!((&call["name"], &call["input"]), (&json!("Bash"), &json!({"command": "ls"})));

    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": whole["content"]}));
    messages.push(json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "a b"}]},
        {"type": "text", "text": "<system-reminder>x</system-reminder>"},
    ]}));
    let whole: Value =
        serde_json::from_str(&server.post("/v1/messages", &request).await.body).unwrap();
    assert_eq!(whole["content"], json!([{"type": "text", "text": "[scripted] saw a b"}]));
    assert_eq!(whole["stop_reason"], "end_turn");
}

#[tokio::test]
async fn anthropic_counts_tokens_and_lists_models() {
    let server = Server::start().await;
    let counted =
        server.post("/demo-anthropic/v1/messages/count_tokens", &anthropic_request()).await;
    let counted: Value = serde_json::from_str(&counted.body).unwrap();
    assert!(counted["input_tokens"].as_u64().unwrap() > 10);
    let listed = server.send("GET /v1/models", "anthropic-version: 2023-06-01\r\n", "").await;
    assert_eq!(serde_json::from_str::<Value>(&listed.body).unwrap()["data"][0]["id"], "demo");
}

#[tokio::test]
async fn responses_stream_items_and_take_results() {
    let server = Server::start().await;
    let mut request = json!({
        "model": "gpt-5.5", "stream": true, "reasoning": {"summary": "auto"}, "instructions": "x",
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "<environment_context><cwd>/work/a</cwd></environment_context>"}]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "[[think:hm]] [[run:ls]] [[write:f|t]] [[say:end]]"}]},
        ],
        "tools": [
            {"type": "function", "name": "exec_command", "parameters": command_schema("cmd")},
            {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}},
        ],
    });
    let events = server.events("/v1/responses", &request).await;
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds(&events), expected);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[1]["content"][0]["text"], COMMAND);
    assert_eq!(output[2]["arguments"], r#"{"cmd":"ls"}"#);

    let input = request["input"].as_array_mut().unwrap();
    input.extend(output.as_array().unwrap().clone());
    input.push(
        json!({"type": "function_call_output", "call_id": output[2]["call_id"], "output": "a"}),
    );
    let events = server.events("/v1/responses", &request).await;
    let call = &events.last().unwrap()["response"]["output"][1];
    assert_eq!(call["type"], "custom_tool_call");
    assert_eq!(joined(&events[4..], "/input"), call["input"].as_str().unwrap());
    assert!(call["input"].as_str().unwrap().contains("*** Add File: f\n+t\n"));
}

#[tokio::test]
async fn responses_call_code_mode_by_its_namespace() {
    let server = Server::start().await;
    let request = json!({"model": "gpt-6", "input": [
        {"type": "additional_tools", "role": "developer", "tools": [
            {"type": "namespace", "name": "functions", "tools": [{"type": "custom", "name": "exec"}]},
        ]},
        {"role": "user", "content": "[[run:ls]]"},
    ]});
    let whole: Value =
        serde_json::from_str(&server.post("/v1/responses", &request).await.body).unwrap();
    let call = &whole["output"][1];
    assert_eq!((&call["name"], &call["namespace"]), (&json!("exec"), &json!("functions")));
    assert_eq!(call["input"], "text(await tools.exec_command({\"cmd\":\"ls\"}));\n");
    assert_eq!(server.send("GET /v1/responses", "upgrade: websocket\r\n", "").await.status, 426);
}

#[tokio::test]
async fn chat_streams_chunks_and_takes_results() {
    let server = Server::start().await;
    let mut request = json!({
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "[[run:ls]] [[say:saw {result}]]"}],
        "tools": [{"type": "function", "function": {"name": "bash", "parameters": command_schema("command")}}],
    });
    let events = server.events("/v1/chat/completions", &request).await;
    assert_eq!(joined(&events, "/choices/0/delta/content"), COMMAND);
    let call = "/choices/0/delta/tool_calls/0";
    assert_eq!(joined(&events, &format!("{call}/function/name")), "bash");
    assert_eq!(joined(&events, &format!("{call}/function/arguments")), r#"{"command":"ls"}"#);
    assert_eq!(joined(&events, "/choices/0/finish_reason"), "tool_calls");
    let [.., usage, done] = &events[..] else { panic!("too few events") };
    assert!(usage["usage"]["total_tokens"].is_u64() && usage["choices"] == json!([]));
    assert_eq!(done, "done");

    request["stream"] = json!(false);
    let messages = request["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "tool_calls": []}));
    messages.push(json!({"role": "tool", "tool_call_id": "c", "content": "a b"}));
    let whole = server.post("/v1/chat/completions", &request).await.body;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["choices"][0]["message"]["content"], "[scripted] saw a b");
    assert_eq!(whole["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn gemini_streams_responses_and_takes_results() {
    let server = Server::start().await;
    let mut request = json!({
        "contents": [{"role": "user", "parts": [{"text": "[[run:ls]] [[say:saw {result}]]"}]}],
        "tools": [{"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": command_schema("command")}]}],
    });
    let path = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";
    let events = server.events(&format!("{path}?alt=sse"), &request).await;
    let part = "/candidates/0/content/parts/0";
    assert_eq!(joined(&events, &format!("{part}/text")), COMMAND);
    assert_eq!(joined(&events, &format!("{part}/functionCall/args/command")), "ls");
    assert_eq!(events.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    assert!(events.iter().all(|event| event["modelVersion"] == "gemini-2.5-pro"));

    // The same, but for the id of an answer that is given again.
    let array = server.post(path, &request).await.body.replace("again1", "");
    assert_eq!(serde_json::from_str::<Vec<Value>>(&array).unwrap(), events);

    let contents = request["contents"].as_array_mut().unwrap();
    contents.push(json!({"role": "model", "parts": []}));
    contents.push(json!({"role": "user", "parts": [
        {"functionResponse": {"name": "run_shell_command", "response": {"output": "a b"}}},
    ]}));
    let whole = server.post("/v1beta/models/g:generateContent", &request).await.body;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole.pointer(&format!("{part}/text")).unwrap(), "[scripted] saw a b");
    let counted = server.post("/v1beta/models/g:countTokens", &request).await.body;
    assert!(serde_json::from_str::<Value>(&counted).unwrap()["totalTokens"].is_u64());
}

#[tokio::test]
async fn json_is_answered_where_a_schema_asks_for_it() {
    let server = Server::start().await;
    let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}});
    let user = json!([{"role": "user", "content": "x"}]);
    let format = json!({"type": "json_schema", "schema": schema});
    for (path, request, pointer) in [
        (
            "/v1/messages",
            json!({"messages": user, "output_config": {"format": format}}),
            "/content/0/text",
        ),
        (
            "/v1/responses",
            json!({"input": user, "text": {"format": format}}),
            "/output/0/content/0/text",
        ),
        (
            "/v1/chat/completions",
            json!({"messages": user, "response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}),
            "/choices/0/message/content",
        ),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents": [], "generationConfig": {"responseJsonSchema": schema}}),
            "/candidates/0/content/parts/0/text",
        ),
    ] {
        let whole: Value = serde_json::from_str(&server.post(path, &request).await.body).unwrap();
        assert_eq!(whole.pointer(pointer).unwrap(), r#"{"title":"[scripted]"}"#, "{path}");
    }
}

#[tokio::test]
async fn errors_have_each_providers_shape() {
    let server = Server::start().await;
    let fault = json!([{"role": "user", "content": "[[fault:429*1]]"}]);
    let contents = json!([{"role": "user", "parts": [{"text": "[[fault:429]]"}]}]);
    for (path, request, pointer, expected) in [
        ("/v1/messages", json!({"messages": fault}), "/error/type", "rate_limit_error"),
        (
            "/v1beta/models/m:generateContent",
            json!({"contents": contents}),
            "/error/status",
            "RESOURCE_EXHAUSTED",
        ),
    ] {
        let answered = server.post(path, &request).await;
        assert_eq!(answered.status, 429);
        assert!(answered.head.contains("retry-after: 1"), "{}", answered.head);
        let body: Value = serde_json::from_str(&answered.body).unwrap();
        assert_eq!(body.pointer(pointer).unwrap(), expected);
    }
    // The one failure that it asked for was the first.
    assert_eq!(server.post("/v1/messages", &json!({"messages": fault})).await.status, 200);
    let broken = server.send("POST /v1/chat/completions", "", "{").await;
    let body: Value = serde_json::from_str(&broken.body).unwrap();
    assert_eq!((broken.status, &body["error"]["type"]), (400, &json!("invalid_request_error")));
    assert_eq!(server.send("PUT /v1/messages", "", "").await.status, 404);
    assert_eq!(server.send("HEAD /", "", "").await.status, 200);
}

#[tokio::test]
async fn streams_break_where_the_prompt_asks_for_it() {
    let server = Server::start().await;
    let request = |fault: &str| json!({"stream": true, "messages": [{"role": "user", "content": format!("[[fault:{fault}]] [[say:{}]]", "a".repeat(999))}]});
    let cut = server.post("/v1/messages", &request("cut")).await;
    assert!(cut.body.contains("content_block_delta") && !cut.body.contains("message_stop"));
    let malformed = server.post("/v1/messages", &request("malformed")).await;
    assert!(malformed.body.contains("\"scrip\n\n") && malformed.body.contains("message_stop"));
    // After a pause all of it is there.
    let before = std::time::Instant::now();
    let paused = server.post("/v1/messages", &request("pause1")).await;
    assert!(paused.body.contains("message_stop") && before.elapsed() >= Duration::from_secs(1));
    // A prompt of its own chooses the five megabytes.
    let huge = json!({"messages": [{"role": "user", "content": "[[script:huge]]"}]});
    assert!(server.post("/v1/messages", &huge).await.body.len() > 5_000_000);
}

#[tokio::test]
async fn what_was_asked_is_told() {
    let (record, mut seen) = mpsc::channel(4);
    let server = Server::start_with(Settings { pace: Duration::ZERO, record: Some(record) }).await;
    server.send("POST /v1/messages?beta=true", "x-api-key: secret\r\n", "{}").await;
    let seen = seen.recv().await.unwrap();
    assert_eq!(
        (seen.uri.to_string().as_str(), &seen.body[..]),
        ("/v1/messages?beta=true", &b"{}"[..])
    );
    assert_eq!(seen.headers["x-api-key"], "secret");
    assert!(!format!("{seen:?}").contains("secret"));
}
