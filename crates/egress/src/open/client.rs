//! How the proxy is a client of real servers: their certificates are verified.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::sync::OnceCell;

use super::{H2, HTTP_1_1};
use crate::Error;

/// What is offered to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Alpn {
    /// HTTP/2, else HTTP/1.1.
    Best,
    /// HTTP/1.1 only, because the connection is to be upgraded.
    Http1,
}

/// The configurations, made when the first is asked for: the system's authorities are some hundred
/// files at worst.
pub(super) struct Clients {
    authorities: RootCertStore,
    made: OnceCell<[Arc<ClientConfig>; 2]>,
}

impl Clients {
    pub(super) fn new(authorities: &[u8]) -> Result<Self, Error> {
        Ok(Self { authorities: from_pem(authorities)?, made: OnceCell::new() })
    }

    pub(super) async fn config(&self, alpn: Alpn) -> Result<Arc<ClientConfig>, Error> {
        let make = async {
            let roots = self.authorities.clone();
            match tokio::task::spawn_blocking(move || make(roots)).await {
                Ok(made) => made,
                Err(_) => Err(Error::Authorities { what: "can't be read while the server ends" }),
            }
        };
        let [best, http_1] = self.made.get_or_try_init(|| make).await?;
        Ok(Arc::clone(match alpn {
            Alpn::Best => best,
            Alpn::Http1 => http_1,
        }))
    }
}

/// Whom to trust beside the system's authorities, from PEM form.
pub(crate) fn from_pem(pem: &[u8]) -> Result<RootCertStore, Error> {
    let wrong = |what| Error::Authorities { what };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| wrong("are not in PEM form"))?;
        roots.add(certificate).map_err(|_| wrong("hold a certificate of no authority"))?;
    }
    Ok(roots)
}

/// What is trusted: the system's authorities, which are read for it, and `roots`.
fn make(mut roots: RootCertStore) -> Result<[Arc<ClientConfig>; 2], Error> {
    let wrong = |what| Error::Authorities { what };
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificates can't be read");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        return Err(wrong("are none: the system has no certificates (package ca-certificates)"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong("go with no version of TLS"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let with = |protocols: &[&[u8]]| {
        let mut config = config.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    };
    Ok([with(&[H2, HTTP_1_1]), with(&[HTTP_1_1])])
}
