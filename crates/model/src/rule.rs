//! Rules of egress as people write them and as they are kept: plain values. What they mean is in
//! the crate `egress`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a rule says of the requests that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleAction {
    /// They may pass.
    #[default]
    Allow,
    /// A person is asked.
    Ask,
    /// They may not, whatever else is allowed.
    Deny,
}

/// What a request is for, where that takes more than a method and a path to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RulePurpose {
    /// Reading a git repository over HTTP.
    GitFetch,
    /// Writing to one.
    GitPush,
}

/// What becomes of requests that no rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EgressMode {
    /// They are refused.
    Enforce,
    /// They pass and are recorded, so that rules can be proposed.
    Learn,
}

/// How far a rule or a setting of egress holds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RuleScope {
    /// For everything.
    Organization,
    /// For every workspace of one repository.
    Repository,
    /// For one workspace.
    Workspace,
}

macro_rules! words {
    ($($name:ident { $($variant:ident = $text:literal,)* })*) => {$(
        impl $name {
            /// The text used in JSON, in the database and by people.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)*
                    _ => {
                        let text: String = text.chars().take(40).collect();
                        Err(format!("`{text}` is none of {}", [$($text),*].join(", ")))
                    }
                }
            }
        }
    )*};
}

words! {
    RuleAction { Allow = "allow", Ask = "ask", Deny = "deny", }
    RulePurpose { GitFetch = "git-fetch", GitPush = "git-push", }
    EgressMode { Enforce = "enforce", Learn = "learn", }
    RuleScope { Organization = "organization", Repository = "repository", Workspace = "workspace", }
}

/// A port, or a range of them: in JSON a number, or a text as `8000-8100`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "PortForm", into = "PortForm")]
pub struct PortRange {
    first: u16,
    last: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PortForm {
    One(u16),
    Text(String),
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 1, last: u16::MAX };

    /// Whether a port is in it.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether every port of the other is in it.
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Whether some port is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The lowest one.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// How many ports it has.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl TryFrom<PortForm> for PortRange {
    type Error = String;

    fn try_from(form: PortForm) -> Result<Self, String> {
        match form {
            PortForm::One(0) => Err("0 is no port".to_owned()),
            PortForm::One(port) => Ok(port.into()),
            PortForm::Text(text) => text.parse(),
        }
    }
}

impl From<PortRange> for PortForm {
    fn from(range: PortRange) -> Self {
        if range.first == range.last {
            Self::One(range.first)
        } else {
            Self::Text(range.to_string())
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let text: String = text.chars().take(20).collect();
            format!("`{text}` is no port (1 to 65535), and no range as 8000-8100")
        };
        // `u16` takes a plus sign, people don't.
        let port = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
            true => text.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong),
            false => Err(wrong()),
        };
        if text == "*" {
            return Ok(Self::ALL);
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first <= last { Ok(Self { first, last }) } else { Err(wrong()) }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("*"),
            Self { first, last } if first == last => first.fmt(f),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl utoipa::PartialSchema for PortRange {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Integer, Type::String]))
            .description(Some("A port, or a text as `8000-8100` or `*`."))
            .examples([serde_json::json!(443), serde_json::json!("8000-8100")])
            .into()
    }
}

impl ToSchema for PortRange {}

/// A rule: a preset, or a host with what is wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuleSpec {
    /// What it says.
    pub action: RuleAction,
    /// A set of hosts that Boatyard knows, in place of all that follows but the note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// `example.com`, `*.example.com` (all below it, not itself), `*` (every name), or an address or
    /// a range of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The ports; 443 and 80 if absent, all of them for a rule that denies a whole host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    /// The methods; all if absent. `GET` is `HEAD` as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The paths; all if absent. With `*` at its end, all that begin so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// What it is for, in place of methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purpose: Option<RulePurpose>,
    /// What people wrote about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl RuleSpec {
    /// A rule for a preset.
    pub fn preset(name: impl Into<String>) -> Self {
        Self { preset: Some(name.into()), ..Self::default() }
    }

    /// A rule for a host.
    pub fn host(host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..Self::default() }
    }

    /// The same with another action.
    #[must_use]
    pub fn with_action(self, action: RuleAction) -> Self {
        Self { action, ..self }
    }
}

/// The rule in a line, without its action and note: as it can be written again, where it has no more
/// than one path.
impl fmt::Display for RuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(preset) = &self.preset {
            return f.write_str(preset);
        }
        if let Some(purpose) = self.purpose {
            write!(f, "{purpose} ")?;
        } else if !self.methods.is_empty() {
            write!(f, "{} ", self.methods.join(","))?;
        }
        let host = self.host.as_deref().unwrap_or_default();
        let (https, http) = (PortRange::from(443), PortRange::from(80));
        match &self.ports[..] {
            [] => f.write_str(host)?,
            [one] if *one == https => write!(f, "https://{host}")?,
            [one] if *one == http => write!(f, "http://{host}")?,
            ports => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                // An IPv6 address needs brackets to be told from its port.
                match host.contains(':') && !host.starts_with('[') {
                    true => write!(f, "[{host}]:{}", ports.join(","))?,
                    false => write!(f, "{host}:{}", ports.join(","))?,
                }
            }
        }
        f.write_str(&self.paths.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_has_two_forms() {
        let ports: Vec<PortRange> = serde_json::from_str(r#"[443, "8000-8100", "*"]"#).unwrap();
        assert_eq!(serde_json::to_string(&ports).unwrap(), r#"[443,"8000-8100","*"]"#);
        assert!(ports[1].contains(8100) && !ports[1].contains(8101));
        for wrong in
            [r#"[0]"#, r#"["80-"]"#, r#"["90-80"]"#, r#"[65536]"#, r#"["+1"]"#, r#"["0-5"]"#]
        {
            assert!(serde_json::from_str::<Vec<PortRange>>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_is_told_in_a_line() {
        let spec = RuleSpec {
            host: Some("api.example".into()),
            ports: vec![PortRange::from(443)],
            methods: vec!["GET".into(), "POST".into()],
            paths: vec!["/v1/*".into()],
            ..RuleSpec::default()
        };
        assert_eq!(spec.to_string(), "GET,POST https://api.example/v1/*");
        assert_eq!(RuleSpec::preset("npm").to_string(), "npm");
        let push = RuleSpec { purpose: Some(RulePurpose::GitPush), ..RuleSpec::host("h") };
        assert_eq!(push.to_string(), "git-push h");
    }
}
