//! `[tls]`: how the server itself speaks https.

use std::path::PathBuf;

use url::Host;

use super::server::{Server, public_url};

/// The directory of Let's Encrypt.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

super::table::section! {
    /// How the server itself speaks https, where no proxy before it does: with certificates from
    /// files, or with one that it gets and renews by itself. Either needs `[server] url` to begin
    /// with `https://`. The port of `[server] listen` is for both then: who comes in the clear is
    /// led to https, programs of the server's own machine apart.
    Tls = "tls" {
        /// The certificate with those of the authorities between, as one PEM file. It is read again
        /// when it changes.
        certificate: Option<PathBuf> = None, example "\"/etc/boatyard/tls/fullchain.pem\"";
        /// The key that belongs to it, as a PEM file.
        key: Option<PathBuf> = None, example "\"/etc/boatyard/tls/privkey.pem\"";
        /// Gets a certificate for the host of `[server] url` from an authority, and renews it. With
        /// this you agree to the authority's terms of service. It asks for the server on port 443,
        /// or on port 80 where `[server] listen_clear` is set.
        acme: bool = false;
        /// The directory of the authority.
        acme_directory: String = LETS_ENCRYPT.to_owned();
        /// The address that the authority may write to.
        acme_email: Option<String> = None, example "\"ops@example.com\"";
    }
}

/// From where certificates come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'s> {
    /// Nowhere: the server speaks http.
    Nowhere,
    /// From these files: the certificate, its key.
    Files(&'s PathBuf, &'s PathBuf),
    /// From an authority.
    Acme,
}

impl Tls {
    /// From where certificates come.
    pub const fn from(&self) -> From<'_> {
        match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => From::Files(certificate, key),
            _ if self.acme => From::Acme,
            _ => From::Nowhere,
        }
    }

    /// What is wrong with it, and with which key.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn check(&self, server: &Server) -> Result<(), (&'static str, String)> {
        match (&self.certificate, &self.key) {
            (Some(_), None) => {
                return Err(("certificate", "a certificate needs its `key` beside it".to_owned()));
            }
            (None, Some(_)) => {
                return Err(("key", "a key needs its `certificate` beside it".to_owned()));
            }
            (Some(_), Some(_)) if self.acme => {
                let reason = "certificates come from files or by ACME; leave one of them out";
                return Err(("acme", reason.to_owned()));
            }
            _ => {}
        }
        let key = match self.from() {
            From::Nowhere => return Ok(()),
            From::Files(..) => "certificate",
            From::Acme => "acme",
        };
        let url = server.url.as_deref().map(public_url);
        let Some(Ok(url)) = url.filter(|url| url.as_ref().is_ok_and(|u| u.scheme() == "https"))
        else {
            let reason = "https needs `[server] url` to be the address that others reach it under, \
                          such as \"https://boatyard.example.com\"";
            return Err((key, reason.to_owned()));
        };
        if self.acme && !matches!(url.host(), Some(Host::Domain(_))) {
            let reason = "an authority gives certificates for names; `[server] url` holds a number";
            return Err(("acme", reason.to_owned()));
        }
        if self.acme && !self.acme_directory.starts_with("https://") {
            let reason = format!(
                "expected an address that begins with https://, got \"{}\"",
                self.acme_directory
            );
            return Err(("acme_directory", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tls: &Tls, url: Option<&str>, expected: Option<&str>) {
        let server = Server { url: url.map(str::to_owned), ..Server::default() };
        let got = tls.check(&server).err().map(|(key, _)| key);
        assert_eq!(got, expected, "{tls:?} {url:?}");
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let url = Some("https://boat.example.com");
        let file = || Some(PathBuf::from("/x.pem"));
        check(&Tls::default(), None, None);
        let half = Tls { certificate: file(), ..Tls::default() };
        check(&half, url, Some("certificate"));
        check(&Tls { key: file(), ..Tls::default() }, url, Some("key"));
        let files = Tls { key: file(), ..half };
        check(&files, url, None);
        check(&files, None, Some("certificate"));
        check(&files, Some("http://boat.example.com"), Some("certificate"));
        check(&Tls { acme: true, ..files }, url, Some("acme"));
        let acme = Tls { acme: true, ..Tls::default() };
        check(&acme, url, None);
        check(&acme, Some("https://10.0.0.1"), Some("acme"));
        check(&acme, None, Some("acme"));
        let clear = Tls { acme_directory: "http://ca.lan/dir".to_owned(), ..acme };
        check(&clear, url, Some("acme_directory"));
    }
}
