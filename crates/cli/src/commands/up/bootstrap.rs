//! The first key of an unattended installation: `BOATYARD_BOOTSTRAP_KEY`, or a file.
//!
//! It is stored as a key that may do everything, and works from the first moment on: what sets the
//! server up needs nobody at a browser. It stays as long as nobody revokes it; another value in its
//! place revokes the one before. One that was revoked is not brought back by a start.

use std::{ffi::OsString, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use boatyard_api::{
    connection::SecretText,
    identity::KEY_PREFIX,
    model::{KeyId, KeyKind, Scopes},
};
use boatyard_server::auth::hash_of;
use boatyard_store::{NewKey, Owner, Store, audit};

use super::key::SHOWN;
use crate::{failure::Failure, output::Output};

/// The variable that may hold the key.
pub(super) const VARIABLE: &str = "BOATYARD_BOOTSTRAP_KEY";
/// What the key is called in the database.
const NAME: &str = "bootstrap";
/// The fewest characters: as much as a random key of 128 bits has.
const SHORTEST: usize = 32;
/// The most characters.
const LONGEST: usize = 200;
/// The fewest different characters: random ones have more.
const DIFFERENT: usize = 10;
/// Words of keys that stand in somebody's example.
const PLACEHOLDERS: [&str; 7] =
    ["change", "example", "secret", "password", "default", "placeholder", "your"];
/// What to do about a key that can't be taken.
const MEND: &str = "make one with `echo by_$(openssl rand -hex 32)`";

/// The key, as it was given.
#[derive(Clone)]
pub(super) struct Bootstrap {
    key: SecretText,
    /// Where it was given, for messages.
    place: String,
}

impl Bootstrap {
    /// The key in `variable` or in `file`; none where neither is set.
    ///
    /// # Errors
    /// When both are, or it is none that anything should be guarded by.
    pub(super) fn read(
        variable: Option<OsString>,
        file: Option<&Path>,
        output: &Output,
    ) -> Result<Option<Self>> {
        let variable = variable.filter(|value| !value.is_empty());
        let (key, place) = match (variable, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let message = format!("{VARIABLE} and `server.bootstrap_key_file` are both set");
                return Err(Failure::usage(message).next("give the key in one place").into());
            }
            (Some(value), None) => {
                let text = value.into_string();
                // What is no text is no key either; it is not repeated.
                (text.unwrap_or_default(), VARIABLE.to_owned())
            }
            (None, Some(path)) => {
                let place = path.display().to_string();
                let unreadable = || format!("the key of `server.bootstrap_key_file`, {place}");
                let text = std::fs::read_to_string(path).with_context(unreadable)?;
                let mode = std::fs::metadata(path).with_context(unreadable)?.permissions().mode();
                if mode & 0o077 != 0 {
                    output.warning(format!("{place} can be read by others: chmod 600 {place}"));
                }
                (text, place)
            }
        };
        let key = SecretText::new(key.trim().to_owned());
        if let Some(objection) = objection(key.expose()) {
            let message = format!("the key in {place} {objection}");
            return Err(Failure::usage(message).next(MEND).into());
        }
        Ok(Some(Self { key, place }))
    }

    /// Has the database know the key, and no other that was given so.
    ///
    /// # Errors
    /// When it can't be stored.
    pub(super) async fn ensure(&self, store: &Store, output: &Output) -> Result<()> {
        let hash = hash_of(self.key.expose());
        if let Some(row) = store.find_any_key_by_hash(&hash).await? {
            if row.revoked.is_some() {
                output.warning(format!(
                    "the key in {} was revoked, and stays so: give another one, or none",
                    self.place
                ));
            }
            return Ok(());
        }
        let owner = Owner::BUILT_IN;
        let before: Vec<KeyId> = store
            .list_keys(owner.organization)
            .await?
            .into_iter()
            .filter(|key| key.kind == KeyKind::Bootstrap && key.revoked.is_none())
            .map(|key| key.id)
            .collect();
        let new = NewKey {
            owner,
            kind: KeyKind::Bootstrap,
            name: NAME.to_owned(),
            prefix: self.key.expose().chars().take(SHOWN).collect(),
            hash,
            scopes: Scopes::ALL,
            expires: None,
        };
        let write = store.write(move |tx| {
            Box::pin(async move {
                for id in before {
                    tx.revoke_key(id).await?;
                }
                tx.create_key(new).await
            })
        });
        audit::by_server("create_key", owner.organization, write)
            .await
            .context("the first key can't be stored")?;
        Ok(())
    }
}

/// Why something is no key to guard a server with. The key is not repeated.
fn objection(key: &str) -> Option<String> {
    let Some(rest) = key.strip_prefix(KEY_PREFIX) else {
        return Some(format!("does not begin with {KEY_PREFIX}"));
    };
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("holds a character that no key has".to_owned());
    }
    if key.len() < SHORTEST || key.len() > LONGEST {
        return Some(format!("has not between {SHORTEST} and {LONGEST} characters"));
    }
    let mut different: Vec<u8> = rest.bytes().collect();
    different.sort_unstable();
    different.dedup();
    let lower = rest.to_ascii_lowercase();
    if different.len() < DIFFERENT || PLACEHOLDERS.iter().any(|word| lower.contains(word)) {
        return Some("is one that others would try first".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use boatyard_store::Options;

    use super::*;

    fn output() -> Output {
        let global =
            <crate::args::Args as clap::Parser>::parse_from(["boatyard", "version"]).global;
        Output::new(&global)
    }

    fn key(n: u8) -> String {
        format!("by_{n:02}0123456789abcdef0123456789abcdef")
    }

    #[test]
    fn a_key_that_others_would_try_first_is_refused() {
        for bad in [
            "",
            "by_",
            "0123456789abcdef0123456789abcdef",
            "by_short0123456789",
            "by_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "by_0101010101010101010101010101010101",
            "by_change-me-0123456789abcdef0123456789",
            "by_YOUR-KEY-0123456789abcdef0123456789a",
            "by_0123456789abcdef 0123456789abcdef",
        ] {
            assert!(objection(bad).is_some(), "{bad}");
        }
        assert_eq!(objection(&key(1)), None);
        assert_eq!(objection(&boatyard_server::auth::new_key().0), None);
        let error = Bootstrap::read(Some("by_guessme".into()), None, &output()).err().unwrap();
        assert!(!format!("{error:#}").contains("guessme"), "{error:#}");
        let both = Bootstrap::read(Some(key(1).into()), Some(Path::new("/x")), &output());
        assert!(both.err().unwrap().to_string().contains("both set"));
    }

    #[tokio::test]
    async fn it_works_until_another_one_is_given_or_somebody_revokes_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path().join("boatyard.db"))).await.unwrap();
        let given = |n| Bootstrap::read(Some(key(n).into()), None, &output()).unwrap().unwrap();
        let find = async |n| store.find_key_by_hash(&hash_of(&key(n))).await.unwrap();
        for _ in 0..2 {
            given(1).ensure(&store, &output()).await.unwrap();
        }
        let first = find(1).await.unwrap();
        assert_eq!((first.kind, first.scopes), (KeyKind::Bootstrap, Scopes::ALL));
        assert_eq!(store.list_keys(first.owner.organization).await.unwrap().len(), 1);
        let file = dir.path().join("key");
        std::fs::write(&file, format!("{}\n", key(2))).unwrap();
        let second = Bootstrap::read(None, Some(&file), &output()).unwrap().unwrap();
        second.ensure(&store, &output()).await.unwrap();
        assert!(find(1).await.is_none() && find(2).await.is_some());
        // Neither a revoked one nor the one before comes back.
        let id = find(2).await.unwrap().id;
        store.write(move |tx| Box::pin(tx.revoke_key(id))).await.unwrap();
        second.ensure(&store, &output()).await.unwrap();
        given(1).ensure(&store, &output()).await.unwrap();
        assert!(find(1).await.is_none() && find(2).await.is_none());
    }
}
