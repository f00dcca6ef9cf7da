//! The audit log's entries, and the chain that holds them together.
//!
//! ```text
//!  entry n-1            entry n              entry n+1
//!  hash ──────────────► before + fields ─┐
//!                       hash ◄── SHA-256 ┘──► before + fields …
//! ```
//!
//! Each organization has a chain of its own, numbered from 1 without gaps, and the server has one
//! for what belongs to no organization. An entry's hash is taken over the hash of the one before it
//! and all of its own fields ([`AuditEntry::seal`]), so that no entry can be changed, removed from
//! the middle or put in without every later hash becoming another. [`Walk`] checks a chain, in the
//! database as in an exported file.
//!
//! What is hashed is the compact JSON (UTF-8, no spaces, only what must be is escaped) of the array
//! `[before, number, time, organization, person, member, name, via, address, operation, outcome,
//! reason, subjects, details, request]`, each as the export writes it and `null` for what is absent;
//! the names in `subjects` and `details` are sorted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use crate::{
    MemberId, OrganizationId, PersonId, Timestamp,
    state::{UnknownState, text_enum},
};

/// What stands for the hash of the entry before the first.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

text_enum! {
    /// What became of what somebody wanted to change.
    AuditOutcome {
        /// It was let through and begun.
        Allowed = "allowed",
        /// It was refused: who asked may not, or did not prove who they are.
        Denied = "denied",
        /// It was let through and failed; part of it may have been done.
        Failed = "failed",
    }
}

/// One entry: who, from where, what, when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its place in the chain: rising by one.
    pub number: u64,
    /// When.
    pub time: Timestamp,
    /// Whose chain it is in; absent in the server's own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub organization: Option<OrganizationId>,
    /// Who did it, or tried to; absent for a key of an organization's own, for the server, and for
    /// somebody unknown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<PersonId>,
    /// As which member of the organization.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<MemberId>,
    /// Who it was, as shown to people at that time.
    pub name: String,
    /// How they proved it: `key key_…`, `device dev_…`, `server`, or empty for somebody unknown.
    pub via: String,
    /// The address that it came from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// The operation, as the API's description calls it.
    pub operation: String,
    /// What became of it.
    pub outcome: AuditOutcome,
    /// Why it was refused or failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What it was about: the names and ids in its address, and of what it made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub subjects: BTreeMap<String, String>,
    /// What else is worth knowing; never a secret.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub details: BTreeMap<String, String>,
    /// The request, as in its answer's `X-Request-Id` and in the server's log.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request: Option<String>,
    /// The hash of the entry before it; zeros for the first.
    pub before: String,
    /// The hash of this one: SHA-256 in small hexadecimal digits.
    pub hash: String,
}

impl AuditEntry {
    /// The hash that an entry with these fields has.
    pub fn seal(&self) -> String {
        let fields = (
            &self.before,
            self.number,
            self.time,
            self.organization,
            self.person,
            self.member,
            &self.name,
            &self.via,
            &self.address,
            &self.operation,
            self.outcome,
            &self.reason,
            &self.subjects,
            &self.details,
            &self.request,
        );
        // Texts, numbers and maps of texts: they have a form.
        let text = serde_json::to_vec(&fields).unwrap_or_default();
        hex(&Sha256::digest(text))
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Where a chain is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("entry {number}: {reason}")]
pub struct AuditFault {
    /// The entry that was looked at, or would have come next.
    pub number: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// A walk along a chain, from the oldest entry to the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// The number of the last entry that was seen.
    pub last: u64,
    /// Its hash.
    pub hash: String,
    /// How many were seen.
    pub entries: u64,
}

impl Walk {
    /// A walk whose first entry is the one after `number`, which had this hash: 0 and
    /// [`BEGINNING`] for a whole chain.
    pub const fn after(number: u64, hash: String) -> Self {
        Self { last: number, hash, entries: 0 }
    }

    /// Looks at the next entry.
    ///
    /// # Errors
    /// When it is not the next one, or not what was written.
    pub fn step(&mut self, entry: &AuditEntry) -> Result<(), AuditFault> {
        let expected = self.last + 1;
        let fault = |number, reason: String| Err(AuditFault { number, reason });
        if entry.number != expected {
            let reason = format!("it is missing; {} comes in its place", entry.number);
            return fault(expected, reason);
        }
        if entry.before != self.hash {
            let reason = "it does not follow from the one before it: that one was changed, \
                          or this one put in";
            return fault(expected, reason.to_owned());
        }
        if entry.seal() != entry.hash {
            let reason = "it was changed: its hash is not that of its fields";
            return fault(expected, reason.to_owned());
        }
        self.last = expected;
        self.hash.clone_from(&entry.hash);
        self.entries += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, before: &str) -> AuditEntry {
        let mut entry = AuditEntry {
            number,
            time: Timestamp(1_795_223_443_120),
            organization: Some(OrganizationId::from_u128(1)),
            person: None,
            member: Some(MemberId::from_u128(1)),
            name: "Zoë \"Z\" \u{1}".to_owned(),
            via: "server".to_owned(),
            address: Some("192.0.2.7".to_owned()),
            operation: "create_task".to_owned(),
            outcome: AuditOutcome::Allowed,
            reason: None,
            subjects: [("id".to_owned(), "tsk_1".to_owned())].into(),
            details: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())].into(),
            request: Some("abc".to_owned()),
            before: before.to_owned(),
            hash: String::new(),
        };
        entry.hash = entry.seal();
        entry
    }

    #[test]
    fn the_hash_is_that_of_the_documents() {
        // python3: hashlib.sha256(json.dumps([...], separators=(",", ":"), ensure_ascii=False)
        let text = format!(
            "[\"{BEGINNING}\",1,\"2026-11-21T01:10:43.120Z\",\"org_00000000000000000000000001\",\
             null,\"mem_00000000000000000000000001\",\"Zoë \\\"Z\\\" \\u0001\",\"server\",\
             \"192.0.2.7\",\"create_task\",\"allowed\",null,{{\"id\":\"tsk_1\"}},\
             {{\"a\":\"1\",\"b\":\"2\"}},\"abc\"]"
        );
        assert_eq!(entry(1, BEGINNING).hash, hex(&Sha256::digest(text)));
    }

    #[test]
    fn what_is_changed_removed_or_put_in_is_found() {
        let one = entry(1, BEGINNING);
        let two = entry(2, &one.hash);
        let three = entry(3, &two.hash);
        let walk = |entries: &[&AuditEntry]| {
            let mut walk = Walk::after(0, BEGINNING.to_owned());
            entries.iter().try_for_each(|entry| walk.step(entry)).map(|()| walk.last)
        };
        assert_eq!(walk(&[&one, &two, &three]), Ok(3));
        assert_eq!(walk(&[&one, &three]).unwrap_err().number, 2);
        assert_eq!(walk(&[&two]).unwrap_err().number, 1);
        let changed = AuditEntry { name: "Mallory".to_owned(), ..two.clone() };
        assert_eq!(walk(&[&one, &changed, &three]).unwrap_err().number, 2);
        let mut sealed = changed;
        sealed.hash = sealed.seal();
        assert_eq!(walk(&[&one, &sealed, &three]).unwrap_err().number, 3);
        let json = serde_json::to_string(&three).unwrap();
        assert_eq!(serde_json::from_str::<AuditEntry>(&json).unwrap(), three);
    }
}
