//! The ways out of throw-away workspaces that install or try an agent.
//!
//! They differ from everybody's: an installation reaches the package sources whatever the rules
//! say, since somebody who may asked for it, and never a model; an agent that is tried reaches the
//! gateway only.
//!
//! A package source may be at an address of a private network: an organization's mirror is often
//! reached by the name of what it mirrors. It is known by that name and, within TLS, by its
//! certificate.

use std::sync::{Arc, Mutex, PoisonError};

use boatyard_egress::{
    Cidr, Guard, LogSink, Outcome, Policy, Proxy, Record, Rule,
    resolve::System,
    rules::{Ports, Preset},
};
use boatyard_model::WorkspaceId;
use tokio::sync::watch;
use tokio_util::sync::DropGuard;

use super::{Hub, HubError, ways::Work};
use crate::traffic::Traffic;

/// Where agents come from.
const SOURCES: [&str; 2] = ["npm", "pypi"];

/// Where mirrors are, beside the public Internet: private networks, a carrier's, what is reserved
/// for documentation and tests. This host itself and metadata services are not among them.
const MIRRORS: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "192.0.2.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fc00::/7",
];

/// How many different refusals of one workspace are kept.
const REFUSALS: usize = 4;

/// What was kept from leaving a throw-away workspace: why an installation failed, perhaps.
#[derive(Debug)]
pub struct Refusals {
    told: Mutex<Vec<String>>,
    /// Where all of it is remembered.
    traffic: Traffic,
}

impl Refusals {
    /// Each once, with its host, in the order of time.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LogSink for Refusals {
    fn record(&self, record: Record) {
        if let Outcome::Denied { reason } | Outcome::Failed { reason } = &record.outcome {
            let text = format!("{}:{}: {reason}", record.host, record.port);
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() < REFUSALS && !told.contains(&text) {
                tracing::info!(workspace.id = %record.workspace, "a request did not pass: {text}");
                told.push(text);
            }
        }
        self.traffic.record(record);
    }
}

/// How installations reach the package sources: as everybody's requests go, and to mirrors.
pub(super) fn sources(
    egress: &boatyard_egress::Settings,
    mut allowed: Vec<Cidr>,
) -> anyhow::Result<boatyard_egress::Settings> {
    for range in MIRRORS {
        allowed.push(range.parse()?);
    }
    Ok(boatyard_egress::Settings { guard: Guard::new(allowed), ..egress.clone() })
}

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
    pub fn package_policy(&self) -> anyhow::Result<Policy> {
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
        Ok(crate::policies::rules(settings, allow)?.into())
    }

    /// Serves the way out of a throw-away workspace by a policy of its own, until the guard is
    /// dropped; and what did not pass.
    ///
    /// # Errors
    /// When it doesn't run.
    pub async fn serve_builder_by(
        &self,
        workspace: WorkspaceId,
        policy: watch::Receiver<Arc<Policy>>,
    ) -> Result<(DropGuard, Arc<Refusals>), HubError> {
        let traffic = self.shared.traffic.clone();
        let refusals = Arc::new(Refusals { told: Mutex::default(), traffic });
        let log = Arc::clone(&refusals);
        let proxy = Proxy::new(self.shared.sources.clone(), Arc::new(System), log);
        let works = [Work::Egress(proxy.clone(), policy.clone()), Work::Captured(proxy, policy)];
        let guard = self.serve_some(workspace, works).await?;
        Ok((guard, refusals))
    }

    /// Serves the gateway to the scripted providers in a throw-away workspace, until the guard is
    /// dropped: an agent that is tried spends nobody's money.
    ///
    /// # Errors
    /// When it doesn't run.
    pub async fn serve_builder_gateway(
        &self,
        workspace: WorkspaceId,
    ) -> Result<DropGuard, HubError> {
        // What it tries beside that is refused at once, and not left waiting.
        let (_, nothing) = watch::channel(Arc::default());
        let proxy = self.shared.proxy.clone();
        let works = [
            Work::Gateway(self.shared.keyless.clone()),
            Work::Egress(proxy.clone(), nothing.clone()),
            Work::Captured(proxy, nothing),
        ];
        self.serve_some(workspace, works).await
    }
}
