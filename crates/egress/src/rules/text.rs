//! A rule in a line, and what is wrong with one.
//!
//! ```text
//!   [PURPOSE | METHOD[,METHOD]…] [https:// | http://]HOST[:PORT[,PORT]…][/PATH]   or   PRESET
//!
//!   example.com                     everything there, on the ports of HTTPS and HTTP
//!   *.example.com:8443              everything below it, on that port
//!   GET,POST https://api.example/v1/*
//!   git-fetch github.com/owner/*    reading those repositories, not writing them
//!   npm                             a preset
//! ```

use std::{fmt, net::IpAddr};

use boatyard_model::{PortRange, RulePurpose, RuleSpec};

use super::{Action, Cidr, HostPattern, MethodName, PathPattern, Ports, Preset, Rule};

/// The most methods, paths or ports of a rule.
const PARTS_MAX: usize = 64;
/// The longest path, in bytes.
const PATH_MAX: usize = 1024;
/// The longest note, in characters.
const NOTE_MAX: usize = 500;
/// The longest line.
const LINE_MAX: usize = 2048;

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The field, where it came in parts.
    pub field: &'static str,
    /// The character at which it begins, counted from 1, where it came as a line.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What mends it.
    pub mend: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = self.column {
            write!(f, "at character {column}: ")?;
        }
        f.write_str(&self.what)
    }
}

const HOST_FORMS: &str =
    "write a host as example.com, *.example.com, * or 192.0.2.0/24, without a scheme";
const LINE_FORM: &str = "write it as `HOST`, `HOST:PORT`, `GET,POST https://HOST/PATH*`, \
                         `git-fetch HOST/PATH*`, or a preset's name";

fn fault(field: &'static str, what: impl fmt::Display, mend: &'static str) -> Fault {
    Fault { field, column: None, what: what.to_string(), mend }
}

/// Reads a rule in a line, or the name of a preset.
///
/// # Errors
///
/// What is wrong, and where.
pub fn parse(text: &str) -> Result<RuleSpec, Fault> {
    match Preset::all().contains_key(text.trim()) {
        true => Ok(RuleSpec::preset(text.trim())),
        false => parse_rule(text),
    }
}

/// The same, where no preset is meant.
pub(super) fn parse_rule(text: &str) -> Result<RuleSpec, Fault> {
    if text.len() > LINE_MAX {
        return Err(fault("rule", format!("it is longer than {LINE_MAX} bytes"), LINE_FORM));
    }
    let column = |part: &str| {
        // `part` is always a piece of `text`.
        let offset = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        text.get(..offset).map_or(1, |before| before.chars().count() + 1)
    };
    let at = |part: &str, mut fault: Fault| {
        fault.column = Some(column(part));
        fault
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let (first, place) = match words[..] {
        [] => return Err(fault("rule", "it is empty", LINE_FORM)),
        [place] => (None, place),
        [first, place] => (Some(first), place),
        [_, _, more, ..] => {
            let what = format!("`{}` is one word too many", shown(more));
            return Err(at(more, fault("rule", what, LINE_FORM)));
        }
    };
    let mut spec = RuleSpec::default();
    if let Some(first) = first {
        match first.parse::<RulePurpose>() {
            Ok(purpose) => spec.purpose = Some(purpose),
            Err(_) => {
                for method in first.split(',') {
                    MethodName::try_from(method.to_owned()).map_err(|error| {
                        let mend = "name methods as GET or GET,POST, or git-fetch or git-push";
                        at(method, fault("methods", error, mend))
                    })?;
                    spec.methods.push(method.to_owned());
                }
            }
        }
    }
    let (scheme, rest) = match place.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, place),
    };
    let scheme_port = match scheme {
        None => None,
        Some("https") => Some(443),
        Some("http") => Some(80),
        Some(other) => {
            let what = format!("`{}://` is not looked at by rules", shown(other));
            let mend = "use https:// or http://, or HOST:PORT for anything else";
            return Err(at(place, fault("rule", what, mend)));
        }
    };
    if let Some(index) = rest.find(['?', '#']) {
        let mend = "end the path with * instead; a rule is about the path, not about the query";
        let part = rest.get(index..).unwrap_or_default();
        return Err(at(part, fault("paths", "a rule can't be about a query", mend)));
    }
    let is_range = scheme.is_none() && rest.parse::<Cidr>().is_ok();
    let (host, path) = match rest.find('/') {
        Some(index) if !is_range => rest.split_at(index),
        _ => (rest, ""),
    };
    let bits = path.strip_prefix('/').is_some_and(|bits| bits.parse::<u32>().is_ok());
    if scheme.is_none() && bits && host.parse::<IpAddr>().is_ok() {
        // Taken for a path, it would be a rule about next to nothing.
        let what = format!("`{}` is no range of addresses", shown(rest));
        return Err(at(rest, fault("host", what, "write a range as 192.0.2.0/24")));
    }
    let (host, ports) = split_ports(host, is_range);
    if host.contains('@') {
        let what = "a user name has no place in a rule";
        return Err(at(host, fault("host", what, HOST_FORMS)));
    }
    let pattern: HostPattern = host.parse().map_err(|error| {
        at(if host.is_empty() { place } else { host }, fault("host", error, HOST_FORMS))
    })?;
    spec.host = Some(pattern.to_string());
    for port in ports.into_iter().flat_map(|ports| ports.split(',')) {
        let range: PortRange = port.parse().map_err(|error: String| {
            at(
                port,
                fault("ports", error, "write ports as HOST:443, HOST:80,443 or HOST:8000-8100"),
            )
        })?;
        spec.ports.push(range);
    }
    if let (true, Some(port)) = (spec.ports.is_empty(), scheme_port) {
        spec.ports.push(port.into());
    }
    if !path.is_empty() && path != "/" {
        spec.paths.push(path.to_owned());
    }
    compile("", &spec).map_err(|fault| {
        let part = if fault.field == "paths" { path } else { place };
        at(part, fault)
    })?;
    Ok(spec)
}

/// A host, and what stands behind its colon.
fn split_ports(host: &str, is_range: bool) -> (&str, Option<&str>) {
    if is_range || host.parse::<IpAddr>().is_ok() {
        return (host, None);
    }
    if let Some(rest) = host.strip_prefix('[')
        && let Some((address, after)) = rest.split_once(']')
    {
        return (address, after.strip_prefix(':'));
    }
    match host.split_once(':') {
        Some((host, ports)) => (host, Some(ports)),
        None => (host, None),
    }
}

/// The rules that a specification means, each with this name.
pub(super) fn compile(name: &str, spec: &RuleSpec) -> Result<Vec<Rule>, Fault> {
    if let Some(note) = &spec.note
        && note.chars().count() > NOTE_MAX
    {
        return Err(fault("note", format!("it has more than {NOTE_MAX} characters"), "shorten it"));
    }
    if let Some(preset) = &spec.preset {
        let alone =
            RuleSpec { action: spec.action, note: spec.note.clone(), ..RuleSpec::preset(preset) };
        if *spec != alone {
            let what = "a preset has hosts, ports and paths of its own";
            return Err(fault("preset", what, "name the preset or a host, not both"));
        }
        let rules = Preset::rules(preset).map_err(|error| {
            fault("preset", error, "see `boatyard egress presets` for those there are")
        })?;
        let named = |rule: Rule| Rule { name: name.into(), action: spec.action, ..rule };
        return Ok(rules.into_iter().map(named).collect());
    }
    let Some(host) = &spec.host else {
        return Err(fault("host", "a rule needs a host or a preset", HOST_FORMS));
    };
    let host: HostPattern = host.parse().map_err(|error| fault("host", error, HOST_FORMS))?;
    for (field, count) in
        [("ports", spec.ports.len()), ("methods", spec.methods.len()), ("paths", spec.paths.len())]
    {
        if count > PARTS_MAX {
            let what = format!("it has more than {PARTS_MAX}");
            return Err(fault(field, what, "make several rules of it"));
        }
    }
    let looks_inside = spec.purpose.is_some() || !spec.methods.is_empty() || !spec.paths.is_empty();
    let ports = match &spec.ports[..] {
        // Whoever forbids a host means all of it.
        [] if spec.action == Action::Deny && !looks_inside => Ports::from(&[PortRange::ALL][..]),
        [] => Ports::web(),
        ports => Ports::from(ports),
    };
    let mut rule =
        Rule { action: spec.action, purpose: spec.purpose, ..Rule::new(name, host, ports) };
    if spec.purpose.is_some() && !spec.methods.is_empty() {
        let what = "a purpose has methods of its own";
        return Err(fault("methods", what, "leave out the methods, or the purpose"));
    }
    for method in &spec.methods {
        let method = MethodName::try_from(method.clone()).map_err(|error| {
            fault(
                "methods",
                error,
                "CONNECT and TRACE never come as requests; others are in capitals",
            )
        })?;
        rule.methods.push(method);
    }
    for path in &spec.paths {
        if path.len() > PATH_MAX {
            return Err(fault(
                "paths",
                format!("it is longer than {PATH_MAX} bytes"),
                "shorten it",
            ));
        }
        let pattern: PathPattern = path.parse().map_err(|error| {
            let mend = "begin it with /; * may stand at its end only, and nothing in it may be \
                        read in two ways (as //, .. or %2f)";
            fault("paths", error, mend)
        })?;
        if spec.purpose.is_some() && pattern.prefix().is_none() {
            let what =
                format!("`{}` is no path of git's, so that the rule never matches", shown(path));
            return Err(fault("paths", what, "name the repository with * at its end"));
        }
        rule.paths.push(pattern);
    }
    Ok(vec![rule])
}

/// A piece of somebody's text, short enough to be repeated.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}
