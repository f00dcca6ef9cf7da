//! Signatures of commits and tags, as ssh makes them, with a key that no workspace has.
//!
//! Git calls `ssh-keygen -Y sign -n git`; what it gets is an `SSHSIG` (the namespace `git`, the
//! hash SHA-512), made by an ed25519 key. Only what is a commit or a tag of git's is signed, and
//! only with the committer or tagger who works in the workspace.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    digest,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use zeroize::Zeroizing;

/// The largest commit or tag that is signed, in bytes.
pub const MAX_OBJECT: usize = 1 << 20;
/// What signatures of git are made for, so that none is taken for anything else.
const NAMESPACE: &[u8] = b"git";
/// The kind of key.
const KIND: &[u8] = b"ssh-ed25519";
const HASH: &[u8] = b"sha512";
const MAGIC: &[u8] = b"SSHSIG";
/// How long a line of an armored signature is.
const LINE: usize = 70;

/// A key that signs. It can't be printed.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

/// Why something is not signed, or there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Not one of git's objects, or not one of those that are signed.
    #[error("only commits and tags of git's are signed, and this is neither")]
    NoObject,
    /// Made in somebody else's name.
    #[error("it is not made in the name that this workspace works under")]
    Foreign,
    /// It has a signature already.
    #[error("it is signed already")]
    Signed,
    /// What was kept is no key.
    #[error("the key that was kept can't be read")]
    Key,
    /// The system has no random numbers.
    #[error("no key could be made")]
    Random,
}

impl SigningKey {
    /// A new one, and how it is kept: in PKCS#8 form.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn generate() -> Result<(Self, Zeroizing<Vec<u8>>), SignError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let document = document.map_err(|_| SignError::Random)?;
        let kept = Zeroizing::new(document.as_ref().to_vec());
        Ok((Self::from_pkcs8(&kept)?, kept))
    }

    /// The one that was kept.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_pkcs8(kept: &[u8]) -> Result<Self, SignError> {
        Ed25519KeyPair::from_pkcs8(kept).map(Self).map_err(|_| SignError::Key)
    }

    /// The public key as ssh writes it: `ssh-ed25519 AAAA…`.
    pub fn public(&self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(self.blob()))
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        string(&mut blob, KIND);
        string(&mut blob, self.0.public_key().as_ref());
        blob
    }

    /// Signs an object, which [`check`] has seen.
    pub fn sign(&self, object: &[u8]) -> String {
        let hash = digest::digest(&digest::SHA512, object);
        let mut signed = MAGIC.to_vec();
        for part in [NAMESPACE, b"", HASH, hash.as_ref()] {
            string(&mut signed, part);
        }
        let mut signature = Vec::new();
        string(&mut signature, KIND);
        string(&mut signature, self.0.sign(&signed).as_ref());

        let mut blob = MAGIC.to_vec();
        blob.extend_from_slice(&1_u32.to_be_bytes());
        for part in [&*self.blob(), NAMESPACE, b"", HASH, &signature] {
            string(&mut blob, part);
        }
        armored(&blob)
    }
}

/// Whether an object is a commit or a tag that somebody with this name and address makes.
///
/// # Errors
/// Why it is not signed.
pub fn check(object: &[u8], name: &str, email: &str) -> Result<(), SignError> {
    let end = object.windows(2).position(|pair| pair == b"\n\n").ok_or(SignError::NoObject)?;
    let header = std::str::from_utf8(&object[..end]).map_err(|_| SignError::NoObject)?;
    let mut lines = header.split('\n');
    let is_id = |id: &str| matches!(id.len(), 40 | 64) && id.bytes().all(|b| b.is_ascii_hexdigit());
    let first = lines.next().and_then(|line| line.split_once(' ')).ok_or(SignError::NoObject)?;
    let who = match first {
        ("tree", id) if is_id(id) => {
            let mut lines = lines.skip_while(|line| line.starts_with("parent "));
            if !lines.next().is_some_and(|line| line.starts_with("author ")) {
                return Err(SignError::NoObject);
            }
            let who = lines.next().and_then(|line| line.strip_prefix("committer "));
            if lines.any(|line| line.starts_with("gpgsig") || line.starts_with("committer ")) {
                return Err(SignError::Signed);
            }
            who
        }
        ("object", id) if is_id(id) => {
            let mut next = |word: &str| lines.next().and_then(|line| line.strip_prefix(word));
            let is_tag = next("type ").is_some() && next("tag ").is_some();
            next("tagger ").filter(|_| is_tag)
        }
        _ => None,
    };
    let who = who.ok_or(SignError::NoObject)?;
    // `name <address> seconds zone`
    let (person, _) = who.rsplit_once("> ").ok_or(SignError::NoObject)?;
    let (found_name, found_email) = person.rsplit_once(" <").ok_or(SignError::NoObject)?;
    match found_name == name && found_email == email {
        true => Ok(()),
        false => Err(SignError::Foreign),
    }
}

/// Adds a string as ssh has them: its length and then itself.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text);
}

fn armored(blob: &[u8]) -> String {
    let encoded = STANDARD.encode(blob);
    let mut text = String::from("-----BEGIN SSH SIGNATURE-----\n");
    let mut rest = &*encoded;
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END SSH SIGNATURE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    fn commit(committer: &str, more: &str) -> String {
        format!(
            "tree {ID}\nparent {ID}\nparent {ID}\nauthor Any <a@x> 1 +0000\n\
             committer {committer} 1700000000 +0100{more}\n\nWords\n\ncommitter Boatyard <b@y> 1 +0\n"
        )
    }

    #[test]
    fn only_commits_and_tags_of_ones_own_are_signed() {
        let is = |object: &str, expected| {
            assert_eq!(check(object.as_bytes(), "Boatyard", "b@y"), expected, "{object}");
        };
        is(&commit("Boatyard <b@y>", ""), Ok(()));
        is(&commit("Boatyard <b@y>", "\nencoding x"), Ok(()));
        is(&commit("Another <b@y>", ""), Err(SignError::Foreign));
        is(&commit("Boatyard <b@y.example>", ""), Err(SignError::Foreign));
        is(&commit("Evil <x> Boatyard <b@y>", ""), Err(SignError::Foreign));
        is(&commit("Boatyard <b@y>", "\ngpgsig x"), Err(SignError::Signed));
        let tag =
            |who: &str| format!("object {ID}\ntype commit\ntag v1\ntagger {who} 1 +0\n\nv1\n");
        is(&tag("Boatyard <b@y>"), Ok(()));
        is(&tag("Another <b@y>"), Err(SignError::Foreign));
        for wrong in ["", "tree x\n\n", "hello\n\nworld", &format!("tree {ID}\n\nx"), "\n\n"] {
            is(wrong, Err(SignError::NoObject));
        }
    }

    #[test]
    fn ssh_itself_takes_the_signature() {
        use std::process::{Command, Stdio};
        let (key, kept) = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pkcs8(&kept).unwrap().public(), key.public());
        assert_eq!(format!("{key:?}"), "SigningKey");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let object = commit("Boatyard <b@y>", "");
        std::fs::write(path("object"), &object).unwrap();
        std::fs::write(path("object.sig"), key.sign(object.as_bytes())).unwrap();
        std::fs::write(path("signers"), format!("b@y {}\n", key.public())).unwrap();
        let verify = |namespace: &str, file: &str| {
            Command::new("ssh-keygen")
                .args(["-Y", "verify", "-n", namespace, "-I", "b@y", "-f"])
                .arg(path("signers"))
                .arg("-s")
                .arg(path("object.sig"))
                .stdin(Stdio::from(std::fs::File::open(path(file)).unwrap()))
                .output()
        };
        let verified = match verify("git", "object") {
            Ok(verified) => verified,
            // It is git's own way as well; a machine without it can't sign so either.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => panic!("{error}"),
        };
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        std::fs::write(path("other"), "something else").unwrap();
        assert!(!verify("git", "other").unwrap().status.success());
        assert!(!verify("file", "object").unwrap().status.success());
    }
}
