//! `boatyard agent install`: what is asked for, and what is shown until it is done.
//!
//! The installation is the server's: who watches may go, and it goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use boatyard_api::{
    Client,
    agent::{InstallAgent, Tool, ToolState},
    model::name::AgentName,
};
use tokio::sync::mpsc;

use super::{super::Context, show};
use crate::{
    failure::{Exit, Failure},
    output::{Output, Verbosity},
    text::{bytes, clean, clean_line, duration},
    watch::screen::Screen,
};

/// How often the time that passed is drawn anew.
const TICK: Duration = Duration::from_millis(250);
/// How long to wait before a server that could not be reached is asked again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agents
    #[arg(required = true, value_name = "NAME")]
    names: Vec<AgentName>,
    /// Another version of one of its packages, or a further package
    #[arg(long = "package", value_name = "NAME@VERSION")]
    packages: Vec<String>,
    /// Install it anew although it is there
    #[arg(long)]
    force: bool,
    /// Return at once; `boatyard agent show` tells where it stands
    #[arg(long)]
    detach: bool,
}

/// One installation, as it is watched.
struct Watched {
    name: AgentName,
    tool: Tool,
    /// It was there before anybody asked.
    there: bool,
    /// When this phase was first seen.
    since: Instant,
}

impl Watched {
    fn is_under_way(&self) -> bool {
        self.tool.state == ToolState::Installing
    }

    fn take(&mut self, tool: Tool) {
        if tool.phase != self.tool.phase {
            self.since = Instant::now();
        }
        self.tool = tool;
    }
}

pub(super) async fn run(args: Args, context: &Context<'_>) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    if args.names.len() > 1 && !args.packages.is_empty() {
        return Err(Failure::usage("--package goes with one agent at a time").into());
    }
    let began = Instant::now();
    let mut all = Vec::new();
    for name in args.names {
        let request = InstallAgent { packages: args.packages.clone(), force: args.force };
        let tool = client.install_agent(&name, &request).await?;
        let there = tool.state == ToolState::Ready;
        all.push(Watched { name, tool, there, since: Instant::now() });
    }
    if !args.detach && !watch(client, output, &mut all).await? {
        output.note("The installation goes on; `boatyard agent list` tells how it went.");
        return Ok(Exit::Interrupted);
    }
    if output.is_json() {
        let tools: Vec<&Tool> = all.iter().map(|one| &one.tool).collect();
        output.json(&serde_json::json!({ "items": tools }))?;
    }
    let mut exit = Exit::Done;
    for one in &all {
        if !told(output, one, began.elapsed())? {
            exit = Exit::Failed;
        }
    }
    if exit == Exit::Done && !args.detach && !output.is_json() {
        next(context, &all).await?;
    }
    Ok(exit)
}

/// Says how what was installed is used, or what it needs before that.
async fn next(context: &Context<'_>, all: &[Watched]) -> Result<()> {
    for one in all {
        let agent = context.client.find_agent(&one.name).await?;
        let name = &one.name;
        match (agent.ready, agent.demo) {
            (true, _) => {
                context.output.note(format!("\n  boatyard run \"…\" --repo . --agent {name}"));
            }
            (false, true) => context.output.note(format!(
                "\n  boatyard run \"…\" --repo . --agent {name} --model demo    try it without a key\n  \
                 boatyard agent show {name}    how to give it one"
            )),
            (false, false) => {}
        }
    }
    Ok(())
}

/// Shows what happens until all are done; `false` if somebody does not want to see it.
async fn watch(client: &Client, output: &Output, all: &mut [Watched]) -> Result<bool> {
    let (sender, mut news) = mpsc::channel(16);
    for (at, one) in all.iter().enumerate().filter(|(_, one)| one.is_under_way()) {
        let (client, name, mut tool) = (client.clone(), one.name.clone(), one.tool.clone());
        let sender = sender.clone();
        tokio::spawn(async move {
            while tool.state == ToolState::Installing {
                let standing = tool.standing();
                let next = client.await_tool(&name, tool.id, standing).await;
                match next {
                    Ok(next) => tool = next,
                    // A server that is started anew goes on with it.
                    Err(error) if error.is_transient() => {
                        tokio::time::sleep(AGAIN).await;
                        continue;
                    }
                    Err(error) => {
                        // Whoever watched may be gone.
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
                if sender.send(Ok((at, tool.clone()))).await.is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut screen = match output.verbosity {
        _ if output.is_json() => Screen::silent(output.err),
        Verbosity::Quiet => Screen::silent(output.err),
        _ => Screen::new(output.err),
    };
    let mut said = vec![None; all.len()];
    let mut tick = tokio::time::interval(TICK);
    loop {
        let under_way = || all.iter().enumerate().filter(|(_, one)| one.is_under_way());
        let mut lines = Vec::new();
        for (at, one) in under_way() {
            let now = phase(&one.tool);
            if said[at] != Some(now) && !screen.is_live() {
                lines.push(format!("{} {}: {now}", one.name, clean_line(&one.tool.version)));
            }
            said[at] = Some(now);
        }
        let live: Vec<String> = under_way()
            .map(|(_, one)| {
                let (version, now) = (clean_line(&one.tool.version), phase(&one.tool));
                let since = output.err.dim(duration(one.since.elapsed()));
                format!("{} {version}  {now}  {since}", one.name)
            })
            .collect();
        screen.show(&lines, &live);
        tokio::select! {
            _ = tick.tick() => {}
            next = news.recv() => match next {
                Some(next) => {
                    let (at, tool) = next?;
                    all[at].take(tool);
                }
                None => {
                    screen.clear();
                    return Ok(true);
                }
            },
            _ = tokio::signal::ctrl_c() => {
                screen.clear();
                return Ok(false);
            }
        }
    }
}

/// Says what came of one: whether it went well.
fn told(output: &Output, one: &Watched, took: Duration) -> Result<bool> {
    let (name, version) = (&one.name, clean_line(&one.tool.version));
    match one.tool.state {
        ToolState::Installing | ToolState::Ready if output.is_json() => {}
        ToolState::Installing => output.note(format!("{name} {version} is being installed.")),
        ToolState::Ready if one.there => {
            output.note(format!("{name} {version} is installed already."));
        }
        ToolState::Ready => {
            let size = bytes(one.tool.bytes);
            output.note(format!("{name} {version} is installed ({size}, {}).", duration(took)));
            match (&one.tool.reason, &one.tool.offers) {
                (Some(reason), _) => output.warning(clean(reason)),
                (None, Some(offers)) if !output.is_json() => {
                    output.note(format!("  {}", show::summary(offers)));
                }
                _ => {}
            }
        }
        ToolState::Failed | ToolState::Deleted => {
            let why = one.tool.reason.as_deref().unwrap_or("it was removed meanwhile");
            let text = format!("{name} {version} was not installed: {}", clean(why));
            output.error(&Failure::new(text).into(), None);
            return Ok(false);
        }
    }
    Ok(true)
}

/// What an installation does, in words.
fn phase(tool: &Tool) -> &'static str {
    match tool.phase.as_deref() {
        None => "waiting",
        Some("node") => "installing the Node that it runs on",
        Some("packages") => "installing packages",
        Some("check") => "checking what was installed",
        Some("keep") => "keeping it",
        Some("try") => "starting it once",
        Some(_) => "working",
    }
}
