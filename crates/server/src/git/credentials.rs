//! What repositories are reached with.
//!
//! A repository's connection is the nearest of those that were bound to a place ([`Place`]); where
//! none is, the token that the settings have for its host. A connection's value is a token, or it
//! makes tokens: those of a GitHub App are for one repository and one direction and live an hour,
//! those of OAuth come for a refresh token.
//!
//! A token goes with what is a workspace's own, and with other repositories only where their
//! binding says that it is shared: else whoever may fetch somewhere could read all that some token
//! of the organization can.

use std::{
    collections::HashSet,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use boatyard_egress::{
    Cidr, Guard,
    gateway::Secret,
    git::{
        Credential, Direction, Later, Remote,
        token::{OAuth, Source, TokenError},
    },
    https::Https,
};
use boatyard_model::{ConnectionId, Timestamp, name::RepositorySource};
use boatyard_store::{BUILT_IN_ORGANIZATION, GitBindingRow, Owner, Store};

use super::{
    place::{self, Place},
    tokens::{Kept, Tokens, Use},
};
use crate::settings::Settings;

/// The name that goes with a token; most servers take any, and GitHub this.
const USER: &str = "x-access-token";

/// A connection, opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// What people call it.
    pub name: Arc<str>,
    /// Its value.
    pub value: Arc<Secret>,
    /// When it was given; another value has another time.
    pub given: Timestamp,
}

/// Who has the connections.
pub trait Wallet: fmt::Debug + Send + Sync + 'static {
    /// Opens one. The error is a sentence: it was removed, it has ended, the vault is locked.
    fn open(&self, owner: Owner, connection: ConnectionId) -> Later<Result<Opened, String>>;

    /// Keeps the value that takes the place of one, as the service that made it says.
    fn renew(
        &self,
        owner: Owner,
        connection: ConnectionId,
        value: Secret,
    ) -> Later<Result<(), String>>;

    /// Its service does not take it.
    fn refused(&self, connection: ConnectionId);
}

/// Why there is no credential. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoCredential {
    /// The store refused.
    #[error("Boatyard can't look up the connection of {repository} for now. Try again.")]
    Store {
        /// Which repository.
        repository: Place,
        /// Why.
        #[source]
        source: boatyard_store::Error,
    },
    /// The connection can't be opened.
    #[error(
        "The connection of {repository} can't be used: {why}. Connect it anew: `boatyard repository \
         connect {repository} CONNECTION`."
    )]
    Connection {
        /// Which repository.
        repository: Place,
        /// Why.
        why: String,
    },
    /// It makes tokens, and made none.
    #[error(
        "The connection `{name}` gave no token for {repository}: {source}. To mend it, {mend}."
    )]
    Token {
        /// Which connection.
        name: Arc<str>,
        /// Which repository.
        repository: Place,
        /// What to do.
        mend: String,
        /// Why.
        source: TokenError,
    },
}

/// The credentials of repositories. A cheap clone.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    store: Store,
    settings: Arc<Settings>,
    https: Https,
    wallet: Arc<dyn Wallet>,
    tokens: Tokens,
    /// Which hosts of the settings may be anywhere, and which ranges are reached.
    own: Guard,
    others: Guard,
    anywhere: Guard,
    /// Places whose connection was not taken when it was last used.
    problems: Mutex<HashSet<(Owner, String)>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// The credentials that the settings and the store have.
    ///
    /// # Errors
    /// When a range of the settings is none.
    pub fn new(
        store: Store,
        settings: Arc<Settings>,
        https: Https,
        wallet: Arc<dyn Wallet>,
    ) -> Result<Self, boatyard_egress::Error> {
        let ranges = |texts: &[String]| {
            let ranges =
                texts.iter().filter(|text| text.contains('/') || text.parse::<IpAddr>().is_ok());
            ranges.map(|text| text.parse::<Cidr>()).collect::<Result<Vec<_>, _>>()
        };
        let own = Guard::new(ranges(&settings.repositories.allow_private)?);
        let others = Guard::new(ranges(&settings.egress.allow_private)?);
        let anywhere = Guard::new(vec!["0.0.0.0/0".parse()?, "::/0".parse()?]);
        let (tokens, problems) = (Tokens::default(), Mutex::default());
        let shared =
            Shared { store, settings, https, wallet, tokens, own, others, anywhere, problems };
        Ok(Self(Arc::new(shared)))
    }

    /// Which addresses a repository's host may have.
    pub(super) fn guard(&self, remote: &Remote, is_own: bool) -> Guard {
        let host = remote.target.host.to_string();
        let named = &self.0.settings.repositories.allow_private;
        match is_own {
            // A host that the settings name may be anywhere.
            true if named.contains(&host) => self.0.anywhere.clone(),
            true => self.0.own.clone(),
            false => self.0.others.clone(),
        }
    }

    /// The connection that is bound nearest to a repository.
    async fn binding(
        &self,
        owner: Owner,
        place: &Place,
        is_own: bool,
    ) -> Result<Option<GitBindingRow>, NoCredential> {
        let failed = |source| NoCredential::Store { repository: place.clone(), source };
        // A person's own goes before the organization's, and with the workspace's own repository
        // alone.
        if is_own {
            let own = self.0.store.own_git_bindings(owner).await.map_err(failed)?;
            let near =
                own.into_iter().filter_map(|row| Some((Place::fits(&row.place, place)?, row)));
            if let Some((_, row)) = near.max_by_key(|(fit, _)| *fit) {
                return Ok(Some(row));
            }
        }
        let all = self.0.store.git_bindings(owner.organization).await.map_err(failed)?;
        let near = all.into_iter().filter_map(|row| {
            let fit = Place::fits(&row.place, place)?;
            (is_own || row.shared).then_some((fit, row))
        });
        Ok(near.max_by_key(|(fit, _)| *fit).map(|(_, row)| row))
    }

    /// What a repository is reached with; none where nothing is bound to it.
    ///
    /// # Errors
    /// When something is, and can't be used.
    pub async fn find(
        &self,
        owner: Owner,
        remote: &Remote,
        is_own: bool,
        direction: Direction,
    ) -> Result<Option<Credential>, NoCredential> {
        let place = Place::of(remote);
        if let Some(binding) = self.binding(owner, &place, is_own).await? {
            if binding.problem.is_some() {
                self.problems().insert((owner, binding.place.clone()));
            }
            return self.made(owner, &binding, remote, direction).await.map(Some);
        }
        // What the settings name is the server's own organization's, not everybody's.
        let may_have = is_own && owner.organization == BUILT_IN_ORGANIZATION;
        let host = remote.target.host.to_string();
        let token = self.0.settings.repositories.tokens.get(&host).filter(|_| may_have);
        Ok(token.map(|token| {
            let name = format!("[repositories.tokens] {host}");
            let mend = "put a new token there and start the server again";
            let value = Secret::new(token.expose().to_owned());
            Credential::basic(&name, mend, USER, &value)
        }))
    }

    /// The same for a repository as it was registered; none for one that is on no network.
    ///
    /// # Errors
    /// When something is bound to it, and can't be used.
    pub async fn of_source(
        &self,
        owner: Owner,
        source: &RepositorySource,
        direction: Direction,
    ) -> Result<Option<Credential>, NoCredential> {
        match place::remote(source) {
            Some(remote) => self.find(owner, &remote, true, direction).await,
            None => Ok(None),
        }
    }

    async fn made(
        &self,
        owner: Owner,
        binding: &GitBindingRow,
        remote: &Remote,
        direction: Direction,
    ) -> Result<Credential, NoCredential> {
        let repository = Place::of(remote);
        let connection = binding.connection;
        let opened = self.0.wallet.open(owner, connection).await;
        let opened = opened
            .map_err(|why| NoCredential::Connection { repository: repository.clone(), why })?;
        let name = Arc::clone(&opened.name);
        let mend = format!("give it another value by `boatyard connection rotate {name}`");
        let failed = |source| NoCredential::Token {
            name: Arc::clone(&opened.name),
            repository: repository.clone(),
            mend: match &source {
                TokenError::NotInstalled { .. } => "install the app on the repository".to_owned(),
                TokenError::TooMuch { .. } => {
                    "give the app the permission `Contents` in its settings".to_owned()
                }
                _ => mend.clone(),
            },
            source,
        };
        let now = self.0.store.now();
        let credential = |value: &Secret| Credential::basic(&name, &mend, USER, value);
        match Source::parse(&opened.value).map_err(&failed)? {
            Source::Token => Ok(credential(&opened.value)),
            Source::App(app) => {
                let used: Use = (connection, Some((repository.to_string(), direction)));
                let guard = self.guard(remote, true);
                let make = async {
                    let token = app.token(&self.0.https, &guard, remote, direction, now).await?;
                    let credential = credential(&token.value);
                    Ok(Kept { credential, expires: token.expires, made_from: opened.given })
                };
                let token = self.0.tokens.get(used, opened.given, now, make).await;
                token.map_err(|error| self.refused(connection, failed(error)))
            }
            Source::OAuth(oauth) => {
                let make = async {
                    let (kept, given) = self.refresh(owner, connection, &oauth, now).await?;
                    let (token, expires) = kept;
                    let made_from = given.unwrap_or(opened.given);
                    Ok(Kept { credential: credential(&token), expires, made_from })
                };
                let token = self.0.tokens.get((connection, None), opened.given, now, make).await;
                token.map_err(|error| self.refused(connection, failed(error)))
            }
        }
    }

    /// Has a token refreshed, and keeps what refreshes the next one: when that was given, if it is
    /// another.
    async fn refresh(
        &self,
        owner: Owner,
        connection: ConnectionId,
        oauth: &OAuth,
        now: Timestamp,
    ) -> Result<((Secret, Option<Timestamp>), Option<Timestamp>), TokenError> {
        let refreshed = oauth.token(&self.0.https, &self.0.anywhere, now).await?;
        let mut given = None;
        if let Some(next) = &refreshed.next {
            let value = oauth.renewed(next);
            if let Err(why) = self.0.wallet.renew(owner, connection, value).await {
                // The token that is here works; the next one may have to be given by hand.
                tracing::error!(%connection, why, "a refresh token could not be kept");
            }
            given = self.0.wallet.open(owner, connection).await.ok().map(|opened| opened.given);
        }
        Ok(((refreshed.token.value, refreshed.token.expires), given))
    }

    fn refused(&self, connection: ConnectionId, error: NoCredential) -> NoCredential {
        if let NoCredential::Token { source: TokenError::NotTaken { .. }, .. } = &error {
            self.0.wallet.refused(connection);
        }
        error
    }

    /// Forgets tokens that were made for a repository, which were not taken: whether there were
    /// any.
    pub async fn forget(&self, owner: Owner, remote: &Remote, is_own: bool) -> bool {
        match self.binding(owner, &Place::of(remote), is_own).await {
            Ok(Some(binding)) => self.0.tokens.forget(binding.connection),
            _ => false,
        }
    }

    /// Notes that what is bound to a repository is not taken there.
    pub async fn not_taken(&self, owner: Owner, remote: &Remote, is_own: bool) {
        let Ok(Some(binding)) = self.binding(owner, &Place::of(remote), is_own).await else {
            return;
        };
        self.0.wallet.refused(binding.connection);
        self.problems().insert((owner, binding.place.clone()));
        let problem = format!("{} did not take it for {remote}", remote.target.host);
        self.note(owner, binding.place, Some(problem)).await;
    }

    /// Notes that what is bound to a repository is taken there, if that was in doubt.
    pub fn taken(&self, remote: &Remote) {
        let place = Place::of(remote);
        let over: Vec<_> = {
            let mut problems = self.problems();
            let over = |(_, kept): &(Owner, String)| Place::fits(kept, &place).is_some();
            problems.extract_if(over).collect()
        };
        for (owner, place) in over {
            let credentials = self.clone();
            tokio::spawn(async move { credentials.note(owner, place, None).await });
        }
    }

    async fn note(&self, owner: Owner, place: String, problem: Option<String>) {
        let noted = self.0.store.write(move |tx| {
            let (place, problem) = (place.clone(), problem.clone());
            Box::pin(async move {
                tx.own_git_problem(owner, &place, problem.clone()).await?;
                tx.git_problem(owner.organization, &place, problem).await
            })
        });
        if let Err(error) = noted.await {
            tracing::warn!(error = %crate::chain(&error), "a connection's state was not noted");
        }
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, HashSet<(Owner, String)>> {
        self.0.problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
