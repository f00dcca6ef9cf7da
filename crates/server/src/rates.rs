//! How often something may be asked for: by one address, and by one account.
//!
//! - [`Limit`]: one thing that is counted, for each [`Key`] by itself.
//! - [`Rates`]: all that is counted of what comes in over HTTP, as `[rates]` of the settings says.
//!
//! The gate asks before it looks for the caller ([`Rates::arrive`], [`Rates::begin`]), so that
//! guesses cost next to nothing, and once more when it knows the account ([`Rates::known`]).
//! Programs of this machine that come by themselves are not counted by their address.

use std::net::IpAddr;

use boatyard_api::{Problem, ProblemKind};
use boatyard_model::{KeyId, MemberId, PersonId, ShareId};
use sha2::{Digest as _, Sha256};

use crate::{
    access::Entry,
    auth::{Caller, Via},
    proxy::Source,
    settings,
};

mod limit;

pub use limit::{Limit, Wait};

/// What is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// An address; of IPv6, the network of 64 bits that it lies in.
    Address(IpAddr),
    /// A person's account.
    Person(PersonId),
    /// A member of an organization.
    Member(MemberId),
    /// A key of an organization's own.
    ApiKey(KeyId),
    /// All guests of a share.
    Share(ShareId),
    /// A name that somebody gives, by its hash.
    Name([u8; 32]),
    /// All those together for whom there is no room.
    Rest,
}

impl Key {
    /// The key of an address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }

    /// The key of a name that somebody gives: an address of mail, say.
    pub fn name(name: &str) -> Self {
        Self::Name(Sha256::digest(name).into())
    }

    /// The key of a caller's account.
    pub fn caller(caller: &Caller) -> Self {
        match (caller.person, caller.via) {
            (Some(person), _) => Self::Person(person),
            (None, Via::Key(id)) => Self::ApiKey(id),
            (None, Via::Guest(id)) => Self::Share(id),
            (None, Via::Device(_) | Via::Server) => Self::Member(caller.owner.member),
        }
    }
}

/// What sort of request one is, as far as it is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// It may be a guess at how somebody signs in.
    SignIn,
    /// It may be a guess at a code.
    Codes,
    /// A program asks whether it is let in.
    Tokens,
    /// Nothing of that.
    Other,
}

/// Operations by which one signs in.
const SIGN_IN: &[&str] = &[
    "begin_passkey_login",
    "begin_sign_in",
    "finish_passkey_login",
    "finish_sign_in",
    "set_password",
    "set_up",
    "sign_in",
    "sign_up",
];

/// Operations that take a code, or make one for anybody.
const CODES: &[&str] = &[
    "accept_invitation",
    "create_device_code",
    "decide_device_code",
    "enter_as_guest",
    "find_device_code",
    "preview_invitation",
    "take_share",
];

/// Operations that programs repeat until they have a token.
const TOKENS: &[&str] = &["redeem_device_code"];

impl Class {
    fn of(entry: Option<&Entry>) -> Self {
        let Some(entry) = entry else { return Self::Other };
        let is_in = |names: &[&str]| names.contains(&entry.operation);
        match () {
            () if is_in(SIGN_IN) => Self::SignIn,
            () if is_in(CODES) => Self::Codes,
            () if is_in(TOKENS) => Self::Tokens,
            () => Self::Other,
        }
    }
}

/// How many times as often as one address all those together may fail to sign in to an account
/// from where nobody signed in to it before.
const STRANGERS: u32 = 3;

/// What comes in over HTTP.
#[derive(Debug)]
pub struct Rates {
    sign_in: Limit,
    sign_in_account: Limit,
    sign_in_strangers: Limit,
    codes: Limit,
    tokens: Limit,
    api: Limit,
    address: Limit,
    mail: Limit,
}

impl Default for Rates {
    fn default() -> Self {
        Self::new(&settings::Rates::default())
    }
}

impl Rates {
    /// As the settings say.
    pub fn new(settings: &settings::Rates) -> Self {
        Self {
            sign_in: Limit::new(settings.sign_in),
            sign_in_account: Limit::new(settings.sign_in_account),
            sign_in_strangers: Limit::new(settings.sign_in_account.saturating_mul(STRANGERS)),
            codes: Limit::new(settings.codes),
            tokens: Limit::new(settings.tokens),
            api: Limit::new(settings.api),
            address: Limit::new(settings.address),
            mail: Limit::new(settings.mail),
        }
    }

    /// A request comes in.
    ///
    /// # Errors
    /// When too many came from its address.
    pub fn arrive(&self, source: Option<Source>) -> Result<(), Problem> {
        let Some(address) = outside(source) else { return Ok(()) };
        self.address
            .take(Key::address(address))
            .map_err(|wait| refused(wait, format!("too many requests come from {address}")))
    }

    /// A request is for this.
    ///
    /// # Errors
    /// When its address tried that too often.
    pub fn begin(&self, source: Option<Source>, entry: Option<&Entry>) -> Result<(), Problem> {
        let Some(address) = outside(source) else { return Ok(()) };
        let (limit, what) = match Class::of(entry) {
            Class::SignIn => (&self.sign_in, "attempts to sign in"),
            Class::Codes => (&self.codes, "codes"),
            Class::Tokens => (&self.tokens, "questions for a token"),
            Class::Other => return Ok(()),
        };
        let taken = limit.take(Key::address(address));
        taken.map_err(|wait| refused(wait, format!("too many {what} come from {address}")))
    }

    /// A request carries a key that does not exist.
    ///
    /// # Errors
    /// When too many such came from its address. Good keys from there work all the same.
    pub fn unknown(&self, source: Option<Source>) -> Result<(), Problem> {
        let Some(address) = outside(source) else { return Ok(()) };
        let taken = self.tokens.take(Key::address(address));
        taken.map_err(|wait| {
            refused(wait, format!("too many keys that don't exist come from {address}"))
        })
    }

    /// The caller of a request is known.
    ///
    /// # Errors
    /// When the account asks too much.
    pub fn known(
        &self,
        caller: &Caller,
        source: Option<Source>,
        entry: Option<&Entry>,
    ) -> Result<(), Problem> {
        let key = Key::caller(caller);
        if Class::of(entry) == Class::Codes {
            let taken = self.codes.take(key);
            taken.map_err(|wait| refused(wait, "this account tries too many codes".to_owned()))?;
        }
        if outside(source).is_none() {
            return Ok(());
        }
        self.api.take(key).map_err(|wait| refused(wait, "this account asks too much".to_owned()))
    }

    /// Somebody tries to sign in to an account, from an address. To be
    /// [given back](Attempt::succeeded) if it is the right one.
    ///
    /// Each address is counted by itself, so that nobody uses up the attempts of another; and all
    /// from where nobody signed in to the account before are counted together, so that many
    /// addresses are of little use.
    ///
    /// # Errors
    /// When too many attempts at it failed.
    pub fn attempt(
        &self,
        account: &str,
        address: Option<IpAddr>,
        face: Face,
    ) -> Result<Attempt<'_>, Problem> {
        let too_many = |wait, from: &str| {
            refused(wait, format!("too many attempts to sign in to this account failed{from}"))
        };
        let place = address.map(|address| format!("{:?}", Key::address(address)));
        let here = Key::name(&format!("{account}\0{}", place.unwrap_or_default()));
        let taken = self.sign_in_account.take(here);
        taken.map_err(|wait| too_many(wait, " from your address"))?;
        let mut attempt = Attempt { taken: vec![(&self.sign_in_account, here)] };
        if face == Face::Stranger {
            let everywhere = Key::name(account);
            if let Err(wait) = self.sign_in_strangers.take(everywhere) {
                attempt.succeeded();
                return Err(too_many(wait, ""));
            }
            attempt.taken.push((&self.sign_in_strangers, everywhere));
        }
        Ok(attempt)
    }

    /// An account has a mail sent.
    ///
    /// # Errors
    /// When it had too many sent.
    pub fn mail(&self, caller: &Caller) -> Result<(), Problem> {
        let taken = self.mail.take(Key::caller(caller));
        taken.map_err(|wait| refused(wait, "this account has too many mails sent".to_owned()))
    }
}

/// From where somebody tries to sign in to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// From an address where its person was signed in before.
    Familiar,
    /// From any other.
    Stranger,
}

/// An attempt to sign in to an account.
#[derive(Debug)]
pub struct Attempt<'r> {
    taken: Vec<(&'r Limit, Key)>,
}

impl Attempt<'_> {
    /// It was the right one, and does not count.
    pub fn succeeded(self) {
        for (limit, key) in self.taken {
            limit.give_back(key);
        }
    }
}

/// The address that a request is counted by.
fn outside(source: Option<Source>) -> Option<IpAddr> {
    source.filter(|source| !source.is_here).map(|source| source.address)
}

fn refused(Wait(wait): Wait, detail: String) -> Problem {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let unit = if seconds == 1 { "second" } else { "seconds" };
    let mut problem = Problem::new(ProblemKind::TooManyRequests, detail)
        .with_next(format!("Wait {seconds} {unit}, then try again."));
    problem.retry_after = Some(seconds);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::table::TABLE;

    #[test]
    fn each_operation_that_is_counted_exists() {
        for name in SIGN_IN.iter().chain(CODES).chain(TOKENS) {
            assert!(TABLE.iter().any(|entry| entry.operation == *name), "{name}");
        }
    }

    #[test]
    fn what_is_open_to_everybody_and_takes_something_is_counted() {
        // These take nothing that could be guessed, and make nothing.
        let harmless = ["enter", "list_ways", "sign_out"];
        for entry in TABLE.iter().filter(|entry| entry.path.starts_with("/api/auth/")) {
            if entry.need == crate::access::Need::Open && !harmless.contains(&entry.operation) {
                assert_ne!(Class::of(Some(entry)), Class::Other, "{}", entry.operation);
            }
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let key = |text: &str| Key::address(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.2"), key("10.0.0.1"));
    }

    #[test]
    fn addresses_are_counted_one_by_one_and_this_machine_is_not() {
        let rates = Rates::new(&settings::Rates { address: 2, ..settings::Rates::default() });
        let from = |text: &str, is_here| Some(Source { address: text.parse().unwrap(), is_here });
        for _ in 0..2 {
            rates.arrive(from("203.0.113.1", false)).unwrap();
        }
        let problem = rates.arrive(from("203.0.113.1", false)).unwrap_err();
        assert!(problem.is(ProblemKind::TooManyRequests));
        assert!(problem.detail.contains("203.0.113.1"), "{problem}");
        assert!(problem.retry_after.is_some_and(|seconds| (1..=31).contains(&seconds)));
        rates.arrive(from("203.0.113.2", false)).unwrap();
        for _ in 0..10 {
            rates.arrive(from("127.0.0.1", true)).unwrap();
            rates.arrive(None).unwrap();
        }
    }

    #[test]
    fn an_attempt_that_succeeds_does_not_count() {
        let rates =
            Rates::new(&settings::Rates { sign_in_account: 3, ..settings::Rates::default() });
        let tries = |account| rates.attempt(account, None, Face::Stranger);
        for _ in 0..20 {
            tries("ann@example.com").unwrap().succeeded();
        }
        for _ in 0..3 {
            tries("ann@example.com").unwrap();
        }
        assert!(tries("ann@example.com").is_err());
        assert!(tries("bob@example.com").is_ok());
    }

    #[test]
    fn strangers_lock_nobody_out_and_many_of_them_guess_no_more_than_some() {
        let settings = settings::Rates { sign_in_account: 2, ..settings::Rates::default() };
        let rates = Rates::new(&settings);
        let tries = |address: String, face| {
            rates.attempt("ann@example.com", Some(address.parse().unwrap()), face)
        };
        let from = |n: u8| format!("203.0.113.{n}");
        for _ in 0..2 {
            tries(from(1), Face::Stranger).unwrap();
        }
        let problem = tries(from(1), Face::Stranger).unwrap_err();
        assert!(problem.detail.contains("from your address"), "{problem}");
        // Another address is not kept out by that.
        tries(from(2), Face::Stranger).unwrap().succeeded();
        // All of them together are, and then those who were here before come in all the same.
        let failed = (2..200).filter(|n| tries(from(*n), Face::Stranger).is_ok()).count();
        assert_eq!(failed, 4);
        tries("198.51.100.7".to_owned(), Face::Familiar).unwrap().succeeded();
        tries(from(1), Face::Familiar).unwrap_err();
        for _ in 0..2 {
            tries("198.51.100.7".to_owned(), Face::Familiar).unwrap();
        }
        tries("198.51.100.7".to_owned(), Face::Familiar).unwrap_err();
    }
}
