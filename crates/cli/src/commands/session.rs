//! `boatyard session`

use anyhow::Result;
use boatyard_api::{
    model::{
        Autonomy, SessionState, Visibility,
        agent::Choice,
        time::{Clock as _, SystemClock},
    },
    session::{PaidBy, Session, SessionChange, SessionFilter},
};

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    output::table::Table,
    text::{ago, clean_line},
    watch::stat,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List sessions, the newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those in this state: starting, idle, running, waiting, ended
        #[arg(long)]
        state: Option<SessionState>,
        /// Only those of this workspace
        #[arg(long, value_name = "ID")]
        workspace: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show a session, with what waits for a person
    Show {
        #[arg(help = ids::HELP)]
        id: String,
    },
    /// Change how a session's agent works
    Set {
        #[arg(help = ids::HELP)]
        id: String,
        /// The model
        #[arg(long)]
        model: Option<String>,
        /// One of the agent's own modes
        #[arg(long)]
        mode: Option<String>,
        /// How much it may do without asking
        #[arg(long, value_name = "HOW", value_parser = ["ask", "ask_changes", "free"])]
        autonomy: Option<String>,
        /// Who may see it: private, visible or open
        #[arg(long, value_name = "WHO")]
        visibility: Option<Visibility>,
        /// The attempt, where ID is a task
        #[arg(long, value_name = "N")]
        attempt: Option<u32>,
    },
    /// End a session; its log stays
    End {
        #[arg(help = ids::HELP)]
        id: String,
    },
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { state, workspace, limit } => {
            let workspace = match workspace {
                Some(text) => Some(ids::workspace(client, &text).await?),
                None => None,
            };
            let filter = SessionFilter { workspace, state, limit: Some(limit), cursor: None };
            let page = client.list_sessions(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
                return Ok(Exit::Done);
            }
            let mut table = Table::new(&["SESSION", "STATE", "AGENT", "TURNS", "UPDATED"], 2);
            let now = SystemClock.now();
            for session in &page.items {
                table.row(vec![
                    session.id.to_string(),
                    session.state.to_string(),
                    clean_line(&session.agent),
                    session.turns.to_string(),
                    ago(session.updated, now),
                ]);
            }
            if table.is_empty() {
                output.note("There are no such sessions.");
            } else {
                output.line(table.render(output.out))?;
            }
        }
        Command::Show { id } => {
            let id = ids::session(client, &id, None).await?;
            let session = client.find_session(id).await?;
            if output.is_json() {
                output.json(&session)?;
            } else {
                output.line(describe(&session))?;
            }
        }
        Command::Set { id, model, mode, autonomy, visibility, attempt } => {
            let autonomy = autonomy.as_deref().map(str::parse::<Autonomy>).transpose()?;
            let change = SessionChange { mode, model, autonomy, visibility };
            if change == SessionChange::default() {
                return Err(Failure::usage("nothing is to be changed")
                    .next("name it: --model, --mode, --autonomy or --visibility")
                    .into());
            }
            let id = ids::session(client, &id, attempt).await?;
            let session = client.change_session(id, &change).await?;
            if output.is_json() {
                output.json(&session)?;
            } else {
                output.line(describe(&session))?;
            }
        }
        Command::End { id } => {
            let id = ids::session(client, &id, None).await?;
            client.delete_session(id).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "session": id, "ended": true }))?;
            } else {
                output.note(format!("Ended {id}."));
            }
        }
    }
    Ok(Exit::Done)
}

/// How many modes or models are named in a line.
const OTHERS: usize = 8;

/// What else an agent offers.
fn others(choices: &[Choice]) -> String {
    let shown = choices.iter().take(OTHERS).map(|choice| clean_line(&choice.id));
    let mut all: Vec<String> = shown.collect();
    if choices.len() > OTHERS {
        all.push(format!("{} more", choices.len() - OTHERS));
    }
    if all.is_empty() { String::new() } else { format!("  (of {})", all.join(", ")) }
}

/// What was chosen, and what the agent says that it uses where that is another.
fn chosen(chosen: Option<&String>, now: Option<&String>) -> Option<String> {
    match (chosen, now) {
        (Some(chosen), Some(now)) if chosen != now => {
            Some(format!("{}  (now {})", clean_line(chosen), clean_line(now)))
        }
        (chosen, now) => chosen.or(now).map(|text| clean_line(text)),
    }
}

fn describe(session: &Session) -> String {
    let mut lines = vec![
        format!("session    {}", session.id),
        format!("state      {}", session.state),
        format!("agent      {}", clean_line(&session.agent)),
        format!("workspace  {}", session.workspace),
        format!("folder     {}", clean_line(&session.cwd)),
        format!("turns      {}", session.turns),
    ];
    let offers = session.offers.clone().unwrap_or_default();
    if let Some(version) = &offers.version {
        lines.push(format!("version    {}", clean_line(version)));
    }
    // What the agent says of its model says nothing where a script answers in its place.
    let now = offers.model.as_ref().filter(|_| session.model.as_deref() != Some("demo"));
    if let Some(model) = chosen(session.model.as_ref(), now) {
        lines.push(format!("model      {model}{}", others(&offers.models)));
    }
    if let Some(mode) = chosen(session.settings.mode.as_ref(), offers.mode.as_ref()) {
        lines.push(format!("mode       {mode}{}", others(&offers.modes)));
    }
    if let Some(autonomy) = session.settings.autonomy {
        lines.push(format!("autonomy   {autonomy}"));
    }
    if let Some(task) = session.task {
        lines.push(format!("task       {task}"));
    }
    if let Some(usage) = stat::usage(&session.usage) {
        lines.push(format!("used       {usage}"));
    }
    if let Some(payer) = &session.payer {
        let provider = clean_line(&payer.provider);
        let who = match (payer.by, &payer.connection) {
            (PaidBy::Person, Some(name)) => {
                format!("its owner, by the connection {}", clean_line(name))
            }
            (PaidBy::Person, None) => "its owner".to_owned(),
            (PaidBy::Organization, _) => "the organization".to_owned(),
            (PaidBy::Nobody, _) => "nobody: it is scripted".to_owned(),
        };
        lines.push(format!("paid by    {who} ({provider})"));
    }
    for permission in &session.permissions {
        lines.push(format!("waits for  {}: {}", permission.id, clean_line(&permission.title)));
    }
    for question in &session.questions {
        lines.push(format!("waits for  {}: {}", question.id, clean_line(&question.text)));
    }
    lines.join("\n")
}
