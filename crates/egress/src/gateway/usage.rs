//! What a request to a model used: read from the answer while it passes.
//!
//! ```text
//!  provider ─► piece ─┬─────────────────────────────► workspace, as it came
//!                     └─► Meter: unpack? ─► events, frames or one document
//!                                              └─► scan (JSON) ─► dialect ─► Tokens
//! ```
//!
//! A [`Meter`] sees each piece once, on its way, and keeps none: a scanner goes over the bytes and
//! holds a path and a short value, however large the answer is. What providers say of tokens counts;
//! an answer that broke off before they did is counted by what was seen of it, and marked as
//! [estimated](Usage::estimated).

mod dialect;
mod frames;
mod scan;

use std::io::Write as _;

use flate2::write::{DeflateDecoder, GzDecoder};
use http::{HeaderMap, header};

pub(super) use self::{
    dialect::Dialect,
    scan::{ModelFinder, TopLevel},
};
use self::{
    dialect::Found,
    frames::Frames,
    scan::{Scanner, Sink, Value},
};

/// What is unpacked of one answer at most, for counting: an answer that is a bomb is not counted.
const MAX_UNPACKED: u64 = 256 * 1024 * 1024;

/// Tokens of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Read by the model, without those that came from a cache or went into one.
    pub input: u64,
    /// Written by the model, those of its reasoning among them.
    pub output: u64,
    /// Read from the provider's cache.
    pub cache_read: u64,
    /// Put into the provider's cache.
    pub cache_write: u64,
    /// Of those that were written: reasoning.
    pub reasoning: u64,
}

impl Tokens {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What one request used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The tokens.
    pub tokens: Tokens,
    /// Of those that were put into the cache: for an hour, which has a price of its own.
    pub cache_write_long: u64,
    /// The model, as the answer names it.
    pub model: Option<String>,
    /// The provider did not say, or not to the end: reckoned by what was seen.
    pub estimated: bool,
}

/// Bytes of text that make a token, roughly: for what nobody told the tokens of.
const BYTES_OF_TOKEN: u64 = 4;

impl Usage {
    /// What a request of so many bytes used, of which nothing was heard; none where it has none.
    pub(super) fn of_bytes(sent: u64) -> Option<Self> {
        let tokens = Tokens { input: sent.div_ceil(BYTES_OF_TOKEN), ..Tokens::default() };
        let reckoned = Self { tokens, cache_write_long: 0, model: None, estimated: true };
        (sent > 0).then_some(reckoned)
    }
}

/// Reads what an answer used from its passing pieces.
#[derive(Debug)]
pub(super) struct Meter {
    packing: Packing,
    reader: Reader,
    unpacked: u64,
}

/// How the pieces are packed.
#[derive(Debug)]
enum Packing {
    Plain,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
}

/// What the pieces are.
#[derive(Debug)]
enum Reader {
    /// Nothing that tokens are told in.
    Nothing,
    /// Server-sent events.
    Events(Events),
    /// One document, or a list that grows.
    Document(Scanner, Found),
    /// AWS's binary frames.
    Frames(Box<Frames>),
}

impl Meter {
    /// For an answer with this head, in this dialect.
    pub(super) fn new(dialect: Option<Dialect>, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let encoding = text(header::CONTENT_ENCODING).trim().to_ascii_lowercase();
        let packing = match &*encoding {
            "" | "identity" => Some(Packing::Plain),
            "gzip" | "x-gzip" => Some(Packing::Gzip(Box::new(GzDecoder::new(Vec::new())))),
            "deflate" => Some(Packing::Deflate(Box::new(DeflateDecoder::new(Vec::new())))),
            _ => None,
        };
        let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or("").trim();
        let reader = match (dialect, packing.is_some()) {
            (Some(dialect), true) => match kind.to_ascii_lowercase().as_str() {
                "text/event-stream" => Reader::Events(Events::new(Found::new(dialect))),
                "application/vnd.amazon.eventstream" => {
                    Reader::Frames(Box::new(Frames::new(Found::new(dialect))))
                }
                kind if kind == "application/json" || kind.ends_with("+json") => {
                    Reader::Document(Scanner::default(), Found::new(dialect))
                }
                _ => Reader::Nothing,
            },
            _ => Reader::Nothing,
        };
        Self { packing: packing.unwrap_or(Packing::Plain), reader, unpacked: 0 }
    }

    /// A piece passes.
    pub(super) fn pass(&mut self, piece: &[u8]) {
        if matches!(self.reader, Reader::Nothing) {
            return;
        }
        let unpacked = match &mut self.packing {
            Packing::Plain => return self.reader.read(piece),
            // `flush` brings out what can be unpacked so far.
            Packing::Gzip(decoder) => decoder
                .write_all(piece)
                .and_then(|()| decoder.flush())
                .map(|()| std::mem::take(decoder.get_mut())),
            Packing::Deflate(decoder) => decoder
                .write_all(piece)
                .and_then(|()| decoder.flush())
                .map(|()| std::mem::take(decoder.get_mut())),
        };
        match unpacked {
            Ok(bytes) => {
                self.unpacked += bytes.len() as u64;
                self.reader.read(&bytes);
                if self.unpacked > MAX_UNPACKED {
                    self.reader = Reader::Nothing;
                }
            }
            // What was seen before stays counted; the client will find out by itself.
            Err(_) => self.packing = Packing::Plain,
        }
    }

    /// What was used, with a request of `sent` bytes; none where nothing tells that a model ran.
    pub(super) fn usage(&self, sent: u64) -> Option<Usage> {
        let found = match &self.reader {
            Reader::Nothing => return None,
            Reader::Events(events) => &events.found,
            Reader::Document(_, found) => found,
            Reader::Frames(frames) => frames.found(),
        };
        found.usage(sent)
    }
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Events(events) => events.read(bytes),
            Self::Document(scanner, found) => scanner.feed(bytes, found),
            Self::Frames(frames) => frames.read(bytes),
        }
    }
}

/// Server-sent events: the `data` of each is a document of its own.
#[derive(Debug)]
struct Events {
    scanner: Scanner,
    found: Found,
    line: Line,
}

/// Where in a line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// So many bytes of `data:` were there.
    Name(usize),
    /// In the value of `data`.
    Data,
    /// In what is of no interest.
    Other,
}

/// The one field that is read.
const DATA: &[u8] = b"data:";

impl Events {
    fn new(found: Found) -> Self {
        Self { scanner: Scanner::default(), found, line: Line::Name(0) }
    }

    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.line {
                Line::Name(matched) => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    self.line = match byte {
                        b'\n' | b'\r' => {
                            // An empty line ends the event. (Of `\r\n`, the second half is one as
                            // well, which a document of one line does not mind.)
                            self.scanner = Scanner::default();
                            Line::Name(0)
                        }
                        byte if byte == DATA[matched] && matched + 1 == DATA.len() => Line::Data,
                        byte if byte == DATA[matched] => Line::Name(matched + 1),
                        _ => Line::Other,
                    };
                }
                Line::Data | Line::Other => {
                    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                    if self.line == Line::Data {
                        self.scanner.feed(line, &mut self.found);
                    }
                    bytes = rest;
                    if end.is_some() {
                        bytes = &bytes[1..];
                        self.line = Line::Name(0);
                    }
                }
            }
        }
    }
}

/// What a document is looked through for by somebody else: kept small so that both agree on it.
pub(super) fn top_level(document: &[u8]) -> TopLevel {
    let mut found = TopLevel::default();
    Scanner::default().feed(document, &mut found);
    found
}

impl Sink for TopLevel {
    fn value(&mut self, path: &str, value: &Value<'_>) {
        self.saw(path, value);
    }
}

#[cfg(test)]
mod tests;
