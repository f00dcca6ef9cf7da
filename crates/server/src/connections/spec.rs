//! What a connection is bound to: read, checked, and made fit for the broker.
//!
//! A credential that is bound to nothing is of no use, and one that is bound to everything goes to
//! whoever asks for it: both are refused.

use std::sync::Arc;

use boatyard_api::{
    Problem,
    connection::{ConnectionBinding, NewConnection, SecretText},
};
use boatyard_egress::{
    Rule,
    broker::Place,
    rules::{HostPattern, MethodName, PathPattern, Ports},
};
use boatyard_model::PortRange;
use zeroize::Zeroizing;

use super::kinds::{KINDS, Kind, kind};

/// The most of anything in a binding.
const MOST: usize = 50;
/// The longest value, in bytes.
const VALUE_MAX: usize = 16 * 1024;
/// The shortest value: a shorter one is guessed, and could not be painted over in answers.
const VALUE_MIN: usize = 8;
/// The longest name.
const NAME_MAX: usize = 60;

/// A binding as the broker takes it.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) goes: Vec<Rule>,
    pub(crate) places: Vec<Place>,
}

/// The kind that is wanted.
pub(crate) fn wanted_kind(name: &str) -> Result<&'static Kind, Problem> {
    kind(name).ok_or_else(|| {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        Problem::invalid("kind", format!("there is no kind `{name}`"))
            .with_next(format!("It is one of {}.", known.join(", ")))
    })
}

/// The name that is wanted.
pub(crate) fn name(new: &NewConnection) -> Result<String, Problem> {
    let name = new.name.clone().unwrap_or_else(|| new.kind.clone());
    let is_name = !name.is_empty()
        && name.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && name.as_bytes()[0].is_ascii_alphanumeric();
    if is_name && !name.starts_with("con_") {
        return Ok(name);
    }
    Err(Problem::invalid(
        "name",
        format!(
            "`{}` is no name: letters, digits, `-`, `_` and `.`, {NAME_MAX} at most, with a letter or \
             digit first, and not `con_…`",
            name.chars().take(80).collect::<String>()
        ),
    ))
}

/// The binding that is wanted: the kind's own, with what differs.
pub(crate) fn binding(new: &NewConnection, kind: &Kind) -> Result<ConnectionBinding, Problem> {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let mut binding = new.binding.clone();
    let is_elsewhere = !binding.hosts.is_empty();
    if binding.hosts.is_empty() {
        binding.hosts = owned(kind.hosts);
    }
    if binding.paths.is_empty() && !is_elsewhere {
        binding.paths = owned(kind.paths);
    }
    if binding.places.is_empty() {
        binding.places = owned(kind.places);
    }
    if binding.variables.is_empty() {
        binding.variables = owned(kind.variables);
    }
    binding.always |= kind.always;
    if !kind.own_use || is_elsewhere || !binding.places.is_empty() {
        bound(&binding)?;
    }
    if let Some(user) = &new.user {
        let basic = binding.places.iter_mut().find(|place| place.starts_with("basic"));
        let Some(basic) = basic else {
            return Err(Problem::invalid("user", "a user name goes with the place `basic` only"));
        };
        *basic = format!("basic:{user}");
    } else if kind.name == "docker" && binding.places.iter().any(|place| place == "basic") {
        return Err(Problem::invalid(
            "user",
            "Docker Hub takes a password with its user name only",
        ));
    }
    Ok(binding)
}

/// Whether a binding says where its credential goes.
fn bound(binding: &ConnectionBinding) -> Result<(), Problem> {
    if binding.hosts.is_empty() {
        let detail = "a credential that is bound to no host goes nowhere";
        return Err(
            Problem::invalid("binding.hosts", detail).with_next("Name its hosts with --host.")
        );
    }
    if binding.places.is_empty() {
        let detail = "it says of no place in a request where the credential goes";
        return Err(Problem::invalid("binding.places", detail).with_next(
            "Name one with --place: bearer, header:NAME, `header:NAME=token {}`, basic, basic:USER, \
             query:NAME, body.",
        ));
    }
    Ok(())
}

/// Makes a binding fit for the broker.
///
/// # Errors
/// The part of it that makes no sense, or too much.
pub(crate) fn compile(name: &str, binding: &ConnectionBinding) -> Result<Compiled, Problem> {
    let at = |field: &str| format!("binding.{field}");
    let lists = [
        ("hosts", binding.hosts.len()),
        ("ports", binding.ports.len()),
        ("methods", binding.methods.len()),
        ("paths", binding.paths.len()),
        ("places", binding.places.len()),
        ("variables", binding.variables.len()),
    ];
    if let Some((field, count)) = lists.into_iter().find(|(_, count)| *count > MOST) {
        return Err(Problem::invalid(at(field), format!("{count} are too many: {MOST} at most")));
    }
    // One of both alone is a mistake; with neither it is for Boatyard's own use.
    if binding.hosts.is_empty() && !binding.places.is_empty() {
        let detail = "a credential that is bound to no host goes nowhere";
        return Err(Problem::invalid(at("hosts"), detail).with_next("Name its hosts with --host."));
    }
    if binding.places.is_empty() && !binding.hosts.is_empty() {
        let detail = "it says of no place in a request where the credential goes";
        return Err(Problem::invalid(at("places"), detail).with_next(
            "Name one with --place: bearer, header:NAME, `header:NAME=token {}`, basic, basic:USER, \
             query:NAME, body.",
        ));
    }
    let ports = match &binding.ports[..] {
        [] => Ports::default(),
        ports => Ports::from(ports),
    };
    let is_all = |range: &PortRange| range.contains(1) && range.contains(u16::MAX);
    if binding.ports.iter().any(is_all) {
        return Err(Problem::invalid(at("ports"), "a credential is not bound to every port"));
    }
    let mut methods = Vec::new();
    for (n, method) in binding.methods.iter().enumerate() {
        let parsed = MethodName::try_from(method.clone());
        methods.push(parsed.map_err(|e| Problem::invalid(format!("binding.methods[{n}]"), e))?);
    }
    let mut paths = Vec::new();
    for (n, path) in binding.paths.iter().enumerate() {
        let parsed = path.parse::<PathPattern>();
        paths.push(parsed.map_err(|e| Problem::invalid(format!("binding.paths[{n}]"), e))?);
    }
    let mut goes = Vec::new();
    for (n, host) in binding.hosts.iter().enumerate() {
        let field = format!("binding.hosts[{n}]");
        let pattern: HostPattern = host.parse().map_err(|error| Problem::invalid(&field, error))?;
        narrow(&pattern).map_err(|why| {
            Problem::invalid(&field, format!("`{host}` {why}"))
                .with_next("Name the hosts that the credential is for.")
        })?;
        let mut rule = Rule::new(Arc::<str>::from(name), pattern, ports.clone());
        rule.methods.clone_from(&methods);
        rule.paths.clone_from(&paths);
        goes.push(rule);
    }
    let mut places = Vec::new();
    for (n, place) in binding.places.iter().enumerate() {
        let parsed = place.parse::<Place>();
        places.push(parsed.map_err(|e| Problem::invalid(format!("binding.places[{n}]"), e))?);
    }
    for (n, variable) in binding.variables.iter().enumerate() {
        let field = format!("binding.variables[{n}]");
        check_variable(variable).map_err(|why| Problem::invalid(field, why))?;
    }
    let can_add = |place: &Place| matches!(place, Place::Header { .. } | Place::Basic { .. });
    if binding.always && !places.iter().any(can_add) {
        let detail =
            "what is put into every request goes into a header: bearer, header:NAME, basic";
        return Err(Problem::invalid(at("always"), detail));
    }
    Ok(Compiled { goes, places })
}

/// Whether a pattern means some hosts rather than the world.
fn narrow(pattern: &HostPattern) -> Result<(), &'static str> {
    match pattern {
        HostPattern::AnyName => Err("is every host, to which a credential is never bound"),
        HostPattern::Below(suffix) if !suffix.contains('.') => {
            Err("is a whole top-level domain, to which a credential is never bound")
        }
        HostPattern::Below(_) | HostPattern::Name(_) => Ok(()),
        HostPattern::Addresses(range) if range.is_single() => Ok(()),
        HostPattern::Addresses(_) => Err("is a range of addresses; name single ones"),
    }
}

/// What a workspace's other variables are for.
const TAKEN: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "LANG",
    "TERM",
    "TMPDIR",
    "PWD",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "PYTHONPATH",
    "NODE_EXTRA_CA_CERTS",
];

fn check_variable(name: &str) -> Result<(), String> {
    let is_name = name.len() <= 100
        && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        && name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    let shown: String = name.chars().take(100).collect();
    if !is_name {
        return Err(format!("`{shown}` is no variable: capital letters, digits and `_`"));
    }
    let is_taken = TAKEN.contains(&name)
        || ["LD_", "BOATYARD_", "GIT_CONFIG_"].iter().any(|prefix| name.starts_with(prefix))
        || ["_PROXY", "_CA_BUNDLE", "_CERT_FILE"].iter().any(|end| name.ends_with(end));
    if is_taken { Err(format!("the variable `{shown}` has another meaning")) } else { Ok(()) }
}

/// A credential's value, if it can be one that goes to these places.
///
/// # Errors
/// Why it is none, without a character of it.
pub(crate) fn value(text: SecretText, places: &[Place]) -> Result<Zeroizing<String>, Problem> {
    let text = text.into_inner();
    let value = Zeroizing::new(text.trim().to_owned());
    let wrong = |detail: &str| Err(Problem::invalid("value", detail));
    if value.is_empty() {
        return wrong("it is empty");
    }
    if value.len() < VALUE_MIN {
        return wrong("it is shorter than 8 characters, which is no secret");
    }
    if value.len() > VALUE_MAX {
        return wrong("it is longer than 16 KiB");
    }
    if value.contains("byph_") || value.contains("byph0") {
        return wrong("it is a placeholder, and no credential");
    }
    let in_header = |place: &Place| matches!(place, Place::Header { .. });
    let is_graphic = value.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if places.iter().any(in_header) && !is_graphic {
        return wrong("it has several lines, or a character that no header can carry");
    }
    // What goes into no request may be a key in PEM form.
    if !places.is_empty() && value.chars().any(char::is_control) {
        return wrong("it has several lines, or a control character");
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: &str) -> NewConnection {
        NewConnection {
            name: None,
            kind: kind.to_owned(),
            value: SecretText::new(String::new()),
            binding: ConnectionBinding::default(),
            user: None,
            scope: boatyard_api::connection::ConnectionScope::Organization,
            provider: None,
            expires: None,
        }
    }

    fn outcome(new: &NewConnection) -> Result<ConnectionBinding, Problem> {
        let kind = wanted_kind(&new.kind)?;
        let binding = binding(new, kind)?;
        compile("x", &binding)?;
        Ok(binding)
    }

    #[test]
    fn kinds_know_their_own_and_what_is_said_counts_more() {
        let github = outcome(&new("github")).unwrap();
        assert_eq!(github.hosts, ["api.github.com", "uploads.github.com"]);
        let mut own = new("gitlab");
        own.binding.hosts = vec!["git.example.com".to_owned()];
        own.binding.variables = vec!["TOKEN".to_owned()];
        let own = outcome(&own).unwrap();
        assert_eq!(own.hosts, ["git.example.com"]);
        assert!(own.paths.is_empty() && own.variables == ["TOKEN"]);
        let mut docker = new("docker");
        assert!(outcome(&docker).unwrap_err().detail.contains("user name"));
        docker.user = Some("me".to_owned());
        assert_eq!(outcome(&docker).unwrap().places, ["basic:me"]);
    }

    #[test]
    fn what_is_bound_to_nothing_or_to_everything_is_refused_at_its_field() {
        let check = |change: &dyn Fn(&mut NewConnection), field: &str, says: &str| {
            let mut wanted = new("generic");
            wanted.binding.hosts = vec!["api.example.com".to_owned()];
            wanted.binding.places = vec!["bearer".to_owned()];
            change(&mut wanted);
            let problem = outcome(&wanted).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field), "{problem}");
            assert!(problem.detail.contains(says), "{problem}");
        };
        let host = |new: &mut NewConnection, host: &str| new.binding.hosts = vec![host.to_owned()];
        check(&|new| new.binding.hosts.clear(), "binding.hosts", "goes nowhere");
        check(&|new| new.binding.places.clear(), "binding.places", "no place");
        check(&|new| host(new, "*"), "binding.hosts[0]", "every host");
        check(&|new| host(new, "*.com"), "binding.hosts[0]", "top-level");
        check(&|new| host(new, "10.0.0.0/8"), "binding.hosts[0]", "range");
        check(&|new| host(new, "a b"), "binding.hosts[0]", "not a host");
        check(&|new| new.binding.methods = vec!["get".into()], "binding.methods[0]", "`get`");
        check(&|new| new.binding.paths = vec!["x".into()], "binding.paths[0]", "not a path");
        check(&|new| new.binding.places = vec!["cookie".into()], "binding.places[0]", "`cookie`");
        check(
            &|new| new.binding.variables = vec!["PATH".into()],
            "binding.variables[0]",
            "meaning",
        );
        check(&|new| new.binding.variables = vec!["a-b".into()], "binding.variables[0]", "capital");
        check(&|new| new.kind = "gihub".into(), "kind", "gihub");
        check(&|new| new.user = Some("me".into()), "user", "basic");
        let all: PortRange = serde_json::from_str("\"1-65535\"").unwrap();
        check(&|new| new.binding.ports = vec![all], "binding.ports", "every port");
        check(
            &|new| {
                new.binding.always = true;
                new.binding.places = vec!["body".into()];
            },
            "binding.always",
            "header",
        );
        check(&|new| new.binding.hosts = vec!["a.b".into(); 51], "binding.hosts", "too many");
    }

    #[test]
    fn a_value_is_refused_without_being_repeated() {
        let check = |text: &str, place: &str, says: &str| {
            let got = value(SecretText::new(text.to_owned()), &[place.parse().unwrap()]);
            match got {
                Ok(got) => assert_eq!(*got, says),
                Err(problem) => {
                    assert!(problem.detail.contains(says), "{problem}");
                    assert!(!format!("{problem:?}").contains("hidden"));
                }
            }
        };
        check(" hidden-token\n", "bearer", "hidden-token");
        check(" \n", "bearer", "empty");
        check("hidden", "bearer", "shorter");
        check("hidden\nhidden", "bearer", "several lines");
        check("hidden-ä-hidden", "bearer", "no header");
        check("hidden-ä-hidden", "basic", "hidden-ä-hidden");
        check("hidden\nhidden", "body", "several lines");
        check("byph_hidden", "body", "placeholder");
        check(&"hidden".repeat(10_000), "body", "longer");
    }

    #[test]
    fn a_name_is_one() {
        let named = |text: &str| name(&NewConnection { name: Some(text.into()), ..new("npm") });
        assert_eq!(named("my.token-1").unwrap(), "my.token-1");
        assert_eq!(name(&new("npm")).unwrap(), "npm");
        for bad in ["", "a b", "-x", "con_x", &"x".repeat(61)] {
            assert_eq!(named(bad).unwrap_err().field.as_deref(), Some("name"));
        }
    }
}
