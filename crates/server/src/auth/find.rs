//! From what a request carries to its caller.
//!
//! ```text
//! key ────► api_key ──► member ──┐
//!                                ├─► standing: role, operator? ──► Caller
//! cookie ─► device ──► person ───┘        (in the organization that is asked about)
//! ```
//!
//! What was found is remembered for some seconds under the hash of the secret, together with how
//! often rights had been taken away by then ([`Store::revocations`]): one more, and nothing that is
//! remembered counts. A right that is taken away through this server is gone before the one who
//! took it has the answer.
//!
//! [`Store::revocations`]: boatyard_store::Store::revocations

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use boatyard_api::{
    Problem,
    identity::{KEY_PREFIX, ORGANIZATION_HEADER},
};
use boatyard_model::{KeyKind, OrganizationId, Scopes, Timestamp};
use boatyard_store::{DeviceRow, KeyRow, StandingRow};
use http::{HeaderMap, Method, header};
use sha2::{Digest as _, Sha256};

use super::{Auth, Caller, Known, Refusal, Site, Via, cookie, hex, key};

/// How long what was found counts without asking the database again. A right that is taken away
/// through this server's store is gone at once, by another program's hand within this time.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);

/// How many callers are remembered at a time.
const MOST: usize = 4096;

/// The longest secret that is hashed, in bytes; ours have 67 at most.
const SECRET_MAX: usize = 200;

/// A request, as far as it says who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'r> {
    /// What is to be done.
    pub method: &'r Method,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// From which site: no cookie counts for another's.
    pub site: &'r Site,
    /// The organization that the address of a stream asks about: a page can't send headers there.
    pub organization: Option<OrganizationId>,
}

/// Under what a caller is remembered: the hash of the secret, and the organization asked about.
type Name = ([u8; 32], Option<OrganizationId>);

/// Callers that were found lately.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<Name, Found>>);

/// A caller that was found.
#[derive(Clone)]
struct Found {
    caller: Caller,
    /// When what it proved itself with ends by itself.
    until: Option<Timestamp>,
    since: Instant,
    /// How often rights had been taken away before it was looked up.
    revocations: u64,
}

impl Found {
    fn counts(&self, revocations: u64, now: Timestamp) -> bool {
        self.revocations == revocations
            && self.since.elapsed() < REMEMBERED_FOR
            && self.until.is_none_or(|until| now < until)
    }
}

pub(super) type Outcome = Result<(Caller, Option<Timestamp>), Refusal>;

impl Auth {
    /// Who sent a request.
    ///
    /// # Errors
    /// When nobody is found; see [`Refusal`]. A database that fails is a problem of its own, and so
    /// is a header that makes no sense.
    pub async fn identify(&self, asked: &Asked<'_>) -> Result<Result<Known, Refusal>, Problem> {
        let organization = organization_of(asked)?;
        if let Some(value) = asked.headers.get(header::AUTHORIZATION) {
            let Some(secret) = bearer(value) else { return Ok(Err(Refusal::Unknown)) };
            let found = self.by_key(secret, organization).await?;
            return Ok(found.map(|(caller, until)| known(caller, until, None, asked.address)));
        }
        let token = match asked.site {
            Site::Own => self.signer.find(asked.headers),
            Site::Allowed(_) => None,
        };
        let Some(token) = token else { return Ok(Err(Refusal::Missing)) };
        let (caller, until) = match self.by_cookie(token, organization, asked.address).await? {
            Ok(found) => found,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let csrf = self.signer.csrf(token);
        if !asked.method.is_safe() && !cookie::has_proof(asked.headers, &csrf) {
            return Ok(Err(Refusal::Csrf));
        }
        Ok(Ok(known(caller, until, Some(csrf), asked.address)))
    }

    /// What a caller is now: for what goes on after the request that it began with, a stream say.
    /// To be asked when [`boatyard_store::Store::rights`] rises, and at [`Known::until`].
    ///
    /// # Errors
    /// Why it may do nothing any more; a database that fails is a problem of its own.
    pub async fn again(&self, caller: &Caller) -> Result<Result<Known, Refusal>, Problem> {
        let organization = caller.owner.organization;
        let found = match caller.via {
            Via::Server => Ok((caller.clone(), None)),
            Via::Guest(id) => {
                let row = self.store.good_share(id).await.map_err(Problem::internal)?;
                super::guest::of_share(row)
            }
            Via::Key(id) => {
                let row = self.store.find_any_key(id).await.map_err(Problem::internal)?;
                self.of_key(row, Some(organization)).await?
            }
            Via::Device(id) => {
                let row = self.store.find_device(id).await.map_err(Problem::internal)?;
                self.of_device(row, Some(organization)).await?
            }
        };
        Ok(found.map(|(found, until)| known(found, until, None, caller.address)))
    }

    /// Refuses who came with a key, where a way to sign in is made: that could do more than the
    /// key, and would outlast it. The server's own key, which is for everything, may.
    ///
    /// # Errors
    /// Then, and when the database fails.
    pub async fn in_full(&self, caller: &Caller) -> Result<(), Problem> {
        let key = match caller.via {
            Via::Key(id) => Some(id),
            Via::Device(id) => {
                let device = self.store.find_device(id).await.map_err(Problem::internal)?;
                device.and_then(|device| device.api_key)
            }
            Via::Guest(_) | Via::Server => None,
        };
        let Some(key) = key else { return Ok(()) };
        let row = self.store.find_any_key(key).await.map_err(Problem::internal)?;
        if row.is_some_and(|row| row.kind.is_server_s() && row.scopes == Scopes::ALL) {
            return Ok(());
        }
        Err(Problem::not_allowed("a key makes no way to sign in, which could do more than it")
            .with_next("Sign in as yourself, and do it there."))
    }

    /// The caller with this key.
    pub(super) async fn by_key(
        &self,
        secret: &str,
        organization: Option<OrganizationId>,
    ) -> Result<Outcome, Problem> {
        if !secret.starts_with(KEY_PREFIX) || secret.len() > SECRET_MAX {
            return Ok(Err(Refusal::Unknown));
        }
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let name = (hash, organization);
        if let Some(found) = self.remembered(name) {
            return Ok(Ok(found));
        }
        let revocations = self.store.revocations();
        let row = self.store.find_any_key_by_hash(&hex(&hash)).await.map_err(Problem::internal)?;
        if let Some(row) = row.as_ref().filter(|row| row.use_is_news(self.store.now())) {
            self.store.note_key_use(row.id);
        }
        let found = self.of_key(row, organization).await?;
        Ok(found.inspect(|found| self.remember(name, found, revocations)))
    }

    async fn by_cookie(
        &self,
        token: &str,
        organization: Option<OrganizationId>,
        address: Option<IpAddr>,
    ) -> Result<Outcome, Problem> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let name = (hash, organization);
        if let Some(found) = self.remembered(name) {
            return Ok(Ok(found));
        }
        let revocations = self.store.revocations();
        let row = self.store.find_device_by_hash(&hex(&hash)).await.map_err(Problem::internal)?;
        if let Some(row) = row.as_ref().filter(|row| row.use_is_news(self.store.now())) {
            let expires = self.clock.now().after(self.ways().device_lifetime);
            let address = address.map(|address| address.to_string());
            self.store.note_device_use(row.id, address, expires);
        }
        let found = match row {
            // A guest's: what it came by is told by another table.
            None => {
                let share = self.store.share_of_guest(&hex(&hash)).await;
                super::guest::of_share(share.map_err(Problem::internal)?)
            }
            row => self.of_device(row, organization).await?,
        };
        Ok(found.inspect(|found| self.remember(name, found, revocations)))
    }

    async fn of_key(
        &self,
        row: Option<KeyRow>,
        organization: Option<OrganizationId>,
    ) -> Result<Outcome, Problem> {
        let Some(row) = row else { return Ok(Err(Refusal::Unknown)) };
        if row.revoked.is_some() {
            return Ok(Err(Refusal::Revoked));
        }
        if !row.works(self.clock.now()) {
            return Ok(Err(Refusal::Expired));
        }
        let own = self.store.find_standing_of(row.owner).await.map_err(Problem::internal)?;
        let found = match organization {
            Some(other) if other != row.owner.organization => {
                // The key of this machine's account is for all organizations of its person; others
                // are for the one that they were made in.
                let person = own.and_then(|own| own.person);
                let Some(person) = person.filter(|_| row.kind == KeyKind::Local) else {
                    return Ok(Err(Refusal::NoMember));
                };
                let read = self.store.find_standing(person, other).await;
                let standing = read.map_err(Problem::internal)?;
                standing.map(|standing| key::limited(caller_of(standing, Via::Key(row.id)), &row))
            }
            Some(_) | None => key::caller(&row, own),
        };
        Ok(found.map(|caller| (caller, row.expires)).ok_or(Refusal::NoMember))
    }

    async fn of_device(
        &self,
        row: Option<DeviceRow>,
        organization: Option<OrganizationId>,
    ) -> Result<Outcome, Problem> {
        let Some(row) = row else { return Ok(Err(Refusal::SignedOut)) };
        let wanted = organization.unwrap_or(row.organization);
        let read = self.store.find_standing(row.person, wanted).await;
        let mut standing = read.map_err(Problem::internal)?;
        if standing.is_none() && organization.is_none() {
            // Removed from where it looked: there may be another organization of the person's.
            let all = self.store.list_standings(row.person).await.map_err(Problem::internal)?;
            standing = all.into_iter().next();
        }
        let Some(standing) = standing else { return Ok(Err(Refusal::NoMember)) };
        let caller = caller_of(standing, Via::Device(row.id));
        let Some(key) = row.api_key else { return Ok(Ok((caller, Some(row.expires)))) };
        // It was signed in with a key: it can do no more, and ends with it.
        let key = self.store.find_key(key).await.map_err(Problem::internal)?;
        let Some(key) = key else { return Ok(Err(Refusal::SignedOut)) };
        let is_elsewhere = caller.owner.organization != key.owner.organization;
        if is_elsewhere && key.kind != KeyKind::Local {
            return Ok(Err(Refusal::NoMember));
        }
        let until = key.expires.map_or(row.expires, |expires| expires.min(row.expires));
        Ok(Ok((key::limited(caller, &key), Some(until))))
    }

    fn remembered(&self, name: Name) -> Option<(Caller, Option<Timestamp>)> {
        let (revocations, now) = (self.store.revocations(), self.clock.now());
        let all = self.remembered.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(&name).filter(|found| found.counts(revocations, now))?;
        Some((found.caller.clone(), found.until))
    }

    fn remember(&self, name: Name, found: &(Caller, Option<Timestamp>), revocations: u64) {
        let (caller, until) = found.clone();
        let mut all = self.remembered.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            let now = self.clock.now();
            all.retain(|_, found| found.counts(revocations, now));
        }
        if all.len() < MOST {
            let since = Instant::now();
            all.insert(name, Found { caller, until, since, revocations });
        }
    }
}

fn known(
    caller: Caller,
    until: Option<Timestamp>,
    csrf: Option<String>,
    address: Option<IpAddr>,
) -> Known {
    Known { caller: Caller { address, ..caller }, csrf, until }
}

pub(super) fn caller_of(standing: StandingRow, via: Via) -> Caller {
    Caller {
        owner: standing.owner,
        person: standing.person,
        role: standing.role,
        operator: standing.operator,
        scopes: Scopes::ALL,
        address: None,
        name: Arc::from(standing.name),
        via,
    }
}

/// The organization that a request is about, if it says so.
fn organization_of(asked: &Asked<'_>) -> Result<Option<OrganizationId>, Problem> {
    let Some(value) = asked.headers.get(ORGANIZATION_HEADER) else {
        return Ok(asked.organization);
    };
    let id = value.to_str().unwrap_or_default().parse();
    id.map(Some).map_err(|error| Problem::invalid("header.x-boatyard-organization", error))
}

fn bearer(value: &http::HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}
