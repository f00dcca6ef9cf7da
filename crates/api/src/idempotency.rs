//! A creation that is asked for twice happens once.

use std::{fmt, str::FromStr};

/// The header that carries it.
pub const HEADER: &str = "idempotency-key";

/// The longest key, in bytes.
const MAX: usize = 200;

/// What a client chose to name one creation: the same key with the same request gives the same
/// thing, with another request it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A fresh one.
    pub fn random() -> Self {
        Self(boatyard_model::JobId::new().to_string().replace("job_", "once_"))
    }
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {MAX} characters from `!` to `~`")]
pub struct BadKey;

impl FromStr for IdempotencyKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let ok = (1..=MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if ok { Ok(Self(text.to_owned())) } else { Err(BadKey) }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
