//! `boatyard usage --days` and `--csv`: what was used, day by day.

use anyhow::Result;
use boatyard_api::{
    model::{MemberId, Timestamp},
    quota::{DayFigures, DaysGroup, DaysQuery},
    usage::UsageGroup,
};

use super::dollars;
use crate::{commands::Context, failure::Failure, output::table::Table, text::clean_line};

/// What figures of days are asked for.
pub(super) struct Wanted {
    pub(super) by: UsageGroup,
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
    pub(super) person: Option<MemberId>,
    pub(super) model: Option<String>,
}

impl Wanted {
    fn query(self) -> Result<DaysQuery> {
        let by = match self.by {
            UsageGroup::Day => DaysGroup::All,
            UsageGroup::Person => DaysGroup::Person,
            UsageGroup::Repository => DaysGroup::Repository,
            UsageGroup::Agent => DaysGroup::Agent,
            UsageGroup::Provider => DaysGroup::Provider,
            UsageGroup::Model => DaysGroup::Model,
            UsageGroup::Task | UsageGroup::Session => {
                let text = "figures of days are by person, repository, agent, provider or model";
                return Err(Failure::usage(text).into());
            }
        };
        let Self { from, to, person, model, .. } = self;
        let (repository, agent) = (None, None);
        Ok(DaysQuery { by: Some(by), from, to, person, repository, agent, model })
    }
}

/// Writes the comma-separated values as they come.
pub(super) async fn csv(wanted: Wanted, context: &Context<'_>) -> Result<()> {
    let response = context.client.export_usage_days(&wanted.query()?).await?;
    crate::export::into(response, None, context.output).await?;
    Ok(())
}

/// Shows a line for each day and each of what it is by.
pub(super) async fn show(wanted: Wanted, context: &Context<'_>) -> Result<()> {
    let query = wanted.query()?;
    let report = context.client.read_usage_days(&query).await?;
    let output = context.output;
    if output.is_json() {
        return output.json(&report);
    }
    let mut table =
        Table::new(&["DAY", "OF", "TASKS", "MINUTES", "REQUESTS", "INPUT", "OUTPUT", "COST"], 1);
    for (at, day) in report.days.iter().enumerate() {
        for series in &report.series {
            let point = &series.points[at];
            if *point == DayFigures::default() {
                continue;
            }
            let name = series.name.as_deref().or(series.label.as_deref()).unwrap_or("all");
            table.row(row(day.clone(), clean_line(name), point));
        }
    }
    if table.is_empty() {
        output.note("Nothing was used in that time.");
        return Ok(());
    }
    table.row(row("in all".to_owned(), String::new(), &report.total.total));
    output.line(table.render(output.out))?;
    Ok(())
}

fn row(day: String, name: String, figures: &DayFigures) -> Vec<String> {
    vec![
        day,
        name,
        figures.tasks.to_string(),
        format!("{:.0}", figures.minutes),
        figures.calls.to_string(),
        figures.input_tokens.to_string(),
        figures.output_tokens.to_string(),
        dollars(figures.cost_usd),
    ]
}
