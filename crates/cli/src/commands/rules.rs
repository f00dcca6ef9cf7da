//! `boatyard egress rules|allow|ask|deny|remove|presets|mode|test|proposal`: what may leave.

use anyhow::Result;
use boatyard_api::{
    client::EgressPlace,
    egress::{
        Egress, EgressOutcome, EgressProposal, EgressRule, EgressScope, EgressTest, EgressVerdict,
        NewEgressRule, ProposalSource,
    },
    model::{
        EgressMode, PortRange, RuleAction, RuleId, RulePurpose, Timestamp,
        time::{Clock as _, SystemClock},
    },
};
use boatyard_server::settings::Span;

use super::Context;
use crate::{
    failure::{Exit, Failure},
    ids,
    output::table::Table,
    text::{clean_line, count, duration},
};

/// Where a rule holds.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Where {
    /// For this workspace only, or a task's
    #[arg(long, value_name = "ID", conflicts_with = "repo")]
    workspace: Option<String>,
    /// For the workspaces of this repository: a folder here, its address or its id
    #[arg(long, value_name = "REPOSITORY")]
    repo: Option<String>,
}

/// A rule, in a line or in parts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    boatyard egress allow npm\n  \
    boatyard egress allow api.example.com --workspace @last\n  \
    boatyard egress allow 'GET,POST https://api.example.com/v1/*' --repo .\n  \
    boatyard egress allow 'git-fetch github.com/owner/*' --for 2h\n  \
    boatyard egress deny 'git-push github.com'")]
pub(crate) struct RuleArgs {
    /// A preset, or HOST, HOST:PORT, `METHOD HOST/PATH*`, `git-fetch HOST/PATH*`
    rule: String,
    #[command(flatten)]
    place: Where,
    /// A port or a range of them; may be given several times
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<PortRange>,
    /// A method; may be given several times
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// A path, with * at its end for all that begin so; may be given several times
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// What it is for: git-fetch or git-push
    #[arg(long, value_name = "PURPOSE", conflicts_with = "methods")]
    purpose: Option<RulePurpose>,
    /// How long it holds, such as 10min or 2h; for good if absent
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    hold: Option<u64>,
    /// A word about it for people
    #[arg(long)]
    note: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what may leave: the rules, and the scopes that they are in
    Rules(Where),
    /// Let something leave
    Allow(RuleArgs),
    /// Have a person asked about something
    Ask(RuleArgs),
    /// Forbid something, whatever narrower scopes allow
    Deny(RuleArgs),
    /// Remove rules; what they alone let pass is cut off
    #[command(visible_alias = "rm")]
    Remove {
        /// Ids of rules, egr_…
        #[arg(required = true)]
        ids: Vec<RuleId>,
    },
    /// List the sets of hosts that Boatyard knows
    Presets {
        /// Show the hosts of this one
        name: Option<String>,
    },
    /// Show or set what becomes of what no rule is about
    Mode {
        /// `enforce` refuses it, `learn` lets it pass and records it, `inherit` is as above
        #[arg(value_parser = ["enforce", "learn", "inherit"])]
        mode: Option<String>,
        #[command(flatten)]
        place: Where,
        /// Whether narrower scopes may allow what is closed here
        #[arg(long, value_name = "WHETHER", value_parser = ["yes", "no", "inherit"])]
        widen: Option<String>,
    },
    /// Tell what would become of a request, and by which rule
    Test {
        /// The request: [METHOD] URL, or HOST:PORT for a connection
        #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
        request: Vec<String>,
        #[command(flatten)]
        place: Where,
    },
    /// Propose rules for what was recorded
    Proposal {
        #[command(flatten)]
        place: Where,
        /// Also for what was refused within seven days because no rule allows it
        #[arg(long)]
        refused: bool,
        /// Make the rules that are proposed
        #[arg(long)]
        apply: bool,
    },
}

fn span(text: &str) -> Result<u64, String> {
    let span = Span::parse(text).ok_or("expected a span of time such as 90s, 10min or 2h")?;
    Ok(span.duration().as_secs())
}

pub(crate) async fn run(command: Command, context: &Context<'_>) -> Result<Exit> {
    match command {
        Command::Rules(place) => show(&place, context).await,
        Command::Allow(args) => make(RuleAction::Allow, args, context).await,
        Command::Ask(args) => make(RuleAction::Ask, args, context).await,
        Command::Deny(args) => make(RuleAction::Deny, args, context).await,
        Command::Remove { ids } => remove(&ids, context).await,
        Command::Presets { name } => presets(name.as_deref(), context).await,
        Command::Mode { mode, place, widen } => {
            set_mode(mode.as_deref(), widen.as_deref(), &place, context).await
        }
        Command::Test { request, place } => test(request, &place, context).await,
        Command::Proposal { place, refused, apply } => {
            proposal(&place, refused, apply, context).await
        }
    }
}

async fn resolve(place: &Where, context: &Context<'_>) -> Result<EgressPlace> {
    Ok(match (&place.workspace, &place.repo) {
        (Some(text), _) => EgressPlace::Workspace(ids::workspace(&context.client, text).await?),
        (None, Some(text)) => {
            EgressPlace::Repository(ids::repository(&context.client, text).await?)
        }
        (None, None) => EgressPlace::Organization,
    })
}

async fn show(place: &Where, context: &Context<'_>) -> Result<Exit> {
    let egress = context.client.find_egress(resolve(place, context).await?).await?;
    if context.output.is_json() {
        context.output.json(&egress)?;
    } else {
        show_rules(&egress, context)?;
    }
    Ok(Exit::Done)
}

fn show_rules(egress: &Egress, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    let now = SystemClock.now();
    let mut table = Table::new(&["RULE", "SCOPE", "ACTION", "WHAT", "ENDS", "NOTE"], 3);
    for rule in &egress.rules {
        let note = rule.rule.as_ref().and_then(|spec| spec.note.as_deref());
        table.row(vec![
            rule.id.map_or_else(|| "boatyard.toml".to_owned(), |id| id.to_string()),
            rule.scope.to_string(),
            rule.action.to_string(),
            clean_line(&rule.text),
            rule.expires.map(|time| ends(time, now)).unwrap_or_default(),
            note.map(clean_line).unwrap_or_default(),
        ]);
    }
    if !table.is_empty() {
        output.line(table.render(output.out))?;
    }
    for rule in &egress.rules {
        warn(rule, context);
    }
    output.note(match (egress.offline, egress.mode) {
        (true, _) => "Nothing leaves at all: `[egress] offline` is set in boatyard.toml.",
        (false, EgressMode::Enforce) => "What no rule is about is refused.",
        (false, EgressMode::Learn) => {
            "What no rule is about passes and is recorded: `boatyard egress proposal` makes rules of it."
        }
    });
    if !egress.widen {
        output.note("Narrower scopes can forbid and ask, but allow nothing that is closed.");
    }
    Ok(())
}

fn ends(time: Timestamp, now: Timestamp) -> String {
    format!("in {}", duration(time.since(now)))
}

fn warn(rule: &EgressRule, context: &Context<'_>) {
    for warning in &rule.warnings {
        context.output.warning(format!("{} {}: {}", rule.name, rule.text, clean_line(warning)));
    }
}

async fn make(action: RuleAction, args: RuleArgs, context: &Context<'_>) -> Result<Exit> {
    let place = resolve(&args.place, context).await?;
    let has_parts = !(args.ports.is_empty() && args.methods.is_empty() && args.paths.is_empty())
        || args.purpose.is_some();
    let mut new = NewEgressRule {
        action,
        ports: args.ports,
        methods: args.methods.iter().map(|method| method.to_uppercase()).collect(),
        paths: args.paths,
        purpose: args.purpose,
        note: args.note,
        expires_in: args.hold,
        ..NewEgressRule::default()
    };
    // With parts beside it, it is the host alone.
    *(if has_parts { &mut new.host } else { &mut new.rule }) = Some(args.rule);
    let rule = context.client.create_egress_rule(place, &new).await?;
    told(&rule, "Made", context)
}

fn told(rule: &EgressRule, what: &str, context: &Context<'_>) -> Result<Exit> {
    if context.output.is_json() {
        context.output.json(rule)?;
        return Ok(Exit::Done);
    }
    context.output.line(&rule.name)?;
    context.output.note(format!(
        "{what}: {} {} ({}). It is in force.",
        rule.action,
        clean_line(&rule.text),
        rule.scope
    ));
    warn(rule, context);
    Ok(Exit::Done)
}

async fn remove(ids: &[RuleId], context: &Context<'_>) -> Result<Exit> {
    for id in ids {
        context.client.delete_egress_rule(*id).await?;
        if !context.output.is_json() {
            context.output.note(format!("Removed {id}."));
        }
    }
    if context.output.is_json() {
        context.output.json(&serde_json::json!({ "removed": ids }))?;
    }
    Ok(Exit::Done)
}

async fn presets(name: Option<&str>, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    let mut list = context.client.list_egress_presets().await?;
    if let Some(name) = name {
        list.items.retain(|preset| preset.name == name);
        if list.items.is_empty() {
            return Err(Failure::not_found(format!("there is no preset {name}"))
                .next("see `boatyard egress presets` for those there are")
                .into());
        }
    }
    if output.is_json() {
        output.json(&list)?;
        return Ok(Exit::Done);
    }
    if name.is_some() {
        for preset in &list.items {
            output.note(&preset.title);
            output.line(preset.rules.join("\n"))?;
            if let Some(about) = &preset.about {
                output.note(about);
            }
        }
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["PRESET", "RULES", "WHAT"], 2);
    for preset in &list.items {
        let rules = preset.rules.len().to_string();
        table.row(vec![preset.name.clone(), rules, preset.title.clone()]);
    }
    output.line(table.render(output.out))?;
    Ok(Exit::Done)
}

async fn set_mode(
    mode: Option<&str>,
    widen: Option<&str>,
    place: &Where,
    context: &Context<'_>,
) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let place = resolve(place, context).await?;
    let mut egress = client.find_egress(place).await?;
    if mode.is_some() || widen.is_some() {
        let set = EgressScope {
            mode: match mode {
                None => egress.set.mode,
                Some("enforce") => Some(EgressMode::Enforce),
                Some("learn") => Some(EgressMode::Learn),
                Some(_) => None,
            },
            widen: match widen {
                None => egress.set.widen,
                Some("yes") => Some(true),
                Some("no") => Some(false),
                Some(_) => None,
            },
        };
        egress = client.set_egress(place, &set).await?;
    }
    if output.is_json() {
        output.json(&egress)?;
        return Ok(Exit::Done);
    }
    output.line(egress.mode.to_string())?;
    if egress.mode == EgressMode::Learn {
        output.note(
            "Everything that no rule forbids passes and is recorded. Let no work learn that you do \
             not trust; `boatyard egress proposal` makes rules of what was recorded.",
        );
    }
    if !egress.widen {
        output.note("Narrower scopes can forbid and ask, but allow nothing that is closed.");
    }
    Ok(Exit::Done)
}

async fn test(request: Vec<String>, place: &Where, context: &Context<'_>) -> Result<Exit> {
    let output = context.output;
    let (method, url) = match &request[..] {
        [url] => match url.split_once(' ') {
            Some((method, url)) => (Some(method.to_owned()), url.trim().to_owned()),
            None => (None, url.clone()),
        },
        [method, url] => (Some(method.clone()), url.clone()),
        _ => return Err(Failure::usage("name a request as [METHOD] URL").into()),
    };
    let method = method.map(|method| method.to_uppercase());
    let place = resolve(place, context).await?;
    let outcome = context.client.test_egress(place, &EgressTest { method, url }).await?;
    if output.is_json() {
        output.json(&outcome)?;
    } else {
        show_outcome(&outcome, context)?;
    }
    Ok(match outcome.verdict {
        EgressVerdict::Allowed | EgressVerdict::Learned => Exit::Done,
        EgressVerdict::Ask => Exit::Waiting,
        EgressVerdict::Denied => Exit::NotAllowed,
    })
}

fn show_outcome(outcome: &EgressOutcome, context: &Context<'_>) -> Result<()> {
    let (output, look) = (context.output, context.output.out);
    let word = match outcome.verdict {
        EgressVerdict::Allowed => look.good("allowed"),
        EgressVerdict::Learned => look.warn("allowed, to be learned"),
        EgressVerdict::Ask => look.warn("a person is asked"),
        EgressVerdict::Denied => look.bad("denied"),
    };
    output.line(format!("{word}: {}", clean_line(&outcome.reason)))?;
    if let Some(rule) = &outcome.rule {
        output.note(format!(
            "{} ({}): {} {}",
            rule.name,
            rule.scope,
            rule.action,
            clean_line(&rule.text)
        ));
    }
    if outcome.opened {
        output.note("TLS to this host is opened, so that methods and paths are seen.");
    }
    for warning in &outcome.warnings {
        output.warning(clean_line(warning));
    }
    if let Some(next) = &outcome.next {
        output.note(format!("\n{} {}", output.err.name("next:"), clean_line(next)));
    }
    Ok(())
}

async fn proposal(
    place: &Where,
    refused: bool,
    apply: bool,
    context: &Context<'_>,
) -> Result<Exit> {
    let (client, output) = (&context.client, context.output);
    let place = resolve(place, context).await?;
    let proposal = client.propose_egress(place, refused.then_some(true)).await?;
    if !apply {
        if output.is_json() {
            output.json(&proposal)?;
        } else {
            show_proposal(&proposal, context)?;
        }
        return Ok(Exit::Done);
    }
    let mut made = Vec::new();
    for item in proposal.items {
        let rule = client.create_egress_rule(place, &NewEgressRule::from(item.rule)).await?;
        if !output.is_json() {
            told(&rule, "Made", context)?;
        }
        made.push(rule);
    }
    if output.is_json() {
        output.json(&serde_json::json!({ "items": made }))?;
    } else if made.is_empty() {
        output.note("There is nothing to propose.");
    }
    Ok(Exit::Done)
}

fn show_proposal(proposal: &EgressProposal, context: &Context<'_>) -> Result<()> {
    let output = context.output;
    let mut table = Table::new(&["REQUESTS", "FROM", "RULE"], 2);
    for item in &proposal.items {
        let source = match item.source {
            ProposalSource::Recorded => "recorded",
            ProposalSource::Repository => "repository",
        };
        table.row(vec![item.requests.to_string(), source.to_owned(), clean_line(&item.text)]);
    }
    if table.is_empty() {
        output.note(match proposal.requests {
            0 => "Nothing was recorded: `boatyard egress mode learn` begins, or see --refused."
                .to_owned(),
            n => format!("The rules that there are let all of {} pass.", count(n, "request")),
        });
        return Ok(());
    }
    output.line(table.render(output.out))?;
    for item in &proposal.items {
        if let Some(note) = &item.note {
            output.note(format!("{}: {}", clean_line(&item.text), clean_line(note)));
        }
    }
    output.note(
        "None of it is in force: --apply makes these rules, `boatyard egress allow` single ones.",
    );
    Ok(())
}
