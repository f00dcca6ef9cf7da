//! `boatyard egress asks|answer|log|export|summary`: requests of workspaces that wait for a person,
//! and the log of all of them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use boatyard_api::{
    client::ExportForm,
    model::{
        AskAnswer, AskId, AskState, RequestVerdict, RequestWay, Timestamp,
        time::{Clock as _, SystemClock},
    },
    request::{
        Ask, AskFilter, AskReply, RequestEntry, RequestFilter, RequestGroup, RequestSummaryQuery,
    },
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    output::{Output, table::Table},
    text::{ago, bytes, clean_line, count, duration},
    watch::egress::{answered, wanted},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List requests that wait for a person
    Asks {
        /// Only those of this workspace, or of this task's
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// Those that are over as well
        #[arg(short, long)]
        all: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Answer a request that waits
    Answer {
        /// The request's id, ask_…
        id: AskId,
        /// `once`, `ten_minutes`, `workspace`, `repository`, `no` or `never`
        #[arg(value_parser = parse_answer)]
        answer: AskAnswer,
    },
    /// Show what left workspaces, and what was kept from leaving
    Log {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Write the log into a file, the oldest request first
    Export {
        #[command(flatten)]
        which: Which,
        /// A JSON object in each line, or comma-separated values
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// The file; standard output if absent
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Add up what left workspaces
    Summary {
        #[command(flatten)]
        which: Which,
        /// What to add up by
        #[arg(long, value_enum, default_value_t)]
        by: By,
    },
}

/// Which requests of the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only those of this workspace, or of this task's
    #[arg(long, value_name = "ID")]
    workspace: Option<String>,
    /// Only those of this task, in all its attempts
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Only those to this host; `*.example.com` for those below it
    #[arg(long)]
    host: Option<String>,
    /// Only those that ended so: allowed, denied, asked_allowed, asked_denied, asked_expired,
    /// asked_withdrawn, failed or learned
    #[arg(long)]
    verdict: Option<RequestVerdict>,
    /// Only those by this way: proxy, model or git
    #[arg(long)]
    way: Option<RequestWay>,
    /// Only those that this rule decided
    #[arg(long)]
    rule: Option<String>,
    /// Only those that began so long ago or later, as `90s`, `15m`, `2h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = parse_ago)]
    since: Option<i64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A JSON object in each line
    #[default]
    Ndjson,
    /// Comma-separated values
    Csv,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum By {
    /// What became of them
    #[default]
    Verdict,
    /// Where they went
    Host,
    /// The rule that decided
    Rule,
    /// Where they came from
    Workspace,
    /// The program that asked
    Program,
}

impl By {
    const fn group(self) -> RequestGroup {
        match self {
            Self::Verdict => RequestGroup::Verdict,
            Self::Host => RequestGroup::Host,
            Self::Rule => RequestGroup::Rule,
            Self::Workspace => RequestGroup::Workspace,
            Self::Program => RequestGroup::Program,
        }
    }
}

/// `ten-minutes` is what people type too.
fn parse_answer(text: &str) -> Result<AskAnswer, String> {
    let known: Vec<&str> = AskAnswer::ALL.iter().map(|answer| answer.as_str()).collect();
    let wrong = |_| format!("expected one of {}", known.join(", "));
    text.to_ascii_lowercase().replace('-', "_").parse().map_err(wrong)
}

/// Milliseconds.
fn parse_ago(text: &str) -> Result<i64, String> {
    let wrong = || "expected a time as 90s, 15m, 2h or 7d".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(i64::from(number) * unit * 1000)
}

impl Which {
    async fn filter(self, context: &Context<'_>) -> Result<RequestFilter> {
        let client = &context.client;
        let workspace = match self.workspace {
            Some(text) => Some(ids::workspace(client, &text).await?),
            None => None,
        };
        let task = match self.task {
            Some(text) => Some(ids::task(client, &text).await?),
            None => None,
        };
        let now: Timestamp = SystemClock.now();
        Ok(RequestFilter {
            workspace,
            task,
            host: self.host,
            verdict: self.verdict,
            way: self.way,
            rule: self.rule,
            from: self.since.map(|millis| Timestamp(now.0.saturating_sub(millis).max(0))),
            ..RequestFilter::default()
        })
    }
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::Asks { workspace, all, limit } => {
            let workspace = match workspace {
                Some(text) => Some(ids::workspace(client, &text).await?),
                None => None,
            };
            let state = (!all).then_some(AskState::Open);
            let filter = AskFilter { state, workspace, limit: Some(limit), cursor: None };
            asks(client.list_asks(&filter).await?, output)?;
        }
        Command::Answer { id, answer } => {
            let ask = client.answer_ask(id, &AskReply { answer }).await?;
            if output.is_json() {
                output.json(&ask)?;
            } else {
                output.note(answered(ask.state, ask.answer, None));
                if ask.waiting == 0 && ask.answer == Some(AskAnswer::Once) && ask.resolved.is_some()
                {
                    output.detail("It holds for the next request that asks the same.");
                }
                if let Some(rule) = &ask.made {
                    output.note(format!(
                        "Rule {} says so from now on; `boatyard egress remove {}` takes it back.",
                        clean_line(rule),
                        clean_line(rule)
                    ));
                }
            }
        }
        Command::Log { which, limit } => {
            let mut filter = which.filter(context).await?;
            filter.limit = Some(limit);
            let page = client.list_requests(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
            } else {
                log(&page.items, output)?;
            }
        }
        Command::Export { which, format, file } => {
            let filter = which.filter(context).await?;
            return export(&filter, format, file.as_deref(), context).await;
        }
        Command::Summary { which, by } => {
            let filter = which.filter(context).await?;
            if filter.rule.is_some() {
                return Err(Failure::usage("a summary takes no --rule")
                    .next("add up by rules with --by rule")
                    .into());
            }
            let query = RequestSummaryQuery {
                by: Some(by.group()),
                workspace: filter.workspace,
                session: filter.session,
                task: filter.task,
                host: filter.host,
                verdict: filter.verdict,
                way: filter.way,
                from: filter.from,
                ..RequestSummaryQuery::default()
            };
            summary(&query, context).await?;
        }
    }
    Ok(Exit::Done)
}

fn asks(page: boatyard_api::request::AskPage, output: &Output) -> Result<()> {
    if output.is_json() {
        return output.json(&page);
    }
    let now: Timestamp = SystemClock.now();
    let mut table = Table::new(&["ASK", "WORKSPACE", "STATE", "ASKED", "WANTS"], 4);
    for ask in &page.items {
        let state = match ask.answer {
            Some(answer) => format!("{} ({answer})", ask.state),
            None => ask.state.to_string(),
        };
        table.row(vec![
            ask.id.to_string(),
            ask.workspace.to_string(),
            state,
            ago(ask.created, now),
            wants(ask),
        ]);
    }
    if table.is_empty() {
        output.note("No request waits for a person.");
        return Ok(());
    }
    output.line(table.render(output.out))?;
    if let Some(open) = page.items.iter().find(|ask| ask.state == AskState::Open) {
        output.note(format!(
            "Answer with: boatyard egress answer {} once|ten_minutes|workspace|repository|no|never",
            open.id
        ));
    }
    Ok(())
}

fn wants(ask: &Ask) -> String {
    let what = wanted(ask.method.as_deref(), &ask.host, ask.port, ask.path.as_deref());
    let credential = ask.credential.as_deref().map(|name| format!(" with {}", clean_line(name)));
    format!("{what}{}", credential.unwrap_or_default())
}

fn log(entries: &[RequestEntry], output: &Output) -> Result<()> {
    let now: Timestamp = SystemClock.now();
    let mut table =
        Table::new(&["WHEN", "VERDICT", "WHAT", "RULE", "STATUS", "SENT", "RECEIVED", "TOOK"], 2);
    // The newest at the end, where the eye is.
    for entry in entries.iter().rev() {
        let method = (entry.method != "CONNECT").then_some(entry.method.as_str());
        let what = match entry.host.is_empty() {
            true => format!("{} {}", clean_line(&entry.method), path_of(entry)),
            false => wanted(method, &entry.host, entry.port, entry.path.as_deref()),
        };
        let rule = entry.rule.as_deref().or(entry.reason.as_deref()).unwrap_or("-");
        table.row(vec![
            ago(entry.time, now),
            entry.verdict.to_string(),
            what,
            clean_line(rule),
            entry.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            bytes(entry.sent),
            bytes(entry.received),
            duration(std::time::Duration::from_micros(entry.micros)),
        ]);
    }
    if table.is_empty() {
        output.note("There are no such requests.");
        return Ok(());
    }
    output.line(table.render(output.out))?;
    Ok(())
}

fn path_of(entry: &RequestEntry) -> String {
    clean_line(entry.path.as_deref().unwrap_or_default())
}

async fn export(
    filter: &RequestFilter,
    format: Format,
    file: Option<&Path>,
    context: &Context<'_>,
) -> Result<Exit> {
    let form = match format {
        Format::Ndjson => ExportForm::Lines,
        Format::Csv => ExportForm::Csv,
    };
    let response = context.client.export_requests(filter, form).await?;
    crate::export::into(response, file, context.output).await
}

async fn summary(query: &RequestSummaryQuery, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    let summary = context.client.summarize_requests(query).await?;
    if output.is_json() {
        return output.json(&summary);
    }
    let title = match query.by.unwrap_or_default() {
        RequestGroup::Verdict => "VERDICT",
        RequestGroup::Host => "HOST",
        RequestGroup::Rule => "RULE",
        RequestGroup::Workspace => "WORKSPACE",
        RequestGroup::Program => "PROGRAM",
    };
    let mut table = Table::new(&[title, "REQUESTS", "REFUSED", "SENT", "RECEIVED"], 0);
    for sum in &summary.totals {
        let key = if sum.key.is_empty() { "-".to_owned() } else { clean_line(&sum.key) };
        table.row(vec![
            key,
            sum.count.to_string(),
            sum.refused.to_string(),
            bytes(sum.sent),
            bytes(sum.received),
        ]);
    }
    if table.is_empty() {
        output.note("There are no such requests.");
    } else {
        output.line(table.render(output.out))?;
    }
    if summary.dropped > 0 {
        let lost = count(summary.dropped, "request");
        output.note(format!("The log lacks {lost}: more came at once than could be written."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_times_are_as_people_write_them() {
        assert_eq!(parse_answer("ten-minutes").unwrap(), AskAnswer::TenMinutes);
        assert_eq!(parse_answer("Never").unwrap(), AskAnswer::Never);
        assert!(parse_answer("maybe").unwrap_err().contains("ten_minutes"));
        assert_eq!(parse_ago("15m").unwrap(), 900_000);
        assert_eq!(parse_ago("7d").unwrap(), 604_800_000);
        for wrong in ["", "m", "15", "1y", "-1m", "é"] {
            assert!(parse_ago(wrong).is_err(), "{wrong}");
        }
    }
}
