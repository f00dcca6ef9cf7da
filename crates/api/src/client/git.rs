//! The endpoints of what repositories are reached with.

use reqwest::Method;

use super::{Client, Result};
use crate::git::{
    GitConnection, GitConnectionList, GitIdentity, GitKey, GitPlace, NewGitConnection,
    NewGitIdentity,
};

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// In whose name the caller's workspaces commit.
    pub async fn find_git_identity(&self) -> Result<GitIdentity> {
        self.json(self.call(Method::GET, "api/git/identity")).await
    }

    /// Has the caller's workspaces commit in this name.
    pub async fn set_git_identity(&self, new: &NewGitIdentity) -> Result<GitIdentity> {
        self.json(self.call(Method::PUT, "api/git/identity").json(new)).await
    }

    /// Has the caller's workspaces commit in the server's name again.
    pub async fn clear_git_identity(&self) -> Result<()> {
        self.empty(self.call(Method::DELETE, "api/git/identity")).await
    }

    /// The connections of repositories.
    pub async fn list_git_connections(&self) -> Result<GitConnectionList> {
        self.json(self.call(Method::GET, "api/git/connections")).await
    }

    /// Binds a connection to a repository, or to all below a place.
    pub async fn connect_repository(&self, new: &NewGitConnection) -> Result<GitConnection> {
        self.json(self.call(Method::PUT, "api/git/connections").json(new)).await
    }

    /// Takes a connection from a repository.
    pub async fn disconnect_repository(&self, place: &GitPlace) -> Result<()> {
        self.empty(self.call(Method::DELETE, "api/git/connections").query(place)).await
    }

    /// The key that commits are signed with.
    pub async fn find_git_key(&self) -> Result<GitKey> {
        self.json(self.call(Method::GET, "api/git/key")).await
    }

    /// Makes another key the one that commits are signed with.
    pub async fn renew_git_key(&self) -> Result<GitKey> {
        self.json(self.call(Method::POST, "api/git/key")).await
    }
}
