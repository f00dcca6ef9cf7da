//! What each workspace's traffic is judged by.
//!
//! [`Policies::watch`] gives a workspace's [`Policy`] as it is now and as it changes.

use std::sync::Arc;

use boatyard_egress::{Policy, Rule, RuleSet, rules::Ports};
use boatyard_model::WorkspaceId;
use tokio::sync::watch;

use crate::settings::Settings;

/// What the preset `packages` stands for: every kind of package source.
const PACKAGES: &[&str] = &["npm", "pypi", "crates", "go", "maven", "rubygems", "debian"];

/// The policies of all workspaces. A cheap clone.
#[derive(Debug, Clone)]
pub struct Policies(Arc<watch::Sender<Arc<Policy>>>);

impl Policies {
    /// Those that the settings describe.
    ///
    /// # Errors
    /// When `[egress]` makes no sense.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let (policy, _) = watch::channel(Arc::new(Policy::from(rules(settings, Vec::new())?)));
        Ok(Self(Arc::new(policy)))
    }

    /// The policy of a workspace, now and as it changes.
    pub fn watch(&self, _workspace: WorkspaceId) -> watch::Receiver<Arc<Policy>> {
        self.0.subscribe()
    }
}

/// The rules of the settings, behind these.
///
/// # Errors
/// When `[egress]` makes no sense.
pub(crate) fn rules(settings: &Settings, mut allow: Vec<Rule>) -> anyhow::Result<RuleSet> {
    for text in &settings.egress.allow {
        allow.push(allowed(text)?);
    }
    let mut presets: Vec<&str> = Vec::new();
    for name in &settings.egress.presets {
        match name.as_str() {
            "packages" => presets.extend(PACKAGES),
            name => presets.push(name),
        }
    }
    Ok(RuleSet::with_presets(&presets, allow)?)
}

/// `host`, `host:port`, `*.host`: ports 80 and 443 where none is given.
fn allowed(text: &str) -> anyhow::Result<Rule> {
    let (host, ports) = match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            let port: u16 = port.parse()?;
            (host, Ports::from([port].as_slice()))
        }
        _ => (text, Ports::from([80, 443].as_slice())),
    };
    Ok(Rule::new(format!("[egress] allow: {text}"), host.parse()?, ports))
}
