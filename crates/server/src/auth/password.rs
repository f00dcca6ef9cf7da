//! Passwords: Argon2id, with the parameters that OWASP recommends, each with a salt of its own.
//!
//! To compare one takes tens of milliseconds and 19 MiB on purpose. So it happens on the threads
//! for blocking work, few at a time; a crowd waits in a bounded line, and whoever comes after is
//! told to come again.

use std::{sync::Arc, time::Duration};

use boatyard_api::{
    Problem, ProblemKind,
    identity::{PASSWORD_MAX, PASSWORD_MIN},
};
use boatyard_store::PasswordHash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

/// Passwords that are worked on at a time: 19 MiB each, and cores are there for agents.
const AT_A_TIME: usize = 2;

/// Those who wait for that at most.
const WAITING: usize = 64;

/// How long one waits at most.
const WAIT: Duration = Duration::from_secs(10);

/// Nobody's: what is compared where there is no account, so that it takes as long as with one.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Ym9hdHlhcmRub2JvZHk$\
                      qnIvTz5cOiMDl4tmNQYRLXbE1Yw0cJ0xqYF0m7uJ3Wk";

/// What everybody tries first. Shorter ones are refused by their length.
const COMMON: &[&str] = &[
    "password",
    "changeme",
    "letmein",
    "administrator",
    "boatyard",
    "qwertyuiop",
    "qwerty",
    "iloveyou",
    "welcome",
    "1q2w3e4r5t",
    "asdfghjkl",
    "secret",
    "default",
    "princess",
    "football",
    "sunshine",
    "superman",
    "admin",
    "root",
    "test",
];

/// Works on passwords.
pub struct Passwords {
    places: Arc<Semaphore>,
    line: Arc<Semaphore>,
}

/// What came of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// It is the password.
    Same,
    /// It is, and what it is compared with is to be made anew, with today's parameters.
    SameOutdated,
    /// It isn't.
    Other,
}

impl Default for Passwords {
    fn default() -> Self {
        let semaphore = |n| Arc::new(Semaphore::new(n));
        Self { places: semaphore(AT_A_TIME), line: semaphore(AT_A_TIME + WAITING) }
    }
}

impl Passwords {
    /// What a password is to be compared with.
    ///
    /// # Errors
    /// When too many wait, or the system has no random bytes.
    pub async fn hash(&self, password: &str) -> Result<PasswordHash, Problem> {
        let password = Zeroizing::new(password.to_owned());
        self.run(move || PasswordHash(password_auth::generate_hash(password.as_bytes()))).await
    }

    /// Compares a password; with nobody's where there is nothing to compare it with.
    ///
    /// # Errors
    /// When too many wait.
    pub async fn compare(
        &self,
        password: &str,
        hash: Option<&PasswordHash>,
    ) -> Result<Compared, Problem> {
        let known = hash.is_some();
        let hash = hash.map_or_else(|| NOBODY.to_owned(), |hash| hash.0.clone());
        // Longer than any that was taken: only the start is looked at, which is no password.
        let end = password.floor_char_boundary(PASSWORD_MAX + 1);
        let password = Zeroizing::new(password[..end].to_owned());
        self.run(move || {
            let same = password_auth::verify_password(password.as_bytes(), &hash).is_ok();
            match same && known {
                true if password_auth::is_hash_obsolete(&hash).unwrap_or(false) => {
                    Compared::SameOutdated
                }
                true => Compared::Same,
                false => Compared::Other,
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let busy = || {
            Problem::new(ProblemKind::TooManyRequests, "too many people sign in at this moment")
                .advised()
        };
        let line = Arc::clone(&self.line).try_acquire_owned().map_err(|_| busy())?;
        let waited = tokio::time::timeout(WAIT, Arc::clone(&self.places).acquire_owned()).await;
        let place = waited.map_err(|_| busy())?.map_err(Problem::internal)?;
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (line, place);
        // Goes on when the caller goes away, and keeps its place until it is done.
        let done = tokio::task::spawn_blocking(move || {
            let value = work();
            drop(held);
            value
        });
        done.await.map_err(Problem::internal)
    }
}

/// Why a password is not taken, in words that go on behind "the password".
pub fn objection(password: &str, email: &str, name: &str) -> Option<String> {
    let characters = password.chars().count();
    if characters < PASSWORD_MIN {
        return Some(format!(
            "has {characters} characters; it needs at least {PASSWORD_MIN}: some words in a row \
             are easy to remember"
        ));
    }
    if password.len() > PASSWORD_MAX {
        return Some(format!("is longer than {PASSWORD_MAX} bytes"));
    }
    let small = password.to_lowercase();
    let letters: String = small.chars().filter(|c| c.is_alphabetic()).collect();
    let distinct = small.chars().collect::<std::collections::BTreeSet<_>>().len();
    let steps = small.as_bytes().windows(2).filter(|pair| pair[0].abs_diff(pair[1]) <= 1).count();
    let local = email.split('@').next().unwrap_or_default().to_lowercase();
    let is_own = |own: &str| own.len() >= 3 && (letters == own || small == own);
    let guessed = COMMON.contains(&&*letters)
        || distinct < 4
        || steps + 2 >= small.len()
        || is_own(&local)
        || is_own(&email.to_lowercase())
        || is_own(&name.to_lowercase());
    guessed.then(|| "is one that everybody would try first; take another".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_again_and_no_other() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse").await.unwrap();
        let again = passwords.hash("correct horse").await.unwrap();
        assert_ne!(hash, again, "each has a salt of its own");
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "the parameters");
        assert!(!format!("{hash:?}").contains("argon"), "never shown");
        let same = passwords.compare("correct horse", Some(&hash)).await.unwrap();
        assert_eq!(same, Compared::Same);
        for bad in ["", "correct hors", "correct horse ", &"x".repeat(100_000)] {
            let compared = passwords.compare(bad, Some(&hash)).await.unwrap();
            assert_eq!(compared, Compared::Other, "{} bytes", bad.len());
        }
        // What stands for nobody is a hash of the same price, and no password is it.
        assert!(!password_auth::is_hash_obsolete(NOBODY).unwrap());
        assert_eq!(passwords.compare("correct horse", None).await.unwrap(), Compared::Other);
        // One of weaker parameters is right, and to be made anew.
        let weak = PasswordHash(
            "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$RjYGIjVUQVkLC0Jb4+4LNmLTBBNb5HCFgfPYFxYJQjA"
                .to_owned(),
        );
        assert!(password_auth::is_hash_obsolete(&weak.0).unwrap());
    }

    #[tokio::test]
    async fn a_crowd_is_told_to_come_again() {
        let passwords = Passwords::default();
        let line: Vec<_> = (0..AT_A_TIME + WAITING)
            .map(|_| Arc::clone(&passwords.line).try_acquire_owned().unwrap())
            .collect();
        let problem = passwords.compare("x", None).await.unwrap_err();
        assert!(problem.is(ProblemKind::TooManyRequests));
        drop(line);
        assert_eq!(passwords.compare("x", None).await.unwrap(), Compared::Other);
    }

    #[test]
    fn what_everybody_tries_is_refused() {
        let objection = |password: &str| objection(password, "ada@example.com", "Ada Lovelace");
        for bad in [
            "",
            "short",
            "aaaaaaaaaaaa",
            "1234567890",
            "password123",
            "Changeme2026!",
            "ada@example.com",
            "Ada Lovelace",
            "abcdefghijkl",
            "administrator",
            "1111122222",
        ] {
            assert!(objection(bad).is_some(), "{bad}");
        }
        assert!(objection(&"x y".repeat(300)).is_some(), "too long");
        for good in ["correct horse battery", "kq8#Lm2$vP0!", "dünne Segel im Wind"] {
            assert_eq!(objection(good), None, "{good}");
        }
    }
}
