//! An authenticator in software: what a security key does, with a key pair in memory.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The person is there, and has shown to be the one (finger, PIN).
const PRESENT_AND_VERIFIED: u8 = 0x05;
/// A new key comes along.
const WITH_KEY: u8 = 0x40;

/// A security key that holds one passkey.
pub(super) struct Authenticator {
    pair: EcdsaKeyPair,
    id: Vec<u8>,
    /// Whose the passkey is, as the server named it.
    pub(super) user: Vec<u8>,
    counter: u32,
    /// The page that it believes to be on.
    pub(super) origin: String,
    pub(super) flags: u8,
}

impl Authenticator {
    pub(super) fn new(origin: &str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        let id = Sha256::digest(pair.public_key().as_ref()).to_vec();
        let origin = origin.to_owned();
        Self { pair, id, user: Vec::new(), counter: 0, origin, flags: PRESENT_AND_VERIFIED }
    }

    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let challenge = &options["challenge"];
        let data = json!({ "type": kind, "challenge": challenge, "origin": self.origin,
            "crossOrigin": false });
        serde_json::to_vec(&data).unwrap()
    }

    fn head(&mut self, place: &Value, flags: u8) -> Vec<u8> {
        self.counter += 1;
        let mut data = Sha256::digest(place.as_str().unwrap()).to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data
    }

    /// What `navigator.credentials.create` gives.
    pub(super) fn create(&mut self, options: &Value) -> Value {
        self.user = BASE.decode(options["user"]["id"].as_str().unwrap()).unwrap();
        let mut data = self.head(&options["rp"]["id"], self.flags | WITH_KEY);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        // COSE: an EC key for ES256 on P-256, with its coordinates.
        let point = self.pair.public_key().as_ref();
        data.extend([0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20]);
        data.extend(&point[1..33]);
        data.extend([0x22, 0x58, 0x20]);
        data.extend(&point[33..65]);
        // CBOR: {"fmt": "none", "attStmt": {}, "authData": data}
        let mut attestation = vec![0xa3];
        attestation.extend(b"\x63fmt\x64none\x67attStmt\xa0\x68authData\x59");
        attestation.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        attestation.extend(&data);
        let id = BASE.encode(&self.id);
        json!({ "id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {},
            "authenticatorAttachment": "cross-platform",
            "response": {
                "clientDataJSON": BASE.encode(self.client_data("webauthn.create", options)),
                "attestationObject": BASE.encode(attestation),
                "transports": ["usb"],
            } })
    }

    /// What `navigator.credentials.get` gives.
    pub(super) fn get(&mut self, options: &Value) -> Value {
        let data = self.head(&options["rpId"], self.flags);
        let client = self.client_data("webauthn.get", options);
        let mut signed = data.clone();
        signed.extend(Sha256::digest(&client));
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        let id = BASE.encode(&self.id);
        json!({ "id": id, "rawId": id, "type": "public-key", "clientExtensionResults": {},
            "response": {
                "authenticatorData": BASE.encode(data),
                "clientDataJSON": BASE.encode(client),
                "signature": BASE.encode(signature),
                "userHandle": BASE.encode(&self.user),
            } })
    }

    /// As if a copy of it had been used meanwhile.
    pub(super) fn rewind(&mut self) {
        self.counter = 0;
    }
}
