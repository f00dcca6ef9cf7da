//! `[server]`: where the server listens and keeps its data.

use std::{net::SocketAddr, path::PathBuf};

use boatyard_egress::Cidr;
use url::{Host, Url};

use crate::auth::{Hosts, origin::Error as HostsError};

super::table::section! {
    /// Where the server listens and keeps its data.
    Server = "server" {
        /// The address of the page and the API.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7070));
        /// The address under which people reach the server, where it is not the one that it
        /// listens on: behind a proxy, say. Links, mails, the addresses to which providers lead
        /// people back, and checks of the `Origin` use it. The variable BOATYARD_URL may say it
        /// too.
        url: Option<String> = None, example "\"https://boatyard.example.com\"";
        /// A second address, of which everybody is led to the https of `url`: port 80 beside 443, say.
        /// An authority that gives certificates asks there too.
        listen_clear: Option<SocketAddr> = None, example "\"0.0.0.0:80\"";
        /// The proxies before the server, by address or range. Whom these name as the caller, in
        /// `X-Forwarded-For` or `Forwarded`, counts as the caller's address, and whether they were
        /// asked over https; nobody else is believed. docs/network.md has examples.
        trusted_proxies: Vec<String> = Vec::new(), example "[\"127.0.0.1\", \"10.0.0.0/8\"]";
        /// Further names under which the server may be asked, beside `localhost`, the address
        /// that it listens on and the host of `url`. A request for another host is refused.
        hosts: Vec<String> = Vec::new(), example "[\"boatyard.lan\"]";
        /// Pages of other sites that may call the API with a key, by their origin. No cookie counts
        /// for them. None may, where nothing is set.
        cors_origins: Vec<String> = Vec::new(), example "[\"https://tools.example.com\"]";
        /// A file with the first API key, for an installation that nobody attends: it may do
        /// everything, and works from the first start on. The variable BOATYARD_BOOTSTRAP_KEY may
        /// hold the key itself instead. docs/keys.md tells more.
        bootstrap_key_file: Option<PathBuf> = None, example "\"/etc/boatyard/bootstrap.key\"";
        /// The folder of everything that Boatyard keeps. Without it: `$XDG_DATA_HOME/boatyard`,
        /// or `/var/lib/boatyard` for root.
        data: Option<PathBuf> = None, example "\"/srv/boatyard\"";
        /// The database. Without it: `boatyard.db` in the data folder.
        database: Option<String> = None, example "\"sqlite:///srv/boatyard/boatyard.db\"";
    }
}

impl Server {
    /// What is wrong with it, and with which key.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(url) = &self.url {
            public_url(url).map_err(|reason| ("url", reason))?;
        }
        let is_https = self.url.as_deref().is_some_and(|url| url.trim().starts_with("https://"));
        if self.listen_clear.is_some() && !is_https {
            let reason = "there is no https to lead to: `url` does not begin with https://";
            return Err(("listen_clear", reason.to_owned()));
        }
        self.proxies().map_err(|reason| ("trusted_proxies", reason))?;
        if let Err(HostsError::Origin(text)) = Hosts::new(self) {
            let reason = format!(
                "`{text}` is no origin; write it as \"https://tools.example.com\", and nothing behind"
            );
            return Err(("cors_origins", reason));
        }
        Ok(())
    }

    /// The proxies that are believed.
    ///
    /// # Errors
    /// When one of them is no range of addresses.
    pub fn proxies(&self) -> Result<Vec<Cidr>, String> {
        let parsed = self.trusted_proxies.iter().map(|text| {
            text.parse::<Cidr>().map_err(|_| {
                format!("expected addresses or ranges such as \"10.0.0.0/8\", got \"{text}\"")
            })
        });
        let ranges: Vec<Cidr> = parsed.collect::<Result<_, _>>()?;
        if let Some(all) = ranges.iter().find(|range| range.prefix() == 0) {
            return Err(format!(
                "{all} is everybody, who could name any address as theirs; name the proxies only"
            ));
        }
        Ok(ranges)
    }

    /// What is odd but harmless, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(Ok(url)) = self.url.as_deref().map(public_url)
            && url.scheme() == "http"
            && !leads_here(&url)
        {
            warnings.push(format!(
                "`server.url` is {url}: passwords, keys and cookies go over the network as they \
                 are; docs/network.md tells how to have https"
            ));
        }
        warnings
    }
}

/// The address that links begin with.
///
/// # Errors
/// What is wrong with it, without the key.
pub fn public_url(text: &str) -> Result<Url, String> {
    const WHAT: &str = "expected an address such as \"https://boatyard.example.com\"";
    let url =
        Url::parse(text.trim()).map_err(|error| format!("{WHAT}, got \"{text}\" ({error})"))?;
    let refused = |why: &str| Err(format!("{WHAT}, got \"{text}\": {why}"));
    if !matches!(url.scheme(), "http" | "https") {
        return refused("it begins with neither https:// nor http://");
    }
    if url.host().is_none() {
        return refused("it names no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refused("it holds a name or a password, which belong to no address of a server");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refused("something follows the host that belongs to no address of a server");
    }
    if url.path() != "/" {
        return refused("Boatyard stands at the root of a host; give it a host of its own");
    }
    if let Some(Host::Ipv4(ip)) = url.host()
        && ip.is_unspecified()
    {
        return refused("nobody can open that; name the address that others reach it under");
    }
    Ok(url)
}

/// Whether an address leads to the machine itself.
fn leads_here(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_links_can_begin_with() {
        for good in
            ["https://boat.example.com", "http://localhost:7070/", " https://10.0.0.1:8443 "]
        {
            assert!(public_url(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("boat.example.com", "expected an address"),
            ("ftp://boat.example.com", "neither https"),
            ("https://", "expected an address"),
            ("https://me:secret@boat.example.com", "a name or a password"),
            ("https://boat.example.com/?x=1", "follows the host"),
            ("https://boat.example.com/boat", "a host of its own"),
            ("http://0.0.0.0:7070", "nobody can open that"),
        ] {
            let reason = public_url(bad).unwrap_err();
            assert!(reason.contains(why), "{bad}: {reason}");
        }
    }

    #[test]
    fn nobody_trusts_everybody() {
        let server =
            |text: &str| Server { trusted_proxies: vec![text.to_owned()], ..Server::default() };
        assert!(server("10.0.0.0/8").check().is_ok());
        assert!(server("::1").check().is_ok());
        for bad in ["0.0.0.0/0", "::/0", "proxy.lan", ""] {
            assert_eq!(server(bad).check().unwrap_err().0, "trusted_proxies", "{bad}");
        }
    }

    #[test]
    fn an_address_without_https_is_warned_of_where_others_are_on_the_way() {
        let warned = |url: &str| {
            !Server { url: Some(url.to_owned()), ..Server::default() }.warnings().is_empty()
        };
        assert!(warned("http://boat.lan"));
        assert!(!warned("https://boat.lan"));
        assert!(!warned("http://localhost:7070"));
    }
}
