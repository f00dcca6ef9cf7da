//! What is a person's own: credentials that go with that person's workspaces alone, and keys and
//! subscriptions by which a person pays for models.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use boatyard_egress::{
    broker::Placeholders,
    gateway::{Auth, Later, Lender, Managed, Own, Secret, Source},
    policy::Binding,
};
use boatyard_model::{ConnectionId, SessionId, WorkspaceId};
use boatyard_store::{ConnectionRow, Owner, Store};

use super::{Book, Connections};
use crate::{ledger::Ledger, policies::Whose};

/// Credentials that are remembered; past it all are forgotten and read again.
const REMEMBERED: usize = 4096;

/// Credentials for providers of models, by connection.
pub(super) type Managers = Mutex<HashMap<ConnectionId, Arc<Managed>>>;

/// Where credentials go from a workspace whose owner has some of their own: these first. A
/// workspace that is on no record makes what everybody gets, so that nobody's own goes with it.
pub(super) async fn bindings(
    book: Arc<Book>,
    placeholders: Arc<Placeholders>,
    store: Store,
    whose: Whose,
) -> boatyard_store::Result<Vec<Arc<Binding>>> {
    let is_recorded = match store.workspace(whose.workspace).await {
        Ok(_) => true,
        Err(boatyard_store::Error::NotFound { .. }) => false,
        Err(error) => return Err(error),
    };
    let own = book
        .0
        .iter()
        .filter(|entry| is_recorded && entry.row.personal && entry.row.owner == whose.owner());
    let all = book
        .0
        .iter()
        .filter(|entry| entry.row.owner.organization == whose.organization && !entry.row.personal);
    Ok(own.chain(all).map(|entry| entry.bound(&placeholders, whose.workspace)).collect())
}

impl Connections {
    /// The connection by which somebody pays for a provider of models.
    pub(crate) fn own_for(&self, owner: Owner, provider: &str) -> Option<Arc<str>> {
        self.own_row(owner, provider, |row| row.name.as_str().into())
    }

    fn own_row<T>(
        &self,
        owner: Owner,
        provider: &str,
        of: impl FnOnce(&ConnectionRow) -> T,
    ) -> Option<T> {
        let book = self.0.book();
        let mut rows = book.0.iter().map(|entry| &entry.row);
        let row = rows.find(|row| {
            row.personal
                && row.owner == owner
                && row.removed.is_none()
                && row.provider.as_deref() == Some(provider)
        })?;
        Some(of(row))
    }

    /// Whether anybody pays for a provider of models.
    fn anybody_pays(&self, provider: &str) -> bool {
        let book = self.0.book();
        book.0.iter().any(|entry| {
            entry.row.personal
                && entry.row.removed.is_none()
                && entry.row.provider.as_deref() == Some(provider)
        })
    }

    fn own(&self, owner: Owner, provider: &str) -> Option<Own> {
        let (id, name) =
            self.own_row(owner, provider, |row| (row.id, Arc::<str>::from(row.name.as_str())))?;
        let mut managers = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        if managers.len() >= REMEMBERED && !managers.contains_key(&id) {
            managers.clear();
        }
        let credential = managers.entry(id).or_insert_with(|| {
            let source = Mine { connections: self.clone(), id, name: Arc::clone(&name) };
            Arc::new(Managed::new(Auth::Found, Arc::new(source)))
        });
        Some(Own { name, credential: Arc::clone(credential) })
    }
}

/// The value of a person's connection.
#[derive(Debug)]
struct Mine {
    connections: Connections,
    id: ConnectionId,
    name: Arc<str>,
}

impl Source for Mine {
    fn version(&self) -> u64 {
        let book = self.connections.0.book();
        let row = book.0.iter().map(|entry| &entry.row).find(|row| row.id == self.id);
        // One that was removed is another than it was.
        row.filter(|row| row.removed.is_none()).map_or(0, |row| row.rotated.0.unsigned_abs())
    }

    fn read(&self) -> Later<Result<Secret, String>> {
        let value = self.connections.value(self.id).map_err(|withheld| withheld.why);
        if value.is_ok() {
            self.connections.0.store.note_connection_use(self.id);
        }
        Box::pin(std::future::ready(value))
    }

    fn keep(&self, material: Secret) -> Later<Result<(), String>> {
        let (connections, id) = (self.connections.clone(), self.id);
        Box::pin(async move { connections.renew(id, material).await })
    }

    fn remedy(&self) -> String {
        let name = &self.name;
        format!(
            "give your own connection a good value by `boatyard connection rotate {name}`, or remove \
             it by `boatyard connection remove {name}`, so that the organization pays"
        )
    }
}

/// Finds out whose session asks, and lends that person's credential.
#[derive(Debug, Clone)]
pub(crate) struct Lenders {
    pub(crate) connections: Connections,
    pub(crate) ledger: Ledger,
}

impl Lender for Lenders {
    fn lend(
        &self,
        workspace: WorkspaceId,
        session: Option<SessionId>,
        provider: &str,
    ) -> Later<Option<Own>> {
        if !self.connections.anybody_pays(provider) {
            return Box::pin(std::future::ready(None));
        }
        let (this, provider) = (self.clone(), provider.to_owned());
        Box::pin(async move {
            match this.ledger.payer(workspace, session).await {
                Ok(payer) => this.connections.own(payer.owner, &provider),
                Err(error) => {
                    tracing::error!(error = %crate::chain(&error), "whose session asks a model is not known");
                    None
                }
            }
        })
    }
}
