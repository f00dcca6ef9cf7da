//! What may leave a workspace.
//!
//! ```text
//!   text ──► RuleSpec ──► Rule ─┐
//!            (model)    preset ─┴─► Layer: a scope's rules ─► RuleSet: scopes, the widest first
//!                                                                 │ check(target, wish)
//!                                                                 ▼
//!                                                              Verdict
//! ```
//!
//! - [`text`]: a rule in a line, as people write it.
//! - [`Preset`]: rules that come as a group.
//! - [`scopes`]: how the rules of several scopes come together.
//! - [`review`]: rules that can't do what they seem to.
//! - [`proposal`]: the smallest set of rules for what was recorded.
//!
//! Checking is pure: the same request against the same rules gives the same [`Verdict`], with the
//! reason that is told to the client, the record and the person who is asked.
//!
//! A rule that names methods, paths or a purpose can't be judged for a connection whose inside is
//! not seen: one that allows does not allow it, and one that forbids or asks is taken to be meant.
//! Where a path may be read in two ways, one that allows is taken not to mean it, and one that
//! forbids or asks to mean it.

mod host;
mod path;
mod ports;
mod preset;
pub mod proposal;
mod purpose;
pub mod review;
pub mod scopes;
pub mod text;
mod verdict;

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};

pub use boatyard_model::{RuleAction as Action, RulePurpose as Purpose, RuleScope as Scope};

use boatyard_model::RuleSpec;

pub use self::{
    host::{Host, HostPattern},
    path::PathPattern,
    ports::Ports,
    preset::Preset,
    scopes::{Below, Judgement, Layer, RuleSet},
    verdict::{Reason, Target, Verdict, Wish},
};
use crate::{Cidr, Error};

/// What stands in place of a rule's name in the record of what passed because no rule forbids it,
/// while a workspace learns.
pub const LEARNED: &str = "learned";

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Which methods; all when empty. `GET` is `HEAD` as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<MethodName>,
    /// Which paths; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathPattern>,
    /// What the request is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<Purpose>,
}

/// How a request's path is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As it stands, and never in doubt: for what would let it pass.
    Narrow,
    /// In every way in which a server might: for what would stop it.
    Wide,
}

impl Rule {
    /// A rule that allows everything on these hosts and ports.
    pub fn new(name: impl Into<Arc<str>>, host: HostPattern, ports: Ports) -> Self {
        Self {
            name: name.into(),
            action: Action::Allow,
            host,
            ports,
            methods: Vec::new(),
            paths: Vec::new(),
            purpose: None,
        }
    }

    /// The rules that a specification means: one, or those of its preset.
    ///
    /// # Errors
    ///
    /// The part of it that makes no sense, with its field.
    pub fn from_spec(name: &str, spec: &RuleSpec) -> Result<Vec<Self>, text::Fault> {
        text::compile(name, spec)
    }

    /// Whether it looks into requests: at more than their host and port.
    pub fn is_about_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty() || self.purpose.is_some()
    }

    /// Whether it says anything of a host and port.
    pub fn is_about_host(&self, target: &Target) -> bool {
        self.host.matches(&target.host) && self.ports.contain(target.port)
    }

    /// Whether it would let a request to its hosts pass, whatever its action is.
    pub fn allows_request(&self, method: &Method, path: &str) -> bool {
        self.means(method, path, None, Reading::Narrow)
    }

    /// Whether it is about a request to its hosts: as it stands where it allows, and in any reading
    /// where it forbids or asks.
    pub fn is_about_request(&self, method: &Method, path: &str, query: Option<&str>) -> bool {
        let reading = match self.action {
            Action::Allow => Reading::Narrow,
            Action::Ask | Action::Deny => Reading::Wide,
        };
        self.means(method, path, query, reading)
    }

    fn means(&self, method: &Method, path: &str, query: Option<&str>, reading: Reading) -> bool {
        let is_same = |meant: &Method| match reading {
            Reading::Narrow => meant == method,
            // Some servers take `post` for `POST`.
            Reading::Wide => meant.as_str().eq_ignore_ascii_case(method.as_str()),
        };
        let is_method = self.methods.is_empty()
            || self.methods.iter().any(|meant| {
                is_same(&meant.0) || (meant.0 == Method::GET && is_same(&Method::HEAD))
            });
        is_method
            && (self.paths.is_empty() || self.paths.iter().any(|p| p.matches(path, reading)))
            && self
                .purpose
                .is_none_or(|purpose| purpose::is_for(purpose, method, path, query, reading))
    }
}

/// A method as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MethodName(pub Method);

impl TryFrom<String> for MethodName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let bad = || Error::Method { text: text.chars().take(40).collect() };
        // Those that never get as far as a rule make one that never matches.
        let never = ["CONNECT", "TRACE"].contains(&text.as_str());
        // A method is case-sensitive; nobody means `get`.
        let is_upper = text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if is_upper && !never => Ok(Self(method)),
            _ => Err(bad()),
        }
    }
}

impl From<MethodName> for String {
    fn from(method: MethodName) -> Self {
        method.0.to_string()
    }
}

#[cfg(test)]
mod tests;
