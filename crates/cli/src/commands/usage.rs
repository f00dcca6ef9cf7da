//! `boatyard usage`: what models were asked and what it cost.

use anyhow::Result;
use boatyard_api::{
    model::{MemberId, SessionId, TaskId, Timestamp},
    usage::{UsageGroup, UsageQuery, UsageSum},
};

use super::Context;

mod days;
use crate::{
    failure::{Exit, Failure},
    output::table::Table,
    text::clean_line,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Add up by day, model, provider, task, session, person, repository or agent
    #[arg(long, value_name = "WHAT", default_value = "day", value_parser = group)]
    by: UsageGroup,
    /// From this day or time on, in UTC: 2026-11-21 or 2026-11-21T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<Timestamp>,
    /// Before this day or time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<Timestamp>,
    /// Of this task only
    #[arg(long, value_name = "ID")]
    task: Option<TaskId>,
    /// Of this session only
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// Of this provider only
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Of this model only
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Of this member only: mem_…
    #[arg(long, value_name = "ID")]
    person: Option<MemberId>,
    /// Day by day, with the time in which agents worked
    #[arg(long, conflicts_with_all = ["task", "session", "provider"])]
    days: bool,
    /// The same as comma-separated values
    #[arg(long, conflicts_with_all = ["task", "session", "provider"])]
    csv: bool,
}

fn group(text: &str) -> Result<UsageGroup, String> {
    serde_json::from_value(text.into()).map_err(|_| {
        "it is day, model, provider, task, session, person, repository or agent".to_owned()
    })
}

fn time(text: &str) -> Result<Timestamp, String> {
    let whole = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    whole.parse().map_err(|_| "it is a day or a time, as 2026-11-21".to_owned())
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let Args { by, from, to, task, session, provider, model, person, days, csv } = args;
    if csv && context.output.is_json() {
        return Err(Failure::usage("it is either --csv or --json").into());
    }
    if days || csv {
        let wanted = days::Wanted { by, from, to, person, model };
        match csv {
            true => days::csv(wanted, context).await?,
            false => days::show(wanted, context).await?,
        }
        return Ok(Exit::Done);
    }
    let person = person.map(|person| person.to_string());
    let query = UsageQuery { group: Some(by), from, to, task, session, provider, model, person };
    let report = context.client.read_usage(&query).await?;
    let output = context.output;
    if output.is_json() {
        output.json(&report)?;
        return Ok(Exit::Done);
    }
    if report.total.calls == 0 {
        output.note("No model was asked in that time.");
        return Ok(Exit::Done);
    }
    let first = match by {
        UsageGroup::Day => "DAY",
        UsageGroup::Model => "MODEL",
        UsageGroup::Provider => "PROVIDER",
        UsageGroup::Task => "TASK",
        UsageGroup::Session => "SESSION",
        UsageGroup::Person => "PERSON",
        UsageGroup::Repository => "REPOSITORY",
        UsageGroup::Agent => "AGENT",
    };
    let heads = [first, "REQUESTS", "INPUT", "CACHED", "OUTPUT", "COST"];
    let mut table = Table::new(&heads, 0);
    for item in &report.items {
        let label = item.label.as_deref().map_or_else(|| "unknown".to_owned(), clean_line);
        table.row(row(label, item));
    }
    table.row(row("in all".to_owned(), &report.total));
    output.line(table.render(output.out))?;
    if report.total.unknown_cost > 0 {
        output.note(format!(
            "{} of the requests went to models whose price is not known: set it by `prices` in \
             [providers.NAME].",
            report.total.unknown_cost
        ));
    }
    if report.total.estimated > 0 {
        let count = report.total.estimated;
        output.note(format!("Of {count} the tokens are reckoned: the provider did not tell them."));
    }
    Ok(Exit::Done)
}

fn row(label: String, sum: &UsageSum) -> Vec<String> {
    let cost = match (sum.unknown_cost, sum.calls) {
        (0, _) => dollars(sum.cost_usd),
        (unknown, calls) if unknown == calls => "unknown".to_owned(),
        _ => format!("{} + unknown", dollars(sum.cost_usd)),
    };
    vec![
        label,
        sum.calls.to_string(),
        sum.input_tokens.to_string(),
        (sum.cache_read_tokens + sum.cache_write_tokens).to_string(),
        sum.output_tokens.to_string(),
        cost,
    ]
}

/// An amount; small ones as exactly as they are.
pub(crate) fn dollars(usd: f64) -> String {
    let is_small = usd > 0.0 && usd < 0.01;
    if is_small { format!("${usd:.6}") } else { format!("${usd:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_times_too() {
        assert_eq!(time("1970-01-02").unwrap(), Timestamp(86_400_000));
        assert_eq!(time("1970-01-01T00:00:01Z").unwrap(), Timestamp(1000));
        assert!(time("yesterday").is_err());
        assert_eq!(group("model").unwrap(), UsageGroup::Model);
        assert!(group("colour").is_err());
        assert_eq!(
            (dollars(0.0), dollars(0.0012), dollars(1.5)),
            ("$0.00".to_owned(), "$0.001200".to_owned(), "$1.50".to_owned())
        );
    }
}
