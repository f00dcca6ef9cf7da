//! Opening TLS: where rules look at methods or paths, or a credential goes along, the proxy is the
//! server that a workspace's program speaks with, and the client of the real one.
//!
//! ```text
//!  program ══ TLS, a leaf for exactly this host ══► proxy ══ TLS, verified ══► destination
//!                     ▲ signed by                       │ each request judged
//!              authority of this installation           ▼
//!              (its key never leaves the server)   rules, people, broker, record
//! ```
//!
//! Everything else passes unopened. Workspaces trust the authority because the bundle that they
//! see has its certificate in it ([`trust`]); nobody else does.

mod authority;
mod client;
mod leaf;
pub mod trust;

use std::{fmt, sync::Arc};

use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring::{self, Ticketer},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};

pub use self::authority::{Authority, Owner, folder_of};
pub(crate) use self::client::Alpn;
use self::{client::Clients, leaf::Leaves};
use crate::{Error, rules::Host};

/// HTTP/2, as it is named in TLS.
pub(crate) const H2: &[u8] = b"h2";
/// HTTP/1.1, as it is named in TLS.
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// Both ends of connections that are opened.
pub struct Opener {
    leaves: Leaves,
    /// All that does not depend on the host.
    server: ServerConfig,
    clients: Clients,
}

impl Opener {
    /// Opens with certificates of this authority, and trusts the system's authorities and those of
    /// `authorities` (in PEM form) for the real servers.
    ///
    /// # Errors
    /// [`Error::Authorities`] or [`Error::Authority`].
    pub fn new(authority: Authority, authorities: &[u8]) -> Result<Self, Error> {
        let unusable = |_| Error::Authority { what: "goes with no version of TLS" };
        let nobody: Arc<dyn ResolvesServerCert> = Arc::new(Nobody);
        let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(nobody);
        server.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        server.ticketer = Ticketer::new().map_err(unusable)?;
        Ok(Self { leaves: Leaves::new(authority)?, server, clients: Clients::new(authorities)? })
    }

    /// How the proxy is the server for this host.
    pub(crate) fn server(&self, host: &Host) -> Result<Arc<ServerConfig>, Error> {
        let mut server = self.server.clone();
        server.cert_resolver = Arc::new(SingleCertAndKey::from(self.leaves.of(host)?));
        Ok(Arc::new(server))
    }

    /// How the proxy is a client of real servers.
    pub(crate) async fn client(&self, alpn: Alpn) -> Result<Arc<rustls::ClientConfig>, Error> {
        self.clients.config(alpn).await
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

/// Whether a connection that the proxy serves speaks HTTP/2.
pub(crate) fn is_h2(connection: &ServerConnection) -> bool {
    connection.alpn_protocol() == Some(H2)
}

/// Has no certificate: stands in until there is a host.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}
