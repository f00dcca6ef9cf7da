//! One-time codes: what a printed link carries.
//!
//! A link lands in terminals, logs and histories, so it must be worth nothing once it was used. The
//! codes live in memory: a restart of the server ends them.
//!
//! [`Codes`] sign somebody in. [`SetupCode`] is the one code of a server that nobody has set up: it
//! stays until the server is somebody's, because a form that was filled badly is filled again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_model::{KeyId, PersonId, Timestamp, time::Clock};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{hex, random};

/// How long a link works.
const VALID: Duration = Duration::from_secs(12 * 3600);

/// How many links may be open at a time; the one that ends first makes room.
const OPEN: usize = 64;

/// How many of them may be one person's, whose first one makes room: nobody pushes out the links
/// of others.
const OPEN_OF_PERSON: usize = 8;

/// What a code begins with, so that it can't be taken for a key.
const PREFIX: &str = "once_";

/// What the code of a setup begins with.
const SETUP_PREFIX: &str = "setup_";

/// Whether a text has the form of a code that signs somebody in.
pub fn is_code(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Whom a code signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub person: PersonId,
    /// The key that asked for the code: the browser can do no more than it, and dies with it.
    pub key: Option<KeyId>,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To sign a browser in.
    SignIn,
    /// To sign a browser in, and to set a password there without the one before.
    NewPassword,
}

impl Purpose {
    /// How a browser is remembered that came in by such a code.
    pub const fn way(self) -> &'static str {
        match self {
            Self::SignIn => "link",
            Self::NewPassword => "reset",
        }
    }
}

/// The codes that were issued and not yet used, by hash.
pub struct Codes {
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<[u8; 32], (Holder, Timestamp)>>,
}

impl Codes {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, open: Mutex::new(HashMap::new()) }
    }

    /// A fresh code for somebody, and until when it works.
    pub fn issue(&self, holder: Holder) -> (String, Timestamp) {
        let code = format!("{PREFIX}{}", hex(&random::<20>()));
        let expires = self.clock.now().after(VALID);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_theirs = |(other, _): &(Holder, Timestamp)| other.person == holder.person;
        let own = open.values().filter(|one| is_theirs(one)).count() >= OPEN_OF_PERSON;
        if own || open.len() >= OPEN {
            let all = open.iter().filter(|(_, one)| !own || is_theirs(one));
            let first = all.min_by_key(|(_, (_, expires))| *expires).map(|(hash, _)| *hash);
            first.and_then(|hash| open.remove(&hash));
        }
        open.insert(Sha256::digest(&code).into(), (holder, expires));
        (code, expires)
    }

    /// Whom the code stands for; it is used up.
    pub fn take(&self, code: &str) -> Option<Holder> {
        if !is_code(code) {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(code).into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (holder, expires) = open.remove(&hash)?;
        (self.clock.now() < expires).then_some(holder)
    }

    /// The codes of a person are worth nothing any more.
    pub fn forget(&self, person: PersonId) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (holder, _)| holder.person != person);
    }
}

/// The code with which somebody sets the server up.
#[derive(Default)]
pub struct SetupCode(Mutex<Option<[u8; 32]>>);

impl SetupCode {
    /// A fresh code; the one before is worth nothing any more.
    pub fn issue(&self) -> String {
        let code = format!("{SETUP_PREFIX}{}", hex(&random::<20>()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Sha256::digest(&code).into());
        code
    }

    /// Whether this is the code.
    pub fn is(&self, code: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(code).into();
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_some_and(|held| held.ct_eq(&given).into())
    }

    /// It was used.
    pub fn spend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use boatyard_testkit::ManualClock;

    use super::*;

    fn somebody() -> Holder {
        Holder { person: PersonId::new(), key: Some(KeyId::new()), purpose: Purpose::SignIn }
    }

    #[test]
    fn a_code_works_once_and_in_time() {
        let clock = Arc::new(ManualClock::default());
        let codes = Codes::new(clock.clone());
        let holder = somebody();
        let (code, expires) = codes.issue(holder);
        assert_eq!(codes.take("once_x"), None);
        assert_eq!(codes.take(&code), Some(holder));
        assert_eq!(codes.take(&code), None);
        let (late, _) = codes.issue(holder);
        clock.advance(expires.0);
        assert_eq!(codes.take(&late), None);
        let (forgotten, _) = codes.issue(holder);
        codes.forget(holder.person);
        assert_eq!(codes.take(&forgotten), None);
    }

    #[test]
    fn open_codes_are_bounded_and_the_newest_works() {
        let codes = Codes::new(Arc::new(ManualClock::default()));
        let issued: Vec<_> = (0..OPEN + 5).map(|_| codes.issue(somebody()).0).collect();
        assert_eq!(codes.open.lock().unwrap().len(), OPEN);
        assert!(codes.take(issued.last().unwrap()).is_some());
    }

    #[test]
    fn nobody_pushes_out_the_codes_of_others() {
        let codes = Codes::new(Arc::new(ManualClock::default()));
        let (first, own) = (codes.issue(somebody()).0, somebody());
        let many: Vec<_> = (0..OPEN + 5).map(|_| codes.issue(own).0).collect();
        assert_eq!(codes.open.lock().unwrap().len(), 1 + OPEN_OF_PERSON);
        assert!(codes.take(&first).is_some() && codes.take(many.last().unwrap()).is_some());
    }

    #[test]
    fn there_is_one_setup_code_and_it_ends_when_it_is_spent() {
        let setup = SetupCode::default();
        assert!(!setup.is(""));
        let first = setup.issue();
        assert!(setup.is(&first) && setup.is(&first), "a bad form is filled again");
        let second = setup.issue();
        assert!(!setup.is(&first) && setup.is(&second));
        setup.spend();
        assert!(!setup.is(&second));
    }
}
