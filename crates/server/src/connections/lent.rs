//! Connections that the server uses by itself, to ask providers of models. The settings name them, so
//! they are those of the server's first organization.

use boatyard_egress::gateway::{Later, Secret, Source};
use boatyard_model::{ConnectionId, OrganizationId};
use boatyard_store::BUILT_IN_ORGANIZATION;

use super::Connections;

impl Connections {
    /// The connection of this name or id; and what changes when its value does.
    fn named(&self, organization: OrganizationId, name: &str) -> Option<(ConnectionId, u64)> {
        let id: Option<ConnectionId> = name.parse().ok();
        let book = self.0.book();
        let mut rows = book.0.iter().map(|entry| &entry.row);
        let row = rows.find(|row| {
            let is_it = Some(row.id) == id || row.name == name;
            is_it
                && !row.personal
                && row.owner.organization == organization
                && row.removed.is_none()
        })?;
        Some((row.id, row.rotated.0.unsigned_abs()))
    }

    /// Puts a renewed value in the place of one that is of no more use.
    pub(super) async fn renew(&self, id: ConnectionId, value: Secret) -> Result<(), String> {
        let row = self.0.store.connection(id).await.map_err(|error| crate::chain(&error))?;
        let organization = row.owner.organization;
        let sealed = self.seal(id, organization, value.expose());
        let sealed = sealed.map_err(|error| crate::chain(&error))?;
        let write = self.0.store.write(move |tx| {
            let sealed = sealed.clone();
            Box::pin(tx.rotate_connection(id, sealed.text, sealed.by, row.expires))
        });
        write.await.map_err(|error| crate::chain(&error))?;
        self.changed(organization).await.map_err(|error| crate::chain(&error))
    }
}

/// What a provider of models is asked with, from a connection.
#[derive(Debug, Clone)]
pub(crate) struct Lent {
    connections: Connections,
    /// Its name or id.
    name: String,
}

impl Lent {
    /// The value of the organization's connection of this name or id.
    pub(crate) fn new(connections: Connections, name: &str) -> Self {
        Self { connections, name: name.to_owned() }
    }

    fn id(&self) -> Result<ConnectionId, String> {
        let found = self.connections.named(BUILT_IN_ORGANIZATION, &self.name);
        found.map(|(id, _)| id).ok_or_else(|| format!("there is no connection `{}`", self.name))
    }
}

impl Source for Lent {
    fn version(&self) -> u64 {
        // One that is not there is another than any that is.
        self.connections.named(BUILT_IN_ORGANIZATION, &self.name).map_or(0, |(_, version)| version)
    }

    fn is_there(&self) -> bool {
        self.id().is_ok()
    }

    fn read(&self) -> Later<Result<Secret, String>> {
        let value = self.id().and_then(|id| {
            let value = self.connections.value(id).map_err(|withheld| withheld.why)?;
            self.connections.0.store.note_connection_use(id);
            Ok(value)
        });
        Box::pin(std::future::ready(value))
    }

    fn keep(&self, material: Secret) -> Later<Result<(), String>> {
        let this = self.clone();
        Box::pin(async move {
            let id = this.id()?;
            this.connections.renew(id, material).await
        })
    }

    fn remedy(&self) -> String {
        let name = &self.name;
        format!(
            "give the connection a good value by `boatyard connection rotate {name}`, or add it by \
             `boatyard connection add model --name {name}`"
        )
    }
}
