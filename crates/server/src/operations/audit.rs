//! The audit log: pages, export, check, how long it is kept.

use std::time::Duration;

use boatyard_api::{
    Cursor, Problem,
    audit::{
        AuditEntryPage, AuditFilter, AuditPlace, AuditReport, AuditRetention, SetAuditRetention,
    },
    page::limit,
};
use boatyard_model::{AuditEntry, OrganizationId, Timestamp};
use boatyard_store::{AuditPage, Store, audit::note};
use bytes::Bytes;

use super::store_problem;
use crate::{app::App, auth::Caller, stream::ByteStream};

/// Entries that an export reads at a time.
const EXPORT_PAGE: u32 = 1000;

/// The longest name, address or id that is looked for.
const NAME: usize = 300;

/// The longest time that somebody may choose, in days: a hundred years.
const DAYS_MAX: u32 = 36_500;

/// Entries that are removed in one transaction: others write meanwhile.
const BATCH: u32 = 5000;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whose log is meant.
fn chain(caller: &Caller, server: Option<bool>) -> Result<Option<OrganizationId>, Problem> {
    match server {
        Some(true) if !caller.operator => {
            Err(Problem::not_allowed("the server's own log is for those who run the server")
                .at("query.server")
                .with_next("Leave `server` away for the organization's log."))
        }
        Some(true) => Ok(None),
        Some(false) | None => Ok(Some(caller.owner.organization)),
    }
}

fn wanted(filter: &AuditFilter) -> Result<boatyard_store::AuditFilter, Problem> {
    for (name, text) in [
        ("operation", &filter.operation),
        ("about", &filter.about),
        ("address", &filter.address),
        ("request", &filter.request),
    ] {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > NAME) {
            let detail = format!("expected 1 to {NAME} bytes");
            return Err(Problem::invalid(format!("query.{name}"), detail));
        }
    }
    if let Some(operation) = &filter.operation
        && !is_operation(operation)
    {
        let detail = format!("there is no operation `{operation}` that is written down");
        return Err(Problem::invalid("query.operation", detail)
            .with_next("Take one that /api/openapi.json names, as `create_task`."));
    }
    if let (Some(from), Some(to)) = (filter.from, filter.to)
        && from >= to
    {
        return Err(Problem::invalid("query.to", "it is not after `from`"));
    }
    Ok(boatyard_store::AuditFilter {
        person: filter.person,
        member: filter.member,
        operation: filter.operation.clone(),
        outcome: filter.outcome,
        subject: filter.about.clone(),
        address: filter.address.clone(),
        request: filter.request.clone(),
        from: filter.from,
        to: filter.to,
    })
}

/// A name of an operation as it is now, or as it may have been: letters and underscores. What was
/// renamed since is still in the log.
fn is_operation(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A page of the log, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_audit(
    app: &App,
    caller: &Caller,
    filter: AuditFilter,
) -> Result<AuditEntryPage, Problem> {
    let limit = limit(filter.limit)?;
    let chain = chain(caller, filter.server)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let page = AuditPage::Before(before.unwrap_or(u64::MAX));
    let items =
        app.store.list_audit(chain, &wanted(&filter)?, page, limit).await.map_err(store_problem)?;
    let full = items.len() == limit as usize;
    let next_cursor =
        items.last().filter(|_| full).map(|entry| Cursor::after(&entry.number.to_string()));
    Ok(AuditEntryPage { items, next_cursor })
}

/// The log as it is now, the oldest entry first, a JSON object in each line, a page in memory at a
/// time.
///
/// # Errors
/// When the filter makes no sense.
pub async fn export_audit(
    app: &App,
    caller: &Caller,
    filter: &AuditFilter,
) -> Result<ByteStream, Problem> {
    let chain = chain(caller, filter.server)?;
    let wanted = wanted(filter)?;
    // What is written from now on is not waited for: an export ends.
    let last = app.store.audit_chain(chain).await.map_err(store_problem)?.number;
    let export = Export { store: app.store.clone(), chain, wanted, after: 0, last };
    let stream = futures_util::stream::try_unfold(export, |mut export| async move {
        let piece = export.next().await.map_err(std::io::Error::other)?;
        Ok(piece.map(|piece| (piece, export)))
    });
    Ok(Box::pin(stream))
}

struct Export {
    store: Store,
    chain: Option<OrganizationId>,
    wanted: boatyard_store::AuditFilter,
    after: u64,
    last: u64,
}

impl Export {
    async fn next(&mut self) -> Result<Option<Bytes>, boatyard_store::Error> {
        if self.after >= self.last {
            return Ok(None);
        }
        let page = AuditPage::After(self.after);
        let entries = self.store.list_audit(self.chain, &self.wanted, page, EXPORT_PAGE).await?;
        let full = entries.len() == EXPORT_PAGE as usize;
        self.after = entries.last().filter(|_| full).map_or(self.last, |entry| entry.number);
        let mut text = String::new();
        for entry in entries.iter().filter(|entry| entry.number <= self.last) {
            text.push_str(&line(entry)?);
            text.push('\n');
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

fn line(entry: &AuditEntry) -> Result<String, boatyard_store::Error> {
    Ok(serde_json::to_string(entry)?)
}

/// Reads the whole log and compares every hash.
///
/// # Errors
/// When it can't be read.
pub async fn check_audit(
    app: &App,
    caller: &Caller,
    place: AuditPlace,
) -> Result<AuditReport, Problem> {
    let organization = chain(caller, place.server)?;
    let check = app.store.check_audit(organization).await.map_err(store_problem)?;
    Ok(AuditReport {
        organization,
        whole: check.fault.is_none(),
        entries: check.entries,
        first: check.chain.first,
        anchor: check.chain.anchor,
        last: check.chain.number,
        hash: check.chain.hash,
        fault: check.fault,
    })
}

/// For how long entries are kept.
///
/// # Errors
/// When it can't be read.
pub async fn find_audit_retention(
    app: &App,
    caller: &Caller,
    place: AuditPlace,
) -> Result<AuditRetention, Problem> {
    let chain = chain(caller, place.server)?;
    let chosen = app.store.audit_chain(chain).await.map_err(store_problem)?.keep_days;
    Ok(AuditRetention { days: days(app, chosen), chosen: chosen.is_some() })
}

/// The days that count: those that were chosen, else those of the settings; none is for good.
fn days(app: &App, chosen: Option<u32>) -> Option<u32> {
    Some(chosen.unwrap_or(app.settings.retention.audit_days)).filter(|days| *days > 0)
}

/// Chooses for how long entries are kept.
///
/// # Errors
/// When the number makes no sense.
pub async fn set_audit_retention(
    app: &App,
    caller: &Caller,
    place: AuditPlace,
    set: SetAuditRetention,
) -> Result<AuditRetention, Problem> {
    let chain = chain(caller, place.server)?;
    if set.days.is_some_and(|days| days > DAYS_MAX) {
        return Err(Problem::invalid("days", format!("expected 0 to {DAYS_MAX} days")));
    }
    note("days", set.days.map_or_else(|| "as in the settings".to_owned(), |days| days.to_string()));
    app.store
        .write(move |tx| Box::pin(async move { tx.keep_audit(chain, set.days).await }))
        .await
        .map_err(store_problem)?;
    Ok(AuditRetention { days: days(app, set.days), chosen: set.days.is_some() })
}

/// Removes what is kept no longer, in every log.
///
/// # Errors
/// When the store refuses.
pub async fn trim(app: &App) -> anyhow::Result<()> {
    for (chain, chosen) in app.store.audit_chains().await? {
        let Some(days) = days(app, chosen) else { continue };
        let kept = i64::try_from(DAY.saturating_mul(days).as_millis())?;
        let before = Timestamp(app.store.now().0.saturating_sub(kept));
        loop {
            let gone = app
                .store
                .write(move |tx| Box::pin(async move { tx.trim_audit(chain, before, BATCH).await }))
                .await?;
            if gone < u64::from(BATCH) {
                break;
            }
        }
    }
    Ok(())
}
