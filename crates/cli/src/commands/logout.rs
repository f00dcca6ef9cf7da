//! `boatyard logout`: forget a server that was signed in to, and end the key there.

use anyhow::Result;

use super::login::end_of;
use crate::{
    args::Global,
    connect,
    credentials::{Credential, Credentials},
    failure::{Exit, Failure},
    output::Output,
};

/// Sign out of a server: its key is revoked there and removed here
///
/// The key of the server that runs on this machine stays as it is: it is not of a `login`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server's address; by default the one that was signed in to last
    server: Option<String>,
    /// All servers that this account is signed in to
    #[arg(long, conflicts_with = "server")]
    all: bool,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> Result<Exit> {
    let mut credentials = Credentials::read()?;
    let named = args.server.as_ref().or(global.server.as_ref());
    let wanted: Vec<Credential> = match named {
        _ if args.all => credentials.all().to_vec(),
        Some(server) => {
            connect::check_address(server)?;
            credentials.find(server).cloned().into_iter().collect()
        }
        None => credentials.default().cloned().into_iter().collect(),
    };
    if wanted.is_empty() {
        let known: Vec<&str> = credentials.all().iter().map(|one| one.url.as_str()).collect();
        let next = match &known[..] {
            [] => "there is nothing to sign out of: nobody has signed in with `boatyard login`"
                .to_owned(),
            known => format!("signed in to: {}", known.join(", ")),
        };
        let what = named.map_or_else(String::new, |server| format!(" to {server}"));
        return Err(Failure::not_found(format!("this account is not signed in{what}"))
            .next(next)
            .into());
    }
    let mut ended = Vec::new();
    for credential in wanted {
        // One that somebody gave may be in use elsewhere.
        let revoked = credential.made && end_of(&credential, output).await;
        credentials.forget(&credential.url)?;
        if !output.is_json() {
            output.line(format!("Signed out of {}.", credential.url))?;
            if !credential.made {
                output.note("Its key was given with --with-key; it works on until it is revoked.");
            }
        }
        ended.push(serde_json::json!({ "server": credential.url, "revoked": revoked }));
    }
    if output.is_json() {
        output.json(&serde_json::json!({ "signed_out": ended }))?;
    }
    Ok(Exit::Done)
}
