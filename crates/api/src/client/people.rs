//! Accounts on the server, and one's own.

use boatyard_model::PersonId;
use reqwest::Method;

use super::{Client, Result};
use crate::identity::{
    DeviceChoice, Devices, LoginLink, Person, PersonChange, PersonFilter, PersonPage, Ways,
};

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// How one may sign in on the server.
    pub async fn list_ways(&self) -> Result<Ways> {
        self.json(self.call(Method::GET, "api/auth/ways")).await
    }

    /// The browsers in which one is signed in.
    pub async fn list_devices(&self) -> Result<Devices> {
        self.json(self.call(Method::GET, "api/auth/devices")).await
    }

    /// Signs one out everywhere.
    pub async fn end_devices(&self) -> Result<()> {
        let choice = DeviceChoice::default();
        self.empty(self.call(Method::DELETE, "api/auth/devices").query(&choice)).await
    }

    /// The accounts of the server.
    pub async fn list_people(&self, filter: &PersonFilter) -> Result<PersonPage> {
        self.json(self.call(Method::GET, "api/people").query(filter)).await
    }

    /// An account.
    pub async fn find_person(&self, id: PersonId) -> Result<Person> {
        self.json(self.call(Method::GET, format!("api/people/{id}"))).await
    }

    /// Changes an account.
    pub async fn update_person(&self, id: PersonId, change: &PersonChange) -> Result<Person> {
        self.json(self.call(Method::PATCH, format!("api/people/{id}")).json(change)).await
    }

    /// A link by which somebody signs in once and sets a new password.
    pub async fn create_person_link(&self, id: PersonId) -> Result<LoginLink> {
        self.json(self.call(Method::POST, format!("api/people/{id}/links"))).await
    }
}
