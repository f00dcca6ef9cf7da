//! `boatyard budget`: what models may cost.

use anyhow::Result;
use boatyard_api::{
    model::{AttemptId, BudgetId, TaskId},
    usage::{Budget, BudgetPeriod, BudgetScope, NewBudget},
};

use super::{Context, usage::dollars};
use crate::{failure::Exit, output::table::Table, text::clean_line};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Set what models may cost: the organization's, yours, a task's or an attempt's
    Set {
        /// US dollars
        limit: f64,
        /// For your own work, and not for the organization's
        #[arg(long, group = "whose")]
        mine: bool,
        /// For this task, with all its attempts
        #[arg(long, value_name = "ID", group = "whose")]
        task: Option<TaskId>,
        /// For this attempt
        #[arg(long, value_name = "ID", group = "whose")]
        attempt: Option<AttemptId>,
        /// For a day, a month or in all
        #[arg(long, value_name = "PERIOD", value_parser = period)]
        period: Option<BudgetPeriod>,
    },
    /// List the budgets, with what is spent of each
    #[command(visible_alias = "ls")]
    List,
    /// Remove a budget
    #[command(visible_alias = "rm")]
    Remove {
        /// Its id, bud_…
        id: BudgetId,
    },
}

fn period(text: &str) -> Result<BudgetPeriod, String> {
    serde_json::from_value(text.into()).map_err(|_| "it is day, month or total".to_owned())
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::Set { limit, mine, task, attempt, period } => {
            let (scope, subject) = match (mine, task, attempt) {
                (_, Some(task), _) => (BudgetScope::Task, Some(task.to_string())),
                (_, _, Some(attempt)) => (BudgetScope::Attempt, Some(attempt.to_string())),
                (true, ..) => (BudgetScope::Person, None),
                (false, ..) => (BudgetScope::Organization, None),
            };
            let new = NewBudget { scope, subject, period, limit_usd: limit };
            let budget = client.set_budget(&new).await?;
            if output.is_json() {
                output.json(&budget)?;
            } else {
                output.line(table(&[budget]).render(output.out))?;
            }
        }
        Command::List => {
            let list = client.list_budgets().await?;
            if output.is_json() {
                output.json(&list)?;
            } else if list.items.is_empty() {
                output.note(
                    "There are no budgets. Set one by `boatyard budget set 50 --period month`.",
                );
            } else {
                output.line(table(&list.items).render(output.out))?;
            }
        }
        Command::Remove { id } => {
            client.remove_budget(id).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "budget": id, "removed": true }))?;
            } else {
                output.note(format!("Removed {id}."));
            }
        }
    }
    Ok(Exit::Done)
}

fn table(budgets: &[Budget]) -> Table {
    let mut table = Table::new(&["BUDGET", "FOR", "PERIOD", "LIMIT", "SPENT"], 1);
    for budget in budgets {
        let whose = match budget.scope {
            BudgetScope::Organization => "the organization".to_owned(),
            BudgetScope::Person => format!("person {}", clean_line(&budget.subject)),
            BudgetScope::Task => format!("task {}", clean_line(&budget.subject)),
            BudgetScope::Attempt => format!("attempt {}", clean_line(&budget.subject)),
        };
        let period = match budget.period {
            BudgetPeriod::Day => "day",
            BudgetPeriod::Month => "month",
            BudgetPeriod::Total => "in all",
        };
        let extra = match budget.extra_usd > 0.0 {
            true => format!(" + {}", dollars(budget.extra_usd)),
            false => String::new(),
        };
        table.row(vec![
            budget.id.to_string(),
            whose,
            period.to_owned(),
            format!("{}{extra}", dollars(budget.limit_usd)),
            dollars(budget.spent_usd),
        ]);
    }
    table
}
