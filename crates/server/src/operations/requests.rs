//! The log of what left workspaces: pages, exports, sums.

use std::time::Duration;

use boatyard_api::{
    Cursor, Problem,
    page::limit,
    request::{
        RequestEntry, RequestFilter, RequestGroup, RequestPage, RequestSum, RequestSummary,
        RequestSummaryQuery,
    },
};
use boatyard_model::{OrganizationId, Timestamp};
use boatyard_store::{RequestPage as At, RequestRow, Store};
use bytes::Bytes;

use super::store_problem;
use crate::{access, app::App, auth::Caller, stream::ByteStream};

/// Rows that an export reads at a time.
const EXPORT_PAGE: u32 = 1000;
/// Steps of a summary, when nobody says how long one is.
const STEPS: u64 = 60;
/// The most steps of a summary.
const STEPS_MAX: u64 = 1000;
/// Sums in a summary: with a few dozen keys in each step.
const SUMS_MAX: u32 = 20_000;
/// Keys of a summary's totals.
const TOTALS: u32 = 50;
/// The time of a summary, when nobody says from when.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest name of a host, a rule or a program that is looked for.
const NAME: usize = 300;

/// In what form the log is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object in each line.
    Lines,
    /// Comma-separated values, with names in the first line.
    Csv,
}

fn wanted(
    caller: &Caller,
    filter: &RequestFilter,
) -> Result<boatyard_store::RequestFilter, Problem> {
    for (name, text) in
        [("host", &filter.host), ("rule", &filter.rule), ("program", &filter.program)]
    {
        if text.as_ref().is_some_and(|text| text.is_empty() || text.len() > NAME) {
            let detail = format!("expected 1 to {NAME} bytes");
            return Err(Problem::invalid(format!("query.{name}"), detail));
        }
    }
    if filter
        .host
        .as_ref()
        .is_some_and(|host| host.strip_prefix("*.").unwrap_or(host).contains(['*', '/', ' ']))
    {
        let detail = "expected a host as `example.com`, or `*.example.com` for those below it";
        return Err(Problem::invalid("query.host", detail));
    }
    if let (Some(from), Some(to)) = (filter.from, filter.to)
        && from >= to
    {
        return Err(Problem::invalid("query.to", "it is not after `from`"));
    }
    Ok(boatyard_store::RequestFilter {
        workspace: filter.workspace,
        session: filter.session,
        task: filter.task,
        host: filter.host.as_ref().map(|host| host.to_ascii_lowercase()),
        verdict: filter.verdict,
        way: filter.way,
        rule: filter.rule.clone(),
        program: filter.program.clone(),
        from: filter.from,
        to: filter.to,
        seen_by: access::viewer(caller),
    })
}

/// A page of the log, the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_requests(
    app: &App,
    caller: &Caller,
    filter: RequestFilter,
) -> Result<RequestPage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let page = before.map_or(At::NEWEST, At::Before);
    let wanted = wanted(caller, &filter)?;
    if before.is_none() {
        // Who looks after something ended is to find it.
        app.hub.traffic().flush().await;
    }
    let rows = app
        .store
        .list_requests(caller.owner.organization, &wanted, page, limit)
        .await
        .map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor =
        rows.last().filter(|_| full).map(|row| Cursor::after(&row.number.to_string()));
    Ok(RequestPage { items: rows.into_iter().map(entry).collect(), next_cursor })
}

fn entry(row: RequestRow) -> RequestEntry {
    RequestEntry {
        number: row.number,
        time: row.time,
        organization: row.owner.organization,
        workspace: row.workspace,
        session: row.session,
        task: row.task,
        way: row.way,
        program: row.program,
        method: row.method,
        host: row.host,
        port: u16::try_from(row.port).unwrap_or_default(),
        path: row.path,
        verdict: row.verdict,
        rule: row.rule,
        reason: row.reason,
        credential: row.credential,
        status: row.status.and_then(|status| u16::try_from(status).ok()),
        sent: row.sent,
        received: row.received,
        micros: row.micros,
    }
}

/// The whole log as it is now, the oldest first, a page in memory at a time.
///
/// # Errors
/// When the filter makes no sense.
pub async fn export_requests(
    app: &App,
    caller: &Caller,
    filter: &RequestFilter,
    form: Form,
) -> Result<ByteStream, Problem> {
    let wanted = wanted(caller, filter)?;
    // What is written from now on is not waited for: an export ends.
    let last = app.store.last_request().await.map_err(store_problem)?;
    let export = Export {
        store: app.store.clone(),
        organization: caller.owner.organization,
        wanted,
        form,
        after: 0,
        last,
        is_begun: false,
    };
    let stream = futures_util::stream::try_unfold(export, |mut export| async move {
        let piece = export.next().await.map_err(std::io::Error::other)?;
        Ok(piece.map(|piece| (piece, export)))
    });
    Ok(Box::pin(stream))
}

struct Export {
    store: Store,
    organization: OrganizationId,
    wanted: boatyard_store::RequestFilter,
    form: Form,
    after: u64,
    last: u64,
    is_begun: bool,
}

impl Export {
    async fn next(&mut self) -> Result<Option<Bytes>, boatyard_store::Error> {
        let mut text = String::new();
        if !std::mem::replace(&mut self.is_begun, true) && self.form == Form::Csv {
            text.push_str(&COLUMNS.join(","));
            text.push_str("\r\n");
        }
        if self.after < self.last {
            let page = At::After(self.after);
            let rows = self
                .store
                .list_requests(self.organization, &self.wanted, page, EXPORT_PAGE)
                .await?;
            let full = rows.len() == EXPORT_PAGE as usize;
            self.after = rows.last().filter(|_| full).map_or(self.last, |row| row.number);
            for row in rows.into_iter().filter(|row| row.number <= self.last) {
                let entry = entry(row);
                match self.form {
                    Form::Lines => {
                        text.push_str(&serde_json::to_string(&entry)?);
                        text.push('\n');
                    }
                    Form::Csv => csv(&entry, &mut text),
                }
            }
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

/// The names in the first line of a CSV.
const COLUMNS: [&str; 19] = [
    "number",
    "time",
    "workspace",
    "session",
    "task",
    "way",
    "program",
    "method",
    "host",
    "port",
    "path",
    "verdict",
    "rule",
    "reason",
    "credential",
    "status",
    "sent",
    "received",
    "micros",
];

fn csv(entry: &RequestEntry, into: &mut String) {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    let id = |id: Option<String>| id.unwrap_or_default();
    let cells: [String; COLUMNS.len()] = [
        entry.number.to_string(),
        entry.time.to_string(),
        entry.workspace.to_string(),
        id(entry.session.map(|id| id.to_string())),
        id(entry.task.map(|id| id.to_string())),
        entry.way.to_string(),
        text(entry.program.as_deref()),
        entry.method.clone(),
        entry.host.clone(),
        entry.port.to_string(),
        text(entry.path.as_deref()),
        entry.verdict.to_string(),
        text(entry.rule.as_deref()),
        text(entry.reason.as_deref()),
        text(entry.credential.as_deref()),
        id(entry.status.map(|status| status.to_string())),
        entry.sent.to_string(),
        entry.received.to_string(),
        entry.micros.to_string(),
    ];
    let cells: Vec<String> = cells.iter().map(|text| cell(text)).collect();
    into.push_str(&cells.join(","));
    into.push_str("\r\n");
}

/// A value of a CSV. A workspace chooses hosts, paths and methods: none may begin as what a table
/// of figures takes for a formula.
pub(crate) fn cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let mark = if is_formula { "'" } else { "" };
    if is_formula || text.contains(['"', ',', '\n', '\r']) {
        format!("\"{mark}{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The log added up, as a whole and in steps.
///
/// # Errors
/// When the query makes no sense.
pub async fn summarize_requests(
    app: &App,
    caller: &Caller,
    query: RequestSummaryQuery,
) -> Result<RequestSummary, Problem> {
    let now = app.store.now();
    let to = query.to.unwrap_or(Timestamp(now.0.saturating_add(1)));
    let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
    let from = query.from.unwrap_or(Timestamp(to.0.saturating_sub(day).max(0)));
    let filter = RequestFilter {
        workspace: query.workspace,
        session: query.session,
        task: query.task,
        host: query.host,
        verdict: query.verdict,
        way: query.way,
        from: Some(from),
        to: Some(to),
        ..RequestFilter::default()
    };
    let wanted = wanted(caller, &filter)?;
    let seconds = u64::try_from(to.0.saturating_sub(from.0)).unwrap_or_default().div_ceil(1000);
    let step = match query.step {
        Some(0) => return Err(Problem::invalid("query.step", "expected 1 or more seconds")),
        Some(step) => u64::from(step),
        None => round(seconds.div_ceil(STEPS)),
    };
    if seconds.div_ceil(step) > STEPS_MAX {
        let detail = format!(
            "this makes more than {STEPS_MAX} steps; take a step of {} s or more",
            seconds.div_ceil(STEPS_MAX)
        );
        return Err(Problem::invalid("query.step", detail));
    }
    let group = match query.by.unwrap_or_default() {
        RequestGroup::Verdict => boatyard_store::RequestGroup::Verdict,
        RequestGroup::Host => boatyard_store::RequestGroup::Host,
        RequestGroup::Rule => boatyard_store::RequestGroup::Rule,
        RequestGroup::Workspace => boatyard_store::RequestGroup::Workspace,
        RequestGroup::Program => boatyard_store::RequestGroup::Program,
    };
    let organization = caller.owner.organization;
    let totals = app
        .store
        .top_requests(organization, &wanted, group, TOTALS)
        .await
        .map_err(store_problem)?;
    let steps = app
        .store
        .request_buckets(organization, &wanted, group, step * 1000, SUMS_MAX)
        .await
        .map_err(store_problem)?;
    // Only those keys that the totals have: a chart of a thousand hosts shows nothing.
    let shown: std::collections::HashSet<&str> =
        totals.iter().map(|total| total.key.as_str()).collect();
    let steps =
        steps.iter().filter(|sum| shown.contains(sum.key.as_str())).map(|s| sum(s, Some(s.time)));
    Ok(RequestSummary {
        from,
        to,
        step: u32::try_from(step).unwrap_or(u32::MAX),
        steps: steps.collect(),
        totals: totals.iter().map(|total| sum(total, None)).collect(),
        dropped: app.hub.traffic().dropped(),
    })
}

fn sum(of: &boatyard_store::RequestSum, time: Option<Timestamp>) -> RequestSum {
    RequestSum {
        time,
        key: of.key.clone(),
        count: of.count,
        refused: of.refused,
        sent: of.sent,
        received: of.received,
    }
}

/// The next length of a step that people read easily, in seconds.
fn round(seconds: u64) -> u64 {
    const STEPS: [u64; 16] =
        [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 43_200, 86_400];
    let fitting = STEPS.into_iter().find(|step| *step >= seconds);
    fitting.unwrap_or_else(|| seconds.div_ceil(86_400) * 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        assert_eq!(cell("example.com"), "example.com");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("say \"x\""), "\"say \"\"x\"\"\"");
        for nasty in ["=1+1", "+x", "-x", "@x", "=a\",b"] {
            assert!(cell(nasty).starts_with("\"'"), "{nasty}");
        }
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(round(0), 1);
        assert_eq!(round(24), 30);
        assert_eq!(round(1440), 1800);
        assert_eq!(round(86_401), 172_800);
    }
}
