//! Whom the server's own fetches trust: the authorities of the system, and those of `[egress]
//! ca_file` beside them.
//!
//! Git takes one file and trusts nobody else, so that both are put into one, in the data folder,
//! when the server starts.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Where systems keep their authorities, as one file.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The file of both, in the data folder.
const BUNDLE: &str = "authorities.pem";
/// What every certificate in a PEM file begins with.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Why a `ca_file` can't be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// It can't be read.
    #[error("[egress] ca_file: {} can't be read by the server's account", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("[egress] ca_file: {} holds no certificate in PEM form", .0.display())]
    NoCertificate(PathBuf),
    /// The data folder can't be written.
    #[error("the file of trusted authorities can't be written")]
    Disk(#[source] io::Error),
}

/// Writes the file of all trusted authorities below `data`, and gives its path.
///
/// # Errors
/// When `ca_file` is not readable or holds no certificate, or the disk refuses.
pub fn bundle(ca_file: &Path, data: &Path) -> Result<PathBuf, AuthoritiesError> {
    let own = std::fs::read_to_string(ca_file)
        .map_err(|source| AuthoritiesError::Unreadable { path: ca_file.to_owned(), source })?;
    if !own.contains(CERTIFICATE) {
        return Err(AuthoritiesError::NoCertificate(ca_file.to_owned()));
    }
    // A system without any has nobody to trust beside.
    let system = SYSTEM.iter().find_map(|path| std::fs::read_to_string(path).ok());
    let bundle = data.join(BUNDLE);
    std::fs::write(&bundle, format!("{}\n{own}", system.unwrap_or_default()))
        .map_err(AuthoritiesError::Disk)?;
    Ok(bundle)
}

#[cfg(test)]
mod tests;
