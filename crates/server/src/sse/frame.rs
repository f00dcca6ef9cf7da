//! The bytes of a stream of events.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Log;
use crate::access::leases::Over;

/// The first bytes: how long a client waits before it connects again, in milliseconds.
pub(super) const PREAMBLE: &str = "retry: 1000\n\n";

/// Says that the connection lives.
pub(super) const ALIVE: &str = ": alive\n\n";

/// Says that nothing follows.
pub(super) const END: &str = "event: end\ndata: {}\n\n";

/// Says that the server goes and that the client is to come back, soon but not at once.
pub(super) const GOODBYE: &str = "event: goodbye\nretry: 500\ndata: {}\n\n";

/// Says why the right to follow is gone: nobody need come back.
pub(super) fn over(over: &Over) -> String {
    match over {
        Over::Again => GOODBYE.to_owned(),
        Over::Closed(reason) => {
            let data = serde_json::json!({ "reason": reason });
            format!("event: closed\ndata: {data}\n\n")
        }
    }
}

/// Says that the log can't be read at the moment; the client comes back as after a cut.
pub(super) const FAILED: &str = ": the log can't be read\n\n";

/// The chunk that ends a chunked body.
const LAST_CHUNK: &str = "0\r\n\r\n";

/// Around each entry's JSON and its number.
const AROUND: usize = 40;

/// What ends a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// More will come.
    GoesOn,
    /// This was the last.
    Ends,
}

/// The frames of these entries.
pub(super) fn frames<T: Log>(entries: &[T]) -> BytesMut {
    let size = entries.iter().map(|entry| entry.json().len() + AROUND).sum::<usize>();
    let mut out = BytesMut::with_capacity(size + END.len());
    for entry in entries {
        put_frame(&mut out, entry.seq(), entry.json());
    }
    out
}

fn put_frame(out: &mut BytesMut, seq: u64, json: &str) {
    use std::fmt::Write as _;
    // Writing to memory can't fail.
    let _ = write!(out, "id: {seq}\ndata: ");
    // JSON as we write it has no raw line ends; one from elsewhere would end the frame early.
    if json.contains(['\n', '\r']) {
        out.extend(json.bytes().filter(|b| !matches!(b, b'\n' | b'\r')));
    } else {
        out.put_slice(json.as_bytes());
    }
    out.put_slice(b"\n\n");
}

/// The frames of these entries as one chunk of a chunked body, with the body's end if it is one.
pub(super) fn chunk<T: Log>(entries: &[T], then: Then) -> Bytes {
    let mut frames = frames(entries);
    if then == Then::Ends {
        frames.put_slice(END.as_bytes());
    }
    let mut out = chunked(&frames);
    if then == Then::Ends {
        out.put_slice(LAST_CHUNK.as_bytes());
    }
    out.freeze()
}

/// These bytes as a chunk of their own, and the body's end.
pub(super) fn last_words(text: &str) -> Bytes {
    let mut out = chunked(text.as_bytes());
    out.put_slice(LAST_CHUNK.as_bytes());
    out.freeze()
}

/// These bytes as a chunk of a chunked body.
pub(super) fn chunked(bytes: &[u8]) -> BytesMut {
    use std::fmt::Write as _;
    let mut out = BytesMut::with_capacity(bytes.len() + 16);
    let _ = write!(out, "{:x}\r\n", bytes.len());
    out.put_slice(bytes);
    out.put_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line_of_data_whatever_it_holds() {
        let mut out = BytesMut::new();
        put_frame(&mut out, 7, r#"{"a":"b\nc"}"#);
        put_frame(&mut out, 8, "{\n}");
        assert_eq!(out, "id: 7\ndata: {\"a\":\"b\\nc\"}\n\nid: 8\ndata: {}\n\n");
    }

    #[test]
    fn chunks_have_their_length_in_front() {
        assert_eq!(chunked(&[b'x'; 17]), format!("11\r\n{}\r\n", "x".repeat(17)));
        assert_eq!(&last_words("ab")[..], b"2\r\nab\r\n0\r\n\r\n");
    }
}
