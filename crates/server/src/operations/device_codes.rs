//! Programs that are let in by a code (RFC 8628): issued, decided about by a person, exchanged for a
//! key.
//!
//! A program learns two codes: a long one that it keeps, and a short one for people. Who types the
//! short one sees what asks and from where, and decides; the program's key is made when it asks the
//! next time, so that the key's secret is never anywhere but in that one answer.

use std::{net::IpAddr, time::Duration};

use boatyard_api::{
    Problem,
    device_code::{
        ALPHABET, DeviceCodeDetail, DeviceCodeRequest, DeviceCodeState, DeviceCodes,
        DeviceDecision, DeviceToken, DeviceTokenRequest, GRANT_TYPE, LENGTH,
    },
};
use boatyard_model::Scopes;
use boatyard_store::{
    Decision, DeviceCodeRow, DeviceCodeState as Stored, Issued, NewDeviceCode, Polled, audit,
};

use super::{
    keys::{NAME_MAX, given, until},
    store_problem,
};
use crate::{
    app::App,
    auth::{Caller, hash_of, new_key, random},
};

/// How long somebody may take to decide.
const VALID: Duration = Duration::from_secs(600);
/// How long a program is to wait between two questions, in seconds.
const PAUSE: u64 = 5;
/// How long the key of a program works, if nobody says otherwise.
const KEY_VALID: Duration = Duration::from_secs(90 * 24 * 3600);
/// Codes for people that are tried when one is taken: of twenty-five thousand million, that some
/// thousand are in use makes one a rare accident.
const TRIES: usize = 4;
/// The longest code that is looked up, in bytes; ours have 67.
const CODE_MAX: usize = 200;
/// The longest `User-Agent` that is kept, in bytes.
const AGENT_MAX: usize = 200;
/// What the code of a program begins with, so that it can't be taken for a key.
const PREFIX: &str = "dc_";
/// By what a program that gets its key is known in the audit log.
const VIA: &str = "device code";
/// What a program is called that says nothing of itself.
const NAMELESS: &str = "a program";

/// Why a program gets nothing, or nothing yet: the RFC's word, and a sentence.
#[derive(Debug)]
pub enum Refused {
    /// In the words of the RFC.
    Said(&'static str, String),
    /// A fault of the server, or too much at a time.
    Problem(Problem),
}

impl From<boatyard_store::Error> for Refused {
    fn from(error: boatyard_store::Error) -> Self {
        Self::Problem(store_problem(error))
    }
}

/// Codes for a program that wants to be let in. `url` is the address that links begin with.
///
/// # Errors
/// When it asks for scopes that there are not, or too many programs wait.
pub async fn create_device_code(
    app: &App,
    url: &str,
    request: DeviceCodeRequest,
    agent: Option<&str>,
    address: Option<IpAddr>,
) -> Result<DeviceCodes, Refused> {
    let scopes = match request.scope.as_deref().map(str::trim) {
        None | Some("") => Scopes::ALL,
        Some(text) => text.parse().map_err(|error: boatyard_model::state::UnknownState| {
            Refused::Said("invalid_scope", error.to_string())
        })?,
    };
    let named = request.client_name.as_deref().or(request.client_id.as_deref());
    let client = harmless(named.unwrap_or_default(), NAME_MAX);
    let device_code = format!("{PREFIX}{}", crate::auth::hex(&random::<32>()));
    let expires = app.store.now().after(VALID);
    for _ in 0..TRIES {
        let user_code = user_code();
        let new = NewDeviceCode {
            hash: hash_of(&device_code),
            user_hash: hash_of(&user_code),
            client: if client.is_empty() { NAMELESS.to_owned() } else { client.clone() },
            agent: agent.map(|agent| harmless(agent, AGENT_MAX)).filter(|agent| !agent.is_empty()),
            address: address.map(|address| address.to_string()),
            scopes,
            pause: PAUSE,
            expires,
        };
        let write = app.store.write(move |tx| Box::pin(tx.create_device_code(new)));
        match write.await? {
            Issued::Taken => {}
            Issued::TooMany => {
                let detail = "too many programs wait to be let in";
                return Err(Refused::Problem(
                    Problem::new(boatyard_api::ProblemKind::TooManyRequests, detail)
                        .with_next("Wait some minutes: a code that nobody uses ends by itself."),
                ));
            }
            Issued::Yes => {
                let user_code =
                    format!("{}-{}", &user_code[..LENGTH / 2], &user_code[LENGTH / 2..]);
                return Ok(DeviceCodes {
                    device_code,
                    verification_uri: format!("{url}/device"),
                    verification_uri_complete: format!("{url}/device?code={user_code}"),
                    user_code,
                    expires_in: VALID.as_secs(),
                    interval: PAUSE,
                });
            }
        }
    }
    Err(Refused::Problem(Problem::unavailable("no code is free")))
}

/// The key of a program that was let in; once.
///
/// # Errors
/// In the RFC's words, until somebody has decided and when it was decided against.
pub async fn redeem_device_code(
    app: &App,
    request: DeviceTokenRequest,
) -> Result<DeviceToken, Refused> {
    let said = |error, text: &str| Err(Refused::Said(error, text.to_owned()));
    if request.grant_type.is_empty() {
        return said("invalid_request", "there is no `grant_type`");
    }
    if request.grant_type != GRANT_TYPE {
        let text = format!("the only grant here is `{GRANT_TYPE}`");
        return said("unsupported_grant_type", &text);
    }
    let code = request.device_code.trim();
    if code.is_empty() {
        return said("invalid_request", "there is no `device_code`");
    }
    if code.len() > CODE_MAX {
        return said("invalid_grant", "this is no code of this server");
    }
    let hash = hash_of(code);
    let (secret, key_hash) = new_key();
    let polled = match app.store.poll_device_code(&hash).await? {
        Polled::Ready { owner, client } => {
            let standing = app.store.find_standing_of(owner).await?;
            let Some(standing) = standing else {
                let text = "who let this program in is no member of the organization any more";
                return said("access_denied", text);
            };
            audit::name_actor(audit::Actor {
                organization: Some(owner.organization),
                member: Some(owner.member),
                person: standing.person,
                name: standing.name,
                via: VIA.to_owned(),
                address: None,
            });
            let prefix = super::keys::prefix_of(&secret);
            audit::note("client", client);
            audit::note("prefix", &prefix);
            let write = app.store.write(move |tx| {
                Box::pin(async move { tx.redeem_device_code(&hash, (prefix, key_hash)).await })
            });
            write.await?
        }
        polled => polled,
    };
    match polled {
        Polled::Unknown => said("invalid_grant", "this is no code of this server"),
        Polled::Pending | Polled::Ready { .. } => {
            said("authorization_pending", "nobody has decided yet")
        }
        Polled::TooFast(pause) => {
            let text = format!("too often: wait {pause} seconds between two questions");
            said("slow_down", &text)
        }
        Polled::Denied => said("access_denied", "somebody said no"),
        Polled::Expired => {
            said("expired_token", "nobody decided within ten minutes; begin anew for another code")
        }
        Polled::Used => said("invalid_grant", "this code was used before"),
        Polled::Key { id, scopes, expires } => {
            let expires_in = expires.map(|at| at.since(app.store.now()).as_secs());
            Ok(DeviceToken {
                access_token: secret,
                token_type: "Bearer".to_owned(),
                expires_in,
                scope: scopes.to_string(),
                key: id,
            })
        }
    }
}

/// What waits behind a code that somebody typed.
///
/// # Errors
/// When it is no code, or none of a program that waits.
pub async fn find_device_code(app: &App, code: &str) -> Result<DeviceCodeDetail, Problem> {
    let row = find(app, code).await?;
    let state = match row.state {
        Stored::Denied => DeviceCodeState::Denied,
        Stored::Used => DeviceCodeState::Approved,
        _ if row.expires <= app.store.now() => DeviceCodeState::Expired,
        Stored::Approved => DeviceCodeState::Approved,
        Stored::Pending => DeviceCodeState::Pending,
    };
    Ok(DeviceCodeDetail {
        client: row.client,
        agent: row.agent,
        address: row.address,
        scopes: row.scopes,
        state,
        created: row.created,
        expires: row.expires,
    })
}

/// Lets a program in, as the caller and in its organization, or refuses it.
///
/// # Errors
/// When somebody has decided, it is too late, or the caller can't give what is asked for.
pub async fn decide_device_code(
    app: &App,
    caller: &Caller,
    code: &str,
    decision: DeviceDecision,
) -> Result<DeviceCodeDetail, Problem> {
    let row = find(app, code).await?;
    match row.state {
        Stored::Pending if row.expires > app.store.now() => {}
        Stored::Pending => return Err(over()),
        _ => return Err(decided()),
    }
    let decided_as = if decision.approve {
        approval(app, caller, &row, &decision).await?
    } else if decision.scopes.is_some() || decision.expires.is_some() {
        return Err(Problem::invalid("approve", "a no has neither scopes nor an end"));
    } else {
        Decision::Deny
    };
    audit::note("client", &row.client);
    audit::note("approve", decision.approve);
    if let Decision::Approve { scopes, .. } = decided_as {
        audit::note("scopes", scopes);
    }
    let (hash, by) = (hash_of(&letters(code)?), caller.owner);
    let write = app.store.write(move |tx| {
        Box::pin(async move { tx.decide_device_code(&hash, by, decided_as).await })
    });
    write.await.map_err(|error| match error {
        // Between the look and the decision.
        boatyard_store::Error::NotFound { .. } => over(),
        boatyard_store::Error::AlreadyResolved { .. } => decided(),
        error => store_problem(error),
    })?;
    find_device_code(app, code).await
}

async fn approval(
    app: &App,
    caller: &Caller,
    row: &DeviceCodeRow,
    decision: &DeviceDecision,
) -> Result<Decision, Problem> {
    if caller.person.is_none() {
        return Err(Problem::not_allowed("there is no person behind this key to act as")
            .with_next("Let the program in from a browser in which somebody is signed in."));
    }
    let most = given(row.scopes, caller.scopes);
    let scopes = decision.scopes.unwrap_or(most);
    if !most.cover(scopes) {
        let detail = format!("this is more than what was asked for and can be given: {most}");
        return Err(Problem::invalid("scopes", detail));
    }
    if scopes.is_empty() {
        let field = if decision.scopes.is_some() { "scopes" } else { "approve" };
        return Err(Problem::invalid(field, "a key that is for nothing is of no use"));
    }
    // A key's own end comes before what is usual, and refuses what was named.
    let usual = app.store.now().after(KEY_VALID);
    let key_expires = match until(app, caller, decision.expires).await? {
        Some(at) if decision.expires.is_none() => Some(at.min(usual)),
        Some(at) => Some(at),
        None => Some(usual),
    };
    Ok(Decision::Approve { scopes, key_expires })
}

async fn find(app: &App, code: &str) -> Result<DeviceCodeRow, Problem> {
    let hash = hash_of(&letters(code)?);
    let row = app.store.find_device_code(&hash).await.map_err(store_problem)?;
    row.ok_or_else(|| {
        Problem::not_found("program that waits with", "this code")
            .with_next("Compare it letter by letter; a code is good for ten minutes.")
    })
}

fn over() -> Problem {
    Problem::conflict("this code is over: nobody decided within ten minutes")
        .with_next("Have the program begin anew, for another code.")
}

fn decided() -> Problem {
    Problem::conflict("somebody has decided about this program already")
        .with_next("Have the program begin anew, if that was not you.")
}

/// The letters of a code as a person typed it: in any case, with a hyphen or spaces, or without.
///
/// # Errors
/// When it can't be a code.
pub fn letters(code: &str) -> Result<String, Problem> {
    let parted = |c: &char| !matches!(c, '-' | ' ' | '_');
    let letters: String =
        code.chars().take(CODE_MAX).filter(parted).map(|c| c.to_ascii_uppercase()).collect();
    let good = letters.len() == LENGTH && letters.chars().all(|c| ALPHABET.contains(c));
    good.then_some(letters).ok_or_else(|| {
        Problem::invalid(
            "path.code",
            format!("a code has {LENGTH} letters of {ALPHABET}, as BCDF-GHJK"),
        )
    })
}

/// A fresh code for people.
fn user_code() -> String {
    let letters = ALPHABET.as_bytes();
    // The largest multiple of the number of letters that a byte holds: every letter is as likely.
    let fair = 256 - 256 % letters.len();
    let mut code = String::with_capacity(LENGTH);
    while code.len() < LENGTH {
        for byte in random::<16>().map(usize::from) {
            if byte < fair && code.len() < LENGTH {
                code.push(char::from(letters[byte % letters.len()]));
            }
        }
    }
    code
}

/// Words of a stranger, for people: in one line, and not too many.
fn harmless(text: &str, max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let hidden = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    line.trim().chars().filter(hidden).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_taken_as_people_type_it() {
        for text in ["BCDFGHJK", "bcdf-ghjk", " bcdf ghjk ", "BCDF-GHJK"] {
            assert_eq!(letters(text).unwrap(), "BCDFGHJK");
        }
        for bad in ["", "BCDF", "BCDF-GHJA", "BCDF-GHJKL", "BCDF-GHJ1", "ßßßßßßßß"] {
            let problem = letters(bad).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("path.code"), "{bad}");
        }
    }

    #[test]
    fn codes_are_of_the_alphabet_and_differ() {
        let codes: std::collections::HashSet<String> = (0..1000).map(|_| user_code()).collect();
        assert_eq!(codes.len(), 1000);
        let mut seen: Vec<char> = codes.iter().flat_map(|code| code.chars()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.into_iter().collect::<String>(), ALPHABET);
    }

    #[test]
    fn a_stranger_s_words_stay_in_one_line() {
        assert_eq!(harmless("a\nb\u{202e}c\u{7}", 80), "a bc");
        assert_eq!(harmless(&"x".repeat(500), 80).len(), 80);
    }
}
