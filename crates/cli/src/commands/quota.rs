//! `boatyard quota`: what an organization and its people may use.

use anyhow::Result;
use boatyard_api::{
    model::QuotaId,
    quota::{NewQuota, Quota, QuotaKind, QuotaList, QuotaScope},
};

use super::{Context, usage::dollars};
use crate::{failure::Exit, output::table::Table, text::clean_line};

/// Units in which storage is written, the longest first.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("B", 1),
];

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Limit tasks at a time, workspaces, minutes a day, storage, or money a month
    Set {
        /// What: tasks, workspaces, minutes, storage, money
        #[arg(value_parser = kind)]
        kind: QuotaKind,
        /// A count, minutes, a size as 20GiB, or US dollars
        limit: String,
        /// For each person who has none of their own, and not for the organization together
        #[arg(long, group = "whose")]
        each: bool,
        /// For this member alone: mem_…
        #[arg(long, value_name = "ID", group = "whose")]
        person: Option<String>,
        /// For yourself
        #[arg(long, group = "whose")]
        mine: bool,
        /// Of this organization, by who runs the server: org_…
        #[arg(long, value_name = "ID", conflicts_with_all = ["person", "mine"])]
        of: Option<String>,
    },
    /// List the quotas, and what is used of each at this moment
    #[command(visible_alias = "ls")]
    List,
    /// Remove a quota
    #[command(visible_alias = "rm")]
    Remove {
        /// Its id, quo_…
        id: QuotaId,
    },
}

fn kind(text: &str) -> Result<QuotaKind, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "it is tasks, workspaces, minutes, storage or money".to_owned())
}

/// A limit as people write it.
fn limit(kind: QuotaKind, text: &str) -> Result<f64> {
    let text = text.trim().trim_start_matches('$');
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, unit) = match (kind, unit) {
        (QuotaKind::Storage, Some((number, bytes))) => (number, bytes as f64),
        _ => (text, 1.0),
    };
    let number: f64 = number.trim().parse().map_err(|_| {
        let example = match kind {
            QuotaKind::Storage => "a size, as 20GiB",
            QuotaKind::Money => "US dollars, as 50",
            _ => "a number",
        };
        crate::failure::Failure::usage(format!("`{text}` is not {example}"))
    })?;
    Ok(if kind == QuotaKind::Storage { (number * unit).round() } else { number * unit })
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::Set { kind, limit: text, each, person, mine, of } => {
            let (scope, subject) = match (each, person, mine) {
                (true, ..) => (QuotaScope::Each, of),
                (_, Some(person), _) => (QuotaScope::Person, Some(person)),
                (_, _, true) => (QuotaScope::Person, None),
                _ => (QuotaScope::Organization, of),
            };
            let new = NewQuota { kind, scope, subject, limit: limit(kind, &text)? };
            let quota = client.set_quota(&new).await?;
            if output.is_json() {
                output.json(&quota)?;
            } else {
                output.line(table(&[quota]).render(output.out))?;
            }
        }
        Command::List => {
            let list = client.list_quotas().await?;
            if output.is_json() {
                output.json(&list)?;
                return Ok(Exit::Done);
            }
            if list.items.is_empty() {
                output.note("There are no quotas. Set one by `boatyard quota set tasks 4 --each`.");
            } else {
                output.line(table(&list.items).render(output.out))?;
            }
            output.note(in_use(&list));
        }
        Command::Remove { id } => {
            client.remove_quota(id).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "quota": id, "removed": true }))?;
            } else {
                output.note(format!("Removed {id}."));
            }
        }
    }
    Ok(Exit::Done)
}

fn in_use(list: &QuotaList) -> String {
    let all = &list.organization;
    format!(
        "In use by the organization: {} tasks, {} workspaces, {} today, {}.",
        all.tasks,
        all.workspaces,
        amount(QuotaKind::Minutes, all.minutes),
        amount(QuotaKind::Storage, all.storage as f64)
    )
}

/// So much of something, for people.
fn amount(kind: QuotaKind, value: f64) -> String {
    match kind {
        QuotaKind::Tasks | QuotaKind::Workspaces => format!("{value}"),
        QuotaKind::Minutes => format!("{value:.0} min"),
        QuotaKind::Storage => format!("{:.1} GiB", value / f64::from(1 << 30)),
        QuotaKind::Money => dollars(value),
    }
}

fn table(quotas: &[Quota]) -> Table {
    let mut table = Table::new(&["QUOTA", "WHAT", "FOR", "LIMIT", "USED", ""], 2);
    for quota in quotas {
        let name = quota.name.as_deref().unwrap_or(&quota.subject);
        let whose = match quota.scope {
            QuotaScope::Organization => "the organization".to_owned(),
            QuotaScope::Each => "each person".to_owned(),
            QuotaScope::Person => clean_line(name),
        };
        let period = match quota.kind {
            QuotaKind::Minutes => " a day",
            QuotaKind::Money => " a month",
            _ => "",
        };
        let extra = match quota.extra > 0.0 {
            true => format!(" + {}", amount(quota.kind, quota.extra)),
            false => String::new(),
        };
        table.row(vec![
            quota.id.to_string(),
            format!("{}{period}", quota.kind.as_str()),
            whose,
            format!("{}{extra}", amount(quota.kind, quota.limit)),
            amount(quota.kind, quota.used),
            if quota.reached { "reached" } else { "" }.to_owned(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_people_do() {
        assert_eq!(limit(QuotaKind::Storage, "20GiB").unwrap(), 21_474_836_480.0);
        assert_eq!(limit(QuotaKind::Storage, "500").unwrap(), 500.0);
        assert_eq!(limit(QuotaKind::Minutes, "90.5").unwrap(), 90.5);
        assert_eq!(limit(QuotaKind::Money, "$50").unwrap(), 50.0);
        assert!(limit(QuotaKind::Tasks, "4GiB").is_err());
        assert!(limit(QuotaKind::Storage, "much").is_err());
        assert_eq!(amount(QuotaKind::Storage, 21_474_836_480.0), "20.0 GiB");
        assert_eq!(amount(QuotaKind::Tasks, 4.0), "4");
    }
}
