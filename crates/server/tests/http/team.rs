//! People of every kind for a server under test, each with a key.

use boatyard_api::Client;
use boatyard_model::{
    KeyId, KeyKind, OrganizationId, PersonId, RepositoryId, Role, Scopes, SessionId, Timestamp,
    Visibility, WorkspaceId, WorkspaceKind, WorkspaceLimits,
};
use boatyard_store::{
    Address, BUILT_IN_ORGANIZATION, Begins, NewKey, NewPerson, NewSession, Owner, ThingId,
    workspaces,
};

use crate::machine::Machine;

/// Somebody with a key.
pub(crate) struct Somebody {
    /// The organization and the member.
    pub(crate) owner: Owner,
    /// The person.
    pub(crate) person: PersonId,
    /// The key.
    pub(crate) secret: String,
    /// The key's id.
    pub(crate) key: KeyId,
    /// A client with the key.
    pub(crate) client: Client,
}

/// A key of a member.
pub(crate) async fn key(
    machine: &Machine,
    owner: Owner,
    kind: KeyKind,
    scopes: Scopes,
    expires: Option<Timestamp>,
) -> (KeyId, String) {
    let (secret, hash) = boatyard_server::auth::new_key();
    let (name, prefix) = ("test".to_owned(), secret[..8].to_owned());
    let new = NewKey { owner, kind, name, prefix, hash, scopes, expires };
    let work = machine.store.write(move |tx| Box::pin(async move { tx.create_key(new).await }));
    (work.await.unwrap(), secret)
}

/// A person with a role in an organization.
pub(crate) async fn join(
    machine: &Machine,
    organization: OrganizationId,
    name: &str,
    role: Role,
) -> Somebody {
    let new = NewPerson {
        email: format!("{}@example.com", name.to_lowercase()),
        address: Address::Verified,
        name: name.to_owned(),
        password: None,
    };
    let (person, member) = machine
        .store
        .write(move |tx| {
            Box::pin(async move {
                let person = match tx.find_person_by_email(&new.email).await? {
                    Some(person) => person.id,
                    None => tx.create_person(&new).await?.unwrap(),
                };
                let member = tx.add_member(organization, person, role).await?;
                Ok((person, member.id))
            })
        })
        .await
        .unwrap();
    let owner = Owner { organization, member };
    let (key, secret) = key(machine, owner, KeyKind::Personal, Scopes::ALL, None).await;
    let url = format!("http://{}", machine.serving.address());
    let client = Client::new(&url, Some(&secret)).unwrap();
    Somebody { owner, person, secret, key, client }
}

/// A person with a role in the first organization.
pub(crate) async fn member(machine: &Machine, name: &str, role: Role) -> Somebody {
    join(machine, BUILT_IN_ORGANIZATION, name, role).await
}

/// Another organization, with an owner.
pub(crate) async fn elsewhere(machine: &Machine, name: &str) -> Somebody {
    let work = machine.store.write(|tx| {
        Box::pin(async move { Ok(tx.create_organization("Elsewhere", None).await?.0.id) })
    });
    let organization = work.await.unwrap();
    join(machine, organization, name, Role::Owner).await
}

/// A session of somebody's, in a workspace of its own, that these may see.
pub(crate) async fn session(
    machine: &Machine,
    owner: Owner,
    visibility: Visibility,
) -> (WorkspaceId, SessionId) {
    session_in(machine, owner, visibility, None).await
}

/// The same, in a workspace with a repository.
pub(crate) async fn session_in(
    machine: &Machine,
    owner: Owner,
    visibility: Visibility,
    repository: Option<RepositoryId>,
) -> (WorkspaceId, SessionId) {
    let (workspace, session) = (WorkspaceId::new(), SessionId::new());
    let new_workspace = workspaces::NewWorkspace {
        id: workspace,
        owner,
        name: None,
        kind: WorkspaceKind::Sandbox,
        runtime: "bare".to_owned(),
        isolation: None,
        lowers: Vec::new(),
        repository,
        folder: None,
        base_commit: None,
        branch: None,
        limits: WorkspaceLimits::default(),
        task: None,
        forked_from: None,
        begins: Begins::Asleep,
    };
    let new_session = NewSession {
        settings: boatyard_model::AgentSettings::default(),
        id: session,
        owner,
        workspace,
        attempt: None,
        agent: "demo".to_owned(),
        model: None,
        cwd: "/work".to_owned(),
        client_key: None,
    };
    machine
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.create_workspace(new_workspace).await?;
                tx.set_visibility(ThingId::Workspace(workspace), visibility).await?;
                tx.create_session(new_session).await?;
                tx.set_session_state(session, boatyard_model::SessionState::Idle, None).await
            })
        })
        .await
        .unwrap();
    (workspace, session)
}
