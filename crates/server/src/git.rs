//! What workspaces do with git: who may, and with what.
//!
//! ```text
//!  egress::git ─ a wish ─► desk ─► the workspace's policy, people where it says to ask
//!                           └────► credentials: the repository's connection ─► a fresh token
//!  mirrors ────────────────────────────┘
//! ```
//!
//! - `desk`: may a workspace fetch from here, push to there?
//! - [`credentials`]: the token for a repository, made anew where its connection makes tokens.
//! - `tokens`: those that were made, kept until shortly before their end.
//! - [`signing`]: the key that commits are signed with.
//! - `told`: what people are told when a token is not taken.
//!
//! A workspace's own repository is the one that it was made for: it may be fetched from and pushed
//! to unless a rule forbids it. Everything else is a matter of rules, and never pushed to.

use std::sync::Arc;

use boatyard_egress::{
    LogSink, Outgoing,
    git::{BranchPattern, GitGateway, Settings as GatewaySettings},
    https::Https,
    policy::Asker,
    resolve::System,
};
use boatyard_store::Store;

use crate::{
    policies::Policies, rates::Limit, settings::Settings, unrecorded::Unrecorded, vault::Vault,
};

pub mod credentials;
mod desk;
pub mod place;
pub mod signing;
mod tokens;
mod told;

pub use credentials::{Credentials, Opened, Wallet};
pub use signing::Signing;

/// What the git gateway and the mirrors share. A cheap clone.
#[derive(Debug, Clone)]
pub struct Git {
    /// What serves workspaces.
    pub gateway: GitGateway,
    /// What repositories are reached with.
    pub credentials: Credentials,
    /// What commits are signed with.
    pub signing: Signing,
}

/// What it is made of.
pub struct Parts {
    /// All that is remembered.
    pub store: Store,
    /// How the server was set up.
    pub settings: Arc<Settings>,
    /// What workspaces' traffic is judged by.
    pub policies: Policies,
    /// Who asks people.
    pub asker: Arc<dyn Asker>,
    /// Where requests are recorded.
    pub log: Arc<dyn LogSink>,
    /// How the server's own traffic goes out.
    pub outgoing: Outgoing,
    /// Who has the connections.
    pub wallet: Arc<dyn Wallet>,
    /// What seals the key that commits are signed with.
    pub vault: Vault,
    /// Whose those workspaces are that no table knows.
    pub(crate) unrecorded: Unrecorded,
    /// How often the workspaces of one member may ask.
    pub(crate) rate: Arc<Limit>,
}

impl Git {
    /// Puts the parts together.
    ///
    /// # Errors
    /// When a setting makes no sense.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let Parts {
            store,
            settings,
            policies,
            asker,
            log,
            outgoing,
            wallet,
            vault,
            unrecorded,
            rate,
        } = parts;
        let authorities = match &settings.egress.ca_file {
            Some(file) => std::fs::read(file)
                .with_context(|| format!("[egress] ca_file: {} can't be read", file.display()))?,
            None => Vec::new(),
        };
        let mut branches = vec![BranchPattern::own()];
        for text in &settings.git.branches {
            branches.push(BranchPattern::parse(text).with_context(|| {
                format!(
                    "[git] branches: `{text}` is no branch; write a name, or the beginning of names \
                     with `*` at its end, as `release/*`"
                )
            })?);
        }
        let https = Https::new(outgoing, &authorities, Arc::new(System))?;
        let credentials =
            Credentials::new(store.clone(), Arc::clone(&settings), https.clone(), wallet)?;
        let signing = Signing::new(store.clone(), Arc::clone(&settings), vault);
        let desk = desk::Desk::new(desk::Parts {
            store,
            policies,
            asker,
            credentials: credentials.clone(),
            signing: signing.clone(),
            branches,
            unrecorded,
            rate,
        });
        let gateway = GitGateway::new(https, Arc::new(desk), log, GatewaySettings::default());
        Ok(Self { gateway, credentials, signing })
    }
}
