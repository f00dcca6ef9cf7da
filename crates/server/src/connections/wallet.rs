//! Connections as git's gateway uses them.

use std::sync::Arc;

use boatyard_egress::{gateway::Secret, git::Later};
use boatyard_model::ConnectionId;
use boatyard_store::Owner;

use super::Connections;
use crate::git::{Opened, Wallet};

impl Wallet for Connections {
    fn open(&self, owner: Owner, connection: ConnectionId) -> Later<Result<Opened, String>> {
        let book = self.0.book();
        let row = book.0.iter().map(|entry| &entry.row).find(|row| row.id == connection);
        let theirs = row.filter(|row| {
            let is_theirs = !row.personal || row.owner.member == owner.member;
            row.owner.organization == owner.organization && is_theirs
        });
        let opened = match theirs {
            None => Err("it is not there any more".to_owned()),
            Some(row) => self.0.value(connection).map_err(|withheld| withheld.why).map(|value| {
                self.0.store.note_connection_use(connection);
                let name = row.name.as_str().into();
                Opened { name, value: Arc::new(value), given: row.rotated }
            }),
        };
        Box::pin(std::future::ready(opened))
    }

    fn renew(
        &self,
        owner: Owner,
        connection: ConnectionId,
        value: Secret,
    ) -> Later<Result<(), String>> {
        let this = self.clone();
        Box::pin(async move {
            let expires = {
                let book = this.0.book();
                let row = book.0.iter().map(|entry| &entry.row).find(|row| row.id == connection);
                row.and_then(|row| row.expires)
            };
            let sealed = this.seal(connection, owner.organization, value.expose());
            let sealed = sealed.map_err(|error| error.to_string())?;
            let write = this.0.store.write(move |tx| {
                Box::pin(tx.rotate_connection(connection, sealed.text, sealed.by, expires))
            });
            write.await.map_err(|error| crate::chain(&error))?;
            this.changed(owner.organization).await.map_err(|error| crate::chain(&error))
        })
    }

    fn refused(&self, connection: ConnectionId) {
        self.0.store.note_connection_refused(connection);
    }
}
