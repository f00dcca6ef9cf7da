//! The terminal: lines that stand above a few that are drawn over.
//!
//! Where there is no terminal, only the lines that stand are printed.

use std::io::{self, Write as _};

use crate::output::Look;

/// More lines than this are never drawn over: the rest is under way, but not shown.
const LIVE_MAX: usize = 8;

/// What stands on standard error.
#[derive(Debug)]
pub(crate) struct Screen {
    look: Look,
    drawn: usize,
    silent: bool,
}

impl Screen {
    /// For standard error as it is.
    pub(crate) const fn new(look: Look) -> Self {
        Self { look, drawn: 0, silent: false }
    }

    /// One that shows nothing.
    pub(crate) const fn silent(look: Look) -> Self {
        Self { look, drawn: 0, silent: true }
    }

    /// Whether lines can be drawn over.
    pub(crate) const fn is_live(&self) -> bool {
        self.look.terminal && !self.silent
    }

    /// Prints lines for good, and draws what is under way below them.
    pub(crate) fn show(&mut self, lines: &[String], live: &[String]) {
        if self.silent {
            return;
        }
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to the first drawn line, and everything from there on is cleared.
            text.push_str(&format!("\x1b[{}A\r\x1b[J", self.drawn));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        self.drawn = 0;
        if self.look.terminal {
            for line in live.iter().take(LIVE_MAX) {
                // A line that the terminal wraps would be two to clear.
                text.push_str(&console::truncate_str(line, self.look.width - 1, "…"));
                text.push('\n');
                self.drawn += 1;
            }
        }
        if text.is_empty() {
            return;
        }
        let mut err = io::stderr().lock();
        // Whoever watched may be gone; the task goes on all the same.
        let _ = err.write_all(text.as_bytes());
        let _ = err.flush();
    }

    /// Prints the beginning of a line that a person ends.
    pub(crate) fn ask(&mut self, text: &str) {
        self.show(&[], &[]);
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes());
        let _ = err.flush();
    }

    /// Takes away what is drawn over.
    pub(crate) fn clear(&mut self) {
        self.show(&[], &[]);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}
