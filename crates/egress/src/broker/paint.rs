//! A credential that comes back: an answer that repeats what it was sent. It is painted over, with
//! as many bytes as it has, so that lengths stay right, wherever pieces are cut.

use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header, response};
use http_body_util::BodyExt as _;
use zeroize::Zeroizing;

use super::{
    Body,
    body::Inward,
    unpack::{self, Packing, Unpacked},
};

/// What is shorter is no secret but a word, and would be painted over wherever it is said.
const SHORTEST: usize = 8;
/// What takes its place.
const PAINT: u8 = b'*';
/// The beginning may be seen: it mostly tells the kind (`ghp_`), and an answer of which a piece ends
/// with a letter that the value begins with must not wait for the next.
const SEEN: usize = 4;

/// Paints over in an answer what was put into its request.
#[derive(Debug, Default)]
pub struct Echo(Vec<Arc<Pattern>>);

impl Echo {
    /// Whether there is nothing to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes headers out that hold a value.
    pub fn head(&self, head: &mut response::Parts) {
        if !self.is_empty() {
            headers(&mut head.headers, &self.0);
        }
    }

    /// Makes the head of an answer with a body one of an answer that is not packed, where it is
    /// although the request asked for one that is not: the body is to be unpacked.
    ///
    /// # Errors
    /// How it is packed, if nothing can be found in it: such an answer must not pass.
    pub fn packing(&self, head: &mut response::Parts) -> Result<Option<Packing>, String> {
        if self.is_empty() {
            return Ok(None);
        }
        let packing = unpack::packing(head)?;
        if packing.is_some() {
            for about in [header::CONTENT_ENCODING, header::CONTENT_LENGTH, header::ACCEPT_RANGES] {
                head.headers.remove(about);
            }
        }
        Ok(packing)
    }

    /// Paints over values in a body, which is unpacked first.
    pub fn body(self, body: Body, packing: Option<Packing>) -> Body {
        let body = match packing {
            Some(packing) => Unpacked::new(body, packing).boxed_unsync(),
            None => body,
        };
        if self.is_empty() { body } else { Inward::new(body, self.0).boxed_unsync() }
    }

    pub(super) fn paint(&mut self, text: &str) {
        self.0.extend(Pattern::new(text));
    }
}

/// What is looked for.
pub(super) struct Pattern {
    text: Zeroizing<Box<[u8]>>,
    /// For each length of a beginning: the longest shorter beginning that it ends with (Knuth,
    /// Morris, Pratt).
    table: Box<[usize]>,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pattern")
    }
}

impl Pattern {
    /// None for a text that is too short to be looked for.
    pub(super) fn new(text: &str) -> Option<Arc<Self>> {
        let text = Zeroizing::new(Box::<[u8]>::from(text.as_bytes()));
        if text.len() < SHORTEST {
            return None;
        }
        let mut table = vec![0; text.len()].into_boxed_slice();
        let mut matched = 0;
        for at in 1..text.len() {
            while matched > 0 && text[at] != text[matched] {
                matched = table[matched - 1];
            }
            matched += usize::from(text[at] == text[matched]);
            table[at] = matched;
        }
        Some(Arc::new(Self { text, table }))
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        memchr::memmem::find(bytes, &self.text).is_some()
    }
}

/// Takes out headers that hold one of these.
pub(super) fn headers(headers: &mut HeaderMap, patterns: &[Arc<Pattern>]) {
    let telling: Vec<_> = headers
        .iter()
        .filter(|(_, value)| patterns.iter().any(|pattern| pattern.is_in(value.as_bytes())))
        .map(|(name, _)| name.clone())
        .collect();
    for name in telling {
        headers.remove(name);
    }
}

/// Looks through one answer for one pattern.
#[derive(Debug)]
pub(super) struct Painter {
    pattern: Arc<Pattern>,
    /// So much of it stood at the end of what was looked at.
    matched: usize,
    /// How much of that was not passed on.
    held: usize,
}

impl Painter {
    pub(super) fn new(pattern: Arc<Pattern>) -> Self {
        Self { pattern, matched: 0, held: 0 }
    }

    /// What of the next piece, and of what was held, can be passed on.
    pub(super) fn pass(&mut self, piece: Bytes) -> Bytes {
        let Pattern { text, table } = &*self.pattern;
        let (was_held, was_matched) = (self.held, self.matched);
        let mut matched = was_matched;
        let mut found = Vec::new();
        for (at, byte) in piece.iter().enumerate() {
            while matched > 0 && *byte != text[matched] {
                matched = table[matched - 1];
            }
            matched += usize::from(*byte == text[matched]);
            if matched == text.len() {
                found.push(at + 1);
                matched = 0;
            }
        }
        self.matched = matched;
        self.held = matched.saturating_sub(SEEN);
        if was_held == 0 && found.is_empty() {
            let end = piece.len() - self.held;
            return piece.slice(..end);
        }
        let mut out = BytesMut::with_capacity(was_held + piece.len());
        // What was held is the end of what had matched then.
        out.extend_from_slice(&text[was_matched - was_held..was_matched]);
        out.extend_from_slice(&piece);
        for end in found {
            let end = was_held + end;
            // What was passed on of it, at most SEEN, can't be painted over any more.
            out[end.saturating_sub(text.len())..end].fill(PAINT);
        }
        out.truncate(out.len() - self.held);
        out.freeze()
    }

    /// What was held, at the answer's end.
    pub(super) fn rest(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held);
        self.matched = 0;
        // It was no whole one, yet most of one must not pass either.
        Bytes::from(vec![PAINT; held])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn through(secret: &str, pieces: &[&[u8]]) -> Vec<u8> {
        let mut painter = Painter::new(Pattern::new(secret).unwrap());
        let mut out = Vec::new();
        for piece in pieces {
            out.extend(painter.pass(Bytes::copy_from_slice(piece)));
        }
        out.extend(painter.rest());
        out
    }

    #[test]
    fn a_word_is_no_secret_and_a_likely_beginning_does_not_wait() {
        assert!(Pattern::new("hunter2").is_none());
        let mut painter = Painter::new(Pattern::new("ghp_0123456789").unwrap());
        assert_eq!(&*painter.pass(Bytes::from_static(b"ping ghp_")), b"ping ghp_");
        assert_eq!(&*painter.pass(Bytes::from_static(b"012345")), b"");
        assert_eq!(&*painter.pass(Bytes::from_static(b"x")), b"012345x");
        assert_eq!(through("ghp_0123456789", &[b"a ghp_01234"]), b"a ghp_*****");
    }

    #[test]
    fn headers_that_hold_it_go() {
        let mut map = HeaderMap::new();
        map.insert("x-echo", "Bearer ghp_0123456789".parse().unwrap());
        map.insert("x-other", "ghp_".parse().unwrap());
        headers(&mut map, &[Pattern::new("ghp_0123456789").unwrap()]);
        assert!(!map.contains_key("x-echo") && map.contains_key("x-other"));
    }

    proptest! {
        #[test]
        fn it_is_painted_over_wherever_it_is_cut(
            secret in "(ab|aab|aaab){3,9}[ab]{2}", around in "[ab]{0,20}",
            copies in 0_usize..4, cuts in prop::collection::vec(0_usize..200, 0..10)
        ) {
            let text = format!("{around}{}{around}", format!("{secret}{around}").repeat(copies));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let out = through(&secret, &pieces);
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(memchr::memmem::find(&out, secret.as_bytes()).is_none());
            prop_assert!(out.iter().zip(text.bytes()).all(|(a, b)| *a == b || *a == PAINT));
            if copies == 0 && !text.contains(&secret) {
                // Only what stood at the very end may be painted.
                let clean = out.len() - (secret.len() - 1 - SEEN).min(out.len());
                prop_assert_eq!(&out[..clean], &text.as_bytes()[..clean]);
            }
        }
    }
}
