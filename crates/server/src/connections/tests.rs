//! Connections over a real store, with a clock that a test moves.

use std::time::Duration;

use boatyard_egress::broker::What;
use boatyard_model::SessionId;
use boatyard_store::{NewConnection, Options, Owner};
use boatyard_testkit::ManualClock;

use super::*;
use crate::vault::Master;

const VALUE: &str = "ghp_hidden-from-everybody";

struct House {
    _folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    connections: Connections,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp(1_800_000_000_000)));
        let mut options = Options::new(folder.path().join("boatyard.db"));
        options.clock = Arc::clone(&clock) as Arc<_>;
        let store = Store::open(options).await.unwrap();
        let vault = Vault::new(store.clone(), folder.path().into(), Master::default());
        let connections = Connections::new(store, vault);
        connections.begin().await.unwrap();
        Self { _folder: folder, clock, connections }
    }

    async fn add(&self, name: &str, expires: Option<Timestamp>) -> ConnectionId {
        let id = ConnectionId::new();
        let owner = Owner::BUILT_IN;
        let sealed = self.connections.seal(id, owner.organization, VALUE).unwrap();
        let binding = ConnectionBinding {
            hosts: vec!["api.example.com".to_owned()],
            places: vec!["bearer".to_owned()],
            variables: vec![name.to_uppercase()],
            ..ConnectionBinding::default()
        };
        let new = NewConnection {
            id,
            owner,
            name: name.to_owned(),
            kind: "github".to_owned(),
            binding: serde_json::to_string(&binding).unwrap(),
            sealed: sealed.text,
            sealed_by: sealed.by,
            expires,
            personal: false,
            provider: None,
        };
        let store = &self.connections.0.store;
        store.write(move |tx| Box::pin(tx.create_connection(new))).await.unwrap();
        self.connections.changed(owner.organization).await.unwrap();
        id
    }

    fn variables(&self, workspace: WorkspaceId) -> BTreeMap<String, String> {
        self.connections.variables(
            Owner::BUILT_IN.organization,
            Some(Owner::BUILT_IN.member),
            workspace,
        )
    }

    async fn bindings(&self, workspace: WorkspaceId) -> Vec<Arc<Binding>> {
        let Owner { organization, member } = Owner::BUILT_IN;
        let whose = Whose { organization, member, repository: None, workspace };
        self.connections.0.of(whose).await.unwrap()
    }
}

#[tokio::test]
async fn a_workspace_sees_a_placeholder_and_the_broker_gets_the_value() {
    let house = House::new().await;
    let id = house.add("one", None).await;
    let (here, there) = (WorkspaceId::new(), WorkspaceId::new());
    let variables = house.variables(here);
    let bindings = house.bindings(here).await;
    assert_eq!(variables["ONE"], *bindings[0].placeholder);
    assert_ne!(variables, house.variables(there));
    let value = house.connections.keeper().open(here, id).await.unwrap();
    assert_eq!(value.expose(), VALUE);
    // Sealed by another key, it is the same, and so is the placeholder.
    house.connections.vault().renew().await.unwrap();
    assert_eq!(house.connections.reseal().await.unwrap(), 1);
    house.connections.vault().forget_unused().await.unwrap();
    assert_eq!(house.connections.value(id).unwrap().expose(), VALUE);
    assert_eq!(house.variables(here), variables);
    assert!(!format!("{:?}", house.connections).contains(VALUE));
}

#[tokio::test]
async fn one_that_expired_or_was_removed_is_withheld_with_its_reason() {
    let house = House::new().await;
    let (workspace, store) = (WorkspaceId::new(), house.connections.0.store.clone());
    let ends = Timestamp(store.now().0 + 60_000);
    let brief = house.add("brief", Some(ends)).await;
    let other = house.add("other", None).await;
    assert_eq!(house.variables(workspace).len(), 2);
    house.clock.forward(Duration::from_secs(61));
    let withheld = house.connections.value(brief).unwrap_err();
    assert_eq!(withheld.why, format!("the connection `brief` expired at {ends}"));
    assert!(withheld.mend.contains("connection rotate brief"));
    assert_eq!(house.variables(workspace).len(), 1);

    store.write(move |tx| Box::pin(tx.remove_connection(other))).await.unwrap();
    house.connections.changed(Owner::BUILT_IN.organization).await.unwrap();
    let withheld = house.connections.value(other).unwrap_err();
    assert!(withheld.why.starts_with("the connection `other` was removed at 20"), "{withheld:?}");
    assert!(house.variables(workspace).is_empty());
    // Who still has its placeholder is told so, and not that there is none.
    assert_eq!(house.bindings(workspace).await.len(), 2);
    let unknown = house.connections.value(ConnectionId::new()).unwrap_err();
    assert!(unknown.why.contains("not there any more"));
    // After a month it is forgotten.
    house.clock.forward(Duration::from_secs(31 * 24 * 3600));
    house.connections.changed(Owner::BUILT_IN.organization).await.unwrap();
    assert_eq!(house.bindings(workspace).await.len(), 1);
}

#[tokio::test]
async fn a_use_is_noted_and_what_is_of_no_workspace_is_only_logged() {
    let house = House::new().await;
    let id = house.add("one", None).await;
    let told = |what| Told {
        workspace: WorkspaceId::new(),
        host: "api.example.com".to_owned(),
        port: 443,
        method: "GET".to_owned(),
        connection: Some((id, "one".into())),
        what,
    };
    let keeper = house.connections.keeper();
    keeper.tell(told(What::Misplaced(SessionId::new().to_string())));
    keeper.tell(told(What::Used));
    keeper.tell(told(What::Unknown));
    let store = &house.connections.0.store;
    let noted = async {
        loop {
            let row = store.connection(id).await.unwrap();
            if row.last_used.is_some() && row.last_refused.is_some() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noted).await.unwrap();
}
