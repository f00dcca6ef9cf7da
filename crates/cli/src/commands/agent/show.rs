//! What is known of one agent.

use anyhow::Result;
use boatyard_api::{
    agent::{Agent, AgentOrigin},
    model::agent::{AgentOffers, Choice, Steer},
};

use super::installed_line;
use crate::{
    output::Output,
    text::{clean_line, count},
};

/// How many modes or models are shown one under another.
const CHOICES: usize = 40;

pub(super) fn agent(output: &Output, agent: &Agent) -> Result<()> {
    let title = output.out.bold(clean_line(&agent.title));
    output.line(format!("{}  {title}", agent.name))?;
    if !agent.about.is_empty() {
        output.line(format!("  {}", clean_line(&agent.about)))?;
    }
    let origin = match agent.origin {
        AgentOrigin::BuiltIn => "part of Boatyard",
        AgentOrigin::Settings => "from boatyard.toml",
        AgentOrigin::Added => "added with `boatyard agent add`",
    };
    output.line(format!("  {} · {origin}", agent.protocol))?;
    match (&agent.reason, &agent.mend) {
        (None, _) => output.line(format!("  {}", output.out.good("ready")))?,
        (Some(reason), mend) => {
            output.line(format!("  {}: {}", output.out.warn("not ready"), clean_line(reason)))?;
            if let Some(mend) = mend {
                output.line(format!("    {}", clean_line(mend)))?;
            }
        }
    }
    if let Some(provider) = &agent.provider {
        output.line(format!("  models from {}", clean_line(provider)))?;
    }
    if !agent.command.is_empty() {
        output.line(format!("  started by {}", clean_line(&agent.command.join(" "))))?;
    }
    if !agent.packages.is_empty() {
        output.line(format!("  packages {}", clean_line(&agent.packages.join(" "))))?;
    }
    for tool in &agent.installed {
        output.line(format!("  {}", installed_line(output, tool)))?;
    }
    if let Some(found) = &agent.offers {
        offers(output, found)?;
    }
    Ok(())
}

pub(super) fn offers(output: &Output, offers: &AgentOffers) -> Result<()> {
    if let Some(version) = &offers.version {
        output.line(format!("  tells itself as {}", clean_line(version)))?;
    }
    choices(output, "modes", &offers.modes, offers.mode.as_deref())?;
    choices(output, "models", &offers.models, offers.model.as_deref())?;
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    let steer = match offers.steer {
        Steer::Prompt => "in the running turn",
        Steer::Probe | Steer::Restart => "by beginning the turn again",
    };
    output.line(format!(
        "  pictures: {} · resumes by itself: {} · takes a message {steer}",
        yes(offers.images),
        yes(offers.resume)
    ))?;
    Ok(())
}

/// The same in a line.
pub(super) fn summary(offers: &AgentOffers) -> String {
    let mut facts = Vec::new();
    for (what, all) in [("mode", &offers.modes), ("model", &offers.models)] {
        if !all.is_empty() {
            facts.push(count(all.len() as u64, what));
        }
    }
    if offers.images {
        facts.push("takes pictures".to_owned());
    }
    if offers.resume {
        facts.push("resumes".to_owned());
    }
    facts.join(" · ")
}

fn choices(output: &Output, what: &str, all: &[Choice], now: Option<&str>) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    output.line(format!("  {what}"))?;
    for choice in all.iter().take(CHOICES) {
        let mark = if now == Some(choice.id.as_str()) { "*" } else { " " };
        let (id, name) = (clean_line(&choice.id), clean_line(&choice.name));
        match id == name {
            true => output.line(format!("  {mark} {id}"))?,
            false => output.line(format!("  {mark} {id}  {}", output.out.dim(name)))?,
        }
    }
    if all.len() > CHOICES {
        output.line(format!("    … and {} more", all.len() - CHOICES))?;
    }
    Ok(())
}
