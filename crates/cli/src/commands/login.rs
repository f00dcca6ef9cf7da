//! `boatyard login`: sign in to a server elsewhere, by a code that a browser lets in (RFC 8628), or
//! with a key that one has.
//!
//! ```text
//! code, link ─► a person opens the link, compares, says yes ─► key ─► credentials.toml
//!      └── asked every few seconds, until yes, no, or the end of the code ──┘
//! ```

use std::{
    io::{IsTerminal as _, Read as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use boatyard_api::{
    Client,
    client::Grant,
    device_code::{DeviceCodeRequest, DeviceCodes, DeviceToken},
    identity::Identity,
    model::{KeyId, Scope, Scopes},
};

use crate::{
    args::Global,
    connect,
    credentials::{Credential, Credentials},
    failure::{Exit, Failure},
    output::Output,
    text::{clean_line, duration},
};

/// The longest pause between two questions, in seconds, however often the server says to go slower.
const PAUSE_MAX: u64 = 120;
/// The most that is read of a key, in bytes.
const KEY_MAX: u64 = 4096;

/// Sign in to a server
///
/// Prints a link and a code. Open the link in a browser in which you are signed in to that server,
/// compare the code, and say yes; the key that this machine gets then is stored for your account
/// only. From then on commands mean this server, unless --server or --data names another.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The server's address; by default the one that runs on this machine
    server: Option<String>,
    /// Ask for this much only; may be repeated [default: all that you may do]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<Scope>,
    /// What the key is to be called [default: boatyard on HOST]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Don't open a browser
    #[arg(long)]
    no_browser: bool,
    /// Read an API key from standard input instead, and store that
    #[arg(long, conflicts_with_all = ["scopes", "name"])]
    with_key: bool,
}

pub(crate) async fn run(args: Args, global: &Global, output: &Output) -> Result<Exit> {
    let server = match args.server.as_ref().or(global.server.as_ref()) {
        Some(server) => server.trim_end_matches('/').to_owned(),
        None => match connect::find_local(global)? {
            Some(local) => local.server,
            None => {
                return Err(Failure::usage("which server?")
                    .next("name it: `boatyard login https://boatyard.example.com`")
                    .into());
            }
        },
    };
    connect::check_address(&server)?;
    // Before anybody is bothered: the place for the key must be one that it can go to.
    let mut credentials = Credentials::read()?;
    warn_of_plain(&server, output);
    let (key, id) = if args.with_key {
        (read_key()?, None)
    } else {
        let token = by_code(&args, &server, output).await?;
        (token.access_token, Some(token.key))
    };
    let client = Client::new(&server, Some(&key))?;
    let me = client.whoami().await.context("the server does not take the key")?;
    let id = match id {
        Some(id) => Some(id),
        None => client.find_own_key().await.ok().map(|key| key.id),
    };
    let (name, made) = (me.name.clone(), !args.with_key);
    let before = credentials.keep(Credential { url: server.clone(), key, id, name, made })?;
    if let Some(before) = before.filter(|before| before.made && before.id != id) {
        end_of(&before, output).await;
    }
    tell(&server, &me, id, &credentials, output)?;
    Ok(Exit::Done)
}

/// Has a person let this machine in.
async fn by_code(args: &Args, server: &str, output: &Output) -> Result<DeviceToken> {
    let client = Client::new(server, None)?;
    let scopes: Scopes = args.scopes.iter().copied().collect();
    let request = DeviceCodeRequest {
        client_id: Some("boatyard".to_owned()),
        client_name: Some(args.name.clone().unwrap_or_else(own_name)),
        scope: (!args.scopes.is_empty()).then(|| scopes.to_string()),
    };
    let codes = match client.create_device_code(&request).await? {
        Grant::Given(codes) => codes,
        Grant::Refused(error) => {
            let words = clean_line(&error.error_description);
            return Err(Failure::new(format!("the server gives no code: {words}")).into());
        }
    };
    show(&codes, output)?;
    if !args.no_browser && !output.is_json() && output.err.terminal {
        super::up::open::browser(&codes.verification_uri_complete, output);
    }
    wait(&client, &codes).await
}

/// Asks until somebody has decided, or the code is over.
async fn wait(client: &Client, codes: &DeviceCodes) -> Result<DeviceToken> {
    let over =
        || Failure::new("nobody decided in time").next("sign in again with `boatyard login`");
    let until = Instant::now() + Duration::from_secs(codes.expires_in);
    let mut pause = codes.interval.clamp(1, PAUSE_MAX);
    loop {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        match client.redeem_device_code(&codes.device_code).await {
            Ok(Grant::Given(token)) => return Ok(token),
            Ok(Grant::Refused(error)) => match error.error.as_str() {
                "authorization_pending" => {}
                // As the RFC has it: for all questions that follow.
                "slow_down" => pause = (pause + 5).min(PAUSE_MAX),
                "access_denied" => {
                    return Err(Failure::not_allowed("somebody said no to this machine")
                        .next("ask them, or sign in again with `boatyard login`")
                        .into());
                }
                "expired_token" => return Err(over().into()),
                _ => {
                    let words = clean_line(&error.error_description);
                    return Err(
                        Failure::new(format!("the server refuses the code: {words}")).into()
                    );
                }
            },
            // A network that is gone for a moment, or a server that has too much to do.
            Err(error) if error.is_transient() => pause = (pause * 2).min(PAUSE_MAX),
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= until {
            return Err(over().into());
        }
    }
}

fn show(codes: &DeviceCodes, output: &Output) -> Result<()> {
    if output.is_json() {
        return output.json_line(&serde_json::json!({
            "verification_uri": codes.verification_uri,
            "verification_uri_complete": codes.verification_uri_complete,
            "user_code": codes.user_code,
            "expires_in": codes.expires_in,
        }));
    }
    // Also for the quiet: without it nothing goes on.
    crate::output::to_stderr(&format!(
        "Open this in a browser in which you are signed in:\n\n  {}\n\nand compare the code: {}\n\
         It is good for {}.",
        output.err.name(clean_line(&codes.verification_uri_complete)),
        output.err.bold(clean_line(&codes.user_code)),
        duration(Duration::from_secs(codes.expires_in)),
    ));
    Ok(())
}

fn tell(
    server: &str,
    me: &Identity,
    key: Option<KeyId>,
    credentials: &Credentials,
    output: &Output,
) -> Result<()> {
    if output.is_json() {
        return output.json_line(&serde_json::json!({
            "server": server, "name": me.name, "organization": me.organization, "role": me.role,
            "key": key,
        }));
    }
    output.line(format!(
        "Signed in to {server} as {}{}.",
        clean_line(&me.name),
        match me.organization_name.as_str() {
            "" => String::new(),
            name => format!(", {} of {}", me.role, clean_line(name)),
        }
    ))?;
    output.note(format!("The key is in {}.", credentials.path().display()));
    Ok(())
}

/// Makes a key that is not needed any more cease to work.
pub(super) async fn end_of(credential: &Credential, output: &Output) -> bool {
    let ended = async {
        let client = Client::new(&credential.url, Some(&credential.key))?;
        client.revoke_own_key().await
    };
    match ended.await {
        Ok(()) => true,
        // It had ceased to work before.
        Err(error) if error.problem().is_some_and(|problem| problem.status == 401) => true,
        Err(error) => {
            output.warning(format!(
                "the key that {} had until now could not be revoked ({error}); it works until \
                 somebody revokes it there",
                credential.url
            ));
            false
        }
    }
}

fn warn_of_plain(server: &str, output: &Output) {
    let Ok(url) = url::Url::parse(server) else { return };
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !is_here {
        output.warning("this is plain http: everybody on the way can read the key");
    }
}

/// What this machine is called.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => "boatyard".to_owned(),
        host => format!("boatyard on {host}"),
    }
}

fn read_key() -> Result<String> {
    let text = if std::io::stdin().is_terminal() {
        let terminal = console::Term::stderr();
        terminal.write_str("Key (not shown): ")?;
        terminal.read_secure_line().context("the key can't be read")?
    } else {
        let mut text = String::new();
        let input = std::io::stdin().take(KEY_MAX).read_to_string(&mut text);
        input.context("standard input can't be read")?;
        text
    };
    let key = text.trim();
    if !key.starts_with(boatyard_api::identity::KEY_PREFIX) || key.contains(char::is_whitespace) {
        return Err(Failure::usage("this is no API key: it begins with by_ and is one word")
            .next("`boatyard key create NAME` makes one where you are signed in")
            .into());
    }
    Ok(key.to_owned())
}
