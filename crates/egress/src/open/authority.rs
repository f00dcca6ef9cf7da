//! The authority of an installation: a key and a certificate of its own, made once.
//!
//! Both are in `D/authority/authority.json`, mode 0600, which belongs to the server's account, and
//! nowhere else. A certificate that ends within [`RENEW_WITHIN`] is made anew for the same key and
//! name, so that programs that run with the old one go on trusting what it signs. To have another
//! key, remove the folder and start the server again; workspaces trust it from their next start.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, unlinkat};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use zeroize::{Zeroize as _, Zeroizing};

use crate::Error;

/// The folder in the data folder.
const FOLDER: &str = "authority";
/// The file with key and certificate.
const FILE: &str = "authority.json";
/// How long a certificate holds: longer than most installations live.
const HOLDS: Duration = Duration::from_hours(24 * 3650);
/// How long before its end a certificate is made anew.
const RENEW_WITHIN: Duration = Duration::from_hours(24 * 365);
/// Clocks of other machines may be behind ours by as much.
pub(super) const BEHIND: Duration = Duration::from_hours(24);
/// The largest file that is read.
const FILE_MAX: u64 = 64 * 1024;
/// What is wrong with a file whose parts don't fit.
const BAD_CERTIFICATE: &str =
    "has no readable certificate of its key: remove its folder, so that a new one is made";
const BAD_KEY: &str = "has no readable key: remove its folder, so that a new one is made";
/// Who may read the file.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Folders are opened without following a link.
const OPEN_FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An authority that signs for hosts.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// What is on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The certificate's subject.
    name: String,
    /// When it ends, in seconds since 1970.
    ends: i64,
    /// In DER form, as base64.
    certificate: String,
    /// PKCS #8, in DER form, as base64.
    key: String,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// To whom the files are to belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// Whoever writes them.
    Us,
    /// This user and group, which only the super-user can give them to.
    Account(u32),
}

impl Authority {
    /// The authority of the data folder, made if there is none, and renewed when it is time.
    ///
    /// # Errors
    /// [`Error::AuthorityFile`] when the files can't be read or written, or belong to somebody
    /// else; [`Error::Authority`] when what they hold is no authority.
    pub fn load_or_create(data: &Path, owner: Owner) -> Result<Self, Error> {
        let path = data.join(FOLDER).join(FILE);
        let on_disk = |source| Error::AuthorityFile { path: path.clone(), source };
        let folder = folder(data, owner).map_err(on_disk)?;
        let now = SystemTime::now();
        if let Some(stored) = read(&folder, owner).map_err(on_disk)? {
            let (authority, ends) = Self::from_stored(&stored)?;
            if now + RENEW_WITHIN < ends {
                return Ok(authority);
            }
        }
        // What is there now, once more: another start may have been first.
        let before = read(&folder, owner).map_err(on_disk)?;
        let (name, key) = match before {
            Some(stored) => {
                let key = stored.key_pair()?;
                (stored.name.clone(), key)
            }
            None => (new_name()?, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?),
        };
        let ends = now + HOLDS;
        let params = params(&name, now - BEHIND, ends)?;
        let certificate = params.self_signed(&key).map_err(broken)?.der().clone();
        let stored = Stored {
            name,
            ends: seconds(ends),
            certificate: STANDARD.encode(&certificate),
            key: STANDARD.encode(key.serialized_der()),
        };
        write(&folder, owner, &stored).map_err(on_disk)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// One that is nowhere on disk.
    ///
    /// # Errors
    /// [`Error::Authority`] when there is no randomness.
    pub fn in_memory() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
        let now = SystemTime::now();
        let params = params(&new_name()?, now - BEHIND, now + HOLDS)?;
        let certificate = params.self_signed(&key).map_err(broken)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Its certificate, which is no secret.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    fn from_stored(stored: &Stored) -> Result<(Self, SystemTime), Error> {
        let key = stored.key_pair()?;
        let unreadable = Error::Authority { what: BAD_CERTIFICATE };
        let certificate: CertificateDer<'static> = match STANDARD.decode(&stored.certificate) {
            Ok(certificate) => certificate.into(),
            Err(_) => return Err(unreadable),
        };
        // One that nobody can read would spoil the whole bundle of every workspace, and one of
        // another key would be trusted for nothing.
        let is_readable = rustls::RootCertStore::empty().add(certificate.clone()).is_ok();
        if !is_readable || memchr::memmem::find(&certificate, key.public_key_raw()).is_none() {
            return Err(unreadable);
        }
        let ends = UNIX_EPOCH + Duration::from_secs(u64::try_from(stored.ends).unwrap_or(0));
        let params = params(&stored.name, UNIX_EPOCH, ends)?;
        let issuer = Issuer::new(params, key);
        Ok((Self { issuer, certificate }, ends))
    }
}

impl Stored {
    fn key_pair(&self) -> Result<KeyPair, Error> {
        let unreadable = Error::Authority { what: BAD_KEY };
        let Ok(key) = STANDARD.decode(self.key.as_bytes()).map(Zeroizing::new) else {
            return Err(unreadable);
        };
        KeyPair::try_from(key.as_slice()).map_err(|_| unreadable)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

/// Whom the certificate is about: this installation and no other.
fn new_name() -> Result<String, Error> {
    let [a, b, c, d] = random::<4>()?;
    Ok(format!("Boatyard workspaces {a:02x}{b:02x}{c:02x}{d:02x}"))
}

fn params(name: &str, begins: SystemTime, ends: SystemTime) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Boatyard");
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = date(begins)?;
    params.not_after = date(ends)?;
    params.serial_number = Some(serial()?);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

pub(super) fn date(time: SystemTime) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(seconds(time))
        .map_err(|_| Error::Authority { what: "has a time that there is not" })
}

/// A number that no other certificate has.
pub(super) fn serial() -> Result<SerialNumber, Error> {
    let mut number = random::<16>()?;
    // Positive, and of one length.
    number[0] = number[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&number))
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::Authority { what: "can't be made: the system gives no randomness" })?;
    Ok(bytes)
}

pub(super) fn broken(_: rcgen::Error) -> Error {
    Error::Authority { what: "can't sign" }
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The folder, made if need be. The data folder may belong to another account than ours, so that
/// no link in it is followed.
fn folder(data: &Path, owner: Owner) -> io::Result<File> {
    let data = File::from(open(data, OPEN_FOLDER, Mode::empty())?);
    match mkdirat(&data, FOLDER, Mode::RWXU) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = File::from(openat(&data, FOLDER, OPEN_FOLDER, Mode::empty())?);
    give(&folder, owner)?;
    Ok(folder)
}

fn read(folder: &File, owner: Owner) -> io::Result<Option<Stored>> {
    use std::os::unix::fs::MetadataExt as _;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, FILE, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let meta = file.metadata()?;
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    if !meta.is_file() || meta.len() > FILE_MAX {
        return refuse("it is no file of ours");
    }
    let known = [rustix::process::geteuid().as_raw(), owner.account()];
    if !known.contains(&meta.uid()) {
        return refuse("it belongs to another account");
    }
    if meta.mode() & 0o077 != 0 {
        return refuse("others may read it: remove the folder, so that a new authority is made");
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_MAX).read_to_string(&mut text)?;
    match serde_json::from_str(&text) {
        Ok(stored) => Ok(Some(stored)),
        // What it says could be a piece of the key.
        Err(_) => refuse("it is damaged: remove the folder, so that a new authority is made"),
    }
}

/// Writes beside, then moves there: a crash leaves the old or the new.
fn write(folder: &File, owner: Owner, stored: &Stored) -> io::Result<()> {
    let fresh = format!(".{FILE}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match unlinkat(folder, &fresh, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mut file = File::from(openat(folder, &fresh, flags, MODE)?);
    give(&file, owner)?;
    let text = Zeroizing::new(serde_json::to_string(stored)?);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    renameat(folder, &fresh, folder, FILE)?;
    folder.sync_all()
}

fn give(file: &File, owner: Owner) -> io::Result<()> {
    match owner {
        Owner::Us => Ok(()),
        Owner::Account(id) => std::os::unix::fs::fchown(file, Some(id), Some(id)),
    }
}

impl Owner {
    fn account(self) -> u32 {
        match self {
            Self::Us => rustix::process::geteuid().as_raw(),
            Self::Account(id) => id,
        }
    }
}

/// Where the authority of a data folder is, for messages.
pub fn folder_of(data: &Path) -> PathBuf {
    data.join(FOLDER)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn it_is_made_once_readable_by_its_owner_only_and_kept() {
        let data = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(data.path(), Owner::Us).unwrap();
        let file = folder_of(data.path()).join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(folder_of(data.path()).metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let second = Authority::load_or_create(data.path(), Owner::Us).unwrap();
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(first.issuer().key().serialized_der(), second.issuer().key().serialized_der());
        assert_eq!(format!("{second:?}"), "Authority");
    }

    #[test]
    fn one_that_is_about_to_end_is_renewed_with_its_key_and_name() {
        let data = tempfile::tempdir().unwrap();
        let first = Authority::load_or_create(data.path(), Owner::Us).unwrap();
        let folder = folder(data.path(), Owner::Us).unwrap();
        let mut stored = read(&folder, Owner::Us).unwrap().unwrap();
        stored.ends = seconds(SystemTime::now() + RENEW_WITHIN / 2);
        write(&folder, Owner::Us, &stored).unwrap();
        let second = Authority::load_or_create(data.path(), Owner::Us).unwrap();
        assert_ne!(first.certificate(), second.certificate());
        assert_eq!(first.issuer().key().serialized_der(), second.issuer().key().serialized_der());
        let again = read(&folder, Owner::Us).unwrap().unwrap();
        assert_eq!(again.name, stored.name);
        assert!(again.ends > stored.ends);
    }

    #[test]
    fn what_is_open_to_others_damaged_or_a_link_is_refused() {
        let data = tempfile::tempdir().unwrap();
        Authority::load_or_create(data.path(), Owner::Us).unwrap();
        let file = folder_of(data.path()).join(FILE);
        let check = |expected: &str| {
            let error = Authority::load_or_create(data.path(), Owner::Us).unwrap_err();
            let text = format!("{error}: {:?}", std::error::Error::source(&error));
            assert!(text.contains(expected), "{text}");
        };
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        check("others may read it");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let whole = std::fs::read_to_string(&file).unwrap();
        let other = STANDARD.encode(Authority::in_memory().unwrap().certificate());
        for (part, wrong, says) in [
            ("certificate", "AAAA", "no readable certificate"),
            ("certificate", &*other, "no readable certificate"),
            ("key", "AAAA", "no readable key"),
        ] {
            let mut parts: serde_json::Value = serde_json::from_str(&whole).unwrap();
            parts[part] = wrong.into();
            std::fs::write(&file, parts.to_string()).unwrap();
            check(says);
        }
        std::fs::write(&file, "{\"key\": \"c2VjcmV0\"").unwrap();
        check("damaged");
        std::fs::remove_file(&file).unwrap();
        symlink("/etc/hostname", &file).unwrap();
        check("can't be used");
    }
}
