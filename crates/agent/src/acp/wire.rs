//! JSON-RPC 2.0, a message a line, as ACP speaks it over pipes.
//!
//! Lenient in what it takes: a line that is no message is [`Incoming::Garbage`], never an error. A
//! line longer than [`LINE`] is one, since nothing after it can be trusted to be a line's beginning.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest line that is taken. Agents were seen to send 5 MB, and 20 MB must work.
pub(crate) const LINE: usize = 32 << 20;
/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// JSON-RPC's code for a method that is not offered.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC's code for a request that does not fit.
pub(crate) const INVALID_PARAMS: i64 = -32602;
/// The code that answers a request which its sender has withdrawn.
pub(crate) const REQUEST_CANCELLED: i64 = -32800;

/// A message from the other side.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    /// It wants an answer.
    Request {
        /// To be given back, whatever it is.
        id: Value,
        /// What it wants.
        method: String,
        /// With what.
        params: Value,
    },
    /// It tells something.
    Notification {
        /// What.
        method: String,
        /// With what.
        params: Value,
    },
    /// It answers our request.
    Response {
        /// The request's.
        id: u64,
        /// What came of it.
        result: Result<Value, RpcError>,
    },
    /// Not a message; the beginning of the line.
    Garbage(String),
}

/// An error that the other side answered with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Value,
}

impl Incoming {
    /// Understands a line.
    pub(crate) fn parse(line: &[u8]) -> Self {
        let garbage = || {
            let shown = &line[..line.len().min(200)];
            Self::Garbage(crate::capture::plain(&String::from_utf8_lossy(shown)).trim().to_owned())
        };
        let parsed = serde_json::from_slice::<Value>(line)
            .or_else(|error| mend(line).map_or(Err(error), |line| serde_json::from_str(&line)));
        let Ok(Value::Object(mut message)) = parsed else {
            return garbage();
        };
        let id = message.remove("id").filter(|id| !id.is_null());
        let method = match message.remove("method") {
            Some(Value::String(method)) => Some(method),
            _ => None,
        };
        let mut take = |key: &str| message.remove(key).unwrap_or(Value::Null);
        match (method, id) {
            (Some(method), Some(id)) => Self::Request { id, method, params: take("params") },
            (Some(method), None) => Self::Notification { method, params: take("params") },
            (None, Some(id)) => {
                let Some(id) = id.as_u64() else { return garbage() };
                let result = match message.remove("error") {
                    None | Some(Value::Null) => Ok(message.remove("result").unwrap_or(Value::Null)),
                    Some(error) => Err(RpcError {
                        code: error["code"].as_i64().unwrap_or_default(),
                        message: error["message"].as_str().unwrap_or_default().to_owned(),
                        data: error.get("data").cloned().unwrap_or(Value::Null),
                    }),
                };
                Self::Response { id, result }
            }
            (None, None) => garbage(),
        }
    }
}

/// A line that is almost a message, made one: bytes that are no text, and halves of characters that
/// agents in JavaScript leave when they cut a text between them (`\ud83d` without its other half).
/// None where nothing can be mended.
fn mend(line: &[u8]) -> Option<String> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        // An escaped backslash or quote: two characters. A code unit: six; a pair of them: twelve.
        let len = match (unit(rest), rest.get(6..).and_then(unit)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                out.push(char::REPLACEMENT_CHARACTER);
                rest = &rest[6..];
                continue;
            }
            (Some(_), _) => 6,
            (None, _) => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        out.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    out.push_str(rest);
    (out.as_bytes() != line).then_some(out)
}

/// The code unit that a text begins with in JSON's form: `\u` and four digits.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// A request as a line.
pub(crate) fn request(id: u64, method: &str, params: Value) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}

/// A notification as a line.
pub(crate) fn notification(method: &str, params: Value) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

/// An answer as a line.
pub(crate) fn response(id: &Value, result: Value) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
}

/// An answer that refuses, as a line.
pub(crate) fn refusal(id: &Value, code: i64, message: &str) -> Bytes {
    line(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}))
}

fn line(message: &Value) -> Bytes {
    let mut text = message.to_string();
    text.push('\n');
    Bytes::from(text)
}

/// What was read.
#[derive(Debug)]
pub(crate) enum Line {
    /// A line that is not blank, without its end.
    Text(Bytes),
    /// One that is longer than [`LINE`].
    TooLong,
    /// No more comes.
    End,
}

/// Reads lines. Not reading is the back-pressure: at most a line and a chunk are held.
pub(crate) struct Lines<R> {
    reader: R,
    buffer: BytesMut,
    /// How much of the buffer holds no line feed.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|b| *b == b'\n');
            if let Some(at) = found {
                let mut line = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                if line.len() > LINE {
                    return Ok(Line::TooLong);
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(Line::Text(line));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE {
                return Ok(Line::TooLong);
            }
            self.buffer.reserve(CHUNK);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                // What comes without a line feed before the end is a message cut short.
                self.searched = 0;
                let rest = std::mem::take(&mut self.buffer).freeze();
                let blank = rest.trim_ascii().is_empty();
                return Ok(if blank { Line::End } else { Line::Text(rest) });
            }
        }
    }
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads and forgets a piece; says whether there may be more.
    pub(crate) async fn discard(&mut self, buffer: &mut [u8]) -> bool {
        matches!(self.reader.read(buffer).await, Ok(1..))
    }
}

/// Writes what comes through the channel until it is closed, then closes the stream.
///
/// # Errors
/// When the other side has closed its end.
pub(crate) async fn write_all(
    mut writer: impl AsyncWrite + Unpin,
    mut messages: tokio::sync::mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    while let Some(message) = messages.recv().await {
        writer.write_all(&message).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(input: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(input);
        let mut all = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::Text(text) => all.push(String::from_utf8_lossy(&text).into_owned()),
                Line::TooLong => all.push("too long".into()),
                Line::End => return all,
            }
            if all.last().is_some_and(|l| l == "too long") {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn lines_are_split_and_blank_ones_left_out() {
        assert_eq!(lines(b"a\r\n\n  \nb\nc").await, ["a", "b", "c"]);
        assert_eq!(lines(&[b'x'; LINE + 2]).await, ["too long"]);
        let twenty = [vec![b'y'; 20 << 20], vec![b'\n']].concat();
        assert_eq!(lines(&twenty).await[0].len(), 20 << 20);
    }

    #[test]
    fn messages_are_told_apart() {
        let parse = |text: &str| Incoming::parse(text.as_bytes());
        assert!(matches!(parse(r#"{"id":0,"method":"a"}"#), Incoming::Request { .. }));
        assert!(matches!(parse(r#"{"id":"x","method":"a"}"#), Incoming::Request { .. }));
        assert!(matches!(parse(r#"{"method":"a"}"#), Incoming::Notification { .. }));
        assert!(matches!(parse(r#"{"id":3,"result":{}}"#), Incoming::Response { id: 3, .. }));
        let refused = parse(r#"{"id":3,"error":{"code":-32000,"message":"no"}}"#);
        assert!(matches!(refused, Incoming::Response { result: Err(e), .. } if e.code == -32000));
        for garbage in ["", "npm WARN", "[]", "{}", "{\"id\":{}}", "\u{1b}[1mhi", "{\"id\":3"] {
            assert!(matches!(parse(garbage), Incoming::Garbage(_)), "{garbage}");
        }
        assert!(matches!(Incoming::parse(&[0xff, 0, 1]), Incoming::Garbage(_)));
    }

    #[test]
    fn almost_messages_are_mended() {
        let text = |line: &[u8]| match Incoming::parse(line) {
            Incoming::Notification { params, .. } => params.as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
        let line = |text: &str| format!(r#"{{"method":"m","params":"{text}"}}"#).into_bytes();
        assert_eq!(text(&line(r"a\\ud83d\n\ud83d\ude00\\")), "a\\ud83d\n😀\\");
        let halves = line(r"half \\ud83d, \ud83d and \ude00");
        assert_eq!(text(&halves), "half \\ud83d, \u{fffd} and \u{fffd}");
        assert_eq!(text(&line(r"\ud83d\ud83d\ude00")), "\u{fffd}😀");
        assert_eq!(text(b"{\"method\":\"m\",\"params\":\"x\xffy\"}"), "x\u{fffd}y");
        assert!(matches!(Incoming::parse(b"{\"method\": \\"), Incoming::Garbage(_)));
        assert!(matches!(Incoming::parse(b"{\\u"), Incoming::Garbage(_)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_understood_or_refused(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            text in r#"\{("method":"[\\ud8e0-9]{0,16}",?)*\}?"#,
        ) {
            Incoming::parse(&bytes);
            Incoming::parse(text.as_bytes());
        }
    }
}
