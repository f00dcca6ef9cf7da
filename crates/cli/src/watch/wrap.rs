//! Streamed text into lines that fit, as it comes.
//!
//! Wrapping is greedy, so that a line that was given out never changes when more text comes; only
//! the last, unfinished one is held back ([`Wrap::pending`]).

use console::measure_text_width;

/// Fences of code blocks, inside which nothing is wrapped.
const FENCE: &str = "```";

/// Text on its way to lines.
#[derive(Debug)]
pub(super) struct Wrap {
    width: usize,
    pending: String,
    /// What the next lines of the same paragraph begin with: a list's items hang.
    hanging: String,
    in_code: bool,
    blank: bool,
}

impl Wrap {
    /// For lines of at most `width` columns.
    pub(super) fn new(width: usize) -> Self {
        // Lines before the first text are left out.
        Self {
            width: width.max(20),
            pending: String::new(),
            hanging: String::new(),
            in_code: false,
            blank: true,
        }
    }

    /// Takes text in and gives the lines that are finished by it.
    pub(super) fn push(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (i, piece) in text.split('\n').enumerate() {
            if i > 0 {
                self.end_line(&mut lines);
            }
            if self.pending.is_empty() && !self.in_code {
                self.hanging = hanging(piece);
            }
            self.pending.push_str(piece);
            self.give_full_lines(&mut lines);
        }
        lines
    }

    /// The last, unfinished line.
    pub(super) fn pending(&self) -> &str {
        &self.pending
    }

    /// Ends the text: the unfinished line is finished.
    pub(super) fn finish(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.pending.trim().is_empty() {
            self.end_line(&mut lines);
        }
        self.pending.clear();
        lines
    }

    fn end_line(&mut self, lines: &mut Vec<String>) {
        let line = std::mem::take(&mut self.pending);
        if line.trim_start().starts_with(FENCE) {
            self.in_code = !self.in_code;
        }
        let line = line.trim_end().to_owned();
        // One blank line says as much as many.
        if !(line.is_empty() && self.blank) {
            self.blank = line.is_empty();
            lines.push(line);
        }
        self.hanging.clear();
    }

    fn give_full_lines(&mut self, lines: &mut Vec<String>) {
        if self.in_code || self.pending.trim_start().starts_with(FENCE) {
            return;
        }
        while measure_text_width(&self.pending) > self.width {
            let cut = cut_at(&self.pending, self.width, self.hanging.len());
            let rest = self.pending[cut..].trim_start();
            let rest = format!("{}{rest}", self.hanging);
            let line = self.pending[..cut].trim_end().to_owned();
            // A first line that says how far its paragraph hangs has its text still to come.
            self.pending = rest;
            self.blank = false;
            lines.push(line);
        }
    }
}

/// Where a line that is too wide is cut: at the last space that fits, else in the word.
fn cut_at(line: &str, width: usize, hanging: usize) -> usize {
    let mut columns = 0;
    let mut space = None;
    for (at, c) in line.char_indices() {
        let mut bytes = [0; 4];
        columns += measure_text_width(c.encode_utf8(&mut bytes));
        if columns > width {
            let in_word = if at > 0 { at } else { c.len_utf8() };
            return if c == ' ' { at } else { space.unwrap_or(in_word) };
        }
        if c == ' ' && at > hanging && !line[..at].trim().is_empty() {
            space = Some(at);
        }
    }
    line.len()
}

/// How far the further lines of a list's item or a quotation hang.
fn hanging(line: &str) -> String {
    let indent = line.len() - line.trim_start_matches(' ').len();
    let text = &line[indent..];
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let marker = match text.as_bytes() {
        [b'-' | b'*' | b'+', b' ', ..] => 2,
        _ if (1..=3).contains(&digits) && text[digits..].starts_with(". ") => digits + 2,
        _ => 0,
    };
    // Deeper than half a line is no list any more.
    " ".repeat((indent + marker).min(20))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, width: usize, expected: &[&str]) {
        let mut wrap = Wrap::new(width);
        let mut lines = wrap.push(text);
        lines.extend(wrap.finish());
        assert_eq!(lines, expected);
    }

    #[test]
    fn text_is_wrapped_at_words_and_lists_hang() {
        check("one two three four five six", 20, &["one two three four", "five six"]);
        check("- one two three four five six", 20, &["- one two three four", "  five six"]);
        check("\n\na\n\n\nb\n", 20, &["a", "", "b"]);
        check(
            "a word-that-is-far-too-long-for-a-line",
            20,
            &["a", "word-that-is-far-too", "-long-for-a-line"],
        );
        check(
            "```\na line of code that is not wrapped at all\n```\nx",
            20,
            &["```", "a line of code that is not wrapped at all", "```", "x"],
        );
    }

    proptest! {
        #[test]
        fn how_the_text_is_cut_into_pieces_makes_no_difference(
            text in "[a-z \n*-]{0,200}", cuts in proptest::collection::vec(0usize..200, 0..6)
        ) {
            let mut whole = Wrap::new(24);
            let mut expected = whole.push(&text);
            expected.extend(whole.finish());
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|c| *c <= text.len()).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut pieces = Wrap::new(24);
            let mut lines = Vec::new();
            for pair in cuts.windows(2) {
                lines.extend(pieces.push(&text[pair[0]..pair[1]]));
            }
            lines.extend(pieces.finish());
            // A list's marker may come in two pieces; then its lines may hang or not.
            let bare = |lines: &[String]| {
                lines.iter().flat_map(|l| l.split_whitespace()).map(str::to_owned).collect::<Vec<_>>()
            };
            prop_assert_eq!(bare(&lines), bare(&expected));
            prop_assert!(lines.iter().all(|line| measure_text_width(line) <= 24));
        }
    }
}
