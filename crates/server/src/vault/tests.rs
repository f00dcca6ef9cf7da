//! A vault over a real store, through changes and losses of its keys.

use std::ffi::OsString;

use boatyard_egress::broker::Shape;
use boatyard_model::{ConnectionId, WorkspaceId};
use boatyard_store::{NewConnection, Options};

use super::*;
use crate::settings::Settings;

const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const TWO: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";

struct House {
    folder: tempfile::TempDir,
    store: Store,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(folder.path().join("boatyard.db"))).await.unwrap();
        Self { folder, store }
    }

    async fn vault(&self, variable: Option<&str>) -> Vault {
        let master = Master::read(&Settings::default(), variable.map(OsString::from)).unwrap();
        let vault = Vault::new(self.store.clone(), self.folder.path().into(), master);
        vault.unlock().await.unwrap();
        vault
    }
}

fn opened(vault: &Vault, sealed: &Sealed) -> Result<Vec<u8>, String> {
    let opened = vault.open("thing 1", &sealed.text, &sealed.by);
    opened.map(|value| value.to_vec()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_new_vault_makes_its_keys_and_the_next_server_opens_them() {
    let house = House::new().await;
    let vault = house.vault(None).await;
    assert_eq!(vault.locked(), None);
    let sealed = vault.seal("thing 1", b"hidden").unwrap();
    assert_eq!(opened(&vault, &sealed).unwrap(), b"hidden");
    assert!(vault.open("thing 2", &sealed.text, &sealed.by).is_err());
    let (workspace, connection) = (WorkspaceId::new(), ConnectionId::new());
    let make =
        |vault: &Vault| vault.placeholders().unwrap().make(workspace, connection, Shape::default());
    let placeholder = make(&vault);
    drop(vault);
    let vault = house.vault(None).await;
    assert_eq!(opened(&vault, &sealed).unwrap(), b"hidden");
    assert_eq!(make(&vault), placeholder);
    // The file is what opens it, and nothing but what wraps is in the database.
    let file = std::fs::read_to_string(house.folder.path().join(FILE)).unwrap();
    let key = file.lines().last().unwrap().to_owned();
    for entry in std::fs::read_dir(house.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let is_there = memchr(&bytes, key.as_bytes()) || memchr(&bytes, b"hidden");
        assert_eq!(is_there, path.ends_with(FILE), "{path:?}");
    }
}

fn memchr(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[tokio::test]
async fn a_data_key_is_changed_and_what_others_sealed_still_opens() {
    let house = House::new().await;
    let vault = house.vault(None).await;
    let sealed = vault.seal("thing 1", b"hidden").unwrap();
    vault.renew().await.unwrap();
    let again = vault.seal("thing 1", b"hidden").unwrap();
    assert_ne!(sealed.by, again.by);
    assert_eq!(opened(&vault, &sealed).unwrap(), b"hidden");
    // Nothing in the database is sealed by the first any more.
    vault.forget_unused().await.unwrap();
    assert!(opened(&vault, &sealed).unwrap_err().contains("another key"));
    assert_eq!(opened(&house.vault(None).await, &again).unwrap(), b"hidden");
}

#[tokio::test]
async fn a_master_key_is_changed_without_a_moment_in_which_nothing_opens() {
    let house = House::new().await;
    let vault = house.vault(None).await;
    let sealed = vault.seal("thing 1", b"hidden").unwrap();
    let file = house.folder.path().join(FILE);
    let before = std::fs::read_to_string(&file).unwrap();
    let rekeyed = vault.change_master().await.unwrap();
    assert_eq!(rekeyed.rewrapped, 2);
    let after = std::fs::read_to_string(&file).unwrap();
    assert_ne!(before, after);
    assert_eq!(after.lines().count(), before.lines().count(), "the old one is gone");
    assert_eq!(opened(&house.vault(None).await, &sealed).unwrap(), b"hidden");

    // Given from outside: the new one before the old one, and then alone.
    let house = House::new().await;
    let vault = house.vault(Some(ONE)).await;
    let sealed = vault.seal("thing 1", b"hidden").unwrap();
    let refused = vault.change_master().await.unwrap_err().to_string();
    assert!(refused.contains("BOATYARD_VAULT_KEY=NEW,OLD"), "{refused}");
    let both = house.vault(Some(&format!("{TWO},{ONE}"))).await;
    assert_eq!(opened(&both, &sealed).unwrap(), b"hidden");
    let alone = house.vault(Some(TWO)).await;
    assert_eq!(opened(&alone, &sealed).unwrap(), b"hidden");
    assert!(house.vault(Some(ONE)).await.locked().is_some());
}

#[tokio::test]
async fn a_vault_without_its_master_key_is_locked_and_can_begin_anew() {
    let house = House::new().await;
    let vault = house.vault(Some(ONE)).await;
    let sealed = vault.seal("thing 1", b"hidden").unwrap();
    assert!(vault.begin_anew().await.is_err());
    // Something must be there that would be lost.
    let row = NewConnection {
        id: ConnectionId::new(),
        owner: Owner::BUILT_IN,
        name: "x".to_owned(),
        kind: "generic".to_owned(),
        binding: "{}".to_owned(),
        sealed: sealed.text.clone(),
        sealed_by: sealed.by.clone(),
        expires: None,
        personal: false,
        provider: None,
    };
    house.store.write(move |tx| Box::pin(tx.create_connection(row))).await.unwrap();
    for wrong in [None, Some(TWO)] {
        let vault = house.vault(wrong).await;
        let why = vault.locked().unwrap();
        assert!(why.contains("rekey --forget"), "{why}");
        assert!(opened(&vault, &sealed).unwrap_err().contains("locked"));
        assert!(vault.seal("thing 1", b"x").unwrap_err().to_string().contains("locked"));
        assert!(vault.placeholders().is_none());
    }
    // It was only looked at: the right one opens all of it again.
    assert_eq!(opened(&house.vault(Some(ONE)).await, &sealed).unwrap(), b"hidden");
    let vault = house.vault(Some(TWO)).await;
    vault.begin_anew().await.unwrap();
    assert!(opened(&vault, &sealed).unwrap_err().contains("another key"));
    let again = vault.seal("thing 1", b"x").unwrap();
    assert_eq!(opened(&house.vault(Some(TWO)).await, &again).unwrap(), b"x");
}

#[tokio::test]
async fn where_nothing_is_sealed_a_lost_master_key_of_our_own_is_no_matter() {
    let house = House::new().await;
    house.vault(None).await;
    std::fs::remove_file(house.folder.path().join(FILE)).unwrap();
    let vault = house.vault(None).await;
    assert_eq!(vault.locked(), None);
    let sealed = vault.seal("thing 1", b"x").unwrap();
    assert_eq!(opened(&house.vault(None).await, &sealed).unwrap(), b"x");
}
