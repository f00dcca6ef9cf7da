//! Sealing: XChaCha20-Poly1305 with a nonce of its own for each text.
//!
//! ```text
//! base 64 of   1 | nonce, 24 bytes | sealed text and its tag, 16 bytes
//! ```
//!
//! What a text is sealed for is authenticated with it, so that a sealed text that is put into another
//! row of the database opens no more than one that was changed.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    Key as CipherKey, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use rand::Rng as _;
use zeroize::Zeroizing;

/// The form of what is sealed now.
const FORM: u8 = 1;
/// Bytes of a nonce: so many that random ones never meet.
const NONCE: usize = 24;

/// A key of 256 bits. It can't be printed, and its memory is overwritten when it goes.
pub(crate) struct Key(Zeroizing<[u8; 32]>);

impl Key {
    pub(super) fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(crate) fn random() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut bytes[..]);
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Seals a text for one thing.
    pub(crate) fn seal(&self, what_for: &str, text: &[u8]) -> String {
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let payload = Payload { msg: text, aad: what_for.as_bytes() };
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .unwrap_or_else(|error| unreachable!("a text of some KiB is too long: {error}"));
        let mut whole = vec![FORM];
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        STANDARD.encode(whole)
    }

    /// Opens what was sealed for the same thing; none when it was sealed by another key, for
    /// something else, or was changed since.
    pub(crate) fn open(&self, what_for: &str, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let whole = STANDARD.decode(sealed).ok()?;
        let (form, rest) = whole.split_first()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
        if *form != FORM {
            return None;
        }
        let payload = Payload { msg: sealed, aad: what_for.as_bytes() };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&CipherKey::from(*self.0))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_by_its_key_for_its_thing_only() {
        let (key, other) = (Key::random(), Key::random());
        let sealed = key.seal("connection con_1", b"hidden");
        assert_eq!(key.open("connection con_1", &sealed).unwrap().as_slice(), b"hidden");
        assert_ne!(sealed, key.seal("connection con_1", b"hidden"), "never the same twice");
        assert!(key.open("connection con_2", &sealed).is_none());
        assert!(other.open("connection con_1", &sealed).is_none());
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        for at in 0..bytes.len() {
            bytes[at] ^= 1;
            assert!(key.open("connection con_1", &STANDARD.encode(&bytes)).is_none(), "{at}");
            bytes[at] ^= 1;
        }
        for broken in ["", "?", "AQ==", &sealed[..sealed.len() - 4]] {
            assert!(key.open("connection con_1", broken).is_none());
        }
        assert_eq!(format!("{key:?}"), "Key");
    }
}
