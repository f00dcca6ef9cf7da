//! `boatyard task`

use anyhow::Result;
use boatyard_api::{
    model::{
        AttemptState,
        time::{Clock as _, SystemClock},
    },
    task::{Task, TaskFilter},
};

use super::{Context, stop};
use crate::{
    failure::Exit,
    ids,
    output::{Look, table::Table},
    text::{ago, clean_line, duration},
    watch::{compare, stat, task::mark},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List tasks, the newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those in this state: queued, preparing, running, waiting, succeeded, failed, cancelled
        #[arg(long)]
        state: Option<AttemptState>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show a task with its attempts
    Show {
        #[arg(help = ids::HELP)]
        id: String,
    },
    /// Cancel a task with all its attempts
    Cancel(stop::CancelArgs),
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { state, limit } => {
            let filter = TaskFilter { state, limit: Some(limit), ..TaskFilter::default() };
            let page = client.list_tasks(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["TASK", "STATE", "AGENT", "CREATED", "TITLE"], 4);
            let now = SystemClock.now();
            for task in &page.items {
                table.row(vec![
                    task.id.to_string(),
                    format!("{} {}", mark(task.state, output.out), task.state),
                    clean_line(&task.agent),
                    ago(task.created, now),
                    clean_line(&task.title),
                ]);
            }
            if table.is_empty() {
                output.note("There are no tasks yet. Begin one: boatyard run \"PROMPT\" --repo .");
            } else {
                output.line(table.render(output.out))?;
                if page.next_cursor.is_some() {
                    output
                        .note(format!("There are more; --limit shows up to 200 ({limit} shown)."));
                }
            }
        }
        Command::Show { id } => {
            let id = ids::task(client, &id).await?;
            let task = client.find_task(id).await?;
            if output.is_json() {
                output.json(&task)?;
            } else {
                output.line(describe(&task, output.out))?;
            }
        }
        Command::Cancel(args) => return stop::cancel(args, context).await,
    }
    Ok(Exit::Done)
}

fn describe(task: &Task, look: Look) -> String {
    let mut lines = vec![
        format!("task        {}", task.id),
        format!("title       {}", clean_line(&task.title)),
        format!("state       {} {}", mark(task.state, look), task.state),
        format!("agent       {}", clean_line(&task.agent)),
        format!("repository  {}", clean_line(&task.repository.source)),
        format!("created     {}", task.created),
    ];
    if task.attempts.len() > 1 {
        lines.push(format!("best        attempt {}: boatyard apply {}", task.best, task.id));
        lines.push(String::new());
        lines.push(compare::table(task, look, SystemClock.now()));
    }
    for attempt in &task.attempts {
        let took = match (attempt.started, attempt.ended) {
            (Some(started), Some(ended)) => format!("  {}", duration(ended.since(started))),
            _ => String::new(),
        };
        lines.push(String::new());
        let model = attempt.model.as_deref().map(|m| format!(" {}", clean_line(m)));
        let with = format!("{}{}", clean_line(&attempt.agent), model.unwrap_or_default());
        lines.push(look.bold(format!("attempt {}  {}{took}  {with}", attempt.n, attempt.state)));
        if let Some(session) = attempt.session {
            lines.push(format!("  session    {session}"));
        }
        if let Some(workspace) = attempt.workspace {
            lines.push(format!("  workspace  {workspace}"));
        }
        lines.push(format!("  branch     {}", clean_line(&attempt.branch)));
        for phase in &attempt.phases {
            let time = phase.millis.map_or("…".to_owned(), |millis| {
                duration(std::time::Duration::from_millis(millis))
            });
            let detail = phase.detail.as_deref().map(clean_line).unwrap_or_default();
            let name = clean_line(&phase.name);
            lines.push(look.dim(format!("  {name:<10} {time:>9}  {detail}")).trim_end().to_owned());
        }
        if let Some(reason) = &attempt.reason {
            lines.push(format!("  {}", clean_line(&reason.text)));
        }
        if let Some(result) = &attempt.result {
            lines.push(format!("  {}", stat::sum(result)));
            if let Some(check) = &result.check {
                let state = compare::check(attempt, look);
                lines.push(format!("  check {state}: {}", clean_line(&check.command)));
            }
            lines.extend(stat::diffstat(&result.files, look).iter().map(|line| format!(" {line}")));
        }
    }
    lines.join("\n")
}
