//! For whom the server is, which ways of signing in are switched on, and who may sign up.
//!
//! ```text
//! listens on loopback, no public `url`, no proxy, no [sign_in], nobody
//! claimed it ────────────────────────────────────────────────────────────► single: the printed
//!                                                                          link signs in
//! else, nobody claimed it ───────────────────────────────────────────────► setup: the printed link
//! claimed ───────────────────────────────────────────────────────────────► people
//! ```
//!
//! What may be decided stands in `[sign_in]` of the settings or was set on the page
//! ([`StoredWays`]); the settings go before the page.

use std::{net::SocketAddr, time::Duration};

use boatyard_api::{
    Problem,
    identity::{ServerState, SignUp},
};
use boatyard_model::Role;
use boatyard_store::Address;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::settings::{Settings, SignIn, Span};

/// Under which name [`StoredWays`] are kept in the database.
pub const STORED: &str = "sign_in";

/// How long a browser stays signed in when it isn't used.
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// For whom a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// For the one who started it, as long as nobody claims it.
    One,
    /// For several people.
    Team,
}

impl Audience {
    /// For whom a server is that listens here with these settings.
    pub fn of(settings: &Settings, listening: SocketAddr) -> Self {
        let outside = !is_near(listening.ip())
            || settings.server.url.as_deref().is_some_and(|url| !is_loopback(url))
            // Whoever names a proxy is reached through it.
            || !settings.server.trusted_proxies.is_empty();
        let chosen = settings.sign_in.is_set() || !settings.sign_in_providers.is_empty();
        if outside || chosen { Self::Team } else { Self::One }
    }

    /// What a server of this kind is for now.
    pub const fn state(self, claimed: bool) -> ServerState {
        match (self, claimed) {
            (_, true) => ServerState::People,
            (Self::One, false) => ServerState::Single,
            (Self::Team, false) => ServerState::Setup,
        }
    }
}

/// Whether nobody but this machine gets to an address.
fn is_near(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V6(v6) => {
            v6.is_loopback() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_loopback())
        }
        std::net::IpAddr::V4(v4) => v4.is_loopback(),
    }
}

/// Whether an address leads to the machine itself.
fn is_loopback(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// What was set on the page; what is none was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWays {
    /// Whether an address and a password sign in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub password: Option<bool>,
    /// Whether passkeys do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passkeys: Option<bool>,
    /// Who may sign up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sign_up: Option<SignUp>,
    /// Whose addresses may.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allowed_domains: Option<Vec<String>>,
    /// What those are who sign up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sign_up_role: Option<Role>,
    /// How long a browser stays signed in, in seconds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device_lifetime: Option<u64>,
}

/// What counts: the settings, else the page, else the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ways {
    /// Whether an address and a password sign in.
    pub password: bool,
    /// Whether passkeys do.
    pub passkeys: bool,
    /// Who may sign up.
    pub sign_up: SignUp,
    /// Whose addresses may, in small letters.
    pub allowed_domains: Vec<String>,
    /// What those are who sign up.
    pub sign_up_role: Role,
    /// How long a browser stays signed in when it isn't used.
    pub device_lifetime: Duration,
}

impl Ways {
    /// What counts of both.
    pub fn new(settings: &SignIn, stored: &StoredWays) -> Self {
        let domains = settings.allowed_domains.as_ref().or(stored.allowed_domains.as_ref());
        let small = |domain: &String| domain.to_ascii_lowercase();
        let lifetime = settings.device_lifetime.map(Span::duration);
        let lifetime = lifetime.or(stored.device_lifetime.map(Duration::from_secs));
        Self {
            password: settings.password.or(stored.password).unwrap_or(true),
            passkeys: settings.passkeys.or(stored.passkeys).unwrap_or(true),
            sign_up: settings.sign_up.or(stored.sign_up).unwrap_or_default(),
            allowed_domains: domains.into_iter().flatten().map(small).collect(),
            // Nobody owns an organization by coming in.
            sign_up_role: settings
                .sign_up_role
                .or(stored.sign_up_role)
                .filter(|role| *role != Role::Owner)
                .unwrap_or(Role::Member),
            device_lifetime: lifetime.unwrap_or(LIFETIME),
        }
    }

    /// What somebody becomes in the first organization who signs up without an invitation.
    ///
    /// An address that somebody merely claims is no proof of a domain: anybody may claim one.
    ///
    /// # Errors
    /// When that is not for them, with what would help.
    pub fn admit(&self, email: &str, address: Address) -> Result<Role, Problem> {
        let refused = |detail: String, next: &str| {
            Err(Problem::not_allowed(detail).at("email").with_next(next))
        };
        let invited = "Ask somebody who is here already for an invitation.";
        match self.sign_up {
            SignUp::Closed => refused("nobody signs up here without an invitation".into(), invited),
            SignUp::Open => Ok(self.sign_up_role),
            SignUp::Domains => {
                let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
                if !self.allowed_domains.iter().any(|allowed| allowed == domain) {
                    let detail = format!("addresses of `{domain}` don't sign up here");
                    return refused(detail, invited);
                }
                match address {
                    Address::Verified => Ok(self.sign_up_role),
                    Address::Claimed => refused(
                        "it is not known that this address is yours".into(),
                        "Sign in with a provider that vouches for it, or ask for an invitation.",
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: &str, url: Option<&str>, sign_up: Option<SignUp>, expected: ServerState) {
        let mut settings = Settings::default();
        settings.server.url = url.map(str::to_owned);
        settings.sign_in.sign_up = sign_up;
        let audience = Audience::of(&settings, listen.parse().unwrap());
        assert_eq!(audience.state(false), expected, "{listen} {url:?}");
        assert_eq!(audience.state(true), ServerState::People);
    }

    #[test]
    fn only_what_stays_on_the_machine_is_for_one() {
        use ServerState::{Setup, Single};
        check("127.0.0.1:7070", None, None, Single);
        check("[::1]:7070", Some("http://localhost:7070"), None, Single);
        check("127.0.0.3:7070", Some("http://boat.localhost:7070/"), None, Single);
        check("0.0.0.0:7070", None, None, Setup);
        check("[::]:7070", None, None, Setup);
        check("192.168.1.5:7070", Some("http://localhost"), None, Setup);
        check("127.0.0.1:7070", Some("https://boat.example.com"), None, Setup);
        check("127.0.0.1:7070", Some("http://localhost.example.com"), None, Setup);
        check("127.0.0.1:7070", None, Some(SignUp::Closed), Setup);
        let mut behind = Settings::default();
        behind.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
        let audience = Audience::of(&behind, "127.0.0.1:7070".parse().unwrap());
        assert_eq!(audience.state(false), Setup);
    }

    #[test]
    fn the_settings_go_before_the_page_and_it_before_the_defaults() {
        let stored = StoredWays {
            password: Some(false),
            sign_up: Some(SignUp::Open),
            device_lifetime: Some(3600),
            ..StoredWays::default()
        };
        let settings = SignIn { sign_up: Some(SignUp::Closed), ..SignIn::default() };
        let ways = Ways::new(&settings, &stored);
        assert!(!ways.password && ways.passkeys);
        assert_eq!((ways.sign_up, ways.device_lifetime.as_secs()), (SignUp::Closed, 3600));
        assert_eq!(Ways::new(&SignIn::default(), &StoredWays::default()).device_lifetime, LIFETIME);
        let text = serde_json::to_string(&stored).unwrap();
        assert_eq!(serde_json::from_str::<StoredWays>(&text).unwrap(), stored);
    }

    #[test]
    fn who_may_sign_up() {
        let ways = |sign_up| Ways {
            sign_up,
            allowed_domains: vec!["example.com".into()],
            ..Ways::new(&SignIn::default(), &StoredWays::default())
        };
        let admits = |sign_up, email: &str, address| ways(sign_up).admit(email, address).is_ok();
        use Address::{Claimed, Verified};
        assert!(!admits(SignUp::Closed, "a@example.com", Verified));
        assert!(admits(SignUp::Open, "a@elsewhere.net", Claimed));
        assert!(admits(SignUp::Domains, "a@example.com", Verified));
        assert!(!admits(SignUp::Domains, "a@example.com", Claimed), "anybody can claim that");
        for other in ["a@sub.example.com", "a@example.com.evil.net", "a@evilexample.com", "x"] {
            assert!(!admits(SignUp::Domains, other, Verified), "{other}");
        }
    }
}
