//! `boatyard audit`: who changed what, when and from where.

use std::{
    io::BufRead as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use boatyard_api::{
    audit::{
        AuditEntry, AuditFault, AuditFilter, AuditOutcome, AuditPlace, AuditReport,
        SetAuditRetention,
    },
    model::{
        Timestamp,
        audit::{BEGINNING, Walk},
        time::{Clock as _, SystemClock},
    },
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    output::{Output, table::Table},
    text::{ago, clean_line, count},
};

/// The longest line of an export that is read, in bytes: an entry is far below.
const LINE_MAX: usize = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List what was changed, the newest at the end
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Write the log into a file, a JSON object in each line, the oldest first
    Export {
        #[command(flatten)]
        which: Which,
        /// The file; standard output if absent
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Compare every hash: whether something was changed, removed or put in
    Verify {
        /// A file that `export` wrote, without a filter; the server's log if absent
        file: Option<PathBuf>,
        /// The server's own log instead of the organization's
        #[arg(long, conflicts_with = "file")]
        server_log: bool,
        /// An entry that was seen before, as NUMBER:HASH; the log must have it still
        #[arg(long, value_name = "NUMBER:HASH", value_parser = parse_seen)]
        expect: Option<Seen>,
    },
    /// Show or choose for how long entries are kept
    Keep {
        /// Days, `forever`, or `default` for what the server's settings say
        #[arg(value_name = "DAYS", value_parser = parse_days)]
        days: Option<Days>,
        /// The server's own log instead of the organization's
        #[arg(long)]
        server_log: bool,
    },
}

/// Which entries.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only those by this person, psn_…, or this member, mem_…
    #[arg(long, value_name = "ID")]
    by: Option<String>,
    /// Only those of this operation, as create_task
    #[arg(long)]
    operation: Option<String>,
    /// Only those that ended so: allowed, denied or failed
    #[arg(long)]
    outcome: Option<AuditOutcome>,
    /// Only those about this: an id or a name
    #[arg(long, value_name = "ID")]
    about: Option<String>,
    /// Only those from this address
    #[arg(long)]
    address: Option<String>,
    /// Only that of this request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only those from this time on: so long ago, as `15m`, `2h` or `7d`, or a date
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Moment>,
    /// Only those before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Moment>,
    /// The server's own log instead of the organization's
    #[arg(long)]
    server_log: bool,
}

/// A moment as people write it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    /// So many milliseconds ago.
    Ago(i64),
    At(Timestamp),
}

impl Moment {
    fn at(self) -> Timestamp {
        match self {
            Self::Ago(millis) => Timestamp(SystemClock.now().0.saturating_sub(millis).max(0)),
            Self::At(time) => time,
        }
    }
}

fn parse_time(text: &str) -> Result<Moment, String> {
    let wrong = || "expected a time as 15m, 2h or 7d, or as 2026-11-21T10:00:00Z".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => {
            let day = format!("{text}T00:00:00Z");
            return text.parse().or_else(|_| day.parse()).map(Moment::At).map_err(|_| wrong());
        }
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(Moment::Ago(i64::from(number) * unit * 1000))
}

/// How long entries are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Days(Option<u32>);

fn parse_days(text: &str) -> Result<Days, String> {
    match text {
        "forever" => Ok(Days(Some(0))),
        "default" => Ok(Days(None)),
        _ => match text.parse() {
            Ok(days @ 1..) => Ok(Days(Some(days))),
            _ => Err("expected a number of days, `forever` or `default`".to_owned()),
        },
    }
}

/// `1 entry`, `5 entries`.
fn entries(n: u64) -> String {
    if n == 1 { "1 entry".to_owned() } else { format!("{n} entries") }
}

/// An entry that was seen before.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    number: u64,
    hash: String,
}

fn parse_seen(text: &str) -> Result<Seen, String> {
    let wrong = || "expected NUMBER:HASH, as `boatyard audit verify` printed it".to_owned();
    let (number, hash) = text.split_once(':').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_| wrong())?;
    let is_hash = hash.len() == BEGINNING.len() && hash.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| Seen { number, hash: hash.to_ascii_lowercase() }).ok_or_else(wrong)
}

impl Which {
    fn filter(self) -> Result<AuditFilter> {
        let mut filter = AuditFilter {
            operation: self.operation,
            outcome: self.outcome,
            about: self.about,
            address: self.address,
            request: self.request,
            from: self.since.map(Moment::at),
            to: self.until.map(Moment::at),
            server: self.server_log.then_some(true),
            ..AuditFilter::default()
        };
        match self.by.as_deref() {
            None => {}
            Some(text) => match (text.parse(), text.parse()) {
                (Ok(person), _) => filter.person = Some(person),
                (_, Ok(member)) => filter.member = Some(member),
                _ => {
                    return Err(Failure::usage(format!("`{text}` is no person and no member"))
                        .next("take an id as `boatyard member list` shows it")
                        .into());
                }
            },
        }
        Ok(filter)
    }
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { which, limit } => {
            let filter = AuditFilter { limit: Some(limit), ..which.filter()? };
            let page = client.list_audit(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
            } else {
                list(&page.items, output)?;
            }
            Ok(Exit::Done)
        }
        Command::Export { which, file } => export(&which.filter()?, file.as_deref(), context).await,
        Command::Verify { file: Some(file), expect, .. } => {
            verify_file(&file, expect.as_ref(), output)
        }
        Command::Verify { server_log, expect, file: None } => {
            let place = AuditPlace { server: server_log.then_some(true) };
            let mut report = client.check_audit(place).await?;
            if let Some(seen) = expect.filter(|_| report.whole) {
                report.fault = missing(&seen, place, &report, context).await?;
                report.whole = report.fault.is_none();
            }
            told(&report, output)
        }
        Command::Keep { days, server_log } => {
            let place = AuditPlace { server: server_log.then_some(true) };
            let kept = match days {
                None => client.find_audit_retention(place).await?,
                Some(Days(days)) => {
                    client.set_audit_retention(place, SetAuditRetention { days }).await?
                }
            };
            if output.is_json() {
                output.json(&kept)?;
            } else {
                let time = match kept.days {
                    Some(days) => format!("for {}", count(u64::from(days), "day")),
                    None => "for good".to_owned(),
                };
                let why = if kept.chosen { "" } else { ", as the server's settings say" };
                output.line(format!("Entries are kept {time}{why}."))?;
            }
            Ok(Exit::Done)
        }
    }
}

/// Checks an exported file: that takes no server.
pub(crate) fn verify_file(file: &Path, expect: Option<&Seen>, output: &Output) -> Result<Exit> {
    told(&read_file(file, expect)?, output)
}

fn list(entries: &[AuditEntry], output: &Output) -> Result<()> {
    let now = SystemClock.now();
    let mut table = Table::new(&["NUMBER", "WHEN", "WHO", "FROM", "OUTCOME", "WHAT"], 5);
    // The newest at the end, where the eye is.
    for entry in entries.iter().rev() {
        let who = if entry.name.is_empty() { "-".to_owned() } else { clean_line(&entry.name) };
        table.row(vec![
            entry.number.to_string(),
            ago(entry.time, now),
            who,
            clean_line(entry.address.as_deref().unwrap_or("-")),
            entry.outcome.to_string(),
            what(entry),
        ]);
    }
    if table.is_empty() {
        output.note("There are no such entries.");
        return Ok(());
    }
    output.line(table.render(output.out))?;
    Ok(())
}

fn what(entry: &AuditEntry) -> String {
    let mut text = clean_line(&entry.operation);
    for (name, value) in &entry.subjects {
        // An id says by itself of what it is.
        let value = clean_line(value);
        text.push_str(&if name == "id" { format!(" {value}") } else { format!(" {name}={value}") });
    }
    for (name, value) in &entry.details {
        text.push_str(&format!(" {name}={}", clean_line(value)));
    }
    if let Some(reason) = &entry.reason {
        text.push_str(&format!(" ({})", clean_line(reason)));
    }
    text
}

async fn export(filter: &AuditFilter, file: Option<&Path>, context: &Context<'_>) -> Result<Exit> {
    let response = context.client.export_audit(filter).await?;
    crate::export::into(response, file, context.output).await
}

/// Walks along the entries of an exported file.
fn read_file(path: &Path, expect: Option<&Seen>) -> Result<AuditReport> {
    let file =
        std::fs::File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    let mut lines = std::io::BufReader::new(file);
    let mut walk: Option<Walk> = None;
    let mut report = AuditReport {
        organization: None,
        whole: true,
        entries: 0,
        first: 1,
        anchor: BEGINNING.to_owned(),
        last: 0,
        hash: BEGINNING.to_owned(),
        fault: None,
    };
    let mut is_seen = false;
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let mut bounded = std::io::Read::take(&mut lines, LINE_MAX as u64);
        if bounded.read_until(b'\n', &mut text).context("the file can't be read")? == 0 {
            break;
        }
        let entry: AuditEntry = serde_json::from_slice(&text).map_err(|error| {
            let what = format!("line {line} of {} is no entry of the log: {error}", path.display());
            Failure::usage(what).next("take a file that `boatyard audit export` wrote")
        })?;
        let walk = walk.get_or_insert_with(|| {
            report.organization = entry.organization;
            report.first = entry.number;
            let start = if entry.number <= 1 { BEGINNING.to_owned() } else { entry.before.clone() };
            report.anchor.clone_from(&start);
            Walk::after(entry.number.saturating_sub(1), start)
        });
        if let Err(fault) = walk.step(&entry) {
            report.fault = Some(fault);
            break;
        }
        let found = (walk.last, &walk.hash);
        is_seen |= expect.is_some_and(|seen| (seen.number, &seen.hash) == found);
    }
    if let Some(walk) = walk {
        (report.entries, report.last, report.hash) = (walk.entries, walk.last, walk.hash);
    }
    if let Some(seen) = expect.filter(|_| report.fault.is_none() && !is_seen) {
        report.fault = Some(other(seen));
    }
    report.whole = report.fault.is_none();
    Ok(report)
}

fn other(seen: &Seen) -> AuditFault {
    let reason = "it is not the one that was seen before: the log was written anew, or cut off";
    AuditFault { number: seen.number, reason: reason.to_owned() }
}

/// Whether the server's log lacks an entry that was seen before.
async fn missing(
    seen: &Seen,
    place: AuditPlace,
    report: &AuditReport,
    context: &Context<'_>,
) -> Result<Option<AuditFault>> {
    if (seen.number, &seen.hash) == (report.last, &report.hash)
        || (seen.number + 1, &seen.hash) == (report.first, &report.anchor)
    {
        return Ok(None);
    }
    if seen.number < report.first {
        let reason = "it is kept no longer; expect a newer one".to_owned();
        return Ok(Some(AuditFault { number: seen.number, reason }));
    }
    let cursor = Some(boatyard_api::Cursor::after(&(seen.number + 1).to_string()));
    let filter =
        AuditFilter { server: place.server, limit: Some(1), cursor, ..AuditFilter::default() };
    let page = context.client.list_audit(&filter).await?;
    let found = page.items.first().map(|entry| (entry.number, &entry.hash));
    Ok((found != Some((seen.number, &seen.hash))).then(|| other(seen)))
}

fn told(report: &AuditReport, output: &Output) -> Result<Exit> {
    if output.is_json() {
        output.json(report)?;
    } else if let Some(fault) = &report.fault {
        output.note(format!(
            "The log is not what was written. Entry {}: {}.",
            fault.number,
            clean_line(&fault.reason)
        ));
        output.detail(format!("The {} before it are whole.", entries(report.entries)));
    } else {
        output.line(format!(
            "The log is whole: {} from {} to {}.",
            entries(report.entries),
            report.first,
            report.last
        ))?;
        output.line(format!("Newest: {}:{}", report.last, clean_line(&report.hash)))?;
        output.detail("Keep that elsewhere; `--expect` compares the log with it later.");
    }
    Ok(if report.whole { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_days_and_hashes_are_read_as_people_write_them() {
        assert!(matches!(parse_time("2h"), Ok(Moment::Ago(7_200_000))));
        assert!(matches!(parse_time("2026-11-21"), Ok(Moment::At(_))));
        assert!(matches!(parse_time("2026-11-21T10:00:00Z"), Ok(Moment::At(_))));
        assert!(parse_time("yesterday").is_err() && parse_time("").is_err());
        assert!(matches!(parse_days("forever"), Ok(Days(Some(0)))));
        assert!(matches!(parse_days("default"), Ok(Days(None))));
        assert!(parse_days("0").is_err() && parse_days("-1").is_err());
        assert_eq!(parse_seen(&format!("7:{BEGINNING}")).unwrap().number, 7);
        assert!(parse_seen("7:abc").is_err() && parse_seen(BEGINNING).is_err());
    }
}
