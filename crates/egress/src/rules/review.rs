//! Rules that can't do what they seem to: said when they are made, and where they are listed.

use super::{Action, Below, HostPattern, Layer, Rule, Scope};
use crate::resolve::{Guard, Kind};

/// What is said of a rule that takes effect, but not as one may think.
///
/// `here` are the other rules of its scope, `above` the wider scopes.
pub fn warnings(
    rule: &Rule,
    scope: Scope,
    here: &[&Rule],
    above: &[&Layer],
    guard: &Guard,
) -> Vec<String> {
    let mut told = Vec::new();
    told.extend(address(rule, guard));
    told.extend(width(rule));
    let wider = above.iter().flat_map(|layer| layer.rules.iter().map(|rule| (rule, layer.scope)));
    let all = wider.chain(here.iter().map(|rule| (*rule, scope)));
    if rule.action != Action::Deny {
        for (other, whose) in all {
            if other.action == Action::Deny && other.covers(rule) {
                let (name, whose) = (&other.name, who(whose));
                told.push(format!("it never counts: rule `{name}` of {whose} forbids all of it"));
                return told;
            }
        }
        if let Some(layer) = above.iter().find(|layer| layer.below == Below::MayNarrow) {
            let named = above
                .iter()
                .flat_map(|layer| &layer.rules)
                .any(|other| other.action != Action::Deny && other.touches(rule));
            if !named {
                let who = who(layer.scope);
                told.push(format!(
                    "it never counts: the rules of {who} leave this closed, and let nothing be \
                     opened below them"
                ));
            }
        }
    }
    for other in here {
        if other.covers(rule) && other.action == rule.action {
            let name = &other.name;
            told.push(format!("it adds nothing: rule `{name}` says the same of all of it"));
            break;
        }
    }
    told
}

/// Whether the addresses that it is about are those that no rule can open.
fn address(rule: &Rule, guard: &Guard) -> Option<String> {
    if rule.action == Action::Deny {
        return None;
    }
    let mend = "name it in `[egress] allow_private` of boatyard.toml as well";
    match &rule.host {
        HostPattern::Addresses(range) => {
            let kind: Kind = guard.judge(range.first()).err()?;
            Some(format!("it never matches: {range} is {kind}, which no rule opens; {mend}"))
        }
        HostPattern::Name(name) if is_local(name) => Some(format!(
            "it never matches as long as `{name}` has a private address, which no rule opens; {mend}"
        )),
        _ => None,
    }
}

/// Names that stand for this machine or a network of one's own.
fn is_local(name: &str) -> bool {
    let top = name.rsplit('.').next().unwrap_or(name);
    ["localhost", "local", "internal", "home", "lan", "localdomain"].contains(&top)
}

/// Whether it lets out far more than a rule should.
fn width(rule: &Rule) -> Option<String> {
    if rule.action != Action::Allow || rule.is_about_requests() {
        return None;
    }
    match &rule.host {
        HostPattern::AnyName => Some(
            "it lets everything out: whatever a workspace can read, it can send anywhere"
                .to_owned(),
        ),
        HostPattern::Below(suffix) if !suffix.contains('.') => {
            Some(format!("it lets out to every name that ends in `.{suffix}`, whoever owns it"))
        }
        HostPattern::Addresses(range) if range.prefix() < 8 => {
            Some(format!("it lets out to a large part of all addresses ({range})"))
        }
        _ => None,
    }
}

fn who(scope: Scope) -> &'static str {
    match scope {
        Scope::Organization => "the organization",
        Scope::Repository => "the repository",
        Scope::Workspace => "the workspace",
    }
}

impl Rule {
    /// Whether everything that the other is about is what this is about.
    pub fn covers(&self, other: &Self) -> bool {
        self.host.covers(&other.host)
            && self.ports.cover(&other.ports)
            && (self.methods.is_empty()
                || (!other.methods.is_empty()
                    && other.methods.iter().all(|method| self.methods.contains(method))))
            && (self.paths.is_empty()
                || (!other.paths.is_empty()
                    && other
                        .paths
                        .iter()
                        .all(|theirs| self.paths.iter().any(|ours| ours.covers(theirs)))))
            && (self.purpose.is_none() || self.purpose == other.purpose)
    }

    /// Whether some host and port is what both are about.
    fn touches(&self, other: &Self) -> bool {
        let hosts = self.host.covers(&other.host) || other.host.covers(&self.host);
        let ports = |ours: &Self, theirs: &Self| {
            ours.ports
                .ranges()
                .iter()
                .any(|range| theirs.ports.ranges().iter().any(|other| range.overlaps(*other)))
        };
        hosts && ports(self, other)
    }
}
