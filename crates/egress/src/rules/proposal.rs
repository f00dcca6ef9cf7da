//! The smallest set of rules for what was recorded.
//!
//! Presets where they cover; else one rule for each host, with the methods and paths that were seen,
//! or with what git was used for. What the rules that there are let pass needs none, and what they
//! forbid gets none.

use std::collections::{BTreeMap, BTreeSet};

use boatyard_model::{PortRange, RulePurpose, RuleSpec};
use http::Method;

use super::{Host, PathPattern, Preset, Reason, RuleSet, Target, Verdict, Wish};

/// So many paths of a host are named each; of more, what they have in common.
const PATHS_NAMED: usize = 4;

/// Something that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where it went.
    pub target: Target,
    /// Its method and path; none for a connection whose inside was not seen.
    pub request: Option<(Method, String)>,
    /// How often.
    pub count: u64,
}

/// A rule that would let some of it pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// The rule.
    pub spec: RuleSpec,
    /// How many requests it would let pass.
    pub requests: u64,
}

/// Rules for what was wanted, those that cover most first.
pub fn propose(wanted: &[Wanted], have: &RuleSet) -> Vec<Proposed> {
    let mut left: Vec<&Wanted> = wanted.iter().filter(|wanted| needs_rule(wanted, have)).collect();
    let mut proposed = by_presets(&mut left);
    let mut hosts: BTreeMap<(String, u16), Vec<&Wanted>> = BTreeMap::new();
    for wanted in left {
        let target = &wanted.target;
        hosts.entry((bare(&target.host), target.port)).or_default().push(wanted);
    }
    let mut specs: Vec<Proposed> = Vec::new();
    for ((host, port), wanted) in hosts {
        let of_host = for_host(&host, &wanted);
        for mut one in of_host {
            one.spec.ports = vec![port.into()];
            // The same of another port is the same rule.
            let same = specs.iter_mut().find(|other| {
                let ports = other.spec.ports.clone();
                other.spec == RuleSpec { ports, ..one.spec.clone() }
            });
            match same {
                Some(other) => {
                    other.spec.ports.push(port.into());
                    other.requests += one.requests;
                }
                None => specs.push(one),
            }
        }
    }
    for one in &mut specs {
        one.spec.ports.sort_unstable();
        if one.spec.ports == [PortRange::from(80), PortRange::from(443)] {
            one.spec.ports.clear();
        }
    }
    proposed.extend(specs);
    proposed.sort_by_key(|one| std::cmp::Reverse(one.requests));
    proposed
}

/// A host as a rule names it.
fn bare(host: &Host) -> String {
    match host {
        Host::Name(name) => name.to_string(),
        Host::Address(address) => address.to_string(),
    }
}

/// What the rules say. The query of git's first request is not recorded: each is tried.
fn verdicts(wanted: &Wanted, rules: &RuleSet) -> Vec<Verdict> {
    let Some((method, path)) = &wanted.request else {
        return vec![rules.check(&wanted.target, Wish::Tunnel)];
    };
    let queries = match path.ends_with("/info/refs") {
        true => vec![Some("service=git-upload-pack"), Some("service=git-receive-pack")],
        false => vec![None],
    };
    let check = |query| rules.check(&wanted.target, Wish::Request { method, path, query });
    queries.into_iter().map(check).collect()
}

fn needs_rule(wanted: &Wanted, have: &RuleSet) -> bool {
    let verdicts = verdicts(wanted, have);
    let is_closed = |verdict: &Verdict| {
        matches!(verdict, Verdict::Learned)
            || matches!(
                verdict,
                Verdict::Denied(
                    Reason::NoRule | Reason::Port(_) | Reason::Request(_) | Reason::Hidden(_)
                )
            )
    };
    verdicts.iter().all(is_closed)
}

/// Takes out of `left` what presets cover: each time the one that covers most.
fn by_presets(left: &mut Vec<&Wanted>) -> Vec<Proposed> {
    let candidates: Vec<(&str, RuleSet)> = Preset::all()
        .iter()
        .filter(|(_, preset)| preset.presets.is_empty())
        .filter_map(|(name, _)| Some((name.as_str(), RuleSet::new(Preset::rules(name).ok()?))))
        .collect();
    let covers = |rules: &RuleSet, wanted: &Wanted| {
        verdicts(wanted, rules).iter().any(|verdict| matches!(verdict, Verdict::Allowed(_)))
    };
    let mut proposed = Vec::new();
    loop {
        let best = candidates
            .iter()
            .map(|(name, rules)| {
                let covered = left.iter().filter(|wanted| covers(rules, wanted)).count();
                (covered, std::cmp::Reverse(rules.rules().count()), *name, rules)
            })
            .max_by_key(|(covered, size, ..)| (*covered, *size));
        let Some((1.., _, name, rules)) = best else { return proposed };
        let (taken, rest): (Vec<&Wanted>, Vec<&Wanted>) =
            left.iter().partition(|wanted| covers(rules, wanted));
        *left = rest;
        let requests = taken.iter().map(|wanted| wanted.count).sum();
        proposed.push(Proposed { spec: RuleSpec::preset(name), requests });
    }
}

/// Rules for what was wanted of one host and port.
fn for_host(host: &str, wanted: &[&Wanted]) -> Vec<Proposed> {
    let total = |wanted: &[&Wanted]| wanted.iter().map(|wanted| wanted.count).sum();
    let seen: Option<Vec<(&Method, &str, &Wanted)>> = wanted
        .iter()
        .map(|wanted| wanted.request.as_ref().map(|(method, path)| (method, &path[..], *wanted)))
        .collect();
    let Some(seen) = seen else {
        // Of something its inside was not seen: all of it is allowed, or nothing.
        return vec![Proposed { spec: RuleSpec::host(host), requests: total(wanted) }];
    };
    let mut proposed = Vec::new();
    let mut rest = Vec::new();
    let mut git: BTreeMap<(RulePurposeKey, String), u64> = BTreeMap::new();
    let pushed: BTreeSet<&str> =
        seen.iter().filter_map(|(_, path, _)| path.strip_suffix("/git-receive-pack")).collect();
    for (method, path, wanted) in seen {
        let (repository, key) = if let Some(repository) = path.strip_suffix("/info/refs") {
            let key = match pushed.contains(repository) {
                true => RulePurposeKey::Push,
                false => RulePurposeKey::Fetch,
            };
            (repository, key)
        } else if let Some(repository) = path.strip_suffix("/git-upload-pack") {
            (repository, RulePurposeKey::Fetch)
        } else if let Some(repository) = path.strip_suffix("/git-receive-pack") {
            (repository, RulePurposeKey::Push)
        } else {
            rest.push((method, path, wanted));
            continue;
        };
        *git.entry((key, repository.to_owned())).or_default() += wanted.count;
    }
    for ((key, repository), requests) in git {
        let purpose = match key {
            RulePurposeKey::Fetch => RulePurpose::GitFetch,
            RulePurposeKey::Push => RulePurpose::GitPush,
        };
        let paths = named(&[&format!("{repository}/")], true);
        let spec = RuleSpec { purpose: Some(purpose), paths, ..RuleSpec::host(host) };
        proposed.push(Proposed { spec, requests });
    }
    if !rest.is_empty() {
        let methods: BTreeSet<String> = rest
            .iter()
            .map(|(method, ..)| match **method == Method::HEAD {
                true => Method::GET.to_string(),
                false => method.to_string(),
            })
            .collect();
        let paths: BTreeSet<&str> = rest.iter().map(|(_, path, _)| *path).collect();
        let paths: Vec<&str> = paths.into_iter().collect();
        let spec = RuleSpec {
            methods: methods.into_iter().collect(),
            paths: named(&paths, false),
            ..RuleSpec::host(host)
        };
        let requests = rest.iter().map(|(.., wanted)| wanted.count).sum();
        proposed.push(Proposed { spec, requests });
    }
    proposed
}

/// What git is used for, in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RulePurposeKey {
    Fetch,
    Push,
}

/// Patterns for these paths: each of a few, or what begins like all of them. None where one can't be
/// said in a rule.
fn named(paths: &[&str], is_folder: bool) -> Vec<String> {
    let patterns: Vec<String> = match (paths, is_folder) {
        (_, true) => paths.iter().map(|path| format!("{path}*")).collect(),
        (few, false) if few.len() <= PATHS_NAMED => {
            few.iter().map(|path| (*path).to_owned()).collect()
        }
        (many, false) => {
            let first = many.first().copied().unwrap_or_default();
            let common = many.iter().fold(first.len(), |common, path| {
                let same = first.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
                common.min(same)
            });
            let folder = first.get(..common).and_then(|text| text.rfind('/')).unwrap_or(0);
            vec![format!("{}*", first.get(..=folder).unwrap_or("/"))]
        }
    };
    let is_sayable = |text: &String| text.parse::<PathPattern>().is_ok();
    match patterns.iter().all(is_sayable) && patterns != ["/*"] {
        true => patterns,
        false => Vec::new(),
    }
}
