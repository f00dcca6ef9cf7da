//! Who changed what, when and from where.
//!
//! A request that changes something has a [`Context`]: who asks, for what, about what. It travels
//! with the request's task ([`within`]), so that no operation needs to pass it on:
//!
//! ```text
//! request ─► within(context) ─► operation ─► Store::write ─► its transaction: the change
//!                                  │                                          + the entry
//!                                  └─ note("role", …)
//!                              no write at all ─► Store::audit, before the answer goes out
//! ```
//!
//! The first write of a request that succeeds appends the entry, in the same transaction: there is
//! no change without its entry, and no entry of a change that was not stored. Later writes of the
//! same request add nothing. What another task writes has no context; the entry is then appended by
//! whoever made the context.
//!
//! Entries are chained ([`boatyard_model::audit`]); the ends of each chain are in a table of their
//! own, so that entries that are missing at an end are found too. The oldest are removed by choice
//! ([`Tx::trim_audit`]), which is itself an entry.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use boatyard_model::{
    AuditEntry, AuditOutcome, MemberId, OrganizationId, PersonId, Timestamp, audit::BEGINNING,
};

use crate::{
    Result, Store, Tx,
    conn::{exec, find, read_one, read_page},
    row::record,
};

mod check;
mod context;
mod keep;

pub use check::AuditCheck;
pub use context::{Actor, Context, begins, by_server, concerns, name_actor, note, within};

pub(crate) use context::current;

record! {
    struct Row {
        number: u64,
        time: Timestamp,
        organization: String,
        person: Option<PersonId>,
        owner: Option<MemberId>,
        name: String,
        via: String,
        address: Option<String>,
        operation: String,
        outcome: AuditOutcome,
        reason: Option<String>,
        subjects: String,
        details: String,
        request: Option<String>,
        before: String,
        hash: String,
    }
}

/// The name of a chain in the database: an organization's id, or nothing for the server's.
fn chain_name(organization: Option<OrganizationId>) -> String {
    organization.map(|id| id.to_string()).unwrap_or_default()
}

impl Row {
    fn entry(self) -> AuditEntry {
        // What can't be read any more was changed by hand: its hash tells, so that it is shown as
        // it is rather than kept from view.
        let texts = |json: &str| -> BTreeMap<String, String> {
            serde_json::from_str(json)
                .unwrap_or_else(|_| [("unreadable".to_owned(), json.to_owned())].into())
        };
        AuditEntry {
            number: self.number,
            time: self.time,
            organization: self.organization.parse().ok(),
            person: self.person,
            member: self.owner,
            name: self.name,
            via: self.via,
            address: self.address,
            operation: self.operation,
            outcome: self.outcome,
            reason: self.reason,
            subjects: texts(&self.subjects),
            details: texts(&self.details),
            request: self.request,
            before: self.before,
            hash: self.hash,
        }
    }
}

record! {
    /// Both ends of a chain.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct AuditChain {
        /// The number of the newest entry.
        pub number: u64,
        /// Its hash.
        pub hash: String,
        /// The number of the oldest that is kept.
        pub first: u64,
        /// The hash of the one before that.
        pub anchor: String,
        /// For how many days entries are kept, where that was chosen for this chain.
        pub keep_days: Option<u32>,
    }
}

impl Default for AuditChain {
    fn default() -> Self {
        let beginning = BEGINNING.to_owned();
        Self { number: 0, hash: beginning.clone(), first: 1, anchor: beginning, keep_days: None }
    }
}

/// Which entries are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this person.
    pub person: Option<PersonId>,
    /// By this member.
    pub member: Option<MemberId>,
    /// Of this operation.
    pub operation: Option<String>,
    /// That ended so.
    pub outcome: Option<AuditOutcome>,
    /// About this: an id or name among the subjects or the details.
    pub subject: Option<String>,
    /// From this address.
    pub address: Option<String>,
    /// Of this request.
    pub request: Option<String>,
    /// At this time or later.
    pub from: Option<Timestamp>,
    /// Before this time.
    pub to: Option<Timestamp>,
}

impl AuditFilter {
    /// The conditions that it makes, with `$4` and on as their parameters: always the same number
    /// for the same field.
    fn conditions(&self) -> String {
        let mut text = String::from("organization = $1");
        for (wanted, condition) in [
            (self.person.is_some(), " AND person = $4"),
            (self.member.is_some(), " AND owner = $5"),
            (self.operation.is_some(), " AND operation = $6"),
            (self.outcome.is_some(), " AND outcome = $7"),
            (
                self.subject.is_some(),
                " AND (subjects LIKE $8 ESCAPE '!' OR details LIKE $8 ESCAPE '!')",
            ),
            (self.address.is_some(), " AND address = $9"),
            (self.request.is_some(), " AND request = $10"),
            // The sign keeps a database from sorting by time what is wanted by number.
            (self.from.is_some(), " AND +time >= $11"),
            (self.to.is_some(), " AND +time < $12"),
        ] {
            if wanted {
                text.push_str(condition);
            }
        }
        text
    }

    /// A value in the JSON of the subjects, as a pattern.
    fn subject_pattern(&self) -> Option<String> {
        let subject = serde_json::to_string(self.subject.as_ref()?).unwrap_or_default();
        let escaped = subject.replace('!', "!!").replace('%', "!%").replace('_', "!_");
        Some(format!("%{escaped}%"))
    }
}

/// Which page of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditPage {
    /// Those before this number, the newest first.
    Before(u64),
    /// Those after this number, the oldest first.
    After(u64),
}

/// An entry before it has a place.
#[derive(Debug, Clone)]
pub(crate) struct Unsealed {
    pub(crate) actor: Actor,
    pub(crate) operation: String,
    pub(crate) outcome: AuditOutcome,
    pub(crate) reason: Option<String>,
    pub(crate) subjects: BTreeMap<String, String>,
    pub(crate) details: BTreeMap<String, String>,
    pub(crate) request: Option<String>,
}

impl Tx {
    /// Adds to the entry of the request whose write this is: the id of what it just made, say.
    pub fn note(&mut self, key: &'static str, value: impl ToString) {
        if let Some(context) = &self.audited {
            context.note(key, value.to_string());
        }
    }

    /// Says who it is, if nobody is known to be behind the request yet: a person who was just made.
    pub fn name_actor(&mut self, actor: Actor) {
        if let Some(context) = self.audited.as_ref().filter(|context| !context.has_actor()) {
            context.name_actor(actor);
        }
    }

    /// Says that this write of a request changes nothing: it found that what was wanted can't be.
    /// The request's entry is then appended by its next write, or with what it is answered.
    pub fn changes_nothing(&mut self) {
        self.audited = None;
    }

    /// Appends an entry to the chain that it belongs to.
    pub(crate) fn append_audit(&mut self, new: Unsealed) -> Result<AuditEntry> {
        let chain = chain_name(new.actor.organization);
        let head = find!(
            self,
            (u64, String),
            "SELECT number, hash FROM audit_chain WHERE organization = $1",
            chain,
        )?;
        let (number, before) = head.unwrap_or_else(|| (0, BEGINNING.to_owned()));
        let mut entry = AuditEntry {
            number: number + 1,
            time: self.now(),
            organization: new.actor.organization,
            person: new.actor.person,
            member: new.actor.member,
            name: new.actor.name,
            via: new.actor.via,
            address: new.actor.address,
            operation: new.operation,
            outcome: new.outcome,
            reason: new.reason,
            subjects: new.subjects,
            details: new.details,
            request: new.request,
            before,
            hash: String::new(),
        };
        entry.hash = entry.seal();
        exec!(
            self,
            "INSERT INTO audit_entry (organization, number, time, person, owner, name, via,
                address, operation, outcome, reason, subjects, details, request, before, hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
            chain,
            entry.number,
            entry.time,
            entry.person,
            entry.member,
            entry.name,
            entry.via,
            entry.address,
            entry.operation,
            entry.outcome,
            entry.reason,
            serde_json::to_string(&entry.subjects)?,
            serde_json::to_string(&entry.details)?,
            entry.request,
            entry.before,
            entry.hash,
        )?;
        exec!(
            self,
            "INSERT INTO audit_chain (organization, number, hash, first, anchor)
             VALUES ($1, $2, $3, $2, $4)
             ON CONFLICT (organization) DO UPDATE SET number = excluded.number, hash = excluded.hash",
            chain,
            entry.number,
            entry.hash,
            entry.before,
        )?;
        Ok(entry)
    }
}

impl Store {
    /// Appends the entry of a request that wrote nothing in which it could have been, unless one
    /// is there already.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn audit(
        &self,
        context: &Arc<Context>,
        outcome: AuditOutcome,
        reason: Option<String>,
    ) -> Result<()> {
        let Some(claim) = context.claim() else { return Ok(()) };
        let unsealed = context.unsealed(outcome, reason);
        // Its own context, if it has one, has been claimed: this write brings no second entry.
        let written = self
            .write(move |tx| Box::pin(async move { tx.append_audit(unsealed).map(drop) }))
            .await;
        if written.is_ok() {
            claim.keep();
        }
        written
    }

    /// Appends how a request ended that came to nothing: its entry, or a second one where a part of
    /// its work has one already.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn audit_end(
        &self,
        context: &Arc<Context>,
        outcome: AuditOutcome,
        reason: Option<String>,
    ) -> Result<()> {
        if !context.is_recorded() {
            return self.audit(context, outcome, reason).await;
        }
        let unsealed = context.unsealed(outcome, reason);
        self.write(move |tx| Box::pin(async move { tx.append_audit(unsealed).map(drop) })).await
    }

    /// Entries of a chain.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_audit(
        &self,
        organization: Option<OrganizationId>,
        filter: &AuditFilter,
        page: AuditPage,
        limit: u32,
    ) -> Result<Vec<AuditEntry>> {
        let (bound, order, number) = match page {
            AuditPage::Before(number) => ("number < $2", "number DESC", number),
            AuditPage::After(number) => ("number > $2", "number", number),
        };
        let columns = Row::COLUMNS;
        let conditions = filter.conditions();
        let rows = read_page!(
            self,
            Row,
            format!(
                "SELECT {columns} FROM audit_entry WHERE {conditions} AND {bound}
                 ORDER BY {order} LIMIT $3"
            ),
            chain_name(organization),
            number,
            limit,
            filter.person,
            filter.member,
            filter.operation,
            filter.outcome,
            filter.subject_pattern(),
            filter.address,
            filter.request,
            filter.from,
            filter.to,
        )?;
        Ok(rows.into_iter().map(Row::entry).collect())
    }

    /// Both ends of a chain; those of an empty one where nothing was written yet.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn audit_chain(&self, organization: Option<OrganizationId>) -> Result<AuditChain> {
        let found = read_one!(
            self,
            AuditChain,
            format!("SELECT {} FROM audit_chain WHERE organization = $1", AuditChain::COLUMNS),
            chain_name(organization),
        )?;
        Ok(found.unwrap_or_default())
    }
}

/// Taken by the write that appends a request's entry; given back if that was not stored.
pub(crate) struct Claim {
    taken: Arc<AtomicBool>,
    kept: bool,
}

impl Claim {
    fn take(taken: &Arc<AtomicBool>) -> Option<Self> {
        (!taken.swap(true, Ordering::AcqRel))
            .then(|| Self { taken: Arc::clone(taken), kept: false })
    }

    /// The entry is stored.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.kept {
            self.taken.store(false, Ordering::Release);
        }
    }
}

/// What is held for a moment only, and never across a wait.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
