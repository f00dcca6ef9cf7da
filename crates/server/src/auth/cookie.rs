//! The page's cookie: what a signed-in browser proves itself with.
//!
//! ```text
//! boatyard_<digits> = <256 random bits>          its SHA-256 is a row of `device`
//! ```
//!
//! The row says who is signed in and until when, and dies at once when somebody signs it out. The
//! proof against requests forged by another page is an HMAC over the cookie, with a secret that is a
//! file of the data folder: a page of ours learns it from the answer to its sign-in and from
//! `/api/auth/me`, which no other origin can read.

use std::{collections::BTreeSet, fs::OpenOptions, io, path::Path, time::Duration};

use boatyard_api::identity::CSRF_HEADER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{hex, random};

/// What the cookie's name begins with. Some digits follow that differ between installations,
/// because browsers keep one jar for all ports of a host.
pub const NAME: &str = "boatyard_";

/// Random bytes in a cookie.
const BYTES: usize = 32;

/// Names the cookie, and makes the proof of a change.
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

    /// What the cookie among the headers holds, if it has the form of ours.
    pub fn find<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let values = headers.get_all(header::COOKIE).iter();
        let found = values.filter_map(|value| value.to_str().ok()).find_map(|all| {
            all.split(';').find_map(|one| one.trim().strip_prefix(&*self.name)?.strip_prefix('='))
        })?;
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (found.len() == 2 * BYTES && found.bytes().all(digits)).then_some(found)
    }

    /// What a fresh cookie holds.
    pub fn token() -> String {
        hex(&random::<BYTES>())
    }

    /// The `Set-Cookie` value for a browser that stays signed in for `age`.
    pub fn set(&self, value: &str, age: Duration, transport: Transport) -> String {
        let (name, age, secure) = (&self.name, age.as_secs(), secure(transport));
        format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
    }

    /// The cookie as a browser sends it.
    pub(super) fn cookie(&self, value: &str) -> String {
        format!("{}={value}", self.name)
    }

    /// The `Set-Cookie` value that takes the cookie away.
    pub fn clear(&self, transport: Transport) -> String {
        let (name, secure) = (&self.name, secure(transport));
        format!("{name}=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict{secure}")
    }

    /// What the page must send with a change, for this cookie.
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
    // 32 random bytes have some thirty different ones among them.
    if secret.iter().collect::<BTreeSet<_>>().len() < 12 {
        let what = format!(
            "{} holds no random key but a pattern that anybody could guess; remove it to make a \
             new one",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
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
    fn the_cookie_is_found_among_others() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::open(&folder.path().join("session.key")).unwrap();
        let (name, token) = (signer.name.clone(), Signer::token());
        let mut headers = HeaderMap::new();
        let bad = format!("a=b; x{name}={token}; {name}x={token}; {name}={token}0");
        headers.append(header::COOKIE, bad.parse().unwrap());
        assert_eq!(signer.find(&headers), None);
        headers.clear();
        headers.append(header::COOKIE, format!("c=d;{name}={token}; e=f").parse().unwrap());
        assert_eq!(signer.find(&headers), Some(&*token));
        let set = signer.set(&token, Duration::from_secs(60), Transport::Tls);
        for word in ["HttpOnly", "SameSite=Strict", "Secure", "Max-Age=60;"] {
            assert!(set.contains(word), "{set}");
        }
        assert_ne!(Signer::token(), token);
    }

    #[test]
    fn the_proof_stays_over_a_restart_and_is_another_s_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        let (signer, token) = (Signer::open(&path).unwrap(), Signer::token());
        let proof = signer.csrf(&token);
        assert_eq!(Signer::open(&path).unwrap().csrf(&token), proof);
        assert_ne!(signer.csrf(&Signer::token()), proof);
        let other = Signer::open(&folder.path().join("other")).unwrap();
        assert_ne!(other.csrf(&token), proof);
        let mut headers = HeaderMap::new();
        assert!(!has_proof(&headers, &proof));
        headers.insert(CSRF_HEADER, proof.parse().unwrap());
        assert!(has_proof(&headers, &proof));
    }

    #[test]
    fn a_damaged_secret_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.key");
        std::fs::write(&path, "short").unwrap();
        let error = Signer::open(&path).err().unwrap();
        assert!(error.to_string().contains("damaged"), "{error}");
        std::fs::write(&path, [7; 32]).unwrap();
        let error = Signer::open(&path).err().unwrap();
        assert!(error.to_string().contains("guess"), "{error}");
    }
}
