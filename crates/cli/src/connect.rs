//! Where the server is, and with which key to speak to it.
//!
//! ```text
//! --server, BOATYARD_SERVER ─► that one; the key from --api-key or BOATYARD_API_KEY, else the one that
//!                              `boatyard login` stored for it
//! --data, BOATYARD_DATA ─────► client.toml in that folder
//! none of them ──────────────► the server that was signed in to last, else client.toml in the data
//!                              folder of this machine's server
//! ```
//!
//! A key is never sent to another address than the one that it is for.

use anyhow::Result;
use boatyard_api::Client;

use crate::{
    args::Global,
    credentials::{Credentials, same_origin},
    data::{self, ClientFile, DataFolder},
    failure::Failure,
};

/// A client for the server that is meant.
pub(crate) fn connect(global: &Global) -> Result<Client> {
    let (server, key) = place(global)?;
    Ok(Client::new(&server, Some(&key))?)
}

/// The server that is meant, and the key for it.
fn place(global: &Global) -> Result<(String, String)> {
    if let Some(server) = &global.server {
        check_address(server)?;
    }
    match (&global.server, &global.api_key) {
        (Some(server), Some(key)) => Ok((server.clone(), key.clone())),
        (Some(server), None) => {
            let local = find_local(global)?.filter(|local| same_origin(server, &local.server));
            if let Some(local) = local {
                return Ok((server.clone(), local.key));
            }
            let credentials = Credentials::read()?;
            if let Some(stored) = credentials.find(server) {
                return Ok((server.clone(), stored.key.clone()));
            }
            Err(Failure::usage(format!("there is no key for {server}"))
                .next(format!(
                    "sign in with `boatyard login {server}`, or set BOATYARD_API_KEY; on the \
                     server's machine the key is in client.toml in its data folder"
                ))
                .into())
        }
        (None, key) => {
            let (server, own) = usual(global)?;
            Ok((server, key.clone().unwrap_or(own)))
        }
    }
}

/// The server that is meant when none is named, with its key.
fn usual(global: &Global) -> Result<(String, String)> {
    if global.data.is_none()
        && let Some(stored) = Credentials::read()?.default()
    {
        return Ok((stored.url.clone(), stored.key.clone()));
    }
    match find_local(global)? {
        Some(local) => Ok((local.server, local.key)),
        None => Err(Failure::new("no Boatyard server is known on this machine")
            .next(
                "start one with `boatyard up`, sign in to one elsewhere with `boatyard login \
                 SERVER`, or set BOATYARD_SERVER and BOATYARD_API_KEY",
            )
            .into()),
    }
}

/// Refuses what is no address of a server.
pub(crate) fn check_address(server: &str) -> Result<()> {
    if url::Url::parse(server)
        .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
    {
        return Ok(());
    }
    Err(Failure::usage(format!("`{server}` is no address of a server"))
        .next("write it as http://HOST:PORT or https://HOST")
        .into())
}

/// What a server of this machine left for clients of its account.
pub(crate) fn find_local(global: &Global) -> Result<Option<ClientFile>> {
    for folder in data::likely_folders(global.data.as_deref()) {
        if let Some(client) = DataFolder::at(folder).client()? {
            return Ok(Some(client));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_its_own_server_only() {
        assert!(same_origin("http://127.0.0.1:7070", "http://127.0.0.1:7070/"));
        assert!(!same_origin("http://127.0.0.1:7071", "http://127.0.0.1:7070"));
        assert!(!same_origin("https://127.0.0.1:7070", "http://127.0.0.1:7070"));
        assert!(!same_origin("http://evil.example", "http://127.0.0.1:7070"));
        assert!(!same_origin("nonsense", "nonsense"));
    }

    #[test]
    fn an_address_is_one_of_a_server() {
        for good in ["http://127.0.0.1:7070", "https://boatyard.example.com/"] {
            check_address(good).unwrap();
        }
        for bad in ["", "boatyard.example.com", "ftp://a", "http://", "file:///etc"] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
