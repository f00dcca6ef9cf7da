//! What is installed of agents, and the entries that people add. Both are the server's own, for every
//! organization; what an organization sets for an agent is in [`settings`](super::settings).

use std::time::Duration;

use boatyard_agent::catalogue::{Entry, Install, Protocol};
use boatyard_api::{
    Problem,
    agent::{Agent, AgentCheck, AgentEntry, InstallAgent, Tool, ToolState},
};
use boatyard_model::{ToolId, name::AgentName};
use boatyard_store::{Again, BUILT_IN_ORGANIZATION, Owner, ToolKind, ToolRow};

use super::super::store_problem;
use crate::{
    agents::View,
    app::App,
    auth::Caller,
    jobs::install::{self, recipe::Recipe, trial},
};

/// How long an agent that is tried may take to come up, with its workspace.
const CHECK: Duration = Duration::from_secs(240);
/// How long somebody waits for news of an installation.
const NEWS: Duration = Duration::from_secs(25);
/// How many models an error names.
const NAMED: usize = 8;

/// One agent.
///
/// # Errors
/// When there is none of this name.
pub async fn find_agent(app: &App, caller: &Caller, name: &AgentName) -> Result<Agent, Problem> {
    let all = super::list_agents(app, caller).await?;
    all.into_iter().find(|agent| agent.name == name.as_str()).ok_or_else(|| unknown(app, name))
}

/// Installs an agent, or finds it installed: the tool, on its way or ready.
///
/// # Errors
/// When it is not known, needs no installation, or a package is not one.
pub async fn install_agent(
    app: &App,
    caller: &Caller,
    name: &AgentName,
    request: InstallAgent,
) -> Result<Tool, Problem> {
    let entry = entry(app, name)?;
    let recipe = Recipe::of(&entry, &request.packages)
        .map_err(|reason| Problem::invalid("packages", reason))?
        .ok_or_else(|| nothing_to_install(name, &entry))?;
    let again = if request.force { Again::Yes } else { Again::No };
    let wished =
        install::wish(app, Owner::BUILT_IN, ToolKind::Agent, name.as_str(), &recipe, again).await;
    let id = wished.map_err(store_problem)?;
    find_tool(app, caller, name, id).await
}

/// The installed versions of an agent, the newest first.
///
/// # Errors
/// When there is no such agent.
pub async fn list_tools(app: &App, _: &Caller, name: &AgentName) -> Result<Vec<Tool>, Problem> {
    let view = app.agents.view();
    let entry = view.catalogue.get(name).ok();
    let tools = tools(&view, name, entry);
    if tools.is_empty() && entry.is_none() && !view.broken.contains_key(name.as_str()) {
        return Err(unknown(app, name));
    }
    Ok(tools)
}

/// One installed version.
///
/// # Errors
/// When there is none.
pub async fn find_tool(
    app: &App,
    caller: &Caller,
    name: &AgentName,
    id: ToolId,
) -> Result<Tool, Problem> {
    let mut all = list_tools(app, caller, name).await?.into_iter();
    all.find(|tool| tool.id == id).ok_or_else(|| Problem::not_found("installed tool", id))
}

/// One installed version, when it stands elsewhere than `unlike` says, or after a while.
///
/// # Errors
/// When there is none.
pub async fn await_tool(
    app: &App,
    caller: &Caller,
    name: &AgentName,
    id: ToolId,
    unlike: &str,
) -> Result<Tool, Problem> {
    let mut views = app.agents.watch();
    let until = tokio::time::Instant::now() + NEWS;
    loop {
        // Marked as seen before it is read: a change in between is not missed.
        views.mark_unchanged();
        let tool = find_tool(app, caller, name, id).await?;
        if tool.standing() != unlike {
            return Ok(tool);
        }
        let news = tokio::select! {
            () = app.stopping.cancelled() => return Ok(tool),
            news = tokio::time::timeout_at(until, views.changed()) => news,
        };
        if !matches!(news, Ok(Ok(()))) {
            return Ok(tool);
        }
    }
}

/// Removes an installed version that nothing uses.
///
/// # Errors
/// When there is none, or a session that has not ended uses it.
pub async fn remove_tool(
    app: &App,
    caller: &Caller,
    name: &AgentName,
    id: ToolId,
) -> Result<(), Problem> {
    let tool = find_tool(app, caller, name, id).await?;
    let removed = app
        .store
        .write(move |tx| Box::pin(tx.delete_tool_if_unused(id)))
        .await
        .map_err(store_problem)?;
    app.agents.refresh(&app.store).await.map_err(store_problem)?;
    if !removed {
        let detail = format!(
            "{name} {} is used by a session that has not ended, or by another tool",
            tool.version
        );
        return Err(Problem::conflict(detail).with_next(
            "End the sessions that use it (`boatyard session list` names them, deleting a \
             workspace ends its own), then remove it.",
        ));
    }
    install::sweep_deleted(app)
        .await
        .map_err(|error| Problem::internal(error.into_boxed_dyn_error()))
}

/// Starts an agent once and keeps what it was found to take.
///
/// # Errors
/// When it can't be started, with its reason.
pub async fn check_agent(app: &App, _: &Caller, name: &AgentName) -> Result<AgentCheck, Problem> {
    let entry = entry(app, name)?;
    let tool = app.agents.tool_for(name, &entry, None);
    if Recipe::of(&entry, &[]).ok().flatten().is_some() && tool.is_none() {
        return Err(Problem::agent_unusable(format!("agent `{name}` is not installed"))
            .with_next(format!("run `boatyard agent install {name}`")));
    }
    if entry.protocol != Protocol::Acp {
        let detail = format!("agent `{name}` speaks no protocol by which it could be asked");
        return Err(Problem::agent_unusable(detail)
            .with_next(format!("A task tries it: `boatyard run \"…\" --repo . --agent {name}`.")));
    }
    let tried = tokio::time::timeout(CHECK, async {
        let _place = app.agents.build().await;
        trial::offers(app, name, &entry, tool.as_ref()).await
    });
    let offers = tried
        .await
        .map_err(|_| {
            Problem::timeout(format!("agent `{name}` did not come up in {} s", CHECK.as_secs()))
        })?
        .map_err(|reason| {
            // What a task's transcript advises is what was just done.
            let told: Vec<&str> =
                reason.text.lines().filter(|line| !line.contains("boatyard agent check")).collect();
            Problem::agent_unusable(told.join("\n")).with_next(format!(
                "`boatyard agent show {name}` tells how it is started; `boatyard agent install {name} \
                 --force` installs it anew, `boatyard agent add {name}` changes its command."
            ))
        })?;
    if let Some(tool) = &tool {
        let (id, found) = (tool.id, offers.clone());
        app.store
            .write(move |tx| Box::pin(async move { tx.set_tool_offers(id, &found).await }))
            .await
            .map_err(store_problem)?;
        app.agents.refresh(&app.store).await.map_err(store_problem)?;
    }
    Ok(AgentCheck { agent: name.to_string(), version: tool.map(|tool| tool.version), offers })
}

/// Adds an agent to the catalogue, or changes one.
///
/// # Errors
/// When the entry makes no sense, with the key and the reason.
pub async fn put_agent(
    app: &App,
    caller: &Caller,
    name: &AgentName,
    entry: AgentEntry,
) -> Result<Agent, Problem> {
    let value = serde_json::Value::Object(entry.0);
    let whole =
        app.agents.with_entry(name, &value).map_err(|error| Problem::invalid("entry", error))?;
    Recipe::of(&whole, &[]).map_err(|reason| Problem::invalid("entry.install.packages", reason))?;
    let (owner, key, text) = (Owner::BUILT_IN, name.to_string(), value.to_string());
    app.store
        .write(move |tx| Box::pin(tx.put_agent_entry(owner, key, text)))
        .await
        .map_err(store_problem)?;
    app.agents.refresh(&app.store).await.map_err(store_problem)?;
    find_agent(app, caller, name).await
}

/// Takes an added agent, or the changes to one, out of the catalogue. What was installed of an agent
/// that is then unknown goes with it.
///
/// # Errors
/// When it was not added, or a session that has not ended uses it.
pub async fn remove_agent(app: &App, caller: &Caller, name: &AgentName) -> Result<(), Problem> {
    let view = app.agents.view();
    let is_added = view.added.contains(name) || view.broken.contains_key(name.as_str());
    if !is_added {
        entry(app, name)?;
        let detail = format!("agent `{name}` is part of Boatyard or of boatyard.toml");
        return Err(Problem::conflict(detail).with_next(format!(
            "`boatyard agent remove {name}` removes what is installed of it; [agents.{name}] is \
             removed from boatyard.toml by hand."
        )));
    }
    if !app.agents.is_given(name) {
        for tool in list_tools(app, caller, name).await? {
            remove_tool(app, caller, name, tool.id).await?;
        }
    }
    let key = name.to_string();
    app.store
        .write(move |tx| Box::pin(tx.remove_agent_entry(BUILT_IN_ORGANIZATION, key)))
        .await
        .map_err(store_problem)?;
    app.agents.refresh(&app.store).await.map_err(store_problem)
}

/// Refuses a model that the agent, when it was last checked, did not name. Where nothing is known,
/// or the agent takes models by their name alone, any will do.
///
/// # Errors
/// The unknown model, with those that are near to it.
pub(crate) fn check_model(app: &App, name: &AgentName, model: &str) -> Result<(), Problem> {
    let entry = entry(app, name)?;
    let own = [entry.model.as_deref(), entry.demo_model.as_deref()];
    if model == crate::providers::DEMO_MODEL
        || own.contains(&Some(model))
        || !entry.model_args.is_empty()
    {
        return Ok(());
    }
    let Some(offers) = app.agents.tool_for(name, &entry, None).and_then(|tool| tool.offers) else {
        return Ok(());
    };
    let known: Vec<&str> = offers.models.iter().map(|model| model.id.as_str()).collect();
    if known.is_empty() || known.iter().any(|known| is_meant(model, known)) {
        return Ok(());
    }
    let detail = format!(
        "agent `{name}` has no model `{model}`; it has {}",
        nearest(model, known).join(", ")
    );
    Err(Problem::invalid("model", detail)
        .with_next(format!("`boatyard agent show {name}` lists its models.")))
}

/// Whether a model may be one that an agent lists: it lists that very name, or a short one of it
/// (`opus` for `claude-opus-5-5`, `default` for none), which it takes as well.
fn is_meant(model: &str, known: &str) -> bool {
    let mut parts = model.split(['-', '/', '.', ':', '@', '_']);
    model == known || parts.any(|part| part == known)
}

/// The names that are nearest to one, the nearest first.
fn nearest<'a>(wanted: &str, mut known: Vec<&'a str>) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    known.sort_by_cached_key(|known| {
        let known = known.to_lowercase();
        let is_part = known.contains(&wanted) || wanted.contains(&known);
        (!is_part, distance(&wanted, &known))
    });
    known.truncate(NAMED);
    known
}

/// How many characters must be changed, added or left out (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in b.iter().enumerate() {
            let changed = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j].min(corner) + 1);
        }
    }
    row[b.len()]
}

/// What is known of an agent's installed versions, the newest first.
pub(super) fn tools(view: &View, name: &AgentName, entry: Option<&Entry>) -> Vec<Tool> {
    let used = entry.and_then(|entry| view.tool_for(name, entry, None)).map(|tool| tool.id);
    view.of(name).rev().map(|row| tool(view, row, used == Some(row.id))).collect()
}

fn tool(view: &View, row: &ToolRow, used: bool) -> Tool {
    let recipe = Recipe::parse(&row.recipe).ok();
    let node = view.tools.iter().find(|node| Some(node.id) == row.node);
    Tool {
        id: row.id,
        agent: row.name.clone(),
        version: row.version.clone(),
        packages: recipe.map(|recipe| recipe.packages).unwrap_or_default(),
        node: node.map(|node| node.version.clone()),
        state: match row.state {
            boatyard_store::ToolState::Installing => ToolState::Installing,
            boatyard_store::ToolState::Ready => ToolState::Ready,
            boatyard_store::ToolState::Failed => ToolState::Failed,
            boatyard_store::ToolState::Deleted => ToolState::Deleted,
        },
        phase: row.phase.clone(),
        reason: row.reason.clone(),
        used,
        bytes: row.bytes,
        created: row.created,
        ready: row.ready,
        offers: row.offers.clone(),
    }
}

fn entry(app: &App, name: &AgentName) -> Result<Entry, Problem> {
    let view = app.agents.view();
    if let Some(reason) = view.broken.get(name.as_str()) {
        return Err(Problem::agent_unusable(reason.clone()).with_next(mend_entry(name.as_str())));
    }
    view.catalogue.get(name).cloned().map_err(|_| unknown(app, name))
}

/// What mends an added entry that makes no sense.
pub(super) fn mend_entry(name: &str) -> String {
    format!("run `boatyard agent add {name}` with a valid entry, or `boatyard agent remove {name}`")
}

pub(super) fn unknown(app: &App, name: &AgentName) -> Problem {
    Problem::not_found("agent", name).with_next(what_there_is(app, name))
}

/// The agents that there are, for somebody who named another: the one that was meant first.
pub(super) fn what_there_is(app: &App, name: &AgentName) -> String {
    let catalogue = app.agents.current();
    let known: Vec<&str> = catalogue.iter().map(|(name, _)| name.as_str()).collect();
    let all = format!("There is {}; `boatyard agent add` adds another.", known.join(", "));
    let meant = known.into_iter().map(|known| (distance(name.as_str(), known), known)).min();
    match meant {
        Some((far, known)) if far * 3 <= known.len() => format!("Did you mean `{known}`? {all}"),
        _ => all,
    }
}

fn nothing_to_install(name: &AgentName, entry: &Entry) -> Problem {
    match &entry.install {
        Install::Host { program } => Problem::conflict(format!(
            "agent `{name}` is not installed by Boatyard: it is the `{program}` of this machine"
        ))
        .with_next(format!(
            "Install `{program}` below /usr on this machine, or name its folder under `[tools] \
             paths` in boatyard.toml."
        )),
        _ => Problem::conflict(format!("agent `{name}` needs no installation"))
            .with_next(format!("It is part of Boatyard: `boatyard run \"…\" --agent {name}`.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
        let known = vec!["haiku", "claude-opus-5", "sonnet", "opus"];
        assert_eq!(nearest("sonet", known.clone())[0], "sonnet");
        assert_eq!(nearest("Opus", known)[..2], ["opus", "claude-opus-5"]);
    }

    #[test]
    fn a_listed_name_stands_for_its_longer_ones() {
        for (model, known, meant) in [
            ("opus", "opus", true),
            ("claude-opus-5-5-20260801", "opus", true),
            ("anthropic/sonnet", "sonnet", true),
            ("gpt-5.5", "gpt-5", false),
            ("opusculum", "opus", false),
        ] {
            assert_eq!(is_meant(model, known), meant, "{model} {known}");
        }
    }
}
