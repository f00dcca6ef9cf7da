//! What a browser carries while its person is away at a provider.
//!
//! ```text
//! start: state, nonce, verifier ─ sealed ─► cookie, for the callback's path, ten minutes
//! callback: the state in the address must be the one in this browser's cookie; once
//! ```
//!
//! The server remembers nothing of a sign-in under way, so that nobody can fill its memory; what
//! the cookie holds is sealed by a key that dies with the process. The cookie is `Lax`, because the
//! way back begins at another site.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use boatyard_model::{DeviceId, PersonId, Timestamp};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::{auth::cookie::Transport, vault::Key};

/// How long a person may be away.
const VALID: Duration = Duration::from_secs(600);
/// What the cookie's name begins with; what follows is of the state, so that two windows do not
/// take each other's.
const NAME: &str = "boatyard_way_";
/// How much of the state is in the name.
const NAMED: usize = 8;
/// States that were used and would still be good, at most: past it the oldest is forgotten, and
/// only the provider refuses its code.
const USED_MAX: usize = 4096;
/// The longest address in the page that one is led to, in bytes.
const NEXT_MAX: usize = 512;
/// The longest cookie that is looked at, in bytes.
const COOKIE_MAX: usize = 4096;

/// A sign-in under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// The provider's name.
    pub(crate) provider: String,
    /// What the provider brings back.
    pub(crate) state: String,
    /// What the provider's word must hold, if it is OpenID Connect.
    pub(crate) nonce: String,
    /// What proves to the provider that it is us who asked (PKCE).
    pub(crate) verifier: String,
    /// Where in the page the person wants to go.
    pub(crate) next: String,
    /// The code of an invitation.
    pub(crate) invitation: Option<String>,
    /// Who is signed in already and wants to link the account.
    pub(crate) link: Option<Linking>,
    /// Until when.
    pub(crate) until: Timestamp,
}

/// Who links an account: must still be signed in at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Linking {
    /// Who.
    pub(crate) person: PersonId,
    /// In which browser.
    pub(crate) device: DeviceId,
}

/// Seals and opens them.
pub(crate) struct Flows {
    key: Key,
    used: Mutex<HashMap<String, Timestamp>>,
}

impl Flows {
    pub(crate) fn new() -> Self {
        Self { key: Key::random(), used: Mutex::default() }
    }

    /// Until when a flow is good that begins now.
    pub(crate) fn until(now: Timestamp) -> Timestamp {
        now.after(VALID)
    }

    /// The `Set-Cookie` value that has the browser carry this.
    pub(crate) fn set(&self, flow: &Flow, transport: Transport) -> String {
        let json = serde_json::to_vec(flow)
            .unwrap_or_else(|error| unreachable!("texts and numbers can be written: {error}"));
        let sealed = self.key.seal(&what_for(&flow.provider), &json);
        cookie(&flow.provider, &flow.state, &sealed, VALID.as_secs(), transport)
    }

    /// The `Set-Cookie` value that takes it from the browser again.
    pub(crate) fn clear(provider: &str, state: &str, transport: Transport) -> String {
        cookie(provider, state, "", 0, transport)
    }

    /// What this browser carries for this state, once.
    pub(crate) fn take(
        &self,
        headers: &HeaderMap,
        provider: &str,
        state: &str,
        now: Timestamp,
    ) -> Option<Flow> {
        let name = format!("{NAME}{}", state.get(..NAMED)?);
        let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let pairs = values.flat_map(|all| all.split(';'));
        let own = pairs.filter_map(|one| one.trim().strip_prefix(&*name)?.strip_prefix('='));
        let mut opened = own.filter(|text| text.len() <= COOKIE_MAX).filter_map(|sealed| {
            let json = self.key.open(&what_for(provider), sealed)?;
            serde_json::from_slice::<Flow>(&json).ok()
        });
        let flow = opened.find(|flow| flow.state.as_bytes().ct_eq(state.as_bytes()).into())?;
        let is_good = flow.provider == provider && now < flow.until;
        (is_good && self.use_up(&flow, now)).then_some(flow)
    }

    /// Whether a flow was not used before.
    fn use_up(&self, flow: &Flow, now: Timestamp) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.contains_key(&flow.state) {
            return false;
        }
        if used.len() >= USED_MAX {
            used.retain(|_, until| now < *until);
        }
        if used.len() >= USED_MAX {
            let oldest =
                used.iter().min_by_key(|(_, until)| **until).map(|(state, _)| state.clone());
            oldest.and_then(|state| used.remove(&state));
        }
        used.insert(flow.state.clone(), flow.until);
        true
    }
}

fn what_for(provider: &str) -> String {
    format!("boatyard sign-in {provider}")
}

fn cookie(provider: &str, state: &str, value: &str, age: u64, transport: Transport) -> String {
    let secure = match transport {
        Transport::Tls => "; Secure",
        Transport::Plain => "",
    };
    let name = state.get(..NAMED).unwrap_or_default();
    format!(
        "{NAME}{name}={value}; Path=/api/auth/callback/{provider}; Max-Age={age}; HttpOnly; \
         SameSite=Lax{secure}"
    )
}

/// Where in the page one is led to: never to another site.
pub(crate) fn next(wanted: Option<&str>) -> String {
    let is_own = |path: &&str| {
        path.len() <= NEXT_MAX
            && path.starts_with('/')
            && !path[1..].starts_with(['/', '\\'])
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    wanted.filter(is_own).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(state: &str) -> Flow {
        Flow {
            provider: "team".to_owned(),
            state: state.to_owned(),
            nonce: "n".to_owned(),
            verifier: "v".to_owned(),
            next: "/tasks".to_owned(),
            invitation: None,
            link: None,
            until: Flows::until(Timestamp(0)),
        }
    }

    fn headers(set: &str) -> HeaderMap {
        let pair = set.split(';').next().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {pair}; c=d").parse().unwrap());
        headers
    }

    #[test]
    fn a_flow_comes_back_once_to_the_browser_that_began_it() {
        let flows = Flows::new();
        let begun = flow("0123456789abcdef");
        let carried = headers(&flows.set(&begun, Transport::Plain));
        let take = |headers: &HeaderMap, provider: &str, state: &str, now: i64| {
            flows.take(headers, provider, state, Timestamp(now))
        };
        assert_eq!(take(&HeaderMap::new(), "team", &begun.state, 1), None, "another browser");
        assert_eq!(take(&carried, "other", &begun.state, 1), None, "another provider");
        assert_eq!(take(&carried, "team", "01234567aaaaaaaa", 1), None, "another state");
        assert_eq!(take(&carried, "team", "", 1), None);
        assert_eq!(take(&carried, "team", &begun.state, begun.until.0), None, "too late");
        assert_eq!(take(&carried, "team", &begun.state, 1), Some(begun.clone()));
        assert_eq!(take(&carried, "team", &begun.state, 2), None, "a second time");
        let other = Flows::new();
        assert_eq!(other.take(&carried, "team", &begun.state, Timestamp(1)), None, "sealed by us");
    }

    #[test]
    fn what_is_used_is_bounded() {
        let flows = Flows::new();
        for n in 0..USED_MAX + 10 {
            assert!(flows.use_up(&flow(&format!("{n:016}")), Timestamp(0)));
        }
        assert_eq!(flows.used.lock().unwrap().len(), USED_MAX);
    }

    #[test]
    fn nobody_is_led_to_another_site() {
        for (wanted, expected) in [
            (Some("/tasks/1?x=y"), "/tasks/1?x=y"),
            (Some("//evil.example"), "/"),
            (Some("/\\evil.example"), "/"),
            (Some("https://evil.example"), "/"),
            (Some("/a\r\nb"), "/"),
            (Some(""), "/"),
            (None, "/"),
        ] {
            assert_eq!(next(wanted), expected, "{wanted:?}");
        }
    }
}
