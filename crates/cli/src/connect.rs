//! Where the server is, and with which key to speak to it.
//!
//! ```text
//! --server, BOATYARD_SERVER ─► that one; the key from --api-key or BOATYARD_API_KEY
//! neither ──────────────────► client.toml in the data folder of this machine's server
//! ```
//!
//! The key of this machine's server is never sent to another address.

use anyhow::Result;
use boatyard_api::Client;

use crate::{
    args::Global,
    data::{self, ClientFile, DataFolder},
    failure::Failure,
};

/// A client for the server that is meant.
pub(crate) fn connect(global: &Global) -> Result<Client> {
    if let Some(server) = &global.server
        && !url::Url::parse(server).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    {
        return Err(Failure::usage(format!("`{server}` is no address of a server"))
            .next("write it as http://HOST:PORT or https://HOST")
            .into());
    }
    let local = find_local(global)?;
    let (server, key) = match (&global.server, &global.api_key, local) {
        (Some(server), Some(key), _) => (server.clone(), key.clone()),
        (Some(server), None, Some(local)) if same_address(server, &local.server) => {
            (server.clone(), local.key)
        }
        (Some(server), None, _) => {
            return Err(Failure::usage(format!("there is no key for {server}"))
                .next(
                    "set BOATYARD_API_KEY; the key is in client.toml in that server's data folder",
                )
                .into());
        }
        (None, Some(key), Some(local)) => (local.server, key.clone()),
        (None, None, Some(local)) => (local.server, local.key),
        (None, _, None) => {
            return Err(Failure::new("no Boatyard server is known on this machine")
                .next(
                    "start one with `boatyard up`, or set BOATYARD_SERVER and BOATYARD_API_KEY for \
                     one elsewhere",
                )
                .into());
        }
    };
    Ok(Client::new(&server, Some(&key))?)
}

fn find_local(global: &Global) -> Result<Option<ClientFile>> {
    for folder in data::likely_folders(global.data.as_deref()) {
        if let Some(client) = DataFolder::at(folder).client()? {
            return Ok(Some(client));
        }
    }
    Ok(None)
}

fn same_address(a: &str, b: &str) -> bool {
    let origin = |text: &str| url::Url::parse(text).ok().map(|url| url.origin());
    matches!((origin(a), origin(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_its_own_server_only() {
        assert!(same_address("http://127.0.0.1:7070", "http://127.0.0.1:7070/"));
        assert!(!same_address("http://127.0.0.1:7071", "http://127.0.0.1:7070"));
        assert!(!same_address("https://127.0.0.1:7070", "http://127.0.0.1:7070"));
        assert!(!same_address("http://evil.example", "http://127.0.0.1:7070"));
        assert!(!same_address("nonsense", "nonsense"));
    }
}
