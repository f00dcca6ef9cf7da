//! Bringing a mirror up to date, and asking what is in it.
//!
//! The server's fetches go to the addresses that were resolved and checked, and to no other: git's
//! own resolution is pinned to them, and redirects are not followed.

use std::{net::IpAddr, path::Path, sync::Arc, time::Duration};

use boatyard_egress::{
    Cidr, Guard, Resolver,
    git::{Credential, Direction},
    resolve::{System, Unreachable},
    rules::Host,
};
use boatyard_model::{
    RepositoryId,
    name::{Branch, CommitId, RepositorySource},
};
use boatyard_store::{BUILT_IN_ORGANIZATION, Owner};
use tokio::io::AsyncRead;

use super::{
    Mirrors,
    authorities::{self, AuthoritiesError},
    git::{Git, GitError, Temporary},
};
use crate::{
    git::{Credentials, credentials::NoCredential, place},
    settings::Settings,
};

mod explained;
mod listing;

use explained::explain;
use listing::{listed, no_base, symref};

/// How often the size of a growing mirror is looked at during a fetch.
const SIZE_LOOK: Duration = Duration::from_secs(2);

/// How the git program on the other side of a path is called.
const FAR_SIDE: &str = "git -c core.hooksPath=/dev/null -c safe.directory=*";

/// How long a source may take to say what it has.
const LISTING_DEADLINE: Duration = Duration::from_secs(60);
/// The longest list of references, in bytes.
const LISTING_MAX: u64 = 64 << 20;

/// What a fetch brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// Something.
    New,
    /// The mirror has all that there is.
    Nothing,
}

/// Why a mirror could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The settings do not allow it.
    #[error("{0}")]
    NotAllowed(String),
    /// Its host could not be resolved to an address that may be reached.
    #[error("{host} can't be reached")]
    Address {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: Unreachable,
    },
    /// There is nothing there, or nothing that may be seen.
    #[error(
        "{0} was not found, or needs a token that Boatyard does not have: connect it by `boatyard \
         repository connect {0} CONNECTION`, or set a token under [repositories.tokens]"
    )]
    NotFound(String),
    /// What is bound to it can't be used.
    #[error(transparent)]
    Credential(#[from] NoCredential),
    /// It has nothing that could be the base.
    #[error("{0}")]
    NoBase(String),
    /// The path is no git repository.
    #[error("{0} is not a git repository that the server can read")]
    NotARepository(String),
    /// The bundle that a client sent is not whole, or needs commits that are not here.
    #[error("the bundle could not be read: {0}")]
    Bundle(String),
    /// The git program failed.
    #[error("fetching {source_name} failed")]
    Git {
        /// Which repository.
        source_name: String,
        /// How.
        #[source]
        source: GitError,
    },
    /// The disk failed.
    #[error("the mirror could not be written")]
    Disk(#[from] std::io::Error),
}

/// How the server's own fetches reach the world.
#[derive(Clone)]
pub struct Network {
    /// Where tokens, roots and limits are.
    pub settings: Arc<Settings>,
    guard: Guard,
    resolver: Arc<dyn Resolver>,
    /// What repositories are reached with; nothing, if none.
    credentials: Option<Credentials>,
    /// Whose repositories they are.
    owner: Owner,
    /// Whom to trust, as one file; git's own choice where the settings add nobody.
    authorities: Option<Arc<Path>>,
}

/// Why the settings of the network make no sense.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `[repositories] allow_private` names something that is neither a range nor a host.
    #[error(transparent)]
    Range(#[from] boatyard_egress::Error),
    /// `[egress] ca_file` can't be used.
    #[error(transparent)]
    Authorities(#[from] AuthoritiesError),
}

impl Network {
    /// As the settings say, with the system's resolver. `data` is the data folder.
    ///
    /// # Errors
    /// When a setting makes no sense.
    pub fn new(settings: Arc<Settings>, data: &Path) -> Result<Self, NetworkError> {
        let ranges = settings.repositories.allow_private.iter().filter(|text| is_range(text));
        let ranges = ranges.map(|text| text.parse::<Cidr>()).collect::<Result<Vec<_>, _>>()?;
        let authorities = match &settings.egress.ca_file {
            Some(file) => Some(authorities::bundle(file, data)?.into()),
            None => None,
        };
        let (guard, resolver) = (Guard::new(ranges), Arc::new(System));
        Ok(Self {
            settings,
            guard,
            resolver,
            credentials: None,
            owner: Owner::BUILT_IN,
            authorities,
        })
    }

    /// The same, with what repositories are reached with.
    #[must_use]
    pub fn with(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// The same for the repositories of one: its organization's credentials, and no other's. What
    /// the server has by itself (its folders, its account's keys for ssh) is the first one's.
    #[must_use]
    pub fn of(&self, owner: Owner) -> Self {
        Self { owner, ..self.clone() }
    }

    fn is_first(&self) -> bool {
        self.owner.organization == BUILT_IN_ORGANIZATION
    }

    /// What a repository is reached with, if anything.
    async fn credential(
        &self,
        source: &RepositorySource,
        direction: Direction,
    ) -> Result<Option<Credential>, NoCredential> {
        match &self.credentials {
            Some(credentials) => credentials.of_source(self.owner, source, direction).await,
            None => Ok(None),
        }
    }

    /// Forgets tokens that were made for a repository: whether there were any.
    pub(super) async fn forget(&self, source: &RepositorySource) -> bool {
        match (&self.credentials, place::remote(source)) {
            (Some(credentials), Some(remote)) => {
                credentials.forget(self.owner, &remote, true).await
            }
            _ => false,
        }
    }

    /// The addresses of `host` that may be fetched from.
    async fn checked(&self, host: &str) -> Result<Vec<IpAddr>, FetchError> {
        let failed = |source| FetchError::Address { host: host.to_owned(), source };
        if self.settings.egress.offline {
            return Err(FetchError::NotAllowed(
                "the server is offline by its settings ([egress] offline)".to_owned(),
            ));
        }
        let not_found = |_| FetchError::NotFound(host.to_owned());
        let parsed: Host = host.trim_matches(['[', ']']).parse().map_err(not_found)?;
        // A host that the settings name may be anywhere.
        if self.settings.repositories.allow_private.iter().any(|named| named == host) {
            let found = self.resolver.resolve(host).await;
            return found
                .map_err(|source| failed(Unreachable::NotFound { host: host.to_owned(), source }));
        }
        self.guard.addresses(&parsed, self.resolver.as_ref()).await.map_err(failed)
    }
}

/// Whether a text of `allow_private` is an address or a range of them, and no host name.
fn is_range(text: &str) -> bool {
    text.contains('/') || text.parse::<IpAddr>().is_ok()
}

/// A base that was found in a mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The commit; none in a repository without any.
    pub commit: Option<CommitId>,
    /// Its tree; the empty tree where there is no commit.
    pub tree: String,
    /// The branch that was asked for, or the default one; none for an exact commit.
    pub branch: Option<Branch>,
}

/// The id of the tree without entries (SHA-1).
pub const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

impl Mirrors {
    /// Fetches what is new at `source`, if anything is: what it has is asked first, which is one
    /// short exchange.
    ///
    /// # Errors
    /// See [`FetchError`]; the mirror keeps what it had.
    pub async fn fetch(
        &self,
        repository: RepositoryId,
        source: &RepositorySource,
        network: &Network,
    ) -> Result<Fetched, FetchError> {
        let _held = self.lock(repository).await;
        self.ensure(repository).await?;
        match self.fetch_once(repository, source, network).await {
            // A token that was made may have been taken back since.
            Err(FetchError::NotFound(_)) if network.forget(source).await => {
                self.fetch_once(repository, source, network).await
            }
            fetched => fetched,
        }
    }

    async fn fetch_once(
        &self,
        repository: RepositoryId,
        source: &RepositorySource,
        network: &Network,
    ) -> Result<Fetched, FetchError> {
        let mirror = self.path(repository);
        let there = async {
            let (git, address) =
                self.remote(Git::bare("ls-remote"), source, network, Direction::Fetch).await?;
            git.args(["--symref", "--end-of-options", &address])
                .args(["HEAD", "refs/heads/*", "refs/tags/*"])
                .deadline(LISTING_DEADLINE)
                .output(LISTING_MAX)
                .await
                .map_err(|error| explain(source, error))
        };
        let here = async {
            Git::new(&mirror, "for-each-ref")
                .args(["--format=%(objectname)%09%(refname)", "refs/heads", "refs/tags"])
                .output(LISTING_MAX)
                .await
                .map_err(|error| explain(source, error))
        };
        let (there, here) = tokio::try_join!(there, here)?;
        let (there, here) = (String::from_utf8_lossy(&there), String::from_utf8_lossy(&here));
        let is_new = listed(&there) != listed(&here);
        if is_new {
            self.fetch_all(&mirror, source, network).await?;
        }
        if let Some(branch) = symref(&there)
            && self.default_branch(repository).await.ok().flatten().as_ref() != Some(&branch)
        {
            Git::new(&mirror, "symbolic-ref")
                .args(["HEAD", &branch.full()])
                .run_quietly()
                .await
                .map_err(|error| explain(source, error))?;
        }
        Ok(if is_new { Fetched::New } else { Fetched::Nothing })
    }

    async fn fetch_all(
        &self,
        mirror: &Path,
        source: &RepositorySource,
        network: &Network,
    ) -> Result<(), FetchError> {
        let (git, address) =
            self.remote(Git::new(mirror, "fetch"), source, network, Direction::Fetch).await?;
        let fetch = git
            .args([
                "--prune",
                "--no-tags",
                "--no-write-fetch-head",
                "--no-recurse-submodules",
                "--quiet",
            ])
            .args(["--end-of-options", &address])
            .args(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
            .deadline(network.settings.repositories.fetch_time.duration())
            .run_quietly();
        let bounded = within_size(mirror, network.settings.repositories.max_size.bytes());
        let fetched = tokio::select! {
            fetched = fetch => fetched,
            error = bounded => Err(error),
        };
        fetched.map_err(|error| explain(source, error))
    }

    /// Takes in a bundle that a client sent. Its references replace the mirror's of the same name.
    ///
    /// # Errors
    /// [`FetchError::Bundle`] when it is not whole; the mirror keeps what it had.
    pub async fn take_bundle(
        &self,
        repository: RepositoryId,
        bytes: impl AsyncRead + Send + Unpin,
        max_bytes: u64,
    ) -> Result<(), FetchError> {
        let _held = self.lock(repository).await;
        self.ensure(repository).await?;
        let mirror = self.path(repository);
        let file = Temporary(self.incoming("bundle"));
        let mut written = tokio::fs::File::create(&file.0).await?;
        let mut bounded = tokio::io::AsyncReadExt::take(bytes, max_bytes + 1);
        let length = tokio::io::copy(&mut bounded, &mut written).await?;
        tokio::io::AsyncWriteExt::flush(&mut written).await?;
        if length > max_bytes {
            return Err(FetchError::Bundle(format!("it is larger than {max_bytes} bytes")));
        }
        let bundle_error = |error: GitError| match error {
            GitError::Failed { message, .. } => FetchError::Bundle(message),
            source => FetchError::Git { source_name: "the bundle".to_owned(), source },
        };
        Git::new(&mirror, "fetch")
            .config("protocol.file.allow", "always")
            .args(["--no-tags", "--no-write-fetch-head", "--quiet", "--end-of-options"])
            .arg(&file.0)
            .args([
                "+refs/heads/*:refs/heads/*",
                "+refs/tags/*:refs/tags/*",
                "+refs/boatyard/*:refs/boatyard/*",
            ])
            .run_quietly()
            .await
            .map_err(bundle_error)
    }

    /// Finds what `wanted` names: a branch, a tag or a commit; the default branch if nothing is
    /// wanted. Only what is reachable from the mirror's references counts.
    ///
    /// # Errors
    /// [`FetchError::NoBase`] with what there is.
    pub async fn base(
        &self,
        repository: RepositoryId,
        wanted: Option<&str>,
    ) -> Result<Base, FetchError> {
        let mirror = self.path(repository);
        let git_error = |source| FetchError::Git { source_name: repository.to_string(), source };
        let default = self.default_branch(repository).await.map_err(git_error)?;
        // What it may be, the likeliest first.
        let meant: Vec<(String, Option<Branch>)> = match wanted {
            None => match &default {
                Some(branch) => vec![(branch.full(), default.clone())],
                None => vec![("HEAD".to_owned(), None)],
            },
            Some(text) => match (text.parse::<CommitId>(), text.parse::<Branch>()) {
                (Ok(commit), _) => vec![(commit.to_string(), None)],
                (_, Ok(branch)) => {
                    let tag = format!("refs/tags/{branch}");
                    vec![(branch.full(), Some(branch)), (tag, None)]
                }
                _ => {
                    return Err(FetchError::NoBase(format!(
                        "`{text}` is not a branch, tag or commit"
                    )));
                }
            },
        };
        for (found, (_, branch)) in
            self.commits(&mirror, &meant).await.map_err(git_error)?.zip(&meant)
        {
            if let Some((commit, tree)) = found {
                return Ok(Base { commit: Some(commit), tree, branch: branch.clone() });
            }
        }
        let known = self.references(repository).await.map_err(git_error)?;
        let heads: Vec<&str> =
            known.iter().filter_map(|(name, _)| name.strip_prefix("refs/heads/")).collect();
        match (wanted, heads.is_empty()) {
            (None, true) => Ok(Base { commit: None, tree: EMPTY_TREE.to_owned(), branch: default }),
            (wanted, _) => Err(FetchError::NoBase(no_base(wanted, &heads))),
        }
    }

    async fn ensure(&self, repository: RepositoryId) -> Result<(), FetchError> {
        let mirror = self.path(repository);
        if mirror.join("HEAD").exists() {
            return Ok(());
        }
        let fresh = self.incoming("mirror");
        Git::bare("init")
            .args(["--bare", "--quiet", "--template=", "--initial-branch=main"])
            .arg(&fresh)
            .run_quietly()
            .await
            .map_err(|source| FetchError::Git { source_name: repository.to_string(), source })?;
        // Objects that a workspace borrows must never be pruned.
        for (key, value) in [("gc.pruneExpire", "never"), ("core.logAllRefUpdates", "false")] {
            Git::new(&fresh, "config").args([key, value]).run_quietly().await.map_err(
                |source| FetchError::Git { source_name: repository.to_string(), source },
            )?;
        }
        tokio::fs::rename(&fresh, &mirror).await?;
        Ok(())
    }

    /// Fits a git command for talking to `source`: transports, credentials, pinned addresses.
    /// Gives it with the address to use.
    pub(super) async fn remote(
        &self,
        git: Git,
        source: &RepositorySource,
        network: &Network,
        direction: Direction,
    ) -> Result<(Git, String), FetchError> {
        let settings = &network.settings;
        let credential = network.credential(source, direction).await?;
        // With a token, what is written for ssh is reached by https.
        let by_https = match (source, &credential) {
            (RepositorySource::Ssh { host, .. }, Some(_)) => {
                place::remote(source).map(|remote| RepositorySource::Https {
                    url: format!("https://{}{}", remote.target, remote.path),
                    host: host.clone(),
                })
            }
            _ => None,
        };
        match by_https.as_ref().unwrap_or(source) {
            RepositorySource::Https { url, host } => {
                let git = git
                    .config("protocol.https.allow", "always")
                    .config("http.followRedirects", "false")
                    .config("http.lowSpeedLimit", "1000")
                    .config("http.lowSpeedTime", "60");
                let mut git = match &network.authorities {
                    Some(file) => git.config("http.sslCAInfo", file.display().to_string()),
                    None => git,
                };
                for name in ["NO_PROXY", "no_proxy"] {
                    if let Some(hosts) = std::env::var_os(name) {
                        git = git.env(name, hosts);
                    }
                }
                match std::env::var_os("HTTPS_PROXY").or_else(|| std::env::var_os("https_proxy")) {
                    // The proxy resolves the name, and decides for itself.
                    Some(proxy) => git = git.env("HTTPS_PROXY", proxy),
                    None => {
                        let port = port_of(url, 443);
                        for address in network.checked(host).await? {
                            let ip = bracketed(address);
                            git = git.config("http.curloptResolve", format!("{host}:{port}:{ip}"));
                        }
                    }
                }
                let value = credential.as_ref().and_then(|given| given.header.to_str().ok());
                if let Some(value) = value {
                    git = git.config(
                        format!("http.{url}.extraHeader"),
                        format!("Authorization: {value}"),
                    );
                }
                Ok((git, url.clone()))
            }
            RepositorySource::Ssh { .. } if !network.is_first() => {
                Err(FetchError::NotAllowed(format!(
                    "{source} would be reached with the server's own key, which is the first \
                     organization's; connect the repository (`boatyard repository connect`)"
                )))
            }
            RepositorySource::Ssh { url, host } => {
                let address = network.checked(host).await?;
                let ip = address.first().map(IpAddr::to_string).unwrap_or_else(|| host.clone());
                let home = std::env::var_os("HOME").unwrap_or_else(|| "/nonexistent".into());
                let ssh = format!(
                    "ssh -F /dev/null -o BatchMode=yes -o ConnectTimeout=20 \
                     -o StrictHostKeyChecking=accept-new -o HostKeyAlias={host} -o HostName={ip}"
                );
                let mut git = git
                    .config("protocol.ssh.allow", "always")
                    .config("ssh.variant", "ssh")
                    .env("GIT_SSH_COMMAND", ssh)
                    .env("HOME", home);
                if let Some(agent) = std::env::var_os("SSH_AUTH_SOCK") {
                    git = git.env("SSH_AUTH_SOCK", agent);
                }
                Ok((git, url.clone()))
            }
            RepositorySource::Path(_) if !network.is_first() => Err(FetchError::NotAllowed(
                "folders of the server's machine are for the server's first organization"
                    .to_owned(),
            )),
            RepositorySource::Path(path) => {
                let real = below_roots(path, settings).await?;
                // The far side is another git process, which takes nothing of our configuration: the
                // repository may belong to another account, and its hooks are not ours to run.
                let git = match direction {
                    Direction::Fetch => git.arg(format!("--upload-pack={FAR_SIDE} upload-pack")),
                    Direction::Push => git.arg(format!("--receive-pack={FAR_SIDE} receive-pack")),
                };
                let git = git.config("protocol.file.allow", "always");
                Ok((git, real))
            }
            RepositorySource::Sent(_) => Err(FetchError::NotAllowed(
                "this repository was sent by a client and has no address to fetch from".to_owned(),
            )),
        }
    }
}

/// Checks that a path on the server's machine is below a configured root, after all links.
pub(crate) async fn below_roots(path: &str, settings: &Settings) -> Result<String, FetchError> {
    let not_allowed = || {
        FetchError::NotAllowed(format!(
            "{path} is not below a folder named in [repositories] roots"
        ))
    };
    if settings.repositories.roots.is_empty() {
        return Err(not_allowed());
    }
    let real = tokio::fs::canonicalize(path)
        .await
        .map_err(|_| FetchError::NotARepository(path.to_owned()))?;
    for root in &settings.repositories.roots {
        if tokio::fs::canonicalize(root).await.is_ok_and(|root| real.starts_with(root)) {
            return real.to_str().map(str::to_owned).ok_or_else(not_allowed);
        }
    }
    Err(not_allowed())
}

fn port_of(url: &str, default: u16) -> u16 {
    url::Url::parse(url).ok().and_then(|url| url.port()).unwrap_or(default)
}

fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Ends, with an error, when the mirror outgrows its limit.
async fn within_size(mirror: &Path, limit: u64) -> GitError {
    loop {
        tokio::time::sleep(SIZE_LOOK).await;
        let path = mirror.join("objects");
        let size = tokio::task::spawn_blocking(move || super::results::folder_bytes(&path)).await;
        if size.is_ok_and(|size| size > limit) {
            return GitError::TooLarge { what: "the repository", limit };
        }
    }
}

#[cfg(test)]
mod tests;
