//! Connections: credentials for outside services, kept sealed, and put into requests by the broker.
//!
//! ```text
//!  operations ─► store ─► Book: every connection, as it was read last
//!                           │
//!    policies ◄─ bindings ──┤── variables ─► sessions, commands, setups: placeholders
//!                           │
//!    broker  ◄── open ──────┴── tell ─► last use, events in sessions, log
//! ```
//!
//! A value is opened for one request and forgotten with it. One that was removed, or whose time is
//! over, is refused at the next request, with a sentence that says so: that is why removed ones stay
//! in the book for a while, without their value.
//!
//! - [`Connections`]: the book, and what the [broker](boatyard_egress::broker) asks.
//! - [`kinds`]: what is known of some services.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use boatyard_api::connection::ConnectionBinding;
use boatyard_egress::{
    broker::{Keeper, Opening, Placeholders, Told, Withheld},
    gateway::Secret,
    policy::Binding,
};
use boatyard_model::{ConnectionId, MemberId, OrganizationId, Timestamp, WorkspaceId};
use boatyard_store::{ConnectionRow, Store};
use tokio::sync::mpsc;

use crate::{
    policies::{Bindings, Bound, Policies, Whose},
    vault::{self, Vault},
};

mod asked;
pub mod kinds;
mod lent;
mod own;
pub(crate) mod spec;
mod told;
mod wallet;

pub(crate) use asked::asked;
pub(crate) use lent::Lent;
pub(crate) use own::Lenders;

/// How long a removed connection is remembered, so that those who still use it are told.
const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 3600);
/// What may wait to be noted; past it, it is counted and dropped.
const NOTES: usize = 4096;

/// The connections. A cheap clone.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    vault: Vault,
    book: RwLock<Arc<Book>>,
    notes: mpsc::Sender<Told>,
    /// People's own credentials for providers of models, as they are used.
    own: own::Managers,
    /// Told when where credentials go has changed.
    policies: OnceLock<Policies>,
    /// One change of the book at a time.
    reading: tokio::sync::Mutex<()>,
}

/// Every connection.
#[derive(Debug, Default)]
struct Book(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    row: ConnectionRow,
    binding: ConnectionBinding,
    compiled: spec::Compiled,
}

/// What a connection's value is sealed for.
fn sealed_for(id: ConnectionId, organization: OrganizationId) -> String {
    format!("boatyard connection {id} {organization}")
}

impl Connections {
    /// None yet; they are read by [`Connections::begin`].
    pub fn new(store: Store, vault: Vault) -> Self {
        let (notes, taken) = mpsc::channel(NOTES);
        tokio::spawn(told::note(store.clone(), taken));
        Self(Arc::new(Shared {
            store,
            vault,
            book: RwLock::default(),
            notes,
            own: own::Managers::default(),
            policies: OnceLock::new(),
            reading: tokio::sync::Mutex::default(),
        }))
    }

    /// Has workspaces' policies say where credentials go. Said once.
    pub fn serve(&self, policies: &Policies) {
        if self.0.policies.set(policies.clone()).is_ok() {
            policies.bind(Arc::clone(&self.0) as Arc<dyn Bindings>);
        }
    }

    /// What the broker asks.
    pub fn keeper(&self) -> Arc<dyn Keeper> {
        Arc::clone(&self.0) as Arc<dyn Keeper>
    }

    /// The vault that seals their values.
    pub fn vault(&self) -> &Vault {
        &self.0.vault
    }

    /// Opens the vault and reads what is there.
    ///
    /// # Errors
    /// When the store can't be read, or the first keys not be kept.
    pub async fn begin(&self) -> Result<(), vault::Error> {
        self.0.vault.unlock().await?;
        self.read().await?;
        Ok(())
    }

    /// Reads the connections anew and has every workspace's policy follow: when this returns, the
    /// next request is judged by them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn changed(&self, organization: OrganizationId) -> boatyard_store::Result<()> {
        self.read().await?;
        if let Some(policies) = self.0.policies.get() {
            policies.changed_all(organization).await;
        }
        Ok(())
    }

    async fn read(&self) -> boatyard_store::Result<()> {
        let shared = &self.0;
        let _reading = shared.reading.lock().await;
        let now = shared.store.now();
        let since = Timestamp(now.0.saturating_sub(REMEMBERED.as_millis() as i64));
        let rows = shared.store.connections(since).await?;
        let entries = rows.into_iter().filter_map(entry).collect();
        *shared.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Book(entries));
        Ok(())
    }

    /// The variables that a workspace's processes get: placeholders, and what goes with them. Those
    /// of a member's own connections take the place of the organization's; what is made for
    /// everybody is nobody's.
    pub fn variables(
        &self,
        organization: OrganizationId,
        member: Option<MemberId>,
        workspace: WorkspaceId,
    ) -> BTreeMap<String, String> {
        let Some(placeholders) = self.0.vault.placeholders() else { return BTreeMap::new() };
        let now = self.0.store.now();
        let book = self.0.book();
        let mut variables = BTreeMap::new();
        // Their own last: they count.
        let all = book.0.iter().filter(|entry| !entry.row.personal);
        let own = book.0.iter().filter(|entry| entry.row.personal);
        for Entry { row, binding, .. } in all.chain(own) {
            let is_others = row.personal && Some(row.owner.member) != member;
            let is_over =
                row.removed.is_some() || row.expires.is_some_and(|expires| expires <= now);
            if row.owner.organization != organization || is_over || is_others {
                continue;
            }
            let placeholder = placeholders.make(workspace, row.id, kinds::shape(&row.kind));
            for name in &binding.variables {
                variables.insert(name.clone(), placeholder.clone());
            }
            let beside = kinds::kind(&row.kind).map_or(&[][..], |kind| kind.beside);
            for (name, value) in beside {
                variables.entry((*name).to_owned()).or_insert_with(|| (*value).to_owned());
            }
        }
        variables
    }

    /// The value of a connection, for the server's own use.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn value(&self, id: ConnectionId) -> Result<Secret, Withheld> {
        self.0.value(id)
    }

    /// Whose connections there are.
    pub(crate) fn organizations(&self) -> BTreeSet<OrganizationId> {
        self.0.book().0.iter().map(|entry| entry.row.owner.organization).collect()
    }

    /// What git's gateway asks.
    pub fn wallet(&self) -> Arc<dyn crate::git::Wallet> {
        Arc::new(self.clone())
    }

    pub(crate) fn seal(
        &self,
        id: ConnectionId,
        organization: OrganizationId,
        value: &str,
    ) -> Result<vault::Sealed, vault::Error> {
        self.0.vault.seal(&sealed_for(id, organization), value.as_bytes())
    }

    /// Seals every value by the newest key that an earlier one sealed: how many. What can't be
    /// opened is left as it is, and told.
    ///
    /// # Errors
    /// When the store can't be used.
    pub async fn reseal(&self) -> Result<u64, vault::Error> {
        let shared = &self.0;
        let Some(current) = shared.vault.current() else { return Ok(0) };
        let rows = {
            let current = current.clone();
            let read = shared.store.write(move |tx| {
                let current = current.clone();
                Box::pin(async move { tx.connections_not_sealed_by(&current).await })
            });
            read.await?
        };
        let mut sealed = 0;
        for row in rows {
            let what_for = sealed_for(row.id, row.owner.organization);
            let value = match shared.vault.open(&what_for, &row.sealed, &row.sealed_by) {
                Ok(value) => value,
                Err(error) => {
                    tracing::error!(connection.id = %row.id, %error, "a value can't be sealed anew");
                    continue;
                }
            };
            let anew = shared.vault.seal(&what_for, &value)?;
            let (id, was) = (row.id, row.sealed);
            let write = shared.store.write(move |tx| {
                let (was, anew) = (was.clone(), anew.clone());
                Box::pin(async move { tx.reseal_connection(id, was, anew.text, anew.by).await })
            });
            // One that was rotated meanwhile is sealed by the newest key already.
            sealed += u64::from(write.await?);
        }
        self.read().await?;
        Ok(sealed)
    }
}

/// A connection as it is in the book. One whose binding can't be read any more goes nowhere.
fn entry(row: ConnectionRow) -> Option<Entry> {
    let read = serde_json::from_str::<ConnectionBinding>(&row.binding)
        .map_err(|error| error.to_string())
        .and_then(|binding| {
            let compiled = spec::compile(&row.name, &binding).map_err(|e| e.to_string())?;
            Ok((binding, compiled))
        });
    match read {
        Ok((binding, compiled)) => Some(Entry { row, binding, compiled }),
        Err(error) => {
            tracing::error!(connection.id = %row.id, %error, "where a connection goes can't be read");
            None
        }
    }
}

impl Shared {
    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn value(&self, id: ConnectionId) -> Result<Secret, Withheld> {
        let book = self.book();
        let Some(Entry { row, .. }) = book.0.iter().find(|entry| entry.row.id == id) else {
            return Err(Withheld {
                why: "the connection that it was for is not there any more".to_owned(),
                mend: "`boatyard connection list` tells which there are.".to_owned(),
            });
        };
        let name = &row.name;
        if let Some(removed) = row.removed {
            return Err(Withheld {
                why: format!("the connection `{name}` was removed at {removed}"),
                mend: format!(
                    "Whoever runs Boatyard can add it again: `boatyard connection add {} --name {name}`.",
                    row.kind
                ),
            });
        }
        if let Some(expires) = row.expires.filter(|expires| *expires <= self.store.now()) {
            return Err(Withheld {
                why: format!("the connection `{name}` expired at {expires}"),
                mend: format!(
                    "Whoever runs Boatyard can give it a new value: `boatyard connection rotate {name}`."
                ),
            });
        }
        let what_for = sealed_for(row.id, row.owner.organization);
        let withheld = |error: vault::Error| {
            tracing::error!(connection.id = %row.id, error = %crate::chain(&error), "a value can't be opened");
            Withheld {
                why: match error {
                    vault::Error::Locked(_) => "the vault of this Boatyard is locked".to_owned(),
                    _ => format!("the value of the connection `{name}` can't be opened"),
                },
                mend: "The server's log tells more to whoever runs Boatyard.".to_owned(),
            }
        };
        let value = self.vault.open(&what_for, &row.sealed, &row.sealed_by).map_err(withheld)?;
        let text = std::str::from_utf8(&value).map_err(|_| withheld(vault::Error::Damaged))?;
        Ok(Secret::new(text.to_owned()))
    }
}

impl Keeper for Shared {
    fn placeholders(&self) -> Option<Arc<Placeholders>> {
        self.vault.placeholders()
    }

    fn open(&self, _: WorkspaceId, connection: ConnectionId) -> Opening {
        // Of an organization; whose workspaces those are was seen to by their policies.
        Box::pin(std::future::ready(self.value(connection).map(Arc::new)))
    }

    fn tell(&self, told: Told) {
        if let Err(error) = self.notes.try_send(told) {
            tracing::warn!(%error, "what became of a credential was not noted");
        }
    }
}

impl Bindings for Shared {
    fn of(&self, whose: Whose) -> Bound {
        let Some(placeholders) = self.vault.placeholders() else {
            return Box::pin(std::future::ready(Ok(Vec::new())));
        };
        let book = self.book();
        let has_own = book.0.iter().any(|it| it.row.personal && it.row.owner == whose.owner());
        if has_own {
            return Box::pin(own::bindings(book, placeholders, self.store.clone(), whose));
        }
        let theirs = book
            .0
            .iter()
            .filter(|it| it.row.owner.organization == whose.organization && !it.row.personal);
        let bindings = theirs.map(|entry| entry.bound(&placeholders, whose.workspace)).collect();
        Box::pin(std::future::ready(Ok(bindings)))
    }
}

impl Entry {
    /// Where it goes from a workspace.
    fn bound(&self, placeholders: &Placeholders, workspace: WorkspaceId) -> Arc<Binding> {
        let Self { row, binding, compiled } = self;
        let shape = kinds::shape(&row.kind);
        Arc::new(Binding {
            connection: row.id,
            name: row.name.as_str().into(),
            goes: compiled.goes.clone(),
            places: compiled.places.clone(),
            placeholder: placeholders.make(workspace, row.id, shape).into(),
            is_always: binding.always && row.removed.is_none(),
            may_be_plain: binding.plain_http,
        })
    }
}

#[cfg(test)]
mod tests;
