//! Server-Sent Events, read from bytes as they come.
//!
//! [`Parser`] is a pure state machine over the stream's bytes (WHATWG HTML, section 9.2): lines end
//! in LF, CR or CRLF, a blank line ends a frame, comments are skipped. A frame is bounded.

use bytes::{Buf, BytesMut};

/// The largest frame, in bytes. The largest event of ours is a message of 256 KiB with escapes,
/// or a tool call with a few edits.
const FRAME_MAX: usize = 32 << 20;

/// One event of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// The id that was set with this frame.
    pub id: Option<String>,
    /// `event:`; none means `message`.
    pub event: Option<String>,
    /// `data:`, its lines joined.
    pub data: String,
    /// `retry:`, in milliseconds. May come in a frame without data.
    pub retry: Option<u64>,
}

/// A frame that grows past [`FRAME_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event larger than {FRAME_MAX} bytes")]
pub struct TooLarge;

/// Turns bytes into frames.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
    /// The byte before was a CR: a LF that follows belongs to it.
    after_cr: bool,
    frame: Frame,
    /// Whether the frame has a data line yet.
    has_data: bool,
}

impl Parser {
    /// Takes more bytes of the stream.
    ///
    /// # Errors
    /// When a frame grows past its bound.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        if self.buffer.len() + bytes.len() > FRAME_MAX {
            return Err(TooLarge);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole frame, if there is one. Frames without data but with a `retry` are told too.
    ///
    /// # Errors
    /// When a frame grows past its bound.
    pub fn frame(&mut self) -> Result<Option<Frame>, TooLarge> {
        while let Some(line) = self.line() {
            if line.is_empty() {
                let frame = std::mem::take(&mut self.frame);
                if std::mem::take(&mut self.has_data) || frame.retry.is_some() {
                    return Ok(Some(frame));
                }
                continue;
            }
            self.field(&line)?;
        }
        Ok(None)
    }

    fn line(&mut self) -> Option<BytesMut> {
        if self.after_cr && !self.buffer.is_empty() {
            self.after_cr = false;
            if self.buffer[0] == b'\n' {
                self.buffer.advance(1);
            }
        }
        let found = self.buffer[self.searched..].iter().position(|b| matches!(b, b'\n' | b'\r'));
        let Some(end) = found.map(|at| at + self.searched) else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = 0;
        let mut line = self.buffer.split_to(end + 1);
        self.after_cr = line[end] == b'\r';
        line.truncate(end);
        Some(line)
    }

    fn field(&mut self, line: &[u8]) -> Result<(), TooLarge> {
        let (name, value) = match line.iter().position(|b| *b == b':') {
            Some(0) => return Ok(()),
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        let value = String::from_utf8_lossy(value);
        match name {
            b"data" => {
                if self.frame.data.len() + value.len() > FRAME_MAX {
                    return Err(TooLarge);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.frame.data.push('\n');
                }
                self.frame.data.push_str(&value);
            }
            b"event" => self.frame.event = Some(value.into_owned()),
            b"id" if !value.contains('\0') => self.frame.id = Some(value.into_owned()),
            b"retry" => self.frame.retry = value.parse().ok(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(pieces: &[&[u8]]) -> Vec<Frame> {
        let mut parser = Parser::default();
        let mut out = Vec::new();
        for piece in pieces {
            parser.push(piece).unwrap();
            while let Some(frame) = parser.frame().unwrap() {
                out.push(frame);
            }
        }
        out
    }

    const STREAM: &[u8] = b": hello\n\nretry: 500\n\nid: 7\nevent: notice\ndata: {\"a\":1}\n\n\
        data:x\r\ndata: y\r\n\r\nid: 9\rdata\r\r: end\n\nevent: gone\n\ndata: \xc3\xa4\n\n";

    #[test]
    fn reads_every_form_of_line() {
        let got = frames(&[STREAM]);
        assert_eq!(got.len(), 5);
        assert_eq!(got[0].retry, Some(500));
        assert_eq!((got[1].id.as_deref(), got[1].event.as_deref()), (Some("7"), Some("notice")));
        assert_eq!(got[1].data, "{\"a\":1}");
        assert_eq!(got[2].data, "x\ny");
        assert_eq!((got[3].id.as_deref(), got[3].data.as_str()), (Some("9"), ""));
        assert_eq!(got[4].data, "ä");
    }

    proptest! {
        #[test]
        fn the_cut_of_the_bytes_does_not_matter(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&STREAM[from..cut]);
                from = cut;
            }
            pieces.push(&STREAM[from..]);
            prop_assert_eq!(frames(&pieces), frames(&[STREAM]));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            frames(&[&bytes]);
        }
    }
}
