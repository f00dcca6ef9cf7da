//! Passkeys: a key pair on the person's own device, of which the server has the public half.
//!
//! ```text
//! register: signed in ─► challenge ─► the authenticator makes a pair, asks for finger or PIN ─► kept
//! sign in:  challenge, for nobody in particular ─► the person chooses a passkey ─► it says whose
//! ```
//!
//! A passkey is bound by browsers to the host name of the server's address; where that is a number
//! there are none. Each challenge works once and is held here for five minutes; a restart in between
//! asks people to begin again.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use boatyard_api::Problem;
use boatyard_model::PersonId;
use boatyard_store::passkeys::PasskeyRow;
use serde_json::Value;
use url::Url;
use webauthn_rs::{
    Webauthn, WebauthnBuilder,
    prelude::{
        DiscoverableAuthentication, Passkey, PasskeyRegistration, PublicKeyCredential,
        RegisterPublicKeyCredential, Uuid, WebauthnError,
    },
};

use super::{hex, random};

/// How long a challenge may be answered.
const VALID: Duration = Duration::from_secs(300);
/// Challenges that are held at a time; past it the oldest makes room.
const HELD_MAX: usize = 4096;
/// What authenticators show as the place that they are for.
const PLACE: &str = "Boatyard";

/// Challenges that wait for their answer.
pub(crate) struct Passkeys(Mutex<HashMap<String, Held>>);

struct Held {
    since: Instant,
    what: Challenge,
}

enum Challenge {
    Register(PersonId, PasskeyRegistration),
    SignIn(DiscoverableAuthentication),
}

/// A challenge for a browser: the name of the attempt, and what its authenticator is asked.
pub(crate) type Asked = (String, Value);

/// Somebody who may make a passkey.
pub(crate) struct Maker<'a> {
    /// Who.
    pub(crate) person: PersonId,
    /// The address, by which authenticators tell passkeys of one place apart.
    pub(crate) email: &'a str,
    /// As shown to people.
    pub(crate) name: &'a str,
}

/// A passkey that was made: what the authenticator calls it, and what is kept of it.
pub(crate) struct Made {
    pub(crate) credential_id: String,
    pub(crate) credential: String,
}

/// The answer to a challenge to sign in, before it is checked.
pub(crate) struct Shown {
    state: DiscoverableAuthentication,
    credential: PublicKeyCredential,
    /// Whose it says that it is.
    pub(crate) person: PersonId,
    /// What the authenticator calls it.
    pub(crate) credential_id: String,
}

/// The host name that passkeys are for at this address.
///
/// # Errors
/// Why there can be none.
pub(crate) fn place(url: &str) -> Result<String, String> {
    let parsed = Url::parse(url).map_err(|_| format!("`{url}` is no address"))?;
    let Some(name) = parsed.domain() else {
        return Err("passkeys need a server with a name, not a number: set `url` in [server] of \
                    boatyard.toml, as https://boatyard.example.com (or http://localhost:PORT on one's \
                    own machine)"
            .to_owned());
    };
    let is_near = name == "localhost" || name.ends_with(".localhost");
    if parsed.scheme() != "https" && !is_near {
        return Err(
            "browsers use passkeys over https only: set `url` in [server] of boatyard.toml \
                    to an https:// address"
                .to_owned(),
        );
    }
    Ok(name.to_owned())
}

fn webauthn(url: &str) -> Result<Webauthn, Problem> {
    let name = place(url).map_err(Problem::conflict)?;
    let origin = Url::parse(url).map_err(Problem::internal)?;
    let builder = WebauthnBuilder::new(&name, &origin).map_err(Problem::internal)?;
    builder.rp_name(PLACE).timeout(VALID).build().map_err(Problem::internal)
}

impl Passkeys {
    pub(crate) fn new() -> Self {
        Self(Mutex::default())
    }

    fn hold(&self, what: Challenge) -> String {
        let attempt = hex(&random::<16>());
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= HELD_MAX {
            held.retain(|_, held| held.since.elapsed() < VALID);
        }
        if held.len() >= HELD_MAX {
            let oldest =
                held.iter().min_by_key(|(_, held)| held.since).map(|(name, _)| name.clone());
            oldest.and_then(|name| held.remove(&name));
        }
        held.insert(attempt.clone(), Held { since: Instant::now(), what });
        attempt
    }

    fn take(&self, attempt: &str) -> Result<Challenge, Problem> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.remove(attempt).filter(|held| held.since.elapsed() < VALID);
        found.map(|held| held.what).ok_or_else(|| {
            Problem::invalid("attempt", "this attempt is not known, was used, or took too long")
                .with_next("Begin again.")
        })
    }

    /// Asks for a new passkey. The authenticators that have one of the person's already say so.
    ///
    /// # Errors
    /// When the server has no name that passkeys could be for.
    pub(crate) fn begin_register(
        &self,
        url: &str,
        maker: &Maker<'_>,
        there: &[PasskeyRow],
    ) -> Result<Asked, Problem> {
        let known = there.iter().filter_map(|row| parsed(row).ok());
        let known: Vec<_> = known.map(|passkey| passkey.cred_id().clone()).collect();
        let user = Uuid::from_u128(maker.person.to_u128());
        let begun =
            webauthn(url)?.start_passkey_registration(user, maker.email, maker.name, Some(known));
        let (challenge, state) = begun.map_err(Problem::internal)?;
        let mut options = options(&challenge)?;
        // Signing in asks for nobody in particular, so the passkey must know whose it is.
        options["authenticatorSelection"]["residentKey"] = "required".into();
        options["authenticatorSelection"]["requireResidentKey"] = true.into();
        Ok((self.hold(Challenge::Register(maker.person, state)), options))
    }

    /// Checks a new passkey.
    ///
    /// # Errors
    /// When it does not answer the attempt of this person.
    pub(crate) fn finish_register(
        &self,
        url: &str,
        person: PersonId,
        attempt: &str,
        credential: Value,
    ) -> Result<Made, Problem> {
        let Challenge::Register(whose, state) = self.take(attempt)? else {
            return Err(Problem::invalid("attempt", "this attempt is for signing in"));
        };
        if whose != person {
            return Err(Problem::invalid("attempt", "this attempt is somebody else's"));
        }
        let answer: RegisterPublicKeyCredential = read(credential)?;
        let made = webauthn(url)?.finish_passkey_registration(&answer, &state).map_err(unproven)?;
        Ok(Made {
            credential_id: URL_SAFE_NO_PAD.encode(made.cred_id()),
            credential: serde_json::to_string(&made).map_err(Problem::internal)?,
        })
    }

    /// Asks for any passkey of this server.
    ///
    /// # Errors
    /// When the server has no name that passkeys could be for.
    pub(crate) fn begin_sign_in(&self, url: &str) -> Result<Asked, Problem> {
        let begun = webauthn(url)?.start_discoverable_authentication();
        let (challenge, state) = begun.map_err(Problem::internal)?;
        Ok((self.hold(Challenge::SignIn(state)), options(&challenge)?))
    }

    /// Whose passkey was shown, by its own word.
    ///
    /// # Errors
    /// When it does not answer an attempt, or can't be read.
    pub(crate) fn shown(
        &self,
        url: &str,
        attempt: &str,
        credential: Value,
    ) -> Result<Shown, Problem> {
        let Challenge::SignIn(state) = self.take(attempt)? else {
            return Err(Problem::invalid("attempt", "this attempt is for a new passkey"));
        };
        let credential: PublicKeyCredential = read(credential)?;
        let (user, id) =
            webauthn(url)?.identify_discoverable_authentication(&credential).map_err(unproven)?;
        let (person, credential_id) =
            (PersonId::from_u128(user.as_u128()), URL_SAFE_NO_PAD.encode(id));
        Ok(Shown { state, person, credential_id, credential })
    }
}

impl Shown {
    /// Checks the proof against what is kept of the passkey: what is to be kept from now on.
    ///
    /// # Errors
    /// When it proves nothing.
    pub(crate) fn check(self, url: &str, row: &PasskeyRow) -> Result<String, Problem> {
        let mut passkey = parsed(row)?;
        let result = webauthn(url)?
            .finish_discoverable_authentication_v2(&self.credential, self.state, &passkey)
            .map_err(unproven)?;
        match passkey.update_credential(&result) {
            Some(true) => serde_json::to_string(&passkey).map_err(Problem::internal),
            Some(false) => Ok(row.credential.clone()),
            None => Err(refused("the proof is by another passkey")),
        }
    }
}

fn parsed(row: &PasskeyRow) -> Result<Passkey, Problem> {
    serde_json::from_str(&row.credential).map_err(Problem::internal)
}

/// The part of a challenge that browsers take.
fn options(challenge: &impl serde::Serialize) -> Result<Value, Problem> {
    let mut whole = serde_json::to_value(challenge).map_err(Problem::internal)?;
    Ok(whole["publicKey"].take())
}

fn read<T: serde::de::DeserializeOwned>(credential: Value) -> Result<T, Problem> {
    serde_json::from_value(credential)
        .map_err(|error| Problem::invalid("credential", format!("it is no passkey's: {error}")))
}

fn refused(why: &str) -> Problem {
    Problem::unauthenticated(format!("the passkey does not prove who you are: {why}"))
        .at("credential")
        .with_next("Begin again, with a passkey of this server.")
}

fn unproven(error: WebauthnError) -> Problem {
    refused(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_need_a_name_and_https() {
        assert_eq!(place("https://boat.example.com:8443").as_deref(), Ok("boat.example.com"));
        assert_eq!(place("http://localhost:7070").as_deref(), Ok("localhost"));
        for (url, says) in [
            ("http://127.0.0.1:7070", "a name"),
            ("https://[::1]:7070", "a name"),
            ("http://boat.example.com", "https only"),
            ("", "no address"),
        ] {
            let why = place(url).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn challenges_are_bounded_and_used_once() {
        let passkeys = Passkeys::new();
        let url = "http://localhost:7070";
        let (first, options) = passkeys.begin_sign_in(url).unwrap();
        assert_eq!(
            (&options["rpId"], &options["userVerification"]),
            (&"localhost".into(), &"required".into())
        );
        for _ in 0..HELD_MAX {
            passkeys.begin_sign_in(url).unwrap();
        }
        assert_eq!(passkeys.0.lock().unwrap().len(), HELD_MAX);
        assert!(passkeys.take(&first).is_err(), "the oldest made room");
        let (last, _) = passkeys.begin_sign_in(url).unwrap();
        assert!(passkeys.take(&last).is_ok());
        assert!(passkeys.take(&last).is_err(), "a second time");
    }

    #[test]
    fn an_attempt_is_for_one_person_and_one_thing() {
        let passkeys = Passkeys::new();
        let url = "http://localhost:7070";
        let person = PersonId::new();
        let maker = Maker { person, email: "a@example.com", name: "A" };
        let (attempt, options) = passkeys.begin_register(url, &maker, &[]).unwrap();
        assert_eq!(options["authenticatorSelection"]["residentKey"], "required");
        let refused = passkeys.finish_register(url, PersonId::new(), &attempt, Value::Null);
        assert_eq!(refused.err().unwrap().field.as_deref(), Some("attempt"));
        let (attempt, _) = passkeys.begin_register(url, &maker, &[]).unwrap();
        assert!(passkeys.shown(url, &attempt, Value::Null).is_err());
        let (attempt, _) = passkeys.begin_register(url, &maker, &[]).unwrap();
        let refused = passkeys.finish_register(url, person, &attempt, serde_json::json!({}));
        assert_eq!(refused.err().unwrap().field.as_deref(), Some("credential"));
    }
}
