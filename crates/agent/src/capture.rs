//! Bounded text: what a tool prints, what an agent says.
//!
//! [`Capture`] takes any amount of output and keeps a preview (head and tail), the whole up to a
//! cap, and decides what of it is shown live. [`Utf8`] makes text of bytes that arrive in pieces.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// What an event carries of an output; half from its head, half from its tail.
pub(crate) const PREVIEW: usize = 64 << 10;
/// The most that is kept of one output, for its blob.
pub(crate) const WHOLE: usize = 16 << 20;
/// The largest piece in one live event.
pub(crate) const PIECE: usize = 64 << 10;
/// How much of an output is shown live in full. A command that prints for ever must not fill the log.
const LIVE: usize = 256 << 10;
/// Beyond [`LIVE`], the end of what came is shown this often.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// Beyond [`LIVE`], how much of the end is shown.
const LIVE_PIECE: usize = 2 << 10;

/// The line that stands for what is left out is not longer.
const MARK: usize = 64;

/// The longest prefix of at most `max` bytes that ends between characters.
pub(crate) fn prefix(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max.min(text.len()))]
}

/// The longest suffix of at most `max` bytes that begins between characters.
pub(crate) fn suffix(text: &str, max: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(max))..]
}

/// Head and tail of a text that is too long, with a line between them that says so; of at most `max`
/// bytes altogether, where that is enough for the line.
pub(crate) fn preview(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let half = max.saturating_sub(MARK) / 2;
    join(prefix(text, half), suffix(text, half), text.len())
}

fn join(head: &str, tail: &str, total: usize) -> String {
    let left_out = total - head.len() - tail.len();
    format!("{head}\n[… {left_out} bytes left out …]\n{tail}")
}

/// The output of one command or tool.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    /// From the beginning, up to the cap.
    whole: String,
    /// The end, once `whole` is full.
    tail: String,
    /// All that came, in bytes.
    total: usize,
    shown: usize,
    shown_at: Option<Instant>,
}

/// What is left of a [`Capture`] at its end.
pub(crate) struct Captured {
    /// At most [`PREVIEW`] bytes.
    pub(crate) text: Option<String>,
    /// All that was kept, where `text` is not all.
    pub(crate) whole: Option<Bytes>,
}

impl Capture {
    /// Takes more, keeping at most `room` bytes of it for the blob, and gives what is to be shown
    /// live.
    pub(crate) fn push(&mut self, text: &str, room: usize, now: Instant) -> Option<String> {
        if text.is_empty() {
            return None;
        }
        self.keep(text, room);
        self.live(text, now)
    }

    fn keep(&mut self, text: &str, room: usize) {
        self.total += text.len();
        let mut rest = text;
        if self.tail.is_empty() {
            let kept = prefix(text, room.min(WHOLE - self.whole.len()));
            self.whole.push_str(kept);
            rest = &text[kept.len()..];
        }
        if !rest.is_empty() {
            self.tail.push_str(suffix(rest, PREVIEW));
            if self.tail.len() > 2 * PREVIEW {
                self.tail = suffix(&self.tail, PREVIEW).to_owned();
            }
        }
    }

    fn live(&mut self, text: &str, now: Instant) -> Option<String> {
        if self.shown + text.len() <= LIVE {
            self.shown += text.len();
            self.shown_at = Some(now);
            return Some(preview(text, PIECE));
        }
        self.shown = LIVE;
        let due = self.shown_at.is_none_or(|at| now.duration_since(at) >= LIVE_EVERY);
        due.then(|| {
            self.shown_at = Some(now);
            let end = suffix(text, LIVE_PIECE);
            format!("\n[… {} bytes so far, the latest: …]\n{end}", self.total)
        })
    }

    /// Replaces all that came: the agent told the whole anew, of which `new` was not there before.
    /// Gives what is to be shown live.
    pub(crate) fn replace(
        &mut self,
        text: &str,
        room: usize,
        new: &str,
        now: Instant,
    ) -> Option<String> {
        self.whole.clear();
        self.tail.clear();
        self.total = 0;
        self.keep(text, room);
        if new.is_empty() { None } else { self.live(new, now) }
    }

    /// How many bytes it holds.
    pub(crate) fn held(&self) -> usize {
        self.whole.len()
    }

    /// Whether nothing came.
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// What is left of it.
    pub(crate) fn finish(self) -> Captured {
        if self.total == 0 {
            return Captured { text: None, whole: None };
        }
        if self.total <= PREVIEW {
            return Captured { text: Some(self.whole + &self.tail), whole: None };
        }
        let half = (PREVIEW - MARK) / 2;
        let end =
            if self.tail.is_empty() { suffix(&self.whole, half) } else { suffix(&self.tail, half) };
        let text = join(prefix(&self.whole, half), end, self.total);
        let missing =
            self.total - self.whole.len() - self.tail.len().min(self.total - self.whole.len());
        let mut whole = self.whole;
        if missing > 0 {
            whole.push_str(&format!("\n[… {missing} bytes were not kept …]\n"));
        }
        whole.push_str(&self.tail);
        Captured { text: Some(text), whole: Some(Bytes::from(whole)) }
    }
}

/// Makes text of bytes that arrive in pieces; what is not UTF-8 becomes `U+FFFD`.
#[derive(Debug, Default)]
pub(crate) struct Utf8 {
    /// The beginning of a character whose end has not come: at most three bytes.
    pending: Vec<u8>,
}

impl Utf8 {
    /// The text of these bytes and of what was pending.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.pending);
        all.extend_from_slice(bytes);
        let mut text = String::with_capacity(all.len());
        let mut chunks = all.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && may_begin_character(invalid) {
                self.pending = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What is left when no more bytes come.
    pub(crate) fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.pending).is_empty() { "" } else { "\u{fffd}" }
    }
}

/// Whether these bytes, which no character follows, could be the beginning of one.
fn may_begin_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// The last bytes of what a process wrote to its standard error.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    bytes: std::collections::VecDeque<u8>,
}

impl LastWords {
    /// How much is kept.
    const KEPT: usize = 64 << 10;
    /// How many lines an error repeats.
    const LINES: usize = 8;
    /// How many bytes an error repeats.
    const SHOWN: usize = 2 << 10;

    /// Takes more, forgetting the oldest.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(Self::KEPT)..];
        let over = (self.bytes.len() + bytes.len()).saturating_sub(Self::KEPT);
        self.bytes.drain(..over);
        self.bytes.extend(bytes);
    }

    /// The last lines, for an error; none if nothing was said.
    pub(crate) fn text(&self) -> Option<String> {
        let (a, b) = self.bytes.as_slices();
        let all = String::from_utf8_lossy(&[a, b].concat()).into_owned();
        let all = plain(suffix(&all, Self::SHOWN));
        let lines: Vec<&str> = all.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(Self::LINES)..];
        (!last.is_empty()).then(|| last.join("\n"))
    }
}

/// A text without terminal control sequences (CSI and OSC) and control characters but tab and line
/// feed; a carriage return before a line feed goes, another becomes a line feed.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => {
                    for c in chars.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&c) {
                            break;
                        }
                    }
                }
                Some(']') => {
                    while let Some(c) = chars.next() {
                        if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                            break;
                        }
                    }
                }
                _ => {}
            },
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_small_output_is_whole_and_has_no_blob() {
        let mut capture = Capture::default();
        assert_eq!(capture.push("a\n", WHOLE, Instant::now()).as_deref(), Some("a\n"));
        let captured = capture.finish();
        assert_eq!(captured.text.as_deref(), Some("a\n"));
        assert!(captured.whole.is_none());
    }

    #[test]
    fn an_endless_output_is_bounded_everywhere() {
        let mut capture = Capture::default();
        let now = Instant::now();
        let chunk = "0123456789abcde\n".repeat(64 << 10);
        let shown: usize =
            (0..40).filter_map(|_| capture.push(&chunk, WHOLE, now)).map(|s| s.len()).sum();
        assert!(shown <= LIVE + PIECE + 200, "{shown}");
        let captured = capture.finish();
        let text = captured.text.unwrap();
        assert!(text.len() <= PREVIEW && text.contains("bytes left out"));
        assert!(text.ends_with("0123456789abcde\n"));
        let whole = captured.whole.unwrap();
        assert!(whole.len() <= WHOLE + 3 * PREVIEW && whole.ends_with(b"0123456789abcde\n"));
    }

    #[test]
    fn control_sequences_are_left_out() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\r\nx\u{1b}]0;title\u{7}y\u{0}"), "red\nxy");
    }

    #[test]
    fn the_last_words_are_the_last() {
        let mut words = LastWords::default();
        assert_eq!(words.text(), None);
        for n in 0..100_000 {
            words.push(format!("line {n}\n").as_bytes());
        }
        let text = words.text().unwrap();
        assert!(text.ends_with("line 99999") && text.lines().count() == LastWords::LINES);
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_text_as_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
            text in "\\PC{0,20}",
            cuts in proptest::collection::vec(0usize..8, 1..30),
        ) {
            let mut bytes = bytes;
            bytes.extend(text.bytes());
            let mut decoder = Utf8::default();
            let mut out = String::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle().take(500) {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                out.push_str(&decoder.push(now));
                rest = later;
            }
            out.push_str(&decoder.push(rest));
            out.push_str(decoder.finish());
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}
