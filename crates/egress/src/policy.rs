//! What one workspace's traffic is judged by: the rules that hold for it, and where credentials go.
//!
//! A [`Policy`] never changes: a new one takes its place as a whole, by the watch that a proxy
//! reads, and what is under way is judged again.

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use boatyard_model::{AskState, ConnectionId, WorkspaceId};
use http::Method;

use crate::{
    broker::Place,
    rules::{Rule, RuleSet, Target, Verdict, Wish},
};

/// What a workspace may reach, and what is added on the way. Empty: nothing.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    rules: RuleSet,
    bindings: Vec<Arc<Binding>>,
}

/// Where a credential goes, and nowhere else.
#[derive(Debug, Clone)]
pub struct Binding {
    /// Which credential.
    pub connection: ConnectionId,
    /// What people call it.
    pub name: Arc<str>,
    /// The hosts, ports, methods and paths that it is for.
    pub goes: Vec<Rule>,
    /// Where in a request its value goes.
    pub places: Vec<Place>,
    /// What the workspace has in its stead.
    pub placeholder: Arc<str>,
    /// Whether a request that brings neither placeholder nor credential gets it as well.
    pub is_always: bool,
    /// Whether it may go as plain text.
    pub may_be_plain: bool,
}

impl Binding {
    /// Whether it is for a request.
    pub fn is_for(
        &self,
        target: &Target,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> bool {
        let is_for =
            |rule: &Rule| rule.is_about_host(target) && rule.is_about_request(method, path, query);
        self.goes.iter().any(is_for)
    }
}

impl Policy {
    /// These rules, and credentials that go where these bindings say.
    pub fn new(rules: RuleSet, bindings: Vec<Arc<Binding>>) -> Self {
        Self { rules, bindings }
    }

    /// Whether something may go somewhere.
    pub fn check(&self, target: &Target, wish: Wish<'_>) -> Verdict {
        self.rules.check(target, wish)
    }

    /// Whether encrypted connections to a host are opened: some rule looks at methods or paths
    /// there, a credential goes there, or the workspace learns and a preset would look so.
    pub fn opens(&self, target: &Target) -> bool {
        let is_about = |rule: &Rule| rule.is_about_host(target);
        self.rules.rules().any(|rule| rule.is_about_requests() && is_about(rule))
            || (self.rules.learns() && crate::rules::Preset::looks_into(target))
            || self.bindings.iter().any(|binding| binding.goes.iter().any(is_about))
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Where credentials go.
    pub fn bindings(&self) -> &[Arc<Binding>] {
        &self.bindings
    }
}

impl From<RuleSet> for Policy {
    fn from(rules: RuleSet) -> Self {
        Self::new(rules, Vec::new())
    }
}

/// What a person is asked about a request that waits.
#[derive(Debug, Clone)]
pub struct Question {
    /// Where it comes from.
    pub workspace: WorkspaceId,
    /// Where it wants to go.
    pub target: Target,
    /// Its method; none for a connection whose inside is not seen.
    pub method: Option<Method>,
    /// Its path without the query, where it is seen.
    pub path: Option<String>,
    /// The rule that says to ask.
    pub rule: Arc<str>,
    /// The credential that would go with it.
    pub credential: Option<Arc<str>>,
    /// The asking program's end of its connection, inside the workspace's network.
    pub peer: Option<SocketAddr>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may pass.
    Yes,
    /// It may not.
    No {
        /// What came of asking: a person said no, or nobody answered in time. None where nobody
        /// could be asked.
        state: Option<AskState>,
        /// Why, as the client is told it.
        why: String,
    },
}

/// An answer that is on its way.
pub type Asked = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Asks people. Dropping what [`Asker::ask`] gave withdraws the question.
pub trait Asker: fmt::Debug + Send + Sync + 'static {
    /// Asks; the answer comes within the asker's own deadline.
    fn ask(&self, question: Question) -> Asked;
}

/// There is nobody to ask.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nobody;

impl Asker for Nobody {
    fn ask(&self, _: Question) -> Asked {
        let why = "there is nobody to ask".to_owned();
        Box::pin(std::future::ready(Answer::No { state: None, why }))
    }
}
