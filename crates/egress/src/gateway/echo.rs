//! A key that comes back: a provider, or something before it, that repeats what it was sent. Some
//! show the headers of a request in an error, and some have a way that shows any request.
//!
//! What is sent to a workspace is looked through for the provider's key, and the key is painted
//! over, with as many bytes as it has, so that lengths stay right. It is found wherever pieces are
//! cut: what could be its beginning at the end of a piece waits for the next.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::credential::Grant;

/// What is shorter is no secret but a word that a server of one's own wants to see (`ollama`), and
/// would be painted over wherever a model says it.
const SHORTEST: usize = 16;
/// What takes its place.
const PAINT: u8 = b'*';
/// Of a key that an answer breaks off in, so much may be seen: providers name keys by their ends.
const HINT: usize = 8;

/// For each length of a beginning of the key: the longest shorter beginning that it ends with
/// (Knuth, Morris, Pratt). Empty where there is nothing to look for.
pub(super) fn table(key: &str) -> Box<[usize]> {
    let key = key.as_bytes();
    if key.len() < SHORTEST {
        return Box::default();
    }
    let mut table = vec![0; key.len()].into_boxed_slice();
    let mut matched = 0;
    for at in 1..key.len() {
        while matched > 0 && key[at] != key[matched] {
            matched = table[matched - 1];
        }
        matched += usize::from(key[at] == key[matched]);
        table[at] = matched;
    }
    table
}

/// Looks through one answer.
pub(super) struct Echo {
    grant: Arc<Grant>,
    /// So much of the key stood at the end of what was looked at; it is not passed on yet.
    matched: usize,
}

impl fmt::Debug for Echo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Echo")
    }
}

impl Echo {
    pub(super) fn new(grant: Arc<Grant>) -> Self {
        Self { grant, matched: 0 }
    }

    /// What of the next piece, and of what waited, can be passed on: nothing, perhaps.
    pub(super) fn pass(&mut self, piece: Bytes) -> Bytes {
        let Some((key, table)) = self.grant.echo() else { return piece };
        let waited = self.matched;
        let mut matched = waited;
        // Where the key ends in the piece.
        let mut found = Vec::new();
        for (at, byte) in piece.iter().enumerate() {
            while matched > 0 && *byte != key[matched] {
                matched = table[matched - 1];
            }
            matched += usize::from(*byte == key[matched]);
            if matched == key.len() {
                found.push(at + 1);
                matched = 0;
            }
        }
        self.matched = matched;
        if waited == 0 && found.is_empty() {
            let whole = piece.len() - matched;
            return piece.slice(..whole);
        }
        let mut out = BytesMut::with_capacity(waited + piece.len());
        out.extend_from_slice(&key[..waited]);
        out.extend_from_slice(&piece);
        for end in found {
            let end = waited + end;
            out[end - key.len()..end].fill(PAINT);
        }
        out.truncate(out.len() - matched);
        out.freeze()
    }

    /// What waited, at the answer's end.
    pub(super) fn rest(&mut self) -> Bytes {
        let waited = std::mem::take(&mut self.matched);
        let Some((key, _)) = self.grant.echo().filter(|_| waited > 0) else {
            return Bytes::new();
        };
        let mut out = BytesMut::from(&key[..waited]);
        out[waited.min(HINT)..].fill(PAINT);
        out.freeze()
    }
}

/// Takes out headers of an answer that hold the key.
pub(super) fn headers(headers: &mut HeaderMap, grant: &Grant) {
    let Some((key, _)) = grant.echo() else { return };
    let holds = |bytes: &[u8]| bytes.windows(key.len()).any(|part| part == key);
    let telling: Vec<_> = headers
        .iter()
        .filter(|(_, value)| holds(value.as_bytes()))
        .map(|(name, _)| name.clone())
        .collect();
    for name in telling {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Secret;

    fn echo(key: &str) -> Echo {
        Echo::new(Arc::new(Grant::key(Secret::new(key.to_owned()))))
    }

    fn through(echo: &mut Echo, pieces: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(echo.pass(Bytes::copy_from_slice(piece)));
        }
        out.extend(echo.rest());
        out
    }

    #[test]
    fn a_word_is_no_secret_and_an_event_does_not_wait() {
        assert_eq!(through(&mut echo("ollama"), &[b"ollama says"]), b"ollama says");
        let mut echo = echo("sk-0123456789abcdef");
        assert_eq!(&*echo.pass(Bytes::from_static(b"data: sk-0\n\n")), b"data: sk-0\n\n");
        assert_eq!(&*echo.pass(Bytes::from_static(b"sk-01234567")), b"");
        assert_eq!(&*echo.rest(), b"sk-01234***");
    }

    #[test]
    fn the_key_is_painted_over_wherever_it_is_cut() {
        // Keys that overlap with themselves and with what is around them.
        for key in ["abababababababab", "aaaaaaaaaaaaaaaaaa", "aabaaabaaabaaaabaab"] {
            for text in [
                format!("ab{key}{key}aab"),
                format!("aaab{key}a{key}"),
                format!("{}{key}", &key[..7]),
                format!("{}{}", &key[..15], &key[1..]),
            ] {
                for one in 0..=text.len() {
                    for two in one..=text.len() {
                        let bytes = text.as_bytes();
                        let pieces = [&bytes[..one], &bytes[one..two], &bytes[two..]];
                        let out = String::from_utf8(through(&mut echo(key), &pieces)).unwrap();
                        assert_eq!(out.len(), text.len());
                        assert!(!out.contains(key), "{text} {one} {two}: {out}");
                        let same = |(a, b)| a == b || a == PAINT;
                        assert!(out.bytes().zip(text.bytes()).all(same), "{text}: {out}");
                    }
                }
            }
        }
    }
}
