//! What an operator may decide, and where each value came from.
//!
//! Settings come from four places, a later one winning over an earlier one:
//!
//! ```text
//! defaults ─► boatyard.toml ─► BOATYARD_* variables ─► flags
//! ```
//!
//! Each section is declared once, in a file of its own, with the `section!` macro: the struct, its
//! defaults, what `boatyard.toml` shows and `docs/configuration.md` say all come from that one
//! declaration, and so does the list of keys against which a file is checked. An unknown key is
//! refused with its line and the nearest known one.
//!
//! - [`Settings`]: the outcome, one field per section.
//! - [`Sources`] → [`Sources::resolve`] → [`Resolved`]: the outcome with the origin of each value.
//! - [`document`]: the annotated `boatyard.toml` and the page of documentation.
//! - [`value`]: the types of values: sizes, spans of time, secrets.

use std::collections::BTreeMap;

use boatyard_model::{Autonomy, name::AgentName};

pub mod agents;
pub mod author;
pub mod document;
pub mod egress;
pub mod git;
pub mod limits;
pub mod log;
pub mod mail;
pub mod providers;
pub mod rates;
pub mod repositories;
pub mod resolve;
pub mod retention;
pub mod server;
pub mod sign_in;
pub mod sign_in_providers;
pub mod table;
pub mod tls;
pub mod tools;
pub mod value;
pub mod vault;

pub use author::Author;
pub use egress::Egress;
pub use git::Git;
pub use limits::Limits;
pub use log::{Level, Log, LogFormat, LogTarget};
pub use mail::Mail;
pub use providers::Provider;
pub use rates::Rates;
pub use repositories::Repositories;
pub use resolve::{Error, Origin, Resolved, Sources};
pub use retention::Retention;
pub use server::Server;
pub use sign_in::SignIn;
pub use sign_in_providers::SignInProvider;
pub use tls::Tls;
pub use tools::Tools;
pub use value::{ByteSize, Secret, Span};
pub use vault::Vault;

use self::table::{Key, Layers, Section};

/// Every decision of the operator.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings {
    /// What stands above the first section.
    pub general: General,
    /// `[server]`
    pub server: Server,
    /// `[sign_in]`
    pub sign_in: SignIn,
    /// `[tls]`
    pub tls: Tls,
    /// `[mail]`
    pub mail: Mail,
    /// `[rates]`
    pub rates: Rates,
    /// `[log]`
    pub log: Log,
    /// `[repositories]`
    pub repositories: Repositories,
    /// `[tools]`
    pub tools: Tools,
    /// `[limits]`
    pub limits: Limits,
    /// `[egress]`
    pub egress: Egress,
    /// `[git]`
    pub git: Git,
    /// `[vault]`
    pub vault: Vault,
    /// `[retention]`
    pub retention: Retention,
    /// `[author]`
    pub author: Author,
    /// `[providers.NAME]`, by name.
    pub providers: BTreeMap<String, Provider>,
    /// `[sign_in.providers.NAME]`, by name.
    pub sign_in_providers: BTreeMap<String, SignInProvider>,
    /// `[agents.NAME]`, as the catalogue of agents takes it: a table for each name.
    pub agents: toml::Table,
}

table::section! {
    /// What stands above the first section.
    General = "" {
        /// The agent of a task that names none. Where this is not set, Boatyard takes the first
        /// agent that is ready, and `demo` where none is.
        default_agent: Option<AgentName> = None, example "\"demo\"";
        /// How much an agent may do without asking a person: `ask` (it asks for everything),
        /// `ask_changes` (for what changes something), or `free` (nothing: its workspace is the
        /// boundary). Each agent is put into the mode of its own that comes nearest, and what it
        /// asks all the same is answered so. An agent or a task may have another.
        autonomy: Autonomy = Autonomy::Free;
    }
}

/// A section of the file, for checks and documents.
#[derive(Debug, Clone, Copy)]
pub struct SectionInfo {
    /// Its name; empty for what stands above the first one.
    pub path: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
    /// The defaults, as `(key, value)`; none for a key without a default.
    pub defaults: fn() -> Vec<(&'static str, Option<toml::Value>)>,
}

const fn info<S: Section>() -> SectionInfo {
    SectionInfo {
        path: S::PATH,
        doc: S::DOC,
        keys: S::KEYS,
        defaults: || S::default().show(table::Secrets::Hidden),
    }
}

/// Every section, in the order of the file. The last ones stand for each `[providers.NAME]` and
/// each `[agents.NAME]`.
pub const SECTIONS: &[SectionInfo] = &[
    info::<General>(),
    info::<Server>(),
    info::<Tls>(),
    info::<Mail>(),
    info::<SignIn>(),
    info::<SignInProvider>(),
    info::<Rates>(),
    info::<Log>(),
    info::<Repositories>(),
    info::<Tools>(),
    info::<Limits>(),
    info::<Egress>(),
    info::<Git>(),
    info::<Vault>(),
    info::<Retention>(),
    info::<Author>(),
    info::<Provider>(),
    agents::INFO,
];

/// What `[agents.NAME]` is called in [`SECTIONS`].
const AGENTS: &str = "agents.NAME";

/// What stands for a name in a section of which there may be many.
const NAME: &str = ".NAME";

/// The sections of which there may be many: what they begin with.
fn named() -> impl Iterator<Item = (&'static str, &'static str)> {
    let paths = SECTIONS.iter().map(|section| section.path);
    paths.filter_map(|path| Some((path.strip_suffix(NAME)?, path)))
}

impl Settings {
    fn read(layers: &Layers) -> Result<Self, Error> {
        let mut agents = toml::Table::new();
        for name in layers.names_below("agents.") {
            let agent = layers.table(&format!("agents.{name}."));
            // One at a time, so that an error can name its place.
            let alone = toml::Table::from_iter([(name.to_owned(), agent.clone().into())]);
            boatyard_agent::Catalogue::with_settings(&alone)
                .map_err(|error| layers.error_in(&format!("agents.{name}."), error.to_string()))?;
            agents.insert(name.to_owned(), agent.into());
        }
        let mut providers = BTreeMap::new();
        for name in layers.names_below("providers.") {
            let path = format!("providers.{name}");
            let provider = Provider::read(layers, &path)?;
            let below = format!("{path}.");
            provider.place(name).map_err(|reason| layers.error_in(&below, reason))?;
            providers.insert(name.to_owned(), provider);
        }
        providers::check_fallbacks(&providers)
            .map_err(|(name, reason)| layers.error_in(&format!("providers.{name}."), reason))?;
        let sign_in = SignIn::read(layers, "sign_in")?;
        sign_in
            .check()
            .map_err(|(key, reason)| layers.error_in(&format!("sign_in.{key}"), reason))?;
        let mut sign_in_providers = BTreeMap::new();
        for name in layers.names_below("sign_in.providers.") {
            let path = format!("sign_in.providers.{name}");
            let provider = SignInProvider::read(layers, &path)?;
            let below = format!("{path}.");
            provider.check(name).map_err(|reason| layers.error_in(&below, reason))?;
            sign_in_providers.insert(name.to_owned(), provider);
        }
        let server = Server::read(layers, "server")?;
        server
            .check()
            .map_err(|(key, reason)| layers.error_in(&format!("server.{key}"), reason))?;
        let tls = Tls::read(layers, "tls")?;
        tls.check(&server)
            .map_err(|(key, reason)| layers.error_in(&format!("tls.{key}"), reason))?;
        let mail = Mail::read(layers, "mail")?;
        mail.check().map_err(|(key, reason)| layers.error_in(&format!("mail.{key}"), reason))?;
        let limits = Limits::read(layers, "limits")?;
        limits
            .check()
            .map_err(|(key, reason)| layers.error_in(&format!("limits.{key}"), reason))?;
        Ok(Self {
            general: General::read(layers, "")?,
            server,
            tls,
            mail,
            sign_in,
            sign_in_providers,
            rates: Rates::read(layers, "rates")?,
            log: Log::read(layers, "log")?,
            repositories: Repositories::read(layers, "repositories")?,
            tools: Tools::read(layers, "tools")?,
            limits,
            egress: Egress::read(layers, "egress")?,
            git: Git::read(layers, "git")?,
            vault: Vault::read(layers, "vault")?,
            retention: Retention::read(layers, "retention")?,
            author: Author::read(layers, "author")?,
            providers,
            agents,
        })
    }

    /// Every value by its dotted name, secrets hidden; none where a key has no value.
    pub fn show(&self) -> Vec<(String, Option<toml::Value>)> {
        fn add<S: Section>(out: &mut Vec<(String, Option<toml::Value>)>, path: &str, section: &S) {
            let dotted = |key: &str| {
                if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
            };
            let values = section.show(table::Secrets::Hidden);
            out.extend(values.into_iter().map(|(key, value)| (dotted(key), value)));
        }
        let mut out = Vec::new();
        add(&mut out, "", &self.general);
        add(&mut out, "server", &self.server);
        add(&mut out, "tls", &self.tls);
        add(&mut out, "mail", &self.mail);
        add(&mut out, "sign_in", &self.sign_in);
        for (name, provider) in &self.sign_in_providers {
            add(&mut out, &format!("sign_in.providers.{name}"), provider);
        }
        add(&mut out, "rates", &self.rates);
        add(&mut out, "log", &self.log);
        add(&mut out, "repositories", &self.repositories);
        add(&mut out, "tools", &self.tools);
        add(&mut out, "limits", &self.limits);
        add(&mut out, "egress", &self.egress);
        add(&mut out, "git", &self.git);
        add(&mut out, "vault", &self.vault);
        add(&mut out, "retention", &self.retention);
        add(&mut out, "author", &self.author);
        for name in crate::providers::names(self) {
            let path = format!("providers.{name}");
            if let Some(provider) = self.providers.get(name) {
                add(&mut out, &path, provider);
            }
            // Not a setting, and not known here; where it comes from is (`Resolved::values`).
            out.push((format!("{path}.{}", resolve::KEY), None));
        }
        for (name, agent) in &self.agents {
            let keys = agent.as_table().into_iter().flatten();
            out.extend(
                keys.map(|(key, value)| (format!("agents.{name}.{key}"), Some(value.clone()))),
            );
        }
        out
    }
}
