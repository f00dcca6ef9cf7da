//! `boatyard run`: a task from order to result.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boatyard_api::{
    Client, IdempotencyKey, Revision,
    blob::BLOB_MAX,
    model::{
        AgentSettings, Autonomy, BlobId, Visibility,
        agent::McpServer,
        name::{AgentName, EnvironmentName},
    },
    task::{AgentChoice, IMAGES_MAX, NewTask, PROMPT_MAX, Priority, Push, TaskLimitsWanted},
};
use boatyard_server::settings::Span;

use super::Context;
use crate::{
    checkout::{
        Checkout,
        send::{self, Dirty, Sent},
    },
    failure::{Exit, Failure},
    text,
    watch::task,
    words,
};

/// Gives an agent a task and shows it at work, from order to diff.
///
/// Ctrl-C detaches: the task goes on, and `boatyard attach` follows it again. Ends with 0 if the
/// task succeeded, 1 if not, 5 if it waits for a person and nobody can answer here.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    boatyard run \"make hello.txt with a greeting in it\" --repo .\n  \
    boatyard run \"fix issue 12\" --repo owner/name --agent claude,codex --attempts 2\n  \
    git diff | boatyard run - --repo . --detach")]
pub(crate) struct Args {
    /// What is to be done; `-` reads it from standard input
    prompt: String,
    /// A folder here, owner/repo, or an https:// or ssh:// address
    #[arg(long, value_name = "REPOSITORY", default_value = ".")]
    repo: String,
    /// The agent, or several to race, each with its model if you like: claude,codex:gpt-5.5; see
    /// `boatyard agent list`
    #[arg(long = "agent", value_name = "AGENT", value_delimiter = ',', value_parser = words::choice)]
    agents: Vec<AgentChoice>,
    /// The model of those that have none of their own; as set, or the agent's own choice, if absent
    #[arg(long)]
    model: Option<String>,
    /// One of the agent's own modes
    #[arg(long)]
    mode: Option<String>,
    /// An MCP server for the agent: NAME=COMMAND, NAME=https://ADDRESS, or NAME=off
    #[arg(long = "mcp", value_name = "NAME=COMMAND", value_parser = words::server)]
    mcp: Vec<(String, McpServer)>,
    /// A file with what is said to the agent before the prompt
    #[arg(long, value_name = "FILE")]
    instructions: Option<String>,
    /// A picture to go with the prompt; may be given several times
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// How many attempts to make with each agent, each on its own; at most 8 in all
    #[arg(long, value_name = "N")]
    attempts: Option<u32>,
    /// The branch or commit where work begins; what is checked out, or the default branch
    #[arg(long, value_name = "REVISION")]
    base: Option<String>,
    /// The environment: NAME of .boatyard/environments/NAME.toml in the repository
    #[arg(long = "env", value_name = "NAME")]
    environment: Option<EnvironmentName>,
    /// How much the agent may do without asking; as the server's settings say if absent
    #[arg(long, value_name = "HOW", value_parser = ["ask", "ask_changes", "free"])]
    autonomy: Option<String>,
    /// Which of what the organization has queued goes first: low, normal or high
    #[arg(long, value_name = "HOW", value_parser = priority)]
    priority: Option<Priority>,
    /// A line for lists; the prompt's first line if absent
    #[arg(long)]
    title: Option<String>,
    /// How long an attempt may take, such as 30min
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    time_limit: Option<u32>,
    /// How long the setup may take, such as 10min
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    setup_timeout: Option<u32>,
    /// What an attempt may cost in US dollars
    #[arg(long, value_name = "DOLLARS")]
    cost_limit: Option<f64>,
    /// Send changes that are in no commit as well; branch and index stay as they are
    #[arg(long)]
    include_dirty: bool,
    /// The folder that --repo names is on the server's machine
    #[arg(long, conflicts_with = "include_dirty")]
    on_server: bool,
    /// Whether the result is pushed to the origin: where it lets us write, or never
    #[arg(long, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "never"])]
    push: String,
    /// What its workspaces may reach beside what they may all: presets or rules, as
    /// github-fetch,api.example.com; see `boatyard egress presets`
    #[arg(long, value_name = "PRESET|RULE")]
    egress: Vec<String>,
    /// Who may see it: private, visible or open; as the organization says if absent
    #[arg(long, value_name = "WHO")]
    visibility: Option<Visibility>,
    /// Don't watch: print the task's id and end
    #[arg(short, long)]
    detach: bool,
}

fn seconds(text: &str) -> Result<u32, String> {
    let span = Span::parse(text).ok_or("expected a span of time such as 90s, 10min or 4h")?;
    Ok(span.seconds_u32())
}

fn priority(text: &str) -> Result<Priority, String> {
    serde_json::from_value(text.into()).map_err(|_| "it is low, normal or high".to_owned())
}

pub(crate) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let prompt = read_prompt(&args.prompt)?;
    let (repository, base) = repository(&args, context).await?;
    let images = upload_images(client, &args.images).await?;
    let autonomy = args.autonomy.as_deref().map(str::parse::<Autonomy>).transpose()?;
    let settings = AgentSettings {
        mode: args.mode,
        mcp_servers: args.mcp.into_iter().collect(),
        instructions: args.instructions.as_deref().map(words::file).transpose()?,
        ..AgentSettings::default()
    };
    let (agent, model, agents) = chosen(args.agents, args.model);
    let limits = TaskLimitsWanted {
        time: args.time_limit,
        setup_time: args.setup_timeout,
        cost_usd: args.cost_limit,
    };
    let order = NewTask {
        prompt,
        repository,
        agent,
        agents,
        settings: (!settings.is_empty()).then_some(settings),
        base,
        model,
        environment: args.environment,
        autonomy,
        images,
        attempts: args.attempts,
        priority: args.priority,
        title: args.title,
        limits: (limits != TaskLimitsWanted::default()).then_some(limits),
        workspace_limits: None,
        push: if args.push == "never" { Push::Never } else { Push::Auto },
        egress: words::rules(args.egress),
        visibility: args.visibility,
    };
    // The same order twice, should the connection break, is one task.
    let key = IdempotencyKey::random();
    let created = match client.create_task(&order, Some(&key)).await {
        Err(error @ boatyard_api::Error::Unreachable { .. }) => {
            output.detail(format!("{error}; trying once more"));
            client.create_task(&order, Some(&key)).await?
        }
        result => result?,
    };
    if args.detach {
        if output.is_json() {
            output.json(&created)?;
        } else {
            output.line(created.id.to_string())?;
            output.note(format!("Watch it: boatyard attach {}", created.id));
        }
        return Ok(Exit::Done);
    }
    output.note(format!(
        "{} {} {}",
        output.err.bold(format!("Task {}", created.id)),
        output.err.dim("with"),
        output.err.name(&created.agent)
    ));
    let (done, exit) = task::follow(client, output, created).await?;
    if output.is_json() {
        output.json(&done)?;
    } else if matches!(exit, Exit::Done | Exit::Failed) {
        output.line(task::ending(&done, output.out).join("\n"))?;
        output.note(task::next_steps(&done));
    }
    Ok(exit)
}

/// The agent and its model, or several; `model` is for those that have none of their own.
fn chosen(
    mut agents: Vec<AgentChoice>,
    model: Option<String>,
) -> (Option<AgentName>, Option<String>, Vec<AgentChoice>) {
    for choice in &mut agents {
        choice.model = choice.model.take().or_else(|| model.clone());
    }
    match agents.len() {
        0 => (None, model, agents),
        1 => {
            let only = agents.remove(0);
            (Some(only.agent), only.model, agents)
        }
        _ => (None, None, agents),
    }
}

/// The prompt as it was typed, or from standard input.
pub(crate) fn read_prompt(text: &str) -> Result<String> {
    let prompt = match text {
        "-" => std::io::read_to_string(std::io::stdin()).context("the prompt can't be read")?,
        text => text.to_owned(),
    };
    if prompt.trim().is_empty() {
        return Err(Failure::usage("the prompt is empty")
            .next("say what is to be done: boatyard run \"PROMPT\" --repo .")
            .into());
    }
    if prompt.len() > PROMPT_MAX {
        return Err(Failure::usage(format!(
            "the prompt has {}, and {} is the most",
            text::bytes(prompt.len() as u64),
            text::bytes(PROMPT_MAX as u64)
        ))
        .next("put the long part into a file of the repository and name it in the prompt")
        .into());
    }
    Ok(prompt)
}

/// Uploads pictures as blobs.
pub(crate) async fn upload_images(client: &Client, paths: &[PathBuf]) -> Result<Vec<BlobId>> {
    if paths.len() > IMAGES_MAX {
        return Err(
            Failure::usage(format!("at most {IMAGES_MAX} pictures go with a prompt")).into()
        );
    }
    let mut blobs = Vec::new();
    for path in paths {
        let bytes = std::fs::read(path).map_err(|error| {
            Failure::usage(format!("{} can't be read", path.display())).because(error)
        })?;
        if bytes.len() as u64 > BLOB_MAX {
            let message = format!("{} is larger than {}", path.display(), text::bytes(BLOB_MAX));
            return Err(Failure::usage(message).next("make the picture smaller").into());
        }
        let mime = picture(&bytes).ok_or_else(|| {
            Failure::usage(format!("{} is no picture that agents take", path.display()))
                .next("convert it to PNG, JPEG, GIF or WebP")
        })?;
        blobs.push(client.create_blob(mime, bytes).await?.id);
    }
    Ok(blobs)
}

/// The kind of a picture, by how it begins.
fn picture(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The repository as the server takes it, and where work begins.
async fn repository(args: &Args, context: &Context<'_>) -> Result<(String, Option<Revision>)> {
    let given = args.base.as_deref().map(str::parse::<Revision>).transpose();
    let wanted = || given.clone().map_err(|error| Failure::usage(error.to_string()));
    if args.on_server {
        let path = std::path::absolute(&args.repo).context("--repo can't be read")?;
        return Ok((path.to_string_lossy().into_owned(), wanted()?));
    }
    let Some(path) = local(&args.repo) else {
        if args.include_dirty {
            return Err(
                Failure::usage("--include-dirty goes with a folder here, not an address").into()
            );
        }
        return Ok((args.repo.clone(), wanted()?));
    };
    let checkout = Checkout::find(&path).await?;
    let dirty = if args.include_dirty { Dirty::Include } else { Dirty::LeaveOut };
    let Sent { repository, base } =
        send::send(&context.client, context.output, &checkout, args.base.as_deref(), dirty).await?;
    Ok((repository.to_string(), Some(Revision::Commit(base))))
}

/// The folder that is meant; none if it is an address or an id.
fn local(text: &str) -> Option<PathBuf> {
    if let Some(rest) = text.strip_prefix("~/") {
        return std::env::var_os("HOME").map(|home| Path::new(&home).join(rest));
    }
    let looks_so = text == "." || text == ".." || text.starts_with(['/', '.']);
    let is_address = text.contains("://") || text.starts_with("rep_");
    let path = Path::new(text);
    (looks_so || (!is_address && path.is_dir())).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_known_by_how_they_begin() {
        assert_eq!(picture(b"\x89PNG\r\n\x1a\n"), Some("image/png"));
        assert_eq!(picture(b"RIFF\x00\x00\x00\x00WEBPVP8 "), Some("image/webp"));
        assert_eq!(picture(b"#!/bin/sh"), None);
        assert_eq!(picture(b""), None);
    }

    #[test]
    fn folders_and_addresses_are_told_apart() {
        assert!(local(".").is_some() && local("/srv/x").is_some() && local("../x").is_some());
        assert!(local("rust-lang/log").is_none());
        assert!(local("https://example.com/a").is_none());
        assert!(local("git@example.com:a/b.git").is_none());
        assert!(local("src").is_some(), "a folder that is there is meant");
    }

    #[test]
    fn a_model_is_for_those_that_have_none_of_their_own() {
        let all = |text: &str| text.split(',').map(|one| words::choice(one).unwrap()).collect();
        let (agent, model, several) = chosen(all("claude"), Some("m".into()));
        assert_eq!((agent.unwrap().as_str(), model.as_deref()), ("claude", Some("m")));
        assert!(several.is_empty());
        let (agent, model, several) = chosen(all("claude,codex:gpt"), Some("m".into()));
        assert_eq!((agent, model), (None, None));
        assert_eq!(several[0].model.as_deref(), Some("m"));
        assert_eq!(several[1].model.as_deref(), Some("gpt"));
    }

    #[test]
    fn an_empty_or_enormous_prompt_is_refused() {
        assert!(read_prompt(" \n").is_err());
        assert!(read_prompt(&"x".repeat(PROMPT_MAX + 1)).is_err());
        assert_eq!(read_prompt("do it").unwrap(), "do it");
    }
}
