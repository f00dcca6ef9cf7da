//! Git's pkt-lines: four hexadecimal digits of length, themselves counted, and what follows.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line, its digits included.
pub(super) const MAX: usize = 65_520;
/// The digits.
const DIGITS: usize = 4;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// With this in it.
    Data(Bytes),
    /// `0000`: the end of a section.
    Flush,
    /// `0001` or `0002`: the other marks of version 2.
    Mark,
}

/// What is no pkt-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line has a length that is none")]
pub(super) struct Malformed;

/// Takes a line from the front of what came so far; none while it is not there as a whole.
pub(super) fn take(buffer: &mut BytesMut) -> Result<Option<Line>, Malformed> {
    let Some(digits) = buffer.get(..DIGITS) else { return Ok(None) };
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Malformed);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Malformed)?;
    let length = usize::from_str_radix(digits, 16).map_err(|_| Malformed)?;
    match length {
        0 => {
            buffer.advance(DIGITS);
            Ok(Some(Line::Flush))
        }
        1 | 2 => {
            buffer.advance(DIGITS);
            Ok(Some(Line::Mark))
        }
        DIGITS..=MAX if buffer.len() >= length => {
            let mut line = buffer.split_to(length);
            line.advance(DIGITS);
            Ok(Some(Line::Data(line.freeze())))
        }
        DIGITS..=MAX => Ok(None),
        _ => Err(Malformed),
    }
}

/// Adds a line. What is longer than one may be is cut.
pub(super) fn put(out: &mut Vec<u8>, data: &[u8]) {
    let data = &data[..data.len().min(MAX - DIGITS)];
    out.extend_from_slice(format!("{:04x}", data.len() + DIGITS).as_bytes());
    out.extend_from_slice(data);
}

/// Adds the end of a section.
pub(super) fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> (Vec<Line>, Result<(), Malformed>, usize) {
        let mut buffer = BytesMut::from(text);
        let mut lines = Vec::new();
        loop {
            match take(&mut buffer) {
                Ok(Some(line)) => lines.push(line),
                Ok(None) => return (lines, Ok(()), buffer.len()),
                Err(malformed) => return (lines, Err(malformed), buffer.len()),
            }
        }
    }

    #[test]
    fn lines_come_whole_or_not_at_all() {
        let data = |text: &'static str| Line::Data(Bytes::from_static(text.as_bytes()));
        assert_eq!(all(b"0006ab0000").0, [data("ab"), Line::Flush]);
        assert_eq!(all(b"00010004"), (vec![Line::Mark, data("")], Ok(()), 0));
        assert_eq!(all(b"0006a"), (vec![], Ok(()), 5));
        assert_eq!(all(b"00"), (vec![], Ok(()), 2));
        for wrong in [&b"0003"[..], b"+006ab", b"fff1", b"GET ", b"\xff\xff\xff\xff"] {
            assert_eq!(all(wrong).1, Err(Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_put_is_taken() {
        let mut out = Vec::new();
        put(&mut out, b"hello");
        put(&mut out, &[b'x'; 70_000]);
        flush(&mut out);
        let (lines, ended, left) = all(&out);
        assert_eq!((lines.len(), ended, left), (3, Ok(()), 0));
        assert_eq!(lines[2], Line::Flush);
    }
}
