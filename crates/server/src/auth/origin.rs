//! Whether a request was meant for this server and comes from its own page.
//!
//! Two attacks are refused here, before anybody asks who calls: a name of the attacker's that
//! resolves to this machine (the `Host` is not one of ours), and a page of another site that sends
//! a request (the `Origin` is not the one that the request went to). A workspace's preview is
//! another site too: it lives on a host name of its own.
//!
//! Pages of other sites may call the API where the settings name them (`cors_origins`), with a key
//! only: no cookie counts for them.

use std::net::IpAddr;

use boatyard_api::{Problem, ProblemKind};
use http::{HeaderMap, HeaderValue, Uri, header};
use url::Url;

use crate::{proxy::Proxies, settings};

/// The names under which the server may be asked.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// Host names in small letters, without a port.
    names: Vec<String>,
    /// The configured address, as an `Origin` writes it.
    url: Option<String>,
    /// Other sites whose pages may call, as an `Origin` writes them.
    allowed: Vec<String>,
    /// Who is believed about where a request came from.
    pub proxies: Proxies,
}

/// From where a request comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Site {
    /// Our own page, or no page at all.
    Own,
    /// A page of another site that may call, by its origin.
    Allowed(HeaderValue),
}

/// Why the names and sites that the settings give make no sense.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured address is none.
    #[error("`server.url`: {0}")]
    Url(String),
    /// One of the proxies is no range of addresses.
    #[error("`server.trusted_proxies`: {0}")]
    Proxies(String),
    /// It is no origin.
    #[error("`server.cors_origins`: `{0}` is no origin; write it as \"https://tools.example.com\"")]
    Origin(String),
}

impl Hosts {
    /// The names that the settings give, beside `localhost` and addresses.
    ///
    /// # Errors
    /// When the configured address is none, or one of the origins.
    pub fn new(settings: &settings::Server) -> Result<Self, Error> {
        let mut hosts = Self {
            names: settings.hosts.iter().map(|name| name.to_ascii_lowercase()).collect(),
            url: None,
            allowed: settings
                .cors_origins
                .iter()
                .map(|one| origin(one))
                .collect::<Result<_, _>>()?,
            proxies: Proxies::new(settings.proxies().map_err(Error::Proxies)?),
        };
        if let Some(text) = &settings.url {
            let url = settings::server::public_url(text).map_err(Error::Url)?;
            hosts.names.extend(url.host_str().map(str::to_ascii_lowercase));
            hosts.url = Some(url.origin().ascii_serialization());
        }
        Ok(hosts)
    }

    /// The configured address, if browsers reach the server over https only; no slash at its end.
    pub fn https(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| url.starts_with("https://"))
    }

    /// Refuses a request that was not meant for this server or comes from another site.
    ///
    /// # Errors
    /// When it does.
    pub fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Site, Problem> {
        let refused = |field: &str, detail: String| {
            Problem::new(ProblemKind::ForeignOrigin, detail).at(field).advised()
        };
        let authority = match (uri.authority(), headers.get(header::HOST)) {
            (Some(authority), _) => authority.as_str().to_owned(),
            (None, Some(value)) => value.to_str().unwrap_or_default().to_ascii_lowercase(),
            (None, None) => String::new(),
        };
        let authority = authority.to_ascii_lowercase();
        if !self.knows(&authority) {
            let shown: String = authority.chars().take(100).collect();
            return Err(refused("header.host", format!("this server is not called `{shown}`")));
        }
        let Some(value) = headers.get(header::ORIGIN) else { return Ok(Site::Own) };
        let origin = value.to_str().unwrap_or("null");
        if self.is_own(origin, &authority) {
            return Ok(Site::Own);
        }
        if self.allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
            return Ok(Site::Allowed(value.clone()));
        }
        let shown: String = origin.chars().take(100).collect();
        Err(refused("header.origin", format!("`{shown}` is another site")))
    }

    /// Whether a name is one of this server's. An address in figures can't be made to resolve
    /// elsewhere, so each is as good as another.
    fn knows(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        literal.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || self.names.iter().any(|name| name == host)
    }

    fn is_own(&self, origin: &str, authority: &str) -> bool {
        let same = ["http://", "https://"]
            .iter()
            .filter_map(|scheme| origin.strip_prefix(scheme))
            .any(|rest| rest.eq_ignore_ascii_case(authority));
        same || self.url.as_deref().is_some_and(|url| url.eq_ignore_ascii_case(origin))
    }
}

/// An origin as browsers write it.
fn origin(text: &str) -> Result<String, Error> {
    let bad = || Error::Origin(text.to_owned());
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty();
    if plain { Ok(url.origin().ascii_serialization()) } else { Err(bad()) }
}

/// The host of `host[:port]`, if it is one.
fn host_of(authority: &str) -> Option<&str> {
    if authority.contains(['@', '/', '\\', ' ']) {
        return None;
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            port.parse::<u16>().ok()?;
            host
        }
        _ => authority,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>, expected: Option<&str>) {
        let settings = settings::Server {
            url: Some("https://Boat.example.com/".to_owned()),
            hosts: vec!["boat.lan".to_owned()],
            cors_origins: vec!["https://Tools.example.com".to_owned()],
            ..settings::Server::default()
        };
        let hosts = Hosts::new(&settings).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        let got = hosts.check(&Uri::from_static("/api/tasks"), &headers);
        let field = got.err().and_then(|problem| problem.field.clone());
        assert_eq!(field.as_deref(), expected, "{host} {origin:?}");
    }

    #[test]
    fn own_names_pass_and_others_do_not() {
        for host in [
            "localhost",
            "localhost:7070",
            "LOCALHOST:7070",
            "127.0.0.1:7070",
            "[::1]:7070",
            "[::1]",
            "192.168.1.5:80",
            "boat.lan",
            "boat.example.com",
        ] {
            check(host, None, None);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "7071--ws.localhost",
            "127.0.0.1.nip.io",
            "",
            "localhost:x",
            "a@localhost",
            ":7070",
        ] {
            check(host, None, Some("header.host"));
        }
    }

    #[test]
    fn the_origin_is_the_server_itself() {
        check("localhost:7070", Some("http://localhost:7070"), None);
        check("boat.example.com", Some("https://boat.example.com"), None);
        check("127.0.0.1:7070", Some("https://boat.example.com"), None);
        let foreign = Some("header.origin");
        check("localhost:7070", Some("http://localhost:7071"), foreign);
        check("localhost:7070", Some("http://localhost"), foreign);
        check("localhost:7070", Some("null"), foreign);
        check("localhost:7070", Some("http://8080--ws.localhost:7071"), foreign);
        check("localhost:7070", Some("http://evil.example"), foreign);
        check("localhost:7070", Some("https://tools.example.com"), None);
        check("localhost:7070", Some("http://tools.example.com"), foreign);
        check("localhost:7070", Some("https://tools.example.com.evil.example"), foreign);
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in ["*", "null", "tools.example.com", "https://a.example/x", "ftp://a.example"] {
            let settings = settings::Server {
                cors_origins: vec![bad.to_owned()],
                ..settings::Server::default()
            };
            assert!(matches!(Hosts::new(&settings), Err(Error::Origin(_))), "{bad}");
        }
    }
}
