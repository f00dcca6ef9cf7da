//! What workspaces trust: the system's authorities, the operator's, and the one of this
//! installation, in the forms that programs read.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::Authority;
use crate::Error;

/// The password of [`Trust::java`], which everybody knows: it holds nothing secret.
pub const JAVA_PASSWORD: &str = "changeit";
/// A line of PEM.
const LINE: usize = 64;
/// A file of Java's own form begins so, with its version.
const JKS: [u32; 2] = [0xfeed_feed, 2];
/// An entry that is trusted.
const TRUSTED: u32 = 2;

/// Files for workspaces.
#[derive(Debug, Clone)]
pub struct Trust {
    /// All certificates in PEM form.
    pub bundle: Vec<u8>,
    /// The same as a Java key store.
    pub java: Vec<u8>,
}

impl Trust {
    /// What a workspace is to trust; `authorities` are the operator's, in PEM form.
    ///
    /// # Errors
    /// [`Error::Authorities`].
    pub fn new(authority: &Authority, authorities: &[u8]) -> Result<Self, Error> {
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "some of the system's certificates can't be read");
        }
        let mut all = system.certs;
        for certificate in CertificateDer::pem_slice_iter(authorities) {
            all.push(certificate.map_err(|_| Error::Authorities { what: "are not in PEM form" })?);
        }
        all.push(authority.certificate().clone());
        Ok(Self { bundle: pem(&all), java: jks(&all) })
    }
}

fn pem(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(certificate);
        // Base64 is ASCII.
        for line in encoded.as_bytes().chunks(LINE) {
            text.extend(line.iter().copied().map(char::from));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

/// A Java key store in the form that every version reads.
fn jks(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    let mut store = Vec::new();
    let number = |store: &mut Vec<u8>, number: u32| store.extend(number.to_be_bytes());
    let text = |store: &mut Vec<u8>, text: &str| {
        // None of ours is longer than a few letters.
        store.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
        store.extend(text.as_bytes());
    };
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    for part in JKS {
        number(&mut store, part);
    }
    number(&mut store, u32::try_from(certificates.len()).unwrap_or(u32::MAX));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(0);
    for (index, certificate) in certificates.iter().enumerate() {
        number(&mut store, TRUSTED);
        text(&mut store, &format!("ca{index}"));
        store.extend(now.to_be_bytes());
        text(&mut store, "X.509");
        number(&mut store, length(certificate));
        store.extend_from_slice(certificate);
    }
    let mut digest = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let password: Vec<u8> = JAVA_PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect();
    digest.update(&password);
    // Part of the form.
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend(digest.finish().as_ref());
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_holds_the_system_the_operator_and_us() {
        let authority = Authority::in_memory().unwrap();
        let company = Authority::in_memory().unwrap();
        let operator = pem(&[company.certificate().clone()]);
        let trust = Trust::new(&authority, &operator).unwrap();
        let read: Vec<_> =
            CertificateDer::pem_slice_iter(&trust.bundle).collect::<Result<_, _>>().unwrap();
        let system = rustls_native_certs::load_native_certs().certs.len();
        assert_eq!(read.len(), system + 2);
        assert_eq!(read.last(), Some(authority.certificate()));
        assert!(read.contains(company.certificate()));
        assert!(Trust::new(&authority, b"-----BEGIN CERTIFICATE-----\n!\n").is_err());
    }

    #[test]
    fn java_reads_the_store_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::in_memory().unwrap();
        let file = folder.path().join("cacerts.jks");
        std::fs::write(&file, Trust::new(&authority, b"").unwrap().java).unwrap();
        let listed = std::process::Command::new("keytool")
            .args(["-list", "-storepass", JAVA_PASSWORD, "-keystore"])
            .arg(&file)
            .output();
        // Not every machine has Java; the form is the same everywhere.
        let Ok(listed) = listed else { return };
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.status.success(), "{text}");
        let expected = rustls_native_certs::load_native_certs().certs.len() + 1;
        assert!(text.contains(&format!("contains {expected} entries")), "{text}");
    }
}
