//! What `boatyard doctor` looks at of a server on a network: the settings, the certificate, mail.

use std::{net::SocketAddr, path::Path, time::Duration};

use boatyard_runtime::capabilities::{Check, Outcome};
use url::Url;

use crate::{
    mail::Mail,
    settings::{Settings, server::public_url, tls::From},
    tls::Certificate,
};

/// When a certificate from a file should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// Looks at how the server is reached. `data` is the data folder.
pub async fn network(settings: &Settings, data: &Path) -> Vec<Check> {
    let url = settings.server.url.as_deref().and_then(|url| public_url(url).ok());
    let mut checks = vec![address(settings, url.as_ref())];
    checks.extend(certificate(settings, data, url.as_ref()));
    checks.extend(proxy(settings, url.as_ref()));
    checks.extend(mail(settings).await);
    checks
}

fn check(name: &str, outcome: Outcome, detail: String, hint: &str) -> Check {
    Check { name: name.to_owned(), outcome, detail, hint: hint.to_owned() }
}

/// Whether others find the server.
fn address(settings: &Settings, url: Option<&Url>) -> Check {
    let listen = settings.server.listen;
    let name = "address";
    match url {
        Some(url) if url.scheme() == "http" && !is_here(listen) => check(
            name,
            Outcome::Missing,
            format!("{url}: passwords, keys and cookies go over the network as they are"),
            "set [tls], or put a proxy before it; docs/network.md tells how",
        ),
        Some(url) => check(name, Outcome::Works, format!("{url}, listening on {listen}"), ""),
        None if is_here(listen) => {
            check(name, Outcome::Works, format!("http://{listen}, for this machine only"), "")
        }
        None => check(
            name,
            Outcome::Missing,
            format!("listens on {listen}, and nobody said under which address others reach it"),
            "set `url` in [server], or BOATYARD_URL: links and mails begin with it",
        ),
    }
}

fn is_here(listen: SocketAddr) -> bool {
    listen.ip().to_canonical().is_loopback()
}

/// Whether browsers will take the certificate.
fn certificate(settings: &Settings, data: &Path, url: Option<&Url>) -> Option<Check> {
    let name = "certificate";
    let (read, is_acme) = match settings.tls.from() {
        From::Nowhere => return None,
        From::Files(file, key) => (Certificate::read(file, key), false),
        From::Acme => {
            let kept = data.join("acme").join("certificate.pem");
            if !kept.exists() {
                return Some(check(
                    name,
                    Outcome::Missing,
                    "none yet; the server asks for one when it runs".to_owned(),
                    "the authority must reach port 443 of the host, or 80 with `listen_clear`",
                ));
            }
            (Certificate::read(&kept, &data.join("acme").join("key.pem")), true)
        }
    };
    let missing = |detail, hint| Some(check(name, Outcome::Missing, detail, hint));
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            return missing(crate::chain(&error), "set `certificate` and `key` in [tls]");
        }
    };
    let host = url.and_then(Url::host_str).unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if !read.is_for(host) {
        let names = read.names.join(", ");
        return missing(
            format!("it is for {names}, and not for {host}"),
            "get one for the host of `[server] url`",
        );
    }
    let Some(left) = read.left() else {
        return missing("it does not say until when it is good".to_owned(), "get another one");
    };
    let days = left.as_secs() / (24 * 3600);
    if left.is_zero() {
        return missing("it is not good any more".to_owned(), "renew it");
    }
    if left < SOON && !is_acme {
        return missing(format!("it is good for {days} more days"), "renew it");
    }
    Some(check(name, Outcome::Works, format!("for {host}, good for {days} more days"), ""))
}

/// Whether it is known who is before the server.
fn proxy(settings: &Settings, url: Option<&Url>) -> Option<Check> {
    let behind =
        url.is_some_and(|url| url.scheme() == "https") && settings.tls.from() == From::Nowhere;
    let name = "proxy";
    match (behind, settings.server.trusted_proxies.is_empty()) {
        (true, true) => Some(check(
            name,
            Outcome::Missing,
            "something before the server speaks https, and is not named".to_owned(),
            "set `trusted_proxies` in [server]: without it, all callers have the proxy's address",
        )),
        (_, false) => {
            let trusted = settings.server.trusted_proxies.join(", ");
            Some(check(name, Outcome::Works, format!("trusted: {trusted}"), ""))
        }
        (false, true) => None,
    }
}

/// Whether mail can be sent.
async fn mail(settings: &Settings) -> Option<Check> {
    let name = "mail";
    let missing = |detail| {
        Some(check(
            name,
            Outcome::Missing,
            detail,
            "see [mail] in boatyard.toml and docs/network.md",
        ))
    };
    let mail = match Mail::new(&settings.mail) {
        Ok(mail) => mail?,
        Err(error) => return missing(format!("{error:#}")),
    };
    match mail.check().await {
        Ok(()) => {
            let host = settings.mail.host.as_deref().unwrap_or_default();
            Some(check(name, Outcome::Works, format!("{host} takes it"), ""))
        }
        Err(error) => missing(crate::chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(settings: &Settings, name: &str) -> Option<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let checks = runtime.block_on(network(settings, Path::new("/nowhere")));
        checks.into_iter().find(|check| check.name == name).map(|check| check.outcome)
    }

    #[test]
    fn what_would_surprise_others_is_told() {
        let mut settings = Settings::default();
        assert_eq!(outcome(&settings, "address"), Some(Outcome::Works));
        assert_eq!(outcome(&settings, "proxy"), None);
        assert_eq!(outcome(&settings, "mail"), None);
        settings.server.listen = "0.0.0.0:7070".parse().unwrap();
        assert_eq!(outcome(&settings, "address"), Some(Outcome::Missing));
        settings.server.url = Some("http://boat.lan:7070".to_owned());
        assert_eq!(outcome(&settings, "address"), Some(Outcome::Missing));
        settings.server.url = Some("https://boat.lan".to_owned());
        assert_eq!(outcome(&settings, "address"), Some(Outcome::Works));
        assert_eq!(outcome(&settings, "proxy"), Some(Outcome::Missing));
        settings.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
        assert_eq!(outcome(&settings, "proxy"), Some(Outcome::Works));
        settings.tls.acme = true;
        assert_eq!(outcome(&settings, "certificate"), Some(Outcome::Missing));
    }
}
