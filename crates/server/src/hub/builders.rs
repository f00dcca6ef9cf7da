//! The ways out of throw-away workspaces that install or try an agent.
//!
//! They differ from everybody's: an installation reaches the package sources whatever the rules
//! say, since somebody who may asked for it, and never a model; an agent that is tried reaches the
//! gateway only.

use std::sync::Arc;

use boatyard_egress::{
    Rule, RuleSet,
    rules::{Ports, Preset},
};
use boatyard_model::WorkspaceId;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::{Hub, HubError, ways::Work};

/// Where agents come from.
const SOURCES: [&str; 2] = ["npm", "pypi"];

/// The host and port of a source that the settings name under this key.
fn at(key: &str, address: &str) -> anyhow::Result<Rule> {
    let wrong =
        || anyhow::anyhow!("[egress] {key} in boatyard.toml is no http:// or https:// address");
    let url = url::Url::parse(address).map_err(|_| wrong())?;
    let (Some(host), Some(port), "http" | "https") =
        (url.host_str(), url.port_or_known_default(), url.scheme())
    else {
        return Err(wrong());
    };
    Ok(Rule::new(format!("[egress] {key}"), host.parse()?, Ports::from([port].as_slice())))
}

impl Hub {
    /// What every workspace may reach, and the package sources.
    ///
    /// # Errors
    /// When the settings make no sense.
    pub fn package_rules(&self) -> anyhow::Result<RuleSet> {
        let settings = &self.shared.settings;
        let mut allow = Vec::new();
        for source in SOURCES {
            allow.extend(Preset::rules(source)?);
        }
        let egress = &settings.egress;
        let own = [("npm_registry", &egress.npm_registry), ("pypi_index", &egress.pypi_index)];
        for (key, address) in own {
            if let Some(address) = address {
                allow.push(at(key, address)?);
            }
        }
        super::rules_with(settings, allow)
    }

    /// Serves the way out of a throw-away workspace by rules of its own, until the guard is dropped.
    ///
    /// # Errors
    /// When it doesn't run.
    pub async fn serve_builder_by(
        &self,
        workspace: WorkspaceId,
        rules: watch::Receiver<Arc<RuleSet>>,
    ) -> Result<DropGuard, HubError> {
        self.serve_one(workspace, Work::Egress(rules)).await
    }

    /// Serves the gateway to models in a throw-away workspace, until the guard is dropped.
    ///
    /// # Errors
    /// When it doesn't run.
    pub async fn serve_builder_gateway(
        &self,
        workspace: WorkspaceId,
    ) -> Result<DropGuard, HubError> {
        self.serve_one(workspace, Work::Gateway).await
    }
}
