//! Data to standard output, everything else to standard error.
//!
//! Meaning is never carried by colour alone. Text that comes from a workspace goes through
//! [`crate::text::clean`] before it reaches a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use console::Style;
use serde::Serialize;

use crate::args::{ColorChoice, Global};

pub(crate) mod table;

/// How wide text gets where nobody is looking.
const WIDTH_WITHOUT_TERMINAL: usize = 100;
/// Narrower than this nothing is readable, wider lines are hard to read.
const WIDTHS: std::ops::RangeInclusive<usize> = 40..=120;

/// Causes of others' making that tell nobody anything.
const EMPTY_WORDS: [&str; 3] =
    ["error sending request", "client error (Connect)", "tcp connect error"];

/// How much is said beside data and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Nothing.
    Quiet,
    /// What helps.
    Normal,
    /// What happens.
    Verbose,
    /// Everything.
    Debug,
}

/// What a command prints for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where a command's words go, and how they look.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) format: Format,
    pub(crate) verbosity: Verbosity,
    /// The look of standard output.
    pub(crate) out: Look,
    /// The look of standard error.
    pub(crate) err: Look,
}

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether it shows colours.
    pub(crate) color: bool,
    /// Whether it is a terminal, so that lines may be drawn over.
    pub(crate) terminal: bool,
    /// How many columns it has.
    pub(crate) width: usize,
}

impl Look {
    /// A style that does nothing where there is no colour.
    pub(crate) fn style(self, style: Style) -> Style {
        style.force_styling(self.color)
    }

    /// Faint text.
    pub(crate) fn dim(self, text: impl std::fmt::Display) -> String {
        self.style(Style::new().dim()).apply_to(text).to_string()
    }

    /// Strong text.
    pub(crate) fn bold(self, text: impl std::fmt::Display) -> String {
        self.style(Style::new().bold()).apply_to(text).to_string()
    }

    /// Text about what went well.
    pub(crate) fn good(self, text: impl std::fmt::Display) -> String {
        self.style(Style::new().green()).apply_to(text).to_string()
    }

    /// Text about what went wrong.
    pub(crate) fn bad(self, text: impl std::fmt::Display) -> String {
        self.style(Style::new().red()).apply_to(text).to_string()
    }

    /// Text about what needs attention.
    pub(crate) fn warn(self, text: impl std::fmt::Display) -> String {
        self.style(Style::new().yellow()).apply_to(text).to_string()
    }

    /// Names and commands.
    pub(crate) fn name(self, text: impl std::fmt::Display) -> String {
        self.style(Style::new().cyan()).apply_to(text).to_string()
    }
}

impl Output {
    /// What the flags and the environment say.
    pub(crate) fn new(global: &Global) -> Self {
        let verbosity = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Debug,
        };
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let look = |terminal: bool, columns: Option<u16>| Look {
            color: match global.color {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => terminal && !dumb && !set("NO_COLOR"),
            },
            terminal: terminal && !dumb,
            width: columns
                .map_or(WIDTH_WITHOUT_TERMINAL, usize::from)
                .clamp(*WIDTHS.start(), *WIDTHS.end()),
        };
        let columns = |term: console::Term| term.size_checked().map(|(_, columns)| columns);
        Self {
            format: if global.json { Format::Json } else { Format::Text },
            verbosity,
            out: look(io::stdout().is_terminal(), columns(console::Term::stdout())),
            err: look(io::stderr().is_terminal(), columns(console::Term::stderr())),
        }
    }

    /// Whether programs read the data.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Data, as it is.
    pub(crate) fn data(&self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref())?;
        out.flush()
    }

    /// A line of data.
    pub(crate) fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        let mut text = text.as_ref().to_owned();
        text.push('\n');
        self.data(text)
    }

    /// A value as JSON, over many lines.
    pub(crate) fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)?;
        Ok(())
    }

    /// A value as JSON, on one line.
    pub(crate) fn json_line(&self, value: &impl Serialize) -> anyhow::Result<()> {
        self.line(serde_json::to_string(value)?)?;
        Ok(())
    }

    /// Something that helps people.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Normal {
            to_stderr(text.as_ref());
        }
    }

    /// Something that only the curious want.
    pub(crate) fn detail(&self, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Verbose {
            to_stderr(&self.err.dim(text.as_ref()));
        }
    }

    /// Something that did not go as it should.
    pub(crate) fn warning(&self, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Normal {
            to_stderr(&format!("{} {}", self.err.warn("warning:"), text.as_ref()));
        }
    }

    /// An error with its causes, and the next step after a blank line.
    pub(crate) fn error(&self, error: &anyhow::Error, next: Option<&str>) {
        let mut text = format!("{} {error}", self.err.bad("error:"));
        let mut said = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Some layers repeat what lies below them, or say nothing.
            if !said.contains(&cause) && !EMPTY_WORDS.contains(&cause.as_str()) {
                text.push_str(&format!("\n  {} {cause}", self.err.dim("because:")));
                said = cause;
            }
        }
        if let Some(next) = next.filter(|next| !next.is_empty()) {
            text.push_str(&format!("\n\n{} {next}", self.err.name("next:")));
        }
        to_stderr(&crate::text::clean_lines(&text, self.err.color));
    }
}

/// Standard error may be closed; there is nobody else to tell.
pub(crate) fn to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
