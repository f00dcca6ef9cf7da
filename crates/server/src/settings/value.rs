//! The types of values, and how each is read from a file or a variable and shown again.
//!
//! [`Setting`] is implemented by everything that may stand in a section. A reason why a value is
//! refused says what would be taken.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use boatyard_model::{Autonomy, name::AgentName};
use toml::Value;

/// Something that may stand in a section.
pub trait Setting: Sized {
    /// What a person writes.
    const KIND: Kind;

    /// Reads it.
    ///
    /// # Errors
    /// What is wrong and what would be taken, without the key.
    fn read(value: &Value) -> Result<Self, String>;

    /// Shows it as [`Setting::read`] takes it; none if there is no value. A secret is hidden.
    fn show(&self) -> Option<Value>;
}

/// What a person writes for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Flag,
    /// A size: a number of bytes or a text such as `4 GiB`.
    Size,
    /// A span of time: a number of seconds or a text such as `10 min`.
    Span,
    /// A list of texts; in a variable, separated by commas.
    List,
    /// A table; not in a variable.
    Table,
}

impl Kind {
    /// In words, for the documentation.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "whole number",
            Self::Number => "number",
            Self::Flag => "`true` or `false`",
            Self::Size => "size: bytes, or a text such as `\"4 GiB\"`",
            Self::Span => "time: seconds, or a text such as `\"10 min\"`",
            Self::List => "list",
            Self::Table => "table",
        }
    }

    /// The value that a variable or a flag means; none if this kind has no such form.
    pub fn from_text(self, text: &str) -> Option<Value> {
        let plain = || Value::String(text.to_owned());
        Some(match self {
            // A text that is no number stays one, so that reading it says what is expected.
            Self::Integer => text.trim().parse().map_or_else(|_| plain(), Value::Integer),
            Self::Number => text.trim().parse().map_or_else(|_| plain(), Value::Float),
            Self::Flag => match text.trim() {
                "true" | "1" | "yes" | "on" => Value::Boolean(true),
                "false" | "0" | "no" | "off" => Value::Boolean(false),
                _ => plain(),
            },
            Self::Text | Self::Size | Self::Span => plain(),
            Self::List => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
            }
            Self::Table => return None,
        })
    }
}

fn wanted<T>(what: &str, value: &Value) -> Result<T, String> {
    Err(match value {
        Value::String(text) => format!("expected {what}, got \"{text}\""),
        Value::Table(_) | Value::Array(_) => {
            format!("expected {what}, got a {}", if value.is_array() { "list" } else { "table" })
        }
        other => format!("expected {what}, got {other}"),
    })
}

impl Setting for String {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text.clone()),
            other => wanted("a text", other),
        }
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.clone()))
    }
}

impl Setting for bool {
    const KIND: Kind = Kind::Flag;

    fn read(value: &Value) -> Result<Self, String> {
        value.as_bool().map_or_else(|| wanted("`true` or `false`", value), Ok)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::Boolean(*self))
    }
}

impl Setting for u32 {
    const KIND: Kind = Kind::Integer;

    fn read(value: &Value) -> Result<Self, String> {
        let number = value.as_integer().and_then(|n| Self::try_from(n).ok());
        number.map_or_else(|| wanted("a whole number from 0 on", value), Ok)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::Integer(i64::from(*self)))
    }
}

impl Setting for f64 {
    const KIND: Kind = Kind::Number;

    fn read(value: &Value) -> Result<Self, String> {
        let number = match value {
            // Exact for every number that a person writes here.
            Value::Integer(n) => Some(*n as Self),
            Value::Float(n) => Some(*n),
            _ => None,
        };
        match number.filter(|n| n.is_finite() && *n >= 0.0) {
            Some(number) => Ok(number),
            None => wanted("a number from 0 on", value),
        }
    }

    fn show(&self) -> Option<Value> {
        Some(Value::Float(*self))
    }
}

impl Setting for PathBuf {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) if Path::new(text).is_absolute() => Ok(Self::from(text)),
            other => wanted("an absolute path", other),
        }
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string_lossy().into_owned()))
    }
}

impl Setting for SocketAddr {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        const WHAT: &str = "an address and a port such as \"127.0.0.1:7070\"";
        let parsed = value.as_str().and_then(|text| {
            // `localhost` is what people write; it needs no resolver.
            text.replacen("localhost:", "127.0.0.1:", 1).parse().ok()
        });
        parsed.map_or_else(|| wanted(WHAT, value), Ok)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl Setting for AgentName {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        let text = String::read(value)?;
        text.parse().map_err(|error: boatyard_model::name::NameError| error.to_string())
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl Setting for Autonomy {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        let parsed = value.as_str().and_then(|text| text.parse().ok());
        parsed.map_or_else(|| wanted("\"ask\", \"ask_changes\" or \"free\"", value), Ok)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;

    fn read(value: &Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn show(&self) -> Option<Value> {
        self.as_ref().and_then(T::show)
    }
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: Kind = Kind::List;

    fn read(value: &Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => items.iter().map(T::read).collect(),
            other => wanted("a list such as [\"one\", \"two\"]", other),
        }
    }

    fn show(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(T::show).collect()))
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    const KIND: Kind = Kind::Table;

    fn read(value: &Value) -> Result<Self, String> {
        let Value::Table(table) = value else { return wanted("a table", value) };
        let entry = |(key, value): (&String, &Value)| {
            let value = T::read(value).map_err(|reason| format!("at \"{key}\": {reason}"))?;
            Ok((key.clone(), value))
        };
        table.iter().map(entry).collect()
    }

    fn show(&self) -> Option<Value> {
        let entries = self.iter().filter_map(|(key, value)| Some((key.clone(), value.show()?)));
        Some(Value::Table(entries.collect()))
    }
}

/// A size in bytes. Written as a number of bytes or as `512 MiB`, `4 GiB`, `20 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 9] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    /// So many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The largest unit that divides it: nothing is rounded.
        let unit = Self::UNITS.iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size));
        let (name, size) = unit.unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / size)
    }
}

impl Setting for ByteSize {
    const KIND: Kind = Kind::Size;

    fn read(value: &Value) -> Result<Self, String> {
        let parsed = match value {
            Value::Integer(bytes) => u64::try_from(*bytes).ok(),
            Value::String(text) => with_unit(text, &Self::UNITS),
            _ => None,
        };
        parsed.map(Self).map_or_else(|| wanted("a size such as \"4 GiB\"", value), Ok)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// A span of time in whole seconds. Written as a number of seconds or as `30 s`, `10 min`, `4 h`,
/// `30 d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(u64);

impl Span {
    const UNITS: [(&'static str, u64); 5] =
        [("d", 86_400), ("h", 3_600), ("min", 60), ("m", 60), ("s", 1)];

    /// So many seconds.
    pub const fn from_seconds(n: u64) -> Self {
        Self(n)
    }

    /// So many minutes.
    pub const fn minutes(n: u64) -> Self {
        Self(n * 60)
    }

    /// So many hours.
    pub const fn hours(n: u64) -> Self {
        Self(n * 3_600)
    }

    /// So many days.
    pub const fn days(n: u64) -> Self {
        Self(n * 86_400)
    }

    /// As the standard library has it.
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0)
    }

    /// In seconds.
    pub const fn seconds(self) -> u64 {
        self.0
    }

    /// In seconds; 136 years if it is longer.
    pub fn seconds_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }

    /// Reads `90`, `90s`, `10 min`, `4h`, `30 d`.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.trim().parse().ok();
        plain.or_else(|| with_unit(text, &Self::UNITS)).map(Self)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Hours up to two days, since `24 h` reads better than `1 d`.
        let days = self.0 >= 2 * 86_400;
        let fits = |&&(name, size): &&(&str, u64)| {
            self.0 > 0 && self.0.is_multiple_of(size) && (name != "d" || days)
        };
        let (name, size) = Self::UNITS.iter().find(fits).unwrap_or(&("s", 1));
        write!(f, "{} {name}", self.0 / size)
    }
}

impl Setting for Span {
    const KIND: Kind = Kind::Span;

    fn read(value: &Value) -> Result<Self, String> {
        let parsed = match value {
            Value::Integer(seconds) => u64::try_from(*seconds).ok().map(Self),
            Value::String(text) => Self::parse(text),
            _ => None,
        };
        parsed.map_or_else(|| wanted("a span of time such as \"10 min\" or \"4 h\"", value), Ok)
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// `12 unit` in the smallest unit; none if it is something else or too large.
fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = (&text[..end], text[end..].trim());
    let (_, size) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*size);
    }
    let amount = number.parse::<f64>().ok()? * *size as f64;
    // `1.5 GiB`: the fraction of a byte is dropped on purpose.
    (amount.is_finite() && amount < i64::MAX as f64).then_some(amount as u64)
}

/// A value that is never shown: not in a log, an error, or by `--print-config`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What stands where a secret would.
pub(super) const HIDDEN: &str = "(hidden)";

impl Secret {
    /// Wraps a value.
    pub const fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Setting for Secret {
    const KIND: Kind = Kind::Text;

    fn read(value: &Value) -> Result<Self, String> {
        const WHAT: &str = "a text, { file = \"/path\" } or { variable = \"NAME\" }";
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Table(table) if table.len() == 1 => {
                let entry = table.iter().next().map(|(k, v)| (k.as_str(), v.as_str()));
                match entry {
                    Some(("file", Some(path))) => std::fs::read_to_string(path)
                        .map_err(|error| format!("{path} can't be read: {error}"))?,
                    Some(("variable", Some(name))) => std::env::var(name)
                        .map_err(|_| format!("the variable {name} is not set"))?,
                    _ => return Err(format!("expected {WHAT}")),
                }
            }
            // Never repeats what was given: it may be the secret, misplaced.
            _ => return Err(format!("expected {WHAT}")),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("it has a line break or another control character".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> Option<Value> {
        Some(Value::String(HIDDEN.to_owned()))
    }
}

/// Declares closed sets of words that may stand as a value.
macro_rules! choices {
    ($($(#[doc = $doc:literal])* $name:ident {
        $($(#[doc = $vdoc:literal])* $variant:ident = $text:literal,)*
    })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[doc = $vdoc])* $variant,)* }

        impl $name {
            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl $crate::settings::value::Setting for $name {
            const KIND: $crate::settings::value::Kind = $crate::settings::value::Kind::Text;

            fn read(value: &toml::Value) -> Result<Self, String> {
                match value.as_str() {
                    $(Some($text) => Ok(Self::$variant),)*
                    _ => {
                        let words = [$(concat!("\"", $text, "\"")),*].join(", ");
                        Err(format!("expected one of {words}, got {value}"))
                    }
                }
            }

            fn show(&self) -> Option<toml::Value> {
                Some(toml::Value::String(self.as_str().to_owned()))
            }
        }
    )*};
}

pub(super) use choices;

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Setting>(value: impl Into<Value>, expected: Result<&str, &str>) {
        let got = T::read(&value.into()).map(|v| v.show().unwrap_or("none".into()).to_string());
        assert_eq!(got.as_deref().map(|v| v.trim_matches('"')).map_err(String::as_str), expected);
    }

    #[test]
    fn sizes_and_spans_are_read_as_people_write_them() {
        check::<ByteSize>("4 GiB", Ok("4 GiB"));
        check::<ByteSize>("512mib", Ok("512 MiB"));
        check::<ByteSize>("1.5 GiB", Ok("1536 MiB"));
        check::<ByteSize>(4096, Ok("4 KiB"));
        check::<ByteSize>("4 Gi", Err("expected a size such as \"4 GiB\", got \"4 Gi\""));
        check::<ByteSize>(
            "99999999999 TiB",
            Err("expected a size such as \"4 GiB\", got \"99999999999 TiB\""),
        );
        check::<Span>("10 min", Ok("10 min"));
        check::<Span>("24h", Ok("24 h"));
        check::<Span>("48 h", Ok("2 d"));
        check::<Span>(90, Ok("90 s"));
        check::<Span>(
            "soon",
            Err("expected a span of time such as \"10 min\" or \"4 h\", got \"soon\""),
        );
    }

    #[test]
    fn a_secret_never_shows() {
        let secret = Secret::read(&"tok_123".into()).unwrap();
        assert_eq!(format!("{secret:?} {}", secret.show().unwrap()), "(hidden) \"(hidden)\"");
        let error = Secret::read(&Value::Array(vec!["tok_123".into()])).unwrap_err();
        assert!(!error.contains("tok_123"), "{error}");
    }
}
