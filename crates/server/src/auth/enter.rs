//! Signing a browser in: whoever has shown who they are gets a device and its cookie.

use std::net::IpAddr;

use boatyard_api::Problem;
use boatyard_model::{DeviceId, KeyId, OrganizationId, PersonId};
use boatyard_store::{
    NewDevice,
    audit::{self, Actor},
};
use http::{HeaderMap, header};

use super::{Auth, Known, Refusal, Signer, code::is_code, find::Asked, hash_of, origin::Site};

/// The longest `User-Agent` that is kept, in characters.
const PROGRAM_MAX: usize = 200;

/// What somebody has shown.
#[derive(Debug, Clone)]
pub struct Entrance {
    /// Who it is.
    pub person: PersonId,
    /// Where to; where there is nothing to choose, the organization joined first.
    pub organization: Option<OrganizationId>,
    /// By what: `password`, `link`, `key`, `passkey`, or a provider's name.
    pub way: String,
    /// The key that it was: the browser can do no more, and dies with it.
    pub api_key: Option<KeyId>,
}

impl Entrance {
    /// Somebody who has shown who they are, by this way.
    pub fn of(person: PersonId, way: &str) -> Self {
        Self { person, organization: None, way: way.to_owned(), api_key: None }
    }

    /// The same, into this organization.
    #[must_use]
    pub fn into(self, organization: OrganizationId) -> Self {
        Self { organization: Some(organization), ..self }
    }
}

/// A browser that wants in.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// Where it is.
    pub address: Option<IpAddr>,
    /// What it calls itself.
    pub program: Option<String>,
    /// What it was until now: the one before ends.
    pub before: Option<DeviceId>,
}

impl Visitor {
    /// The browser that sent a request.
    pub fn of(headers: &HeaderMap, address: Option<IpAddr>, known: Option<&Known>) -> Self {
        let program = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let program = program.map(|text| text.chars().take(PROGRAM_MAX).collect());
        let before = known.and_then(|known| match known.caller.via {
            super::Via::Device(id) => Some(id),
            super::Via::Key(_) | super::Via::Guest(_) | super::Via::Server => None,
        });
        Self { address, program, before }
    }
}

/// A browser that is signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// What its cookie holds.
    pub token: String,
    /// Who it is.
    pub known: Known,
}

impl Auth {
    /// Signs a browser in: it gets a cookie of its own, whatever it had before.
    ///
    /// # Errors
    /// When the person is in no organization, or not in that one; when it can't be stored.
    pub async fn enter(&self, entrance: Entrance, visitor: &Visitor) -> Result<SignedIn, Problem> {
        let person = entrance.person;
        let standings = self.store.list_standings(person).await.map_err(Problem::internal)?;
        let standing = match entrance.organization {
            Some(id) => standings.into_iter().find(|standing| standing.owner.organization == id),
            None => standings.into_iter().next(),
        };
        let Some(standing) = standing else {
            return Err(Problem::not_allowed(
                "you are no member of an organization on this server",
            )
            .with_next("Ask one of its admins for an invitation."));
        };
        let token = Signer::token();
        let new = NewDevice {
            person,
            organization: standing.owner.organization,
            hash: hash_of(&token),
            way: entrance.way,
            api_key: entrance.api_key,
            address: visitor.address.map(|address| address.to_string()),
            program: visitor.program.clone(),
            expires: self.clock.now().after(self.ways().device_lifetime),
        };
        audit::name_actor(Actor {
            organization: Some(standing.owner.organization),
            member: Some(standing.owner.member),
            person: Some(person),
            name: standing.name,
            via: new.way.clone(),
            address: new.address.clone(),
        });
        let before = visitor.before;
        self.store
            .write(move |tx| {
                Box::pin(async move {
                    if let Some(before) = before {
                        tx.end_device(before).await?;
                    }
                    tx.create_device(&new).await
                })
            })
            .await
            .map_err(crate::operations::store_problem)?;
        let known = self.by_token(&token, visitor.address).await?;
        Ok(SignedIn { token, known: known.map_err(Refusal::problem)? })
    }

    /// Who is signed in by a cookie that was given just now.
    async fn by_token(
        &self,
        token: &str,
        address: Option<IpAddr>,
    ) -> Result<Result<Known, Refusal>, Problem> {
        let mut headers = HeaderMap::new();
        let cookie = self.signer.cookie(token);
        headers.insert(header::COOKIE, cookie.parse().map_err(Problem::internal)?);
        let asked = Asked {
            method: &http::Method::GET,
            headers: &headers,
            address,
            site: &Site::Own,
            organization: None,
        };
        self.identify(&asked).await
    }

    /// Signs a browser in that shows the code of a link. Not a key: an address is no place for one.
    ///
    /// # Errors
    /// When it is none, or was used before; when the database fails.
    pub async fn enter_by_code(&self, code: &str, visitor: &Visitor) -> Result<SignedIn, Problem> {
        let holder = self.codes.take(code).ok_or_else(refused)?;
        let mut entrance = Entrance::of(holder.person, holder.purpose.way());
        entrance.api_key = holder.key;
        self.enter(entrance, visitor).await
    }

    /// Signs a browser in that shows a key or the code of a link.
    ///
    /// # Errors
    /// When it is neither; when the key is nobody's own; when the database fails.
    pub async fn enter_by_secret(
        &self,
        secret: &str,
        visitor: &Visitor,
    ) -> Result<SignedIn, Problem> {
        if is_code(secret) {
            return self.enter_by_code(secret, visitor).await;
        }
        let (caller, _) = match self.by_key(secret, None).await? {
            Ok(found) => found,
            Err(Refusal::Unknown) => return Err(refused()),
            Err(refusal) => return Err(refusal.problem().at("key")),
        };
        let super::Via::Key(key) = caller.via else { return Err(refused()) };
        let Some(person) = caller.person else {
            return Err(Problem::not_allowed("a key of the organization's own is for programs")
                .at("key")
                .with_next("Sign in as yourself."));
        };
        let mut entrance = Entrance::of(person, "key").into(caller.owner.organization);
        entrance.api_key = Some(key);
        self.enter(entrance, visitor).await
    }
}

fn refused() -> Problem {
    Problem::unauthenticated("this key or link is not known, or was used before")
        .at("key")
        .with_next(
            "The key in `client.toml` of the data folder signs in; a restart prints a new link.",
        )
}
