//! What is asked of the rules, and what they say.

use std::{fmt, sync::Arc};

use http::Method;

use super::Host;

/// Where something wants to go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// What it wants there, as far as it can be seen.
#[derive(Debug, Clone, Copy)]
pub enum Wish<'a> {
    /// A connection whose content is its own.
    Tunnel,
    /// One request.
    Request {
        /// Its method.
        method: &'a Method,
        /// Its path, without the query.
        path: &'a str,
        /// Its query, without the question mark, if it has one.
        query: Option<&'a str>,
    },
}

/// What the rules say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed by the rule of this name.
    Allowed(Arc<str>),
    /// No rule is about it, and what no rule forbids passes in this workspace for now, to be
    /// recorded. No credential goes along.
    Learned,
    /// To be asked of a person, says the rule of this name.
    Ask(Arc<str>),
    /// Denied.
    Denied(Reason),
}

/// Why the rules deny.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// No rule is about this host.
    NoRule,
    /// A rule is about this host, but not this port.
    Port(Arc<str>),
    /// A rule is about this host and port, but not this method, path or purpose.
    Request(Arc<str>),
    /// A rule forbids it.
    Forbidden(Arc<str>),
    /// A rule allows it, in a scope that may not open what those above it leave closed.
    Above(Arc<str>),
    /// A person was asked, as a rule says, and this came of it.
    Answered(Arc<str>, String),
    /// A rule would look at method and path, which an encrypted connection hides.
    Hidden(Arc<str>),
}

impl Reason {
    /// The rule that came nearest.
    pub fn rule(&self) -> Option<&Arc<str>> {
        match self {
            Self::NoRule => None,
            Self::Port(rule)
            | Self::Request(rule)
            | Self::Forbidden(rule)
            | Self::Above(rule)
            | Self::Answered(rule, _)
            | Self::Hidden(rule) => Some(rule),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule allows this host"),
            Self::Port(rule) => write!(f, "rule `{rule}` allows this host on other ports only"),
            Self::Request(rule) => {
                write!(f, "rule `{rule}` allows this host for other methods or paths only")
            }
            Self::Answered(rule, why) => write!(f, "rule `{rule}` says to ask, and {why}"),
            Self::Forbidden(rule) => write!(f, "rule `{rule}` forbids it"),
            Self::Above(rule) => {
                write!(f, "rule `{rule}` may not allow what the rules above it leave closed")
            }
            Self::Hidden(rule) => {
                write!(f, "rule `{rule}` looks at methods or paths, which a tunnel hides")
            }
        }
    }
}
