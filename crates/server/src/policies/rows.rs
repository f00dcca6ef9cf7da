//! Rules as they are stored, and what they mean here.
//!
//! A rule that this release can't read was written by a newer one. It is taken in the way that lets
//! nothing out: as one that forbids what it is about, and where not even that can be read, what it
//! may be about.

use boatyard_egress::{
    Rule,
    rules::{Action, HostPattern, Ports},
};
use boatyard_model::{PortRange, RuleSpec};
use boatyard_store::RuleRow;

/// What a stored rule means.
#[derive(Debug, Clone)]
pub struct Made {
    /// What it says, where it can be read.
    pub spec: Option<RuleSpec>,
    /// Its rules; several for a preset.
    pub rules: Vec<Rule>,
    /// Why it is not taken as it was meant.
    pub odd: Option<String>,
}

impl Made {
    /// Reads a row.
    pub fn of(row: &RuleRow) -> Self {
        let name = row.id.to_string();
        let read: Result<(RuleSpec, Vec<Rule>), String> = serde_json::from_str(&row.rule)
            .map_err(|error| error.to_string())
            .and_then(|spec: RuleSpec| {
                let rules = Rule::from_spec(&name, &spec).map_err(|fault| fault.to_string())?;
                Ok((spec, rules))
            });
        match read {
            Ok((spec, rules)) => Self { spec: Some(spec), rules, odd: None },
            Err(why) => {
                let (rules, what) = forbidding(&name, &row.rule);
                let odd = format!(
                    "rule {name} can't be read by this release ({why}) and is taken as one that \
                     {what}: use a newer release, or remove it with `boatyard egress remove {name}`"
                );
                Self { spec: None, rules, odd: Some(odd) }
            }
        }
    }
}

/// What is made of a rule that can't be read, and that in words.
fn forbidding(name: &str, json: &str) -> (Vec<Rule>, String) {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    let field = |key: &str| value.get(key).and_then(serde_json::Value::as_str);
    let all = || Ports::from([PortRange::ALL].as_slice());
    let deny = |host: HostPattern| Rule { action: Action::Deny, ..Rule::new(name, host, all()) };
    if let Some(Ok(host)) = field("host").map(str::parse::<HostPattern>) {
        let what = format!("forbids {host}");
        return (vec![deny(host)], what);
    }
    if let Some(preset) = field("preset") {
        let spec = RuleSpec::preset(preset).with_action(Action::Deny);
        if let Ok(rules) = Rule::from_spec(name, &spec) {
            return (rules, format!("forbids the preset {preset}"));
        }
    }
    // What was to open something opens nothing; what was not may have been to close anything.
    if matches!(field("action"), Some("allow" | "ask"))
        || value.is_object() && field("action").is_none()
    {
        return (Vec::new(), "allows nothing".to_owned());
    }
    let everything = ["*", "0.0.0.0/0", "::/0"];
    let rules = everything.iter().filter_map(|host| host.parse().ok()).map(deny).collect();
    (rules, "forbids everything".to_owned())
}
