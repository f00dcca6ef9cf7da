//! `boatyard workspace`

use anyhow::Result;
use boatyard_api::{
    IdempotencyKey, Revision,
    model::{
        Visibility, WorkspaceState,
        time::{Clock as _, SystemClock},
    },
    workspace::{ForkRequest, NewWorkspace, Workspace, WorkspaceFilter},
};

use super::{Context, exec};
use crate::{
    failure::Exit,
    ids,
    output::table::Table,
    text::{ago, bytes, clean_line},
    words,
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List workspaces, the newest first
    #[command(visible_alias = "ls")]
    List {
        /// Only those in this state: creating, awake, asleep, failed, deleted
        #[arg(long)]
        state: Option<WorkspaceState>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Show a workspace
    Show(Id),
    /// Make a workspace
    Create {
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        /// A repository to check out: owner/repo, an address, or an id
        #[arg(long, value_name = "REPOSITORY")]
        repo: Option<String>,
        /// The branch or commit where the checkout begins
        #[arg(long, value_name = "REVISION", requires = "repo")]
        base: Option<Revision>,
        /// What it may reach beside what every workspace may: presets or rules, as
        /// github-fetch,api.example.com; see `boatyard egress presets`
        #[arg(long, value_name = "PRESET|RULE")]
        egress: Vec<String>,
        /// Who may see it: private, visible or open; as the organization says if absent
        #[arg(long, value_name = "WHO")]
        visibility: Option<Visibility>,
    },
    /// Run a command in a workspace
    Exec(exec::ExecArgs),
    /// Wake a workspace
    Start(Id),
    /// End every process of a workspace; its files stay
    Stop(Id),
    /// Make another workspace with the same files
    Fork {
        #[command(flatten)]
        id: Id,
        /// A name for the new one
        #[arg(long)]
        name: Option<String>,
    },
    /// Freeze the files of a workspace as a layer
    Snapshot(Id),
    /// Delete a workspace with its files and sessions
    #[command(visible_alias = "rm")]
    Delete(Id),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Id {
    /// A workspace or a task: an id, a unique part of it, or @last
    id: String,
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    match command {
        Command::List { state, limit } => {
            let filter = WorkspaceFilter { state, limit: Some(limit), cursor: None };
            let page = client.list_workspaces(&filter).await?;
            if output.is_json() {
                output.json(&page)?;
                return Ok(Exit::Done);
            }
            let mut table =
                Table::new(&["WORKSPACE", "STATE", "ISOLATION", "DISK", "USED", "NAME OR TASK"], 5);
            let now = SystemClock.now();
            for item in &page.items {
                let name = item.name.as_deref().map(clean_line);
                table.row(vec![
                    item.id.to_string(),
                    item.state.to_string(),
                    item.isolation.clone().unwrap_or_default(),
                    bytes(item.disk_bytes),
                    ago(item.used, now),
                    name.or(item.task.map(|task| task.to_string())).unwrap_or_default(),
                ]);
            }
            if table.is_empty() {
                output.note("There are no such workspaces.");
            } else {
                output.line(table.render(output.out))?;
            }
            Ok(Exit::Done)
        }
        Command::Create { name, repo, base, egress, visibility } => {
            let order = NewWorkspace {
                name,
                repository: repo,
                base,
                limits: None,
                egress: words::rules(egress),
                visibility,
            };
            let key = IdempotencyKey::random();
            show(&client.create_workspace(&order, Some(&key)).await?, context)
        }
        Command::Exec(args) => exec::exec(args, context).await,
        Command::Show(id) => {
            let id = ids::workspace(client, &id.id).await?;
            show(&client.find_workspace(id).await?, context)
        }
        Command::Start(id) => {
            let id = ids::workspace(client, &id.id).await?;
            show(&client.start_workspace(id).await?, context)
        }
        Command::Stop(id) => {
            let id = ids::workspace(client, &id.id).await?;
            show(&client.stop_workspace(id).await?, context)
        }
        Command::Fork { id, name } => {
            let id = ids::workspace(client, &id.id).await?;
            let request = ForkRequest { name, at: None };
            let key = IdempotencyKey::random();
            show(&client.fork_workspace(id, &request, Some(&key)).await?, context)
        }
        Command::Snapshot(id) => {
            let id = ids::workspace(client, &id.id).await?;
            let snapshot = client.snapshot_workspace(id).await?;
            if output.is_json() {
                output.json(&snapshot)?;
            } else {
                output.line(format!("{}  {} ms", snapshot.id, snapshot.millis))?;
            }
            Ok(Exit::Done)
        }
        Command::Delete(id) => {
            let id = ids::workspace(client, &id.id).await?;
            client.delete_workspace(id).await?;
            if output.is_json() {
                output.json(&serde_json::json!({ "workspace": id, "deleted": true }))?;
            } else {
                output.note(format!("Deleted {id}."));
            }
            Ok(Exit::Done)
        }
    }
}

fn show(workspace: &Workspace, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    if output.is_json() {
        output.json(workspace)?;
        return Ok(Exit::Done);
    }
    let mut lines = vec![
        format!("workspace  {}", workspace.id),
        format!("state      {}", workspace.state),
        format!(
            "runtime    {} ({})",
            workspace.runtime,
            workspace.isolation.as_deref().unwrap_or("not started yet")
        ),
        format!(
            "limits     {} of memory, {} processes, {} of disk",
            bytes(workspace.limits.memory_bytes),
            workspace.limits.processes,
            bytes(workspace.limits.disk_bytes)
        ),
        format!("disk       {}", bytes(workspace.disk_bytes)),
        format!("created    {}", workspace.created),
    ];
    if let Some(name) = &workspace.name {
        lines.insert(1, format!("name       {}", clean_line(name)));
    }
    if let Some(task) = workspace.task {
        lines.push(format!("task       {task}"));
    }
    if let Some(folder) = &workspace.folder {
        lines.push(format!("checkout   /work/{}", clean_line(folder)));
    }
    if workspace.recovered {
        lines.push("recovered  from its last checkpoint, after a crash of the host".to_owned());
    }
    if let Some(reason) = &workspace.reason {
        lines.push(format!("why        {}", clean_line(&reason.text)));
    }
    output.line(lines.join("\n"))?;
    Ok(Exit::Done)
}
