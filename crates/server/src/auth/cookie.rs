//! The page's session: a cookie that the server signs and keeps no record of.
//!
//! ```text
//! boatyard_<digits> = 1.<key id>.<end, unix seconds>.<nonce>.<HMAC-SHA-256 of all before>
//! ```
//!
//! It names the key that it was given for, and dies with it. The signing secret is a file of the
//! data folder, so that a restart signs nobody out. The proof against requests forged by another
//! page is a second HMAC, over the cookie: a page of ours learns it from the answer to its sign-in
//! and from `/api/auth/me`, which no other origin can read.

use std::{fs::OpenOptions, io, path::Path, time::Duration};

use boatyard_api::identity::CSRF_HEADER;
use boatyard_model::{KeyId, Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{hex, random};

/// What the cookie's name begins with. Some digits follow that differ between installations,
/// because browsers keep one jar for all ports of a host.
pub const NAME: &str = "boatyard_";

/// How long a session lasts.
pub const VALID: Duration = Duration::from_secs(30 * 24 * 3600);

/// The form of the cookie.
const VERSION: &str = "1";

/// The longest cookie that is looked at, in bytes; ours are below 200.
const MAX: usize = 400;

/// Signs and checks sessions.
pub struct Signer {
    secret: [u8; 32],
    /// The cookie's name.
    name: String,
}

impl Signer {
    /// With the secret in this file, which is made if it does not exist.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => return read,
        }
        // Written beside and linked into place: a crash leaves no half, and of two servers that
        // begin at the same time both use the first one's.
        let beside = path.with_extension(format!("new-{}", std::process::id()));
        write(&beside, &random::<32>())?;
        let linked = std::fs::hard_link(&beside, path);
        std::fs::remove_file(&beside)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => read(path),
        }
    }

    /// The session's cookie among the headers.
    pub fn find<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let values = headers.get_all(header::COOKIE).iter();
        values.filter_map(|value| value.to_str().ok()).find_map(|all| {
            all.split(';').find_map(|one| one.trim().strip_prefix(&*self.name)?.strip_prefix('='))
        })
    }

    /// The `Set-Cookie` value for a session.
    pub fn set(&self, value: &str, transport: Transport) -> String {
        let (name, age, secure) = (&self.name, VALID.as_secs(), secure(transport));
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }

    /// The `Set-Cookie` value that ends a session.
    pub fn clear(&self, transport: Transport) -> String {
        let (name, secure) = (&self.name, secure(transport));
        format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict{secure}")
    }

    /// A fresh session for the owner of this key.
    pub fn sign(&self, key: KeyId, now: Timestamp) -> String {
        let end = now.after(VALID).0 / 1000;
        let text = format!("{VERSION}.{key}.{end}.{}", hex(&random::<16>()));
        let mac = self.mac("session", &text);
        format!("{text}.{mac}")
    }

    /// The key that a session was given for, if it is one and not over.
    pub fn verify(&self, value: &str, now: Timestamp) -> Option<KeyId> {
        let (text, mac) = value.rsplit_once('.').filter(|_| value.len() <= MAX)?;
        let good: bool = self.mac("session", text).as_bytes().ct_eq(mac.as_bytes()).into();
        if !good {
            return None;
        }
        let mut parts = text.split('.');
        let (version, key, end) = (parts.next()?, parts.next()?, parts.next()?);
        let end: i64 = end.parse().ok()?;
        (version == VERSION && now.0 / 1000 < end).then(|| key.parse().ok()).flatten()
    }

    /// What the page must send with a change, for this session.
    pub fn csrf(&self, value: &str) -> String {
        self.mac("csrf", value)
    }

    fn mac(&self, purpose: &str, text: &str) -> String {
        // As long as a block of the hash; HMAC fills shorter keys with zeros just so.
        let mut key = [0; 64];
        key[..32].copy_from_slice(&self.secret);
        let mut mac = Hmac::<Sha256>::new(&key.into());
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

fn read(path: &Path) -> io::Result<Signer> {
    let bytes = std::fs::read(path)?;
    let secret: [u8; 32] = bytes.try_into().map_err(|_| {
        let what = format!("{} is damaged; remove it to make a new one", path.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    })?;
    let name = format!("{NAME}{}", &hex(&Sha256::digest(secret))[..8]);
    Ok(Signer { secret, name })
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Whether the headers carry the page's proof.
pub(super) fn has_proof(headers: &HeaderMap, csrf: &str) -> bool {
    let given = headers.get(CSRF_HEADER).map_or(&b""[..], http::HeaderValue::as_bytes);
    given.ct_eq(csrf.as_bytes()).into()
}

/// Whether browsers may send the cookie over plain http.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The server is reached over https only.
    Tls,
    /// Over http too: on the machine itself.
    Plain,
}

const fn secure(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => "; Secure",
        Transport::Plain => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_good_until_its_end_and_only_as_it_was_signed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let signer = Signer::open(&path).unwrap();
        let key = KeyId::new();
        let value = signer.sign(key, Timestamp(0));
        let end = Timestamp(0).after(VALID);
        assert_eq!(signer.verify(&value, Timestamp(0)), Some(key));
        assert_eq!(signer.verify(&value, Timestamp(end.0 - 1)), Some(key));
        assert_eq!(signer.verify(&value, end), None);
        // The secret stays over a restart, and another server's is another.
        assert_eq!(Signer::open(&path).unwrap().verify(&value, Timestamp(0)), Some(key));
        let other = Signer::open(&folder.path().join("other")).unwrap();
        assert_eq!(other.verify(&value, Timestamp(0)), None);
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(signer.verify(&changed, Timestamp(0)), None, "changed at {at}");
        }
        for bad in ["", ".", "1.2.3.4.5", &"x.".repeat(1000)] {
            assert_eq!(signer.verify(bad, Timestamp(0)), None);
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open(&folder.path().join("session.key")).unwrap();
        let name = signer.name.clone();
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, format!("a=b; x{name}=no; {name}x=no").parse().unwrap());
        assert_eq!(signer.find(&headers), None);
        headers.append(header::COOKIE, format!("c=d;{name}=yes; e=f").parse().unwrap());
        assert_eq!(signer.find(&headers), Some("yes"));
        let set = signer.set("v", Transport::Tls);
        assert!(
            set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Secure")
        );
    }

    #[test]
    fn a_damaged_secret_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        std::fs::write(&path, "short").unwrap();
        let error = Signer::open(&path).err().unwrap();
        assert!(error.to_string().contains("damaged"), "{error}");
    }
}
