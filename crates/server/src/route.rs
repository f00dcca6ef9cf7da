//! The way from an agent to its model.
//!
//! An agent's entry names its provider; inside a workspace that is an address of the gateway
//! (`http://127.0.0.1:7080/s/<session>/<provider>`). The model [`DEMO_MODEL`] leads to the scripted provider
//! that speaks the same protocol, which needs no key.

use boatyard_agent::catalogue::{Entry, Facts};
use boatyard_model::{SessionId, name::AgentName};
use boatyard_store::Owner;

use crate::{
    app::App,
    providers::{DEMO_MODEL, GATEWAY, demo_of},
};

/// Where an agent finds its models, and which it is to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The base address of its provider; none for an agent without one.
    pub base: Option<String>,
    /// The model by the name that the agent is told; none for its own choice.
    pub model: Option<String>,
    /// Those that its provider is said to have.
    pub models: Vec<String>,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum NoRoute {
    /// The scripted provider is wanted for an agent that has no provider.
    #[error(
        "it uses no model that Boatyard knows of, so there is none that `{DEMO_MODEL}` could stand for"
    )]
    NoProvider,
    /// Its provider is not described.
    #[error("{reason}; {mend}")]
    Unknown {
        /// Why.
        reason: String,
        /// What mends it.
        mend: String,
    },
}

impl Route {
    /// The same for one session: its own address, so that what it uses is known as its own.
    #[must_use]
    pub fn of_session(self, session: SessionId) -> Self {
        let base = self.base.as_deref().and_then(|base| base.strip_prefix(GATEWAY));
        let base = base.map(|rest| format!("{GATEWAY}/s/{session}{rest}"));
        Self { base: base.or(self.base), ..self }
    }

    /// The way of the agent with this entry to the model that was chosen, if one was.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(app: &App, entry: &Entry, chosen: Option<&str>) -> Result<Self, NoRoute> {
        let is_demo = chosen.or(entry.model.as_deref()) == Some(DEMO_MODEL);
        let Some(name) = entry.provider.as_deref() else {
            return match is_demo {
                true => Err(NoRoute::NoProvider),
                false => {
                    Ok(Self { base: None, model: chosen.map(str::to_owned), models: Vec::new() })
                }
            };
        };
        let Some(provider) = app.hub.gateway().provider(name) else {
            let (reason, mend) = app.no_key(name);
            return Err(NoRoute::Unknown { reason, mend });
        };
        if is_demo {
            let base = format!("{GATEWAY}/{}", demo_of(provider.api()));
            let own = entry.model.clone().filter(|model| model != DEMO_MODEL);
            let model = entry.demo_model.clone().or(own);
            return Ok(Self { base: Some(base), model, models: Vec::new() });
        }
        let described = app.settings.providers.get(name);
        let models = described.map(|one| one.models.clone()).unwrap_or_default();
        let base = Some(format!("{GATEWAY}/{name}"));
        Ok(Self { base, model: chosen.map(str::to_owned), models })
    }
}

/// What is known of this installation for an agent that is to use a model.
pub(crate) struct ForModel<'a> {
    app: &'a App,
    chosen: Option<&'a str>,
    /// Who would pay, if they have a key of their own.
    payer: Option<Owner>,
}

impl<'a> ForModel<'a> {
    /// For the model that was chosen, if one was.
    pub(crate) const fn new(app: &'a App, chosen: Option<&'a str>) -> Self {
        Self { app, chosen, payer: None }
    }

    /// The same for somebody who may pay by a key of their own.
    #[must_use]
    pub(crate) const fn paid_by(self, payer: Owner) -> Self {
        Self { payer: Some(payer), ..self }
    }

    /// Whether that is the scripted one.
    pub(crate) fn is_demo(&self) -> bool {
        self.chosen == Some(DEMO_MODEL)
    }
}

impl Facts for ForModel<'_> {
    fn installed(&self, name: &AgentName, entry: &Entry) -> bool {
        self.app.installed(name, entry)
    }

    fn has_program(&self, program: &str) -> bool {
        self.app.has_program(program)
    }

    fn has_key(&self, provider: &str) -> bool {
        match self.is_demo() {
            true => self.app.hub.gateway().provider(provider).is_some(),
            false => {
                let own = |payer| self.app.connections.own_for(payer, provider).is_some();
                self.app.has_key(provider) || self.payer.is_some_and(own)
            }
        }
    }

    fn no_key(&self, provider: &str) -> (String, String) {
        self.app.no_key(provider)
    }
}
