//! The one key that guards everything: made at the first start, kept in `client.toml`.
//!
//! The database has its hash only. When `client.toml` is gone, or its key is not one of the
//! database's, a new one is made and the one before ceases to work: removing the file and starting
//! anew changes the key.

use anyhow::{Context as _, Result};
use boatyard_api::model::{KeyId, KeyKind};
use boatyard_server::auth::{hash_of, new_key};
use boatyard_store::{NewKey, Owner, Store, audit};

use crate::data::DataFolder;

/// What the key is called in the database.
const NAME: &str = "this machine";
/// Characters of a secret that may be shown, to recognize it by: the prefix and four more.
pub(super) const SHOWN: usize = 7;

/// The key, with its secret.
pub(super) struct Key {
    pub(super) id: KeyId,
    pub(super) secret: String,
}

/// Finds the key, or makes it.
pub(super) async fn ensure(store: &Store, folder: &DataFolder) -> Result<Key> {
    if let Some(client) = folder.client()?
        && let Some(row) = store.find_key_by_hash(&hash_of(&client.key)).await?
    {
        return Ok(Key { id: row.id, secret: client.key });
    }
    let (secret, hash) = new_key();
    let prefix = secret.chars().take(SHOWN).collect();
    let owner = Owner::BUILT_IN;
    let old: Vec<KeyId> = store
        .list_keys(owner.organization)
        .await?
        .into_iter()
        .filter(|key| key.kind == KeyKind::Local && key.name == NAME && key.revoked.is_none())
        .map(|key| key.id)
        .collect();
    let new = NewKey::local(owner, NAME.to_owned(), prefix, hash);
    let work = store.write(move |tx| {
        Box::pin(async move {
            for id in old {
                tx.revoke_key(id).await?;
            }
            tx.create_key(new).await
        })
    });
    let id = audit::by_server("create_key", owner.organization, work)
        .await
        .context("the key can't be stored")?;
    Ok(Key { id, secret })
}

#[cfg(test)]
mod tests {
    use boatyard_store::Options;

    use super::*;
    use crate::data::ClientFile;

    #[tokio::test]
    async fn the_key_stays_until_its_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(&dir.path().join("data")).unwrap();
        let store = Store::open(Options::new(folder.database())).await.unwrap();
        let first = ensure(&store, &folder).await.unwrap();
        assert!(first.secret.starts_with("by_"));
        let client = ClientFile { server: "http://127.0.0.1:1".into(), key: first.secret.clone() };
        folder.write_client(&client).unwrap();
        let second = ensure(&store, &folder).await.unwrap();
        assert_eq!((second.id, &second.secret), (first.id, &first.secret));
        std::fs::remove_file(folder.path().join("client.toml")).unwrap();
        let third = ensure(&store, &folder).await.unwrap();
        assert_ne!(third.secret, first.secret);
        assert!(store.find_key(first.id).await.unwrap().is_none());
    }
}
