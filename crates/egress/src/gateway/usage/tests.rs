//! Answers as providers write them, cut in every place.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use super::*;

fn head(kind: &str, encoding: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_str(encoding).unwrap());
    }
    headers
}

fn read(dialect: Dialect, headers: &HeaderMap, pieces: &[&[u8]]) -> Option<Usage> {
    let mut meter = Meter::new(Some(dialect), headers);
    for piece in pieces {
        meter.pass(piece);
    }
    meter.usage(400)
}

/// The same whole, byte by byte, and packed.
fn check(dialect: Dialect, kind: &str, body: &[u8], expected: Option<Usage>) {
    assert_eq!(read(dialect, &head(kind, None), &[body]), expected, "whole");
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(read(dialect, &head(kind, None), &bytes), expected, "byte by byte");
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(body).unwrap();
    let packed = packed.finish().unwrap();
    let pieces: Vec<&[u8]> = packed.chunks(7).collect();
    assert_eq!(read(dialect, &head(kind, Some("gzip")), &pieces), expected, "packed");
}

fn usage(model: &str, counts: [u64; 5]) -> Option<Usage> {
    let [input, output, cache_read, cache_write, reasoning] = counts;
    let tokens = Tokens { input, output, cache_read, cache_write, reasoning };
    let model = (!model.is_empty()).then(|| model.to_owned());
    Some(Usage { tokens, cache_write_long: 0, model, estimated: false })
}

const ANTHROPIC: &str = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude-opus-4-5-20251101\",\"content\":[],\"usage\":{\"input_tokens\":12,\"cache_creation_input_tokens\":30,\"cache_read_input_tokens\":7,\"cache_creation\":{\"ephemeral_5m_input_tokens\":30},\"output_tokens\":1}}}\r\n\r\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"usage: {\\\"input_tokens\\\": 900}, twelve\"}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n";
const ANTHROPIC_END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":45}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[test]
fn anthropics_messages() {
    let kind = "text/event-stream; charset=utf-8";
    let whole = format!("{ANTHROPIC}{ANTHROPIC_END}");
    let expected = usage("claude-opus-4-5-20251101", [12, 45, 7, 30, 0]);
    check(Dialect::Anthropic, kind, whole.as_bytes(), expected);
    // Broken off: what was seen is counted.
    let mut broken = usage("claude-opus-4-5-20251101", [12, 10, 7, 30, 0]).unwrap();
    broken.estimated = true;
    check(Dialect::Anthropic, kind, ANTHROPIC.as_bytes(), Some(broken));
    let one = br#"{"id":"msg_1","model":"claude-haiku-4-5","content":[{"type":"text","text":"x"}],"usage":{"input_tokens":5,"output_tokens":6,"cache_creation":{"ephemeral_1h_input_tokens":3},"cache_creation_input_tokens":3}}"#;
    let mut expected = usage("claude-haiku-4-5", [5, 6, 0, 3, 0]).unwrap();
    expected.cache_write_long = 3;
    check(Dialect::Anthropic, "application/json", one, Some(expected));
    check(Dialect::Anthropic, "application/json", br#"{"input_tokens":5}"#, None);
}

#[test]
fn openais_chat_and_responses() {
    let chat = b": comment\ndata: {\"model\":\"gpt-5\",\"choices\":[{\"delta\":{\"content\":\"hi there\"}}],\"usage\":null}\n\n";
    let end = b"data: {\"model\":\"gpt-5\",\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":20,\"total_tokens\":120,\"prompt_tokens_details\":{\"cached_tokens\":64},\"completion_tokens_details\":{\"reasoning_tokens\":8}}}\n\ndata: [DONE]\n\n";
    let whole = [&chat[..], &end[..]].concat();
    let sse = "text/event-stream";
    check(Dialect::OpenAi, sse, &whole, usage("gpt-5", [36, 20, 64, 0, 8]));
    // Nobody asked for the usage: reckoned.
    let mut reckoned = usage("gpt-5", [100, 2, 0, 0, 0]).unwrap();
    reckoned.estimated = true;
    check(Dialect::OpenAi, sse, chat, Some(reckoned));
    let responses = b"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-5.5\",\"usage\":null}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"abc\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-5.5\",\"output\":[{\"content\":[{\"type\":\"output_text\",\"text\":\"abc\"}]}],\"usage\":{\"input_tokens\":9,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":3,\"output_tokens_details\":{\"reasoning_tokens\":1},\"total_tokens\":12}}}\n\n";
    check(Dialect::OpenAi, sse, responses, usage("gpt-5.5", [5, 3, 4, 0, 1]));
    let models = br#"{"object":"list","data":[{"id":"gpt-5","object":"model"}]}"#;
    check(Dialect::OpenAi, "application/json", models, None);
}

#[test]
fn geminis_lists_and_streams() {
    let first = r#"{"candidates":[{"content":{"parts":[{"text":"abcd"}]}}],"usageMetadata":{"promptTokenCount":50,"cachedContentTokenCount":10,"totalTokenCount":50},"modelVersion":"gemini-2.5-pro"}"#;
    let last = r#"{"candidates":[{"content":{"parts":[{"text":"ef"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":50,"cachedContentTokenCount":10,"candidatesTokenCount":6,"thoughtsTokenCount":4},"modelVersion":"gemini-2.5-pro"}"#;
    let expected = usage("gemini-2.5-pro", [40, 10, 10, 0, 4]);
    let list = format!("[{first}\n,\r\n{last}]");
    check(Dialect::Gemini, "application/json; charset=UTF-8", list.as_bytes(), expected.clone());
    let stream = format!("data: {first}\r\n\r\ndata: {last}\r\n\r\n");
    check(Dialect::Gemini, "text/event-stream", stream.as_bytes(), expected);
}

fn frame(headers: &[u8], document: &[u8]) -> Vec<u8> {
    let whole = 16 + headers.len() + document.len();
    let mut out = Vec::new();
    out.extend(u32::try_from(whole).unwrap().to_be_bytes());
    out.extend(u32::try_from(headers.len()).unwrap().to_be_bytes());
    out.extend([1, 2, 3, 4]);
    out.extend(headers);
    out.extend(document);
    out.extend([5, 6, 7, 8]);
    out
}

#[test]
fn bedrocks_frames() {
    use base64::Engine as _;
    let kind = "application/vnd.amazon.eventstream";
    let converse = [
        frame(b"\x0b:event-type", br#"{"contentBlockIndex":0,"delta":{"text":"abcdefgh"}}"#),
        frame(b"", b""),
        frame(b"h", br#"{"metrics":{"latencyMs":1},"usage":{"inputTokens":11,"outputTokens":22,"cacheReadInputTokens":3,"totalTokens":33}}"#),
    ]
    .concat();
    check(Dialect::Converse, kind, &converse, usage("", [11, 22, 3, 0, 0]));
    let events = format!("{ANTHROPIC}{ANTHROPIC_END}");
    let mut invoke = Vec::new();
    for line in events.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let bytes = base64::engine::general_purpose::STANDARD.encode(line);
        invoke.extend(frame(b"hh", format!("{{\"bytes\":\"{bytes}\",\"p\":\"abc\"}}").as_bytes()));
    }
    let expected = usage("claude-opus-4-5-20251101", [12, 45, 7, 30, 0]);
    check(Dialect::Anthropic, kind, &invoke, expected);
    // What is no frame is not read, and does no harm.
    check(Dialect::Converse, kind, &[0xff; 4000], None);
}

#[test]
fn numbers_that_are_none_are_not_counted() {
    let json = head("application/json", None);
    let counted = |input: &str, output: &str| {
        let body = format!(
            "{{\"model\":\"m\",\"usage\":{{\"input_tokens\":{input},\"output_tokens\":{output}}}}}"
        );
        read(Dialect::Anthropic, &json, &[body.as_bytes()]).map(|usage| usage.tokens)
    };
    let tokens = |input, output| Some(Tokens { input, output, ..Tokens::default() });
    assert_eq!(counted("7", "8.0"), tokens(7, 8));
    for wrong in ["-1", "NaN", "1e300", "null", "\"9\"", "18446744073709551615", "1099511627776"] {
        assert_eq!(counted("7", wrong), tokens(7, 0), "{wrong}");
        assert_eq!(counted(wrong, "8"), tokens(0, 8), "{wrong}");
        assert_eq!(counted(wrong, wrong).unwrap_or_default(), Tokens::default(), "{wrong}");
    }
}

#[test]
fn what_is_no_answer_of_a_model_is_not_counted() {
    for body in [&b"{"[..], b"]]]}}}", b"\"", &[0xff; 100], b"{\"usage\":{\"input_tokens\":-5}}"] {
        for kind in ["application/json", "text/event-stream", "text/plain", ""] {
            assert_eq!(read(Dialect::Anthropic, &head(kind, None), &[body]), None);
        }
    }
    let deep = "[{\"usage\":".repeat(10_000);
    assert_eq!(read(Dialect::OpenAi, &head("application/json", None), &[deep.as_bytes()]), None);
    let broken = head("application/json", Some("gzip"));
    assert_eq!(read(Dialect::OpenAi, &broken, &[b"no gzip at all"]), None);
    let unknown = head("application/json", Some("br"));
    assert_eq!(read(Dialect::OpenAi, &unknown, &[b"{\"usage\":{\"input_tokens\":5}}"]), None);
}

#[test]
fn the_model_of_a_request_is_found_where_it_stands() {
    let body = br#"{"messages":[{"model":"no","content":"\"model\":\"neither\""}],"model" : "gpt-5" , "stream":true}"#;
    let found = top_level(body);
    assert_eq!(found.model.as_deref(), Some("gpt-5"));
    assert_eq!(&body[found.model_at.unwrap()], b"gpt-5");
    assert!(found.stream);
    let mut finder = super::scan::ModelFinder::default();
    let found = body.chunks(3).any(|piece| finder.pass(piece) == Some("gpt-5"));
    assert!(found);
}
