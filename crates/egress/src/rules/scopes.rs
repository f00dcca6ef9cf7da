//! Rules of several scopes, and how they come together.
//!
//! ```text
//!   organization ─► repository ─► workspace        the widest first
//! ```
//!
//! 1. A rule that forbids, in any scope, decides.
//! 2. Else the narrowest scope with a rule about the request does: it allows or asks. Within a scope
//!    the rule that says more about the request counts; of two that say as much, the one that asks.
//! 3. Else it is refused, or where the workspace learns, passes and is recorded.
//!
//! Below a scope that says [`Below::MayNarrow`], what it and those above it leave closed stays
//! closed, what they ask about is asked, and nothing begins to learn.

use std::{cmp::Ordering, sync::Arc};

use boatyard_model::EgressMode;

use super::{Action, HostPattern, Preset, Reason, Rule, Scope, Target, Verdict, Wish};
use crate::Error;

/// The rules of one scope.
#[derive(Debug, Clone)]
pub struct Layer {
    /// How far they hold.
    pub scope: Scope,
    /// The rules.
    pub rules: Vec<Rule>,
    /// What becomes of what no rule is about, if this scope says so.
    pub mode: Option<EgressMode>,
    /// What narrower scopes may do.
    pub below: Below,
}

/// What scopes below one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Below {
    /// Allow what is closed, too.
    #[default]
    MayWiden,
    /// Forbid and ask only.
    MayNarrow,
}

impl Layer {
    /// A scope's rules; the rest as it is where nobody says anything.
    pub fn new(scope: Scope, rules: Vec<Rule>) -> Self {
        Self { scope, rules, mode: None, below: Below::MayWiden }
    }

    /// What its rules say of a request.
    fn says(&self, target: &Target, wish: Wish<'_>) -> Says<'_> {
        let mut says = Says::default();
        for rule in self.rules.iter().filter(|rule| rule.host.matches(&target.host)) {
            if !rule.ports.contain(target.port) {
                says.near.get_or_insert_with(|| Reason::Port(Arc::clone(&rule.name)));
                continue;
            }
            let is_meant = match wish {
                Wish::Request { method, path, query } => rule.is_about_request(method, path, query),
                Wish::Tunnel if !rule.is_about_requests() => true,
                Wish::Tunnel => match rule.action {
                    Action::Allow => false,
                    Action::Ask => true,
                    Action::Deny => {
                        // It may be what is forbidden.
                        says.denied.get_or_insert_with(|| Reason::Hidden(Arc::clone(&rule.name)));
                        continue;
                    }
                },
            };
            if !is_meant {
                if rule.action != Action::Deny {
                    says.near = Some(match wish {
                        Wish::Tunnel => Reason::Hidden(Arc::clone(&rule.name)),
                        Wish::Request { .. } => Reason::Request(Arc::clone(&rule.name)),
                    });
                }
                continue;
            }
            match rule.action {
                Action::Deny if matches!(says.denied, Some(Reason::Forbidden(_))) => {}
                Action::Deny => says.denied = Some(Reason::Forbidden(Arc::clone(&rule.name))),
                Action::Allow | Action::Ask => {
                    if says.word.is_none_or(|before| rule.counts_more_than(before)) {
                        says.word = Some(rule);
                    }
                }
            }
        }
        says
    }
}

/// What one scope says.
#[derive(Default)]
struct Says<'a> {
    denied: Option<Reason>,
    word: Option<&'a Rule>,
    /// Why a rule that came near does not count.
    near: Option<Reason>,
}

impl Rule {
    /// Whether this one decides, of two of a scope that are about a request.
    fn counts_more_than(&self, other: &Self) -> bool {
        match self.weight().cmp(&other.weight()) {
            Ordering::Greater => true,
            Ordering::Less => false,
            Ordering::Equal => self.action == Action::Ask && other.action == Action::Allow,
        }
    }

    /// How much it says of the requests that it is about: the host before the rest.
    fn weight(&self) -> (u8, usize, bool, usize, bool, std::cmp::Reverse<u32>) {
        let (kind, length) = match &self.host {
            HostPattern::AnyName => (0, 0),
            HostPattern::Below(suffix) => (1, suffix.len()),
            HostPattern::Addresses(cidr) => (1, usize::from(cidr.prefix())),
            HostPattern::Name(_) => (2, 0),
        };
        let path = self.paths.iter().map(super::PathPattern::weight).max().unwrap_or(0);
        let ports = std::cmp::Reverse(self.ports.count());
        (kind, length, self.purpose.is_some(), path, !self.methods.is_empty(), ports)
    }
}

/// How far a request gets: the order is what narrowing goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Closed,
    Asked,
    Open,
}

/// What the rules say of a request, and who says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What they say.
    pub verdict: Verdict,
    /// The scope of the rule that decided, or came nearest; none where there is none.
    pub scope: Option<Scope>,
}

/// What a workspace may reach. Empty: nothing.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    layers: Vec<Arc<Layer>>,
}

impl RuleSet {
    /// These rules for everything, and no others.
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { layers: vec![Arc::new(Layer::new(Scope::Organization, rules))] }
    }

    /// These scopes, in the order of how wide they are.
    pub fn of(mut layers: Vec<Arc<Layer>>) -> Self {
        layers.sort_by_key(|layer| layer.scope);
        Self { layers }
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
        Ok(Self::new(all))
    }

    /// The scopes, the widest first.
    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// The rules of all scopes, the widest first.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.layers.iter().flat_map(|layer| &layer.rules)
    }

    /// Whether what no rule is about passes, to be recorded.
    pub fn learns(&self) -> bool {
        let mut learns = false;
        let mut may_begin = true;
        for layer in &self.layers {
            match layer.mode {
                Some(EgressMode::Enforce) => learns = false,
                Some(EgressMode::Learn) => learns |= may_begin,
                None => {}
            }
            may_begin &= layer.below == Below::MayWiden;
        }
        learns
    }

    /// Whether something may go somewhere.
    pub fn check(&self, target: &Target, wish: Wish<'_>) -> Verdict {
        self.judge(target, wish).verdict
    }

    /// The same, with who says it.
    pub fn judge(&self, target: &Target, wish: Wish<'_>) -> Judgement {
        let mut reach = Reach::Closed;
        let mut decided: Option<(&Rule, Scope)> = None;
        let mut cap = Reach::Open;
        let mut near: Option<(Reason, Scope)> = None;
        for layer in &self.layers {
            let says = layer.says(target, wish);
            if let Some(reason) = says.denied {
                return Judgement { verdict: Verdict::Denied(reason), scope: Some(layer.scope) };
            }
            if let Some(rule) = says.word {
                let wanted = match rule.action {
                    Action::Allow => Reach::Open,
                    Action::Ask | Action::Deny => Reach::Asked,
                };
                reach = wanted.min(cap);
                if reach == Reach::Closed {
                    near = Some((Reason::Above(Arc::clone(&rule.name)), layer.scope));
                } else if wanted == reach || decided.is_none() {
                    decided = Some((rule, layer.scope));
                }
            } else if let Some(reason) = says.near {
                near = Some((reason, layer.scope));
            }
            if layer.below == Below::MayNarrow {
                cap = reach;
            }
        }
        let (verdict, scope) = match (reach, decided) {
            (Reach::Open, Some((rule, scope))) => {
                (Verdict::Allowed(Arc::clone(&rule.name)), Some(scope))
            }
            (Reach::Asked, Some((rule, scope))) => {
                (Verdict::Ask(Arc::clone(&rule.name)), Some(scope))
            }
            _ if self.learns() => (Verdict::Learned, None),
            _ => match near {
                Some((reason, scope)) => (Verdict::Denied(reason), Some(scope)),
                None => (Verdict::Denied(Reason::NoRule), None),
            },
        };
        Judgement { verdict, scope }
    }
}

impl From<Vec<Rule>> for RuleSet {
    fn from(rules: Vec<Rule>) -> Self {
        Self::new(rules)
    }
}
