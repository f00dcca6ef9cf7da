//! What may leave a workspace.
//!
//! A [`RuleSet`] is a list of [`Rule`]s that allow; what none of them allows is denied. Checking
//! is pure: the same request against the same rules gives the same [`Verdict`], with the reason
//! that is told to the client, the record and the person who is asked.
//!
//! A rule that names methods or paths can't be judged for a CONNECT, whose inside is not seen, so
//! it does not allow one.

mod host;
mod preset;

use std::{fmt, str::FromStr, sync::Arc};

use http::Method;
use serde::{Deserialize, Serialize};

pub use self::{
    host::{Host, HostPattern},
    preset::Preset,
};
use crate::Error;

/// What stands in place of a rule's name in the record of what passed because no rule forbids it,
/// while a workspace learns.
pub const LEARNED: &str = "learned";

/// One permission.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called in records and answers.
    pub name: Arc<str>,
    /// What it says of the requests that it is about.
    #[serde(default)]
    pub action: Action,
    /// Which hosts.
    pub host: HostPattern,
    /// Which ports; HTTPS only unless it says otherwise.
    #[serde(default)]
    pub ports: Ports,
    /// Which methods; all when empty. `GET` allows `HEAD` as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<MethodName>,
    /// Which paths; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathPattern>,
}

impl Rule {
    /// A rule for everything on these hosts and ports.
    pub fn new(name: impl Into<Arc<str>>, host: HostPattern, ports: Ports) -> Self {
        Self {
            name: name.into(),
            action: Action::Allow,
            host,
            ports,
            methods: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// Whether it looks into requests: at more than their host and port.
    pub fn is_about_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }

    /// Whether it says anything of a host and port.
    pub fn is_about_host(&self, target: &Target) -> bool {
        self.host.matches(&target.host) && self.ports.contain(target.port)
    }

    fn allows_request(&self, method: &Method, path: &str) -> bool {
        let is_method = self.methods.is_empty()
            || self.methods.iter().any(|allowed| {
                allowed.0 == *method || (allowed.0 == Method::GET && *method == Method::HEAD)
            });
        is_method && (self.paths.is_empty() || self.paths.iter().any(|p| p.matches(path)))
    }
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It may pass.
    #[default]
    Allow,
    /// A person is asked.
    Ask,
    /// It may not, whatever else is allowed.
    Deny,
}

/// Which ports a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ports(Vec<u16>);

impl Ports {
    fn contain(&self, port: u16) -> bool {
        self.0.contains(&port)
    }
}

impl Default for Ports {
    /// HTTPS.
    fn default() -> Self {
        Self(vec![443])
    }
}

impl From<&[u16]> for Ports {
    fn from(ports: &[u16]) -> Self {
        Self(ports.to_vec())
    }
}

/// A method as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodName(pub Method);

impl TryFrom<String> for MethodName {
    type Error = http::method::InvalidMethod;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self(Method::from_bytes(text.as_bytes())?))
    }
}

impl From<MethodName> for String {
    fn from(method: MethodName) -> Self {
        method.0.to_string()
    }
}

/// A path, or with `*` at the end everything that begins so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(Box<str>);

impl PathPattern {
    /// Whether the path is meant. One that a server might read as another is never: it matches
    /// no pattern but `/*`.
    fn matches(&self, path: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some("/") => true,
            _ if is_ambiguous(path) => false,
            Some(prefix) => path.starts_with(prefix),
            None => path == &*self.0,
        }
    }
}

/// Whether decoding or tidying would change which place a path means.
fn is_ambiguous(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    ["//", "/./", "/../", "\\", "%2e", "%2f", "%5c", "%25", "%00", ";"]
        .iter()
        .any(|piece| lower.contains(piece))
        || lower.ends_with("/..")
        || lower.ends_with("/.")
}

impl FromStr for PathPattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let before_star = text.strip_suffix('*').unwrap_or(text);
        let is_path = before_star.starts_with('/')
            && !before_star.contains('*')
            && !before_star.contains(['?', '#'])
            && !is_ambiguous(before_star);
        if is_path { Ok(Self(text.into())) } else { Err(Error::Path { text: text.to_owned() }) }
    }
}

impl TryFrom<String> for PathPattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0.into()
    }
}

/// Where something wants to go.
#[derive(Debug, Clone)]
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
    /// A rule is about this host and port, but not this method or path.
    Request(Arc<str>),
    /// A rule forbids it.
    Forbidden(Arc<str>),
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
            Self::Hidden(rule) => {
                write!(f, "rule `{rule}` limits methods or paths, which a tunnel hides")
            }
        }
    }
}

/// What a workspace may reach. Empty: nothing.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
}

impl RuleSet {
    /// These rules and no others.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// The rules of these presets, and then `rules`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownPreset`].
    pub fn with_presets(presets: &[&str], rules: Vec<Rule>) -> Result<Self, Error> {
        let mut all = Vec::new();
        for preset in presets {
            all.extend(Preset::rules(preset)?);
        }
        all.extend(rules);
        Ok(Self { rules: all })
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether something may go somewhere. One that denies decides; else the first that allows or
    /// asks is the one named.
    pub fn check(&self, target: &Target, wish: Wish<'_>) -> Verdict {
        let mut says = None;
        let mut reason = Reason::NoRule;
        for rule in self.rules.iter().filter(|rule| rule.host.matches(&target.host)) {
            if !rule.ports.contain(target.port) {
                if reason == Reason::NoRule {
                    reason = Reason::Port(Arc::clone(&rule.name));
                }
                continue;
            }
            match wish {
                Wish::Tunnel if rule.is_about_requests() => {
                    reason = Reason::Hidden(Arc::clone(&rule.name));
                }
                Wish::Request { method, path, .. } if !rule.allows_request(method, path) => {
                    reason = Reason::Request(Arc::clone(&rule.name));
                }
                _ => match rule.action {
                    Action::Deny => {
                        return Verdict::Denied(Reason::Forbidden(Arc::clone(&rule.name)));
                    }
                    Action::Allow if says.is_none() => {
                        says = Some(Verdict::Allowed(Arc::clone(&rule.name)));
                    }
                    Action::Ask if says.is_none() => {
                        says = Some(Verdict::Ask(Arc::clone(&rule.name)));
                    }
                    Action::Allow | Action::Ask => {}
                },
            }
        }
        says.unwrap_or(Verdict::Denied(reason))
    }
}

#[cfg(test)]
mod tests;
