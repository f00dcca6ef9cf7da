//! A scanner for JSON that comes in pieces and is never held: it tells each number and text with
//! the path to it, and keeps no more than that path and the beginning of one value.
//!
//! It reads what providers write, and does not judge it: what is no JSON yields nothing, or
//! nonsense that nobody asks for. Lists have no place in a path: `choices.delta.content`.

/// How deep it looks; what is deeper is skipped.
const MAX_DEPTH: usize = 64;
/// The longest path, in bytes; what is below a longer one is skipped.
const MAX_PATH: usize = 512;
/// So much of a text is kept. The largest that is wanted is an event within an event (Bedrock's).
const MAX_TEXT: usize = 64 * 1024;

/// Takes what a scanner finds.
pub(super) trait Sink {
    fn value(&mut self, path: &str, value: &Value<'_>);
}

/// A number or a text.
#[derive(Debug)]
pub(super) enum Value<'a> {
    /// A whole number that is not negative. Others are nothing that is counted.
    Number(u64),
    /// `true` or `false`.
    Flag(bool),
    /// A text as it is written, escapes and all.
    Text {
        /// Its beginning.
        text: &'a [u8],
        /// How long it is, in bytes.
        length: u64,
        /// Where it begins, in bytes from the document's beginning.
        at: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// An object whose key is in the path from here on.
    Object { path: usize, expects_key: bool },
    /// A list.
    List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Between,
    Text {
        escaped: bool,
        is_key: bool,
    },
    Word,
}

/// Goes over one document.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    state: State,
    levels: Vec<Within>,
    /// Levels beyond those that are looked at.
    beyond: usize,
    path: String,
    /// The text or word in hand.
    text: Vec<u8>,
    length: u64,
    at: u64,
    position: u64,
}

impl Scanner {
    /// The next piece of the document.
    pub(super) fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        while let Some(&byte) = bytes.first() {
            let taken = match self.state {
                State::Between => {
                    self.between(byte);
                    1
                }
                State::Text { .. } => self.in_text(bytes, sink),
                State::Word => self.in_word(byte, sink),
            };
            self.position += taken as u64;
            bytes = &bytes[taken..];
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' => self.enter(Within::Object { path: self.path.len(), expects_key: true }),
            b'[' => self.enter(Within::List),
            b'}' | b']' => self.leave(),
            b',' => {
                if let (Some(Within::Object { path, expects_key }), 0) =
                    (self.levels.last_mut(), self.beyond)
                {
                    *expects_key = true;
                    self.path.truncate(*path);
                }
            }
            b'"' => {
                let is_key = self.beyond == 0
                    && matches!(self.levels.last(), Some(Within::Object { expects_key: true, .. }));
                self.begin(State::Text { escaped: false, is_key });
                self.at = self.position + 1;
            }
            b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            byte => {
                self.begin(State::Word);
                self.text.push(byte);
            }
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.text.clear();
        self.length = 0;
    }

    fn enter(&mut self, within: Within) {
        if self.beyond > 0 || self.levels.len() == MAX_DEPTH || self.path.len() > MAX_PATH {
            self.beyond += 1;
        } else {
            self.levels.push(within);
        }
    }

    fn leave(&mut self) {
        if self.beyond > 0 {
            self.beyond -= 1;
        } else if let Some(Within::Object { path, .. }) = self.levels.pop() {
            self.path.truncate(path);
        }
    }

    /// Takes as much of a text as there is.
    fn in_text(&mut self, bytes: &[u8], sink: &mut impl Sink) -> usize {
        let State::Text { escaped, is_key } = self.state else { return 0 };
        if escaped {
            self.keep(&bytes[..1]);
            self.state = State::Text { escaped: false, is_key };
            return 1;
        }
        let end = bytes.iter().position(|byte| matches!(byte, b'"' | b'\\'));
        self.keep(&bytes[..end.unwrap_or(bytes.len())]);
        let Some(end) = end else { return bytes.len() };
        if bytes[end] == b'\\' {
            self.keep(b"\\");
            self.state = State::Text { escaped: true, is_key };
            return end + 1;
        }
        self.state = State::Between;
        if is_key {
            self.key();
        } else if self.beyond == 0 {
            let (text, length, at) = (&*self.text, self.length, self.at);
            sink.value(&self.path, &Value::Text { text, length, at });
        }
        end + 1
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let room = MAX_TEXT.saturating_sub(self.text.len());
        // A text that nobody will look at is not kept: only its length is of interest.
        if self.beyond == 0 {
            self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    fn key(&mut self) {
        let Some(Within::Object { path, expects_key }) = self.levels.last_mut() else { return };
        *expects_key = false;
        self.path.truncate(*path);
        if !self.path.is_empty() {
            self.path.push('.');
        }
        let room = MAX_PATH.saturating_sub(self.path.len());
        match std::str::from_utf8(&self.text) {
            Ok(key) if key.len() <= room => self.path.push_str(key),
            // No path that anybody asks for has such a part.
            _ => self.path.push('?'),
        }
    }

    /// Takes a byte of a number or a word, unless it ends there: then none.
    fn in_word(&mut self, byte: u8, sink: &mut impl Sink) -> usize {
        if !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' | b'"' | b'{' | b'[') {
            if self.text.len() < 32 {
                self.text.push(byte);
            }
            return 1;
        }
        self.state = State::Between;
        let word = std::str::from_utf8(&self.text).unwrap_or("");
        let value = match word {
            "true" => Some(Value::Flag(true)),
            "false" => Some(Value::Flag(false)),
            word => number(word).map(Value::Number),
        };
        if let Some(value) = value
            && self.beyond == 0
        {
            sink.value(&self.path, &value);
        }
        0
    }
}

/// A count; some write it as `12.0`.
fn number(word: &str) -> Option<u64> {
    let whole = word.strip_suffix(".0").unwrap_or(word);
    whole.parse().ok()
}

/// What stands at the top of a request: which model, and whether the answer is to be a stream.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::gateway) struct TopLevel {
    /// The model.
    pub(in crate::gateway) model: Option<String>,
    /// Where its name stands, in bytes from the beginning.
    pub(in crate::gateway) model_at: Option<std::ops::Range<usize>>,
    /// Whether a stream is asked for.
    pub(in crate::gateway) stream: bool,
}

/// The longest name of a model.
const MAX_MODEL: usize = 200;

impl TopLevel {
    pub(super) fn saw(&mut self, path: &str, value: &Value<'_>) {
        match (path, value) {
            ("model", Value::Text { text, length, at }) if self.model.is_none() => {
                self.model = model(text);
                let begin = usize::try_from(*at).ok();
                let end = begin.zip(usize::try_from(*length).ok()).map(|(at, n)| at + n);
                self.model_at = begin.zip(end).map(|(begin, end)| begin..end);
            }
            ("stream", Value::Flag(yes)) => self.stream = *yes,
            _ => {}
        }
    }
}

/// The name of a model as it can be kept.
pub(super) fn model(text: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(text).ok()?;
    let is_name =
        !name.is_empty() && name.len() <= MAX_MODEL && !name.chars().any(char::is_control);
    is_name.then(|| name.to_owned())
}

/// Looks for the model in a request that passes, and stops when it is found.
#[derive(Debug, Default)]
pub(in crate::gateway) struct ModelFinder {
    scanner: Scanner,
    found: TopLevel,
}

impl ModelFinder {
    /// The next piece; the model, as soon as it is known.
    pub(in crate::gateway) fn pass(&mut self, piece: &[u8]) -> Option<&str> {
        if self.found.model.is_none() {
            self.scanner.feed(piece, &mut self.found);
        }
        self.found.model.as_deref()
    }
}
