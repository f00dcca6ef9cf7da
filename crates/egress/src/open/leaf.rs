//! Certificates for hosts, made when they are first asked for and kept while they are used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, string::Ia5String,
};
use rustls::{
    crypto::ring::sign::any_ecdsa_type,
    pki_types::PrivatePkcs8KeyDer,
    sign::{CertifiedKey, SigningKey},
};

use super::authority::{Authority, BEHIND, broken, date, serial};
use crate::{Error, rules::Host};

/// How many are kept; the one that was not used for longest goes.
const KEPT: usize = 1024;
/// How long one is given out.
const GIVEN_FOR: Duration = Duration::from_hours(24);
/// How long one holds: a connection that began with it may last.
const HOLDS: Duration = Duration::from_hours(24 * 30);
/// The longest common name that a certificate may have.
const NAME_MAX: usize = 64;

/// The certificates of hosts.
pub(super) struct Leaves {
    authority: Authority,
    /// One key for all: a new one would double the time that a certificate takes, and it lives in
    /// this process only.
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    leaves: HashMap<Host, Leaf>,
    /// Counts uses.
    now: u64,
}

struct Leaf {
    certified: Arc<CertifiedKey>,
    made: Instant,
    used: u64,
}

impl Leaves {
    pub(super) fn new(authority: Authority) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        let signing = any_ecdsa_type(&der.into())
            .map_err(|_| Error::Authority { what: "has made a key that can't sign" })?;
        Ok(Self { authority, key, signing, kept: Mutex::default() })
    }

    /// The certificate of this host.
    pub(super) fn of(&self, host: &Host) -> Result<Arc<CertifiedKey>, Error> {
        if let Some(found) = self.lock().find(host) {
            return Ok(found);
        }
        let certified = Arc::new(self.make(host)?);
        self.lock().keep(host.clone(), Arc::clone(&certified));
        Ok(certified)
    }

    fn make(&self, host: &Host) -> Result<CertifiedKey, Error> {
        let mut params = CertificateParams::default();
        let now = SystemTime::now();
        params.not_before = date(now - BEHIND)?;
        params.not_after = date(now + HOLDS)?;
        params.serial_number = Some(serial()?);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let mut subject = DistinguishedName::new();
        let name = match host {
            Host::Name(name) => {
                let name = Ia5String::try_from(name.to_string()).map_err(broken)?;
                SanType::DnsName(name)
            }
            Host::Address(address) => SanType::IpAddress(*address),
        };
        params.subject_alt_names = vec![name];
        let shown = host.to_string();
        // Nobody should look at it; the few who do get what there is room for.
        subject.push(DnType::CommonName, if shown.len() <= NAME_MAX { &shown } else { "-" });
        params.distinguished_name = subject;
        let leaf = params.signed_by(&self.key, self.authority.issuer()).map_err(broken)?;
        Ok(CertifiedKey::new(vec![leaf.der().clone()], Arc::clone(&self.signing)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&mut self, host: &Host) -> Option<Arc<CertifiedKey>> {
        self.now += 1;
        let leaf = self.leaves.get_mut(host)?;
        leaf.used = self.now;
        (leaf.made.elapsed() < GIVEN_FOR).then(|| Arc::clone(&leaf.certified))
    }

    fn keep(&mut self, host: Host, certified: Arc<CertifiedKey>) {
        if self.leaves.len() >= KEPT && !self.leaves.contains_key(&host) {
            let oldest = self.leaves.iter().min_by_key(|(_, leaf)| leaf.used);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.leaves.remove(&oldest);
            }
        }
        let leaf = Leaf { certified, made: Instant::now(), used: self.now };
        self.leaves.insert(host, leaf);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_made_for_each_host_and_the_longest_unused_goes() {
        let leaves = Leaves::new(Authority::in_memory().unwrap()).unwrap();
        let of = |host: &str| leaves.of(&host.parse().unwrap()).unwrap();
        let first = of("first.example");
        assert!(Arc::ptr_eq(&first, &of("FIRST.example.")));
        assert!(!Arc::ptr_eq(&first, &of("second.example")));
        of("192.0.2.1");
        of("[2001:db8::1]");
        of(&format!("{}example", "a.".repeat(100)));
        for number in 0..KEPT {
            of(&format!("{number}.example"));
            of("second.example");
        }
        assert_eq!(leaves.lock().leaves.len(), KEPT);
        assert!(!Arc::ptr_eq(&first, &of("first.example")), "it was not used for longest");
        let kept = leaves.lock();
        assert!(kept.leaves.contains_key(&"second.example".parse::<Host>().unwrap()));
    }
}
