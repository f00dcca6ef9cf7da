//! The endpoints of connections.

use boatyard_model::ConnectionId;
use reqwest::Method;

use super::{Client, Result};
use crate::connection::{
    Connection, ConnectionCheck, ConnectionList, NewConnection, Rekey, Rekeyed, RotateConnection,
};

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// The connections that there are.
    pub async fn list_connections(&self) -> Result<ConnectionList> {
        self.json(self.call(Method::GET, "api/connections")).await
    }

    /// Makes a connection.
    pub async fn create_connection(&self, new: &NewConnection) -> Result<Connection> {
        self.json(self.call(Method::POST, "api/connections").json(new)).await
    }

    /// A connection.
    pub async fn find_connection(&self, id: ConnectionId) -> Result<Connection> {
        self.json(self.call(Method::GET, format!("api/connections/{id}"))).await
    }

    /// Gives a connection another value.
    pub async fn rotate_connection(
        &self,
        id: ConnectionId,
        value: &RotateConnection,
    ) -> Result<Connection> {
        let call = self.call(Method::PUT, format!("api/connections/{id}/value"));
        self.json(call.json(value)).await
    }

    /// Removes a connection.
    pub async fn remove_connection(&self, id: ConnectionId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/connections/{id}"))).await
    }

    /// Looks whether a connection works.
    pub async fn check_connection(&self, id: ConnectionId) -> Result<ConnectionCheck> {
        self.json(self.call(Method::POST, format!("api/connections/{id}/check"))).await
    }

    /// Changes keys of the vault.
    pub async fn rekey(&self, rekey: &Rekey) -> Result<Rekeyed> {
        self.json(self.call(Method::POST, "api/connections/rekey").json(rekey)).await
    }
}
