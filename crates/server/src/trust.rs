//! Whom workspaces trust, and how the proxy opens what it has to look into.
//!
//! The authority of the installation is in `D/authority`, made at the first start. Its certificate
//! is shown in workspaces beside those of the system and of `[egress] ca_file`; its key is read by
//! the server and by nobody else.

use std::{path::Path, sync::Arc};

use boatyard_egress::open::{Authority, Opener, Owner, trust::Trust};

use crate::settings::Settings;

/// Why nothing can be opened.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The operator's authorities can't be read.
    #[error("[egress] ca_file: {} can't be read", .path.display())]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// They are none, or the installation's own can't be used.
    #[error(transparent)]
    Egress(#[from] boatyard_egress::Error),
}

/// What workspaces are to trust. Makes the authority of the data folder if there is none, for the
/// account `server`, where that is another than ours.
///
/// # Errors
/// [`TrustError`].
pub fn prepare(data: &Path, settings: &Settings, server: Option<u32>) -> Result<Trust, TrustError> {
    let owner = server.map_or(Owner::Us, Owner::Account);
    let authority = Authority::load_or_create(data, owner)?;
    Ok(Trust::new(&authority, &authorities(settings)?)?)
}

/// What opens TLS for the proxy.
///
/// # Errors
/// [`TrustError`].
pub(crate) fn opener(data: &Path, settings: &Settings) -> Result<Arc<Opener>, TrustError> {
    let authority = Authority::load_or_create(data, Owner::Us)?;
    Ok(Arc::new(Opener::new(authority, &authorities(settings)?)?))
}

/// The authorities of `[egress] ca_file`, in PEM form.
fn authorities(settings: &Settings) -> Result<Vec<u8>, TrustError> {
    let Some(path) = &settings.egress.ca_file else { return Ok(Vec::new()) };
    std::fs::read(path).map_err(|source| TrustError::Unreadable { path: path.clone(), source })
}
