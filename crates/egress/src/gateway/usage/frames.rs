//! AWS's event streams: binary frames, each with a document in it.
//!
//! ```text
//!  u32 length of all │ u32 length of headers │ u32 sum │ headers │ document │ u32 sum
//! ```
//!
//! Lengths are big-endian. Headers say which event it is, which its document shows as well; sums
//! are the client's to check.

use super::{dialect::Found, scan::Scanner};

const PRELUDE: usize = 12;
const SUM: u64 = 4;
/// AWS allows 24 MiB; more is no frame.
const MAX_FRAME: u64 = 32 * 1024 * 1024;

#[derive(Debug)]
enum At {
    Prelude {
        bytes: [u8; PRELUDE],
        filled: usize,
    },
    Headers {
        left: u64,
        document: u64,
    },
    Document {
        left: u64,
    },
    Sum {
        left: u64,
    },
    /// What came was no frame: nothing that follows can be read.
    Lost,
}

const BEGIN: At = At::Prelude { bytes: [0; PRELUDE], filled: 0 };

/// Reads frames from pieces.
#[derive(Debug)]
pub(super) struct Frames {
    at: At,
    scanner: Scanner,
    found: Found,
}

impl Frames {
    pub(super) fn new(found: Found) -> Self {
        Self { at: BEGIN, scanner: Scanner::default(), found }
    }

    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let take = |left: u64| (bytes.len() as u64).min(left);
            let taken = match &mut self.at {
                At::Prelude { bytes: prelude, filled } => {
                    let count = bytes.len().min(PRELUDE - *filled);
                    prelude[*filled..*filled + count].copy_from_slice(&bytes[..count]);
                    *filled += count;
                    if *filled == PRELUDE {
                        self.at = begin(prelude);
                    }
                    count as u64
                }
                At::Headers { left, document } => {
                    let count = take(*left);
                    *left -= count;
                    if *left == 0 {
                        self.scanner = Scanner::default();
                        self.at = match *document {
                            0 => At::Sum { left: SUM },
                            left => At::Document { left },
                        };
                    }
                    count
                }
                At::Document { left } => {
                    let count = take(*left);
                    *left -= count;
                    let is_whole = *left == 0;
                    let piece = &bytes[..usize::try_from(count).unwrap_or(bytes.len())];
                    self.scanner.feed(piece, &mut self.found);
                    if is_whole {
                        self.at = At::Sum { left: SUM };
                    }
                    count
                }
                At::Sum { left } => {
                    let count = take(*left);
                    *left -= count;
                    if *left == 0 {
                        self.at = BEGIN;
                    }
                    count
                }
                At::Lost => return,
            };
            bytes = &bytes[usize::try_from(taken).unwrap_or(bytes.len())..];
        }
    }
}

/// What follows a prelude.
fn begin(prelude: &[u8; PRELUDE]) -> At {
    let number = |at: usize| {
        let bytes = [prelude[at], prelude[at + 1], prelude[at + 2], prelude[at + 3]];
        u64::from(u32::from_be_bytes(bytes))
    };
    let (whole, headers) = (number(0), number(4));
    let document = whole.checked_sub(PRELUDE as u64 + headers + SUM);
    match document {
        Some(document) if whole <= MAX_FRAME => match (headers, document) {
            (0, 0) => At::Sum { left: SUM },
            (0, document) => At::Document { left: document },
            (headers, document) => At::Headers { left: headers, document },
        },
        _ => At::Lost,
    }
}
