//! One-time codes: what a printed link carries.
//!
//! A link lands in terminals, logs and histories, so it must be worth nothing once it was used. The
//! codes live in memory: a restart of the server ends them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_model::{KeyId, Timestamp, time::Clock};
use sha2::{Digest as _, Sha256};

use super::{hex, random};

/// How long a link works.
const VALID: Duration = Duration::from_secs(12 * 3600);

/// How many links may be open at a time; the one that ends first makes room.
const OPEN: usize = 64;

/// What a code begins with, so that it can't be taken for a key.
const PREFIX: &str = "once_";

/// The codes that were issued and not yet used, by hash.
pub struct Codes {
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<[u8; 32], (KeyId, Timestamp)>>,
}

impl Codes {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, open: Mutex::new(HashMap::new()) }
    }

    /// A fresh code for the owner of this key, and until when it works.
    pub fn issue(&self, key: KeyId) -> (String, Timestamp) {
        let code = format!("{PREFIX}{}", hex(&random::<20>()));
        let expires = self.clock.now().after(VALID);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN {
            let first = open.iter().min_by_key(|(_, (_, expires))| *expires).map(|(hash, _)| *hash);
            first.and_then(|hash| open.remove(&hash));
        }
        open.insert(Sha256::digest(&code).into(), (key, expires));
        (code, expires)
    }

    /// The key that the code stands for; it is used up.
    pub fn take(&self, code: &str) -> Option<KeyId> {
        if !code.starts_with(PREFIX) {
            return None;
        }
        let hash: [u8; 32] = Sha256::digest(code).into();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, expires) = open.remove(&hash)?;
        (self.clock.now() < expires).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use boatyard_testkit::ManualClock;

    use super::*;

    #[test]
    fn a_code_works_once_and_in_time() {
        let clock = Arc::new(ManualClock::default());
        let codes = Codes::new(clock.clone());
        let key = KeyId::new();
        let (code, expires) = codes.issue(key);
        assert_eq!(codes.take("once_x"), None);
        assert_eq!(codes.take(&code), Some(key));
        assert_eq!(codes.take(&code), None);
        let (late, _) = codes.issue(key);
        clock.advance(expires.0);
        assert_eq!(codes.take(&late), None);
    }

    #[test]
    fn open_codes_are_bounded_and_the_newest_works() {
        let codes = Codes::new(Arc::new(ManualClock::default()));
        let issued: Vec<_> = (0..OPEN + 5).map(|_| codes.issue(KeyId::new()).0).collect();
        assert_eq!(codes.open.lock().unwrap().len(), OPEN);
        assert!(codes.take(issued.last().unwrap()).is_some());
    }
}
