//! Tokens that were made, kept until shortly before their end.
//!
//! One is made at a time for each use: who needs the same waits for it. Nothing is kept on disk.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use boatyard_egress::git::{Credential, Direction};
use boatyard_model::{ConnectionId, Timestamp};

/// How long before its end a token is not used any more: as long as a push may take to be sent.
const EARLY: Duration = Duration::from_secs(5 * 60);
/// Tokens that are kept; past it all are made anew.
const KEPT: usize = 1024;

/// What a token is for: a connection, and of a GitHub App's the repository and the direction.
pub(super) type Use = (ConnectionId, Option<(String, Direction)>);

/// A token as it is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) credential: Credential,
    /// When it ends, if it does.
    pub(super) expires: Option<Timestamp>,
    /// Tells the value of the connection that it was made from: when that is another, so is this.
    pub(super) made_from: Timestamp,
}

type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// The tokens.
#[derive(Debug, Default)]
pub(super) struct Tokens(Mutex<HashMap<Use, Slot>>);

impl Tokens {
    fn slot(&self, used: Use) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(used).or_default())
    }

    /// The token for this, as it is kept or as `make` makes it.
    pub(super) async fn get<E>(
        &self,
        used: Use,
        made_from: Timestamp,
        now: Timestamp,
        make: impl Future<Output = Result<Kept, E>>,
    ) -> Result<Credential, E> {
        let slot = self.slot(used);
        let mut slot = slot.lock().await;
        if let Some(kept) = &*slot {
            let lives = kept.expires.is_none_or(|end| now.after(EARLY) < end);
            if lives && kept.made_from == made_from {
                return Ok(kept.credential.clone());
            }
        }
        let kept = make.await?;
        Ok(slot.insert(kept).credential.clone())
    }

    /// Forgets those of a connection, which were not taken: whether there were any.
    pub(super) fn forget(&self, connection: ConnectionId) -> bool {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = slots.len();
        slots.retain(|(of, _), _| *of != connection);
        slots.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use boatyard_egress::gateway::Secret;

    use super::*;

    #[tokio::test]
    async fn a_token_is_made_once_and_again_before_its_end() {
        let tokens = Tokens::default();
        let connection = ConnectionId::new();
        let made = AtomicU32::new(0);
        let get = async |now: i64, made_from: i64| {
            let make = async {
                let n = made.fetch_add(1, Ordering::Relaxed);
                let secret = Secret::new(format!("token-{n}"));
                Ok::<_, ()>(Kept {
                    credential: Credential::basic("c", "mend it", "x-access-token", &secret),
                    expires: Some(Timestamp(3_600_000)),
                    made_from: Timestamp(made_from),
                })
            };
            tokens.get((connection, None), Timestamp(made_from), Timestamp(now), make).await
        };
        let first = get(0, 0).await.unwrap();
        assert_eq!(get(3_000_000, 0).await.unwrap().header, first.header);
        assert_ne!(get(3_400_000, 0).await.unwrap().header, first.header, "shortly before its end");
        assert_eq!(made.load(Ordering::Relaxed), 2);
        get(0, 1).await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 3, "the connection has another value");
        assert!(tokens.forget(connection) && !tokens.forget(connection));
        get(0, 1).await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 4);
    }
}
