//! Rules of egress: made, changed, removed, tried, proposed.
//!
//! A change is stored and then told to the [policies](crate::policies): when an operation returns,
//! every running workspace that it is for is judged by it.

use boatyard_api::{
    Problem,
    egress::{
        Egress, EgressPreset, EgressPresetList, EgressRule, EgressRuleList, EgressScope,
        NewEgressRule,
    },
};
use boatyard_egress::{
    Rule,
    rules::{Below, Preset, text},
};
use boatyard_model::{EgressMode, RuleId, RuleSpec, Timestamp, Wish};
use boatyard_store::{NewRule, RulePlace, RuleRow, ScopeRow};

use super::{own, store_problem};
use crate::{access::things, app::App, auth::Caller};

mod propose;
mod shown;
mod tried;

pub(crate) use propose::asked;
pub use propose::propose_egress;
pub use tried::test_egress;

/// The most rules of a scope.
const RULES_MAX: u64 = 500;
/// How far in the future a rule may end.
const EXPIRES_MAX: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 24 * 3600);

/// What may leave, as it holds for the organization, a repository or a workspace.
///
/// # Errors
/// When there is no such place, or the store can't be read.
pub async fn find_egress(app: &App, caller: &Caller, place: RulePlace) -> Result<Egress, Problem> {
    let places = places(app, caller, place, Wish::Look).await?;
    let organization = caller.owner.organization;
    let policies = app.hub.policies();
    let rules = policies.rules_for(organization, places.clone()).await.map_err(store_problem)?;
    let mut shown = Vec::new();
    for place in places {
        shown.extend(shown::rules_of(app, organization, place, &rules).await?);
    }
    let set = app.store.rule_scope(organization, place).await.map_err(store_problem)?;
    let is_open = |below: Below| below == Below::MayWiden;
    Ok(Egress {
        scope: place.scope(),
        mode: if rules.learns() { EgressMode::Learn } else { EgressMode::Enforce },
        widen: rules.layers().iter().all(|layer| is_open(layer.below)),
        set: EgressScope { mode: set.mode, widen: set.widen },
        offline: policies.base().is_offline(),
        rules: shown,
    })
}

/// Sets what holds for a place beside its rules: the whole of it.
///
/// # Errors
/// When there is no such place, or a wider scope forbids it.
pub async fn set_egress(
    app: &App,
    caller: &Caller,
    place: RulePlace,
    set: EgressScope,
) -> Result<Egress, Problem> {
    let places = places(app, caller, place, Wish::Manage).await?;
    let owner = caller.owner;
    if set.mode == Some(EgressMode::Learn) {
        let above = places.into_iter().filter(|wider| *wider != place);
        let rules = app.hub.policies().rules_for(owner.organization, above).await;
        let rules = rules.map_err(store_problem)?;
        let closed = rules.layers().iter().find(|layer| layer.below == Below::MayNarrow);
        if let Some(layer) = closed.filter(|_| !rules.learns()) {
            return Err(Problem::invalid(
                "mode",
                format!(
                    "the {} lets nothing be opened below it, so that nothing can learn here",
                    layer.scope
                ),
            )
            .with_next("set `widen` there, or learn there"));
        }
    }
    let row = ScopeRow { mode: set.mode, widen: set.widen };
    app.store
        .write(move |tx| Box::pin(async move { tx.set_rule_scope(owner, place, &row).await }))
        .await
        .map_err(store_problem)?;
    app.hub.policies().changed(owner.organization, place).await;
    find_egress(app, caller, place).await
}

/// The rules of a place, and of no wider one.
///
/// # Errors
/// When there is no such place, or the store can't be read.
pub async fn list_rules(
    app: &App,
    caller: &Caller,
    place: RulePlace,
) -> Result<EgressRuleList, Problem> {
    let places = places(app, caller, place, Wish::Look).await?;
    let organization = caller.owner.organization;
    let rules = app.hub.policies().rules_for(organization, places).await.map_err(store_problem)?;
    Ok(EgressRuleList { items: shown::rules_of(app, organization, place, &rules).await? })
}

/// Makes a rule. It is in force when this returns.
///
/// # Errors
/// The part of it that makes no sense, or that there are too many.
pub async fn create_rule(
    app: &App,
    caller: &Caller,
    place: RulePlace,
    new: NewEgressRule,
) -> Result<EgressRule, Problem> {
    places(app, caller, place, Wish::Manage).await?;
    let (spec, expires) = read(&new, app.store.now())?;
    let new = NewRule { expires, ..NewRule::new(caller.owner, place, spec) };
    let id = new.id;
    let organization = caller.owner.organization;
    let is_full = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                if tx.count_rules(organization, place).await? >= RULES_MAX {
                    return Ok(true);
                }
                tx.create_rule(&new).await?;
                Ok(false)
            })
        })
        .await
        .map_err(store_problem)?;
    if is_full {
        return Err(Problem::conflict(format!("there are {RULES_MAX} rules here already"))
            .with_next("remove some, or say several of them in one: a rule takes many paths"));
    }
    app.hub.policies().changed(organization, place).await;
    find_rule(app, caller, id, None).await
}

/// A rule.
///
/// # Errors
/// When there is none of this id, or not in that place.
pub async fn find_rule(
    app: &App,
    caller: &Caller,
    id: RuleId,
    place: Option<RulePlace>,
) -> Result<EgressRule, Problem> {
    let (_, found) = stored(app, caller, id, place).await?;
    let organization = caller.owner.organization;
    let wider = places(app, caller, found, Wish::Look).await?;
    let rules = app.hub.policies().rules_for(organization, wider).await.map_err(store_problem)?;
    let shown = shown::rules_of(app, organization, found, &rules).await?;
    shown
        .into_iter()
        .find(|rule| rule.id == Some(id))
        .ok_or_else(|| Problem::not_found("rule", id).with_next("it has ended by itself"))
}

/// Puts another rule in the place of one.
///
/// # Errors
/// When there is none of this id, or a part of the new one makes no sense.
pub async fn change_rule(
    app: &App,
    caller: &Caller,
    id: RuleId,
    place: Option<RulePlace>,
    new: NewEgressRule,
) -> Result<EgressRule, Problem> {
    let (_, found) = stored(app, caller, id, place).await?;
    places(app, caller, found, Wish::Manage).await?;
    let (spec, expires) = read(&new, app.store.now())?;
    app.store
        .write(move |tx| Box::pin(async move { tx.change_rule(id, &spec, expires).await }))
        .await
        .map_err(store_problem)?;
    app.hub.policies().changed(caller.owner.organization, found).await;
    find_rule(app, caller, id, place).await
}

/// Removes a rule. What it alone let pass is cut off when this returns.
///
/// # Errors
/// When there is none of this id, or not in that place.
pub async fn delete_rule(
    app: &App,
    caller: &Caller,
    id: RuleId,
    place: Option<RulePlace>,
) -> Result<(), Problem> {
    let (_, found) = stored(app, caller, id, place).await?;
    places(app, caller, found, Wish::Manage).await?;
    app.store
        .write(move |tx| Box::pin(async move { tx.delete_rule(id).await }))
        .await
        .map_err(store_problem)?;
    app.hub.policies().changed(caller.owner.organization, found).await;
    Ok(())
}

/// The sets of hosts that Boatyard knows.
pub fn list_presets() -> EgressPresetList {
    let items = Preset::all()
        .iter()
        .map(|(name, preset)| EgressPreset {
            name: name.clone(),
            title: preset.title.clone(),
            about: preset.about.clone(),
            rules: preset.lines().into_iter().map(str::to_owned).collect(),
            presets: preset.presets.clone(),
        })
        .collect();
    EgressPresetList { items }
}

/// The rules that stand with an order for a workspace: presets, or rules in a line.
///
/// # Errors
/// The one that makes no sense, at its field.
pub(crate) fn ordered(lines: &[String]) -> Result<Vec<RuleSpec>, Problem> {
    let mut specs = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let spec = text::parse(line).map_err(|fault| {
            Problem::invalid(format!("egress[{index}]"), format!("`{line}`: {fault}"))
                .with_next(fault.mend)
        })?;
        specs.push(spec);
    }
    if u64::try_from(specs.len()).is_ok_and(|count| count > RULES_MAX) {
        return Err(Problem::invalid("egress", format!("there are more than {RULES_MAX} rules")));
    }
    Ok(specs)
}

/// The places whose rules hold in one with which the caller may do this, the widest first.
async fn places(
    app: &App,
    caller: &Caller,
    place: RulePlace,
    wish: Wish,
) -> Result<Vec<RulePlace>, Problem> {
    let mut places = vec![RulePlace::Organization];
    match place {
        RulePlace::Organization => {}
        RulePlace::Repository(id) => {
            let row = app.store.repository(id).await.map_err(store_problem)?;
            things::repository(app, caller, &row, wish).await?;
            places.push(place);
        }
        RulePlace::Workspace(id) => {
            let row = app.store.workspace(id).await.map_err(store_problem)?;
            things::check(app, caller, &row, wish).await?;
            places.extend(row.repository.map(RulePlace::Repository));
            places.push(place);
        }
    }
    Ok(places)
}

/// A rule of the caller's as it is stored, and what it is for.
async fn stored(
    app: &App,
    caller: &Caller,
    id: RuleId,
    wanted: Option<RulePlace>,
) -> Result<(RuleRow, RulePlace), Problem> {
    let row = app.store.rule(id).await.map_err(store_problem)?;
    own(caller, row.owner, "rule", id)?;
    match row.place() {
        Some(place) if wanted.is_none_or(|wanted| wanted == place) => Ok((row, place)),
        _ => Err(Problem::not_found("rule", id)),
    }
}

/// What a request to make a rule says.
fn read(new: &NewEgressRule, now: Timestamp) -> Result<(RuleSpec, Option<Timestamp>), Problem> {
    let told =
        |fault: text::Fault, field: &str| Problem::invalid(field, &fault).with_next(fault.mend);
    let parts = RuleSpec {
        action: new.action,
        preset: new.preset.clone(),
        host: new.host.clone(),
        ports: new.ports.clone(),
        methods: new.methods.clone(),
        paths: new.paths.clone(),
        purpose: new.purpose,
        note: new.note.clone(),
    };
    let spec = match &new.rule {
        None => parts,
        Some(line) => {
            let alone =
                RuleSpec { action: new.action, note: new.note.clone(), ..RuleSpec::default() };
            if parts != alone {
                return Err(Problem::invalid("rule", "a rule comes in a line or in parts")
                    .with_next("leave out `rule`, or all of host, preset, ports, methods, paths and purpose"));
            }
            let spec = text::parse(line).map_err(|fault| told(fault, "rule"))?;
            RuleSpec { action: new.action, note: new.note.clone(), ..spec }
        }
    };
    Rule::from_spec("", &spec).map_err(|fault| {
        let field = if new.rule.is_some() { "rule" } else { fault.field };
        told(fault, field)
    })?;
    let expires = match (new.expires, new.expires_in) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid("expires_in", "it goes without `expires`"));
        }
        (Some(time), None) => Some(("expires", time)),
        (None, Some(seconds)) => {
            Some(("expires_in", now.after(std::time::Duration::from_secs(seconds))))
        }
        (None, None) => None,
    };
    match expires {
        Some((field, time)) if time <= now => {
            Err(Problem::invalid(field, "the rule would have ended already"))
        }
        Some((field, time)) if time > now.after(EXPIRES_MAX) => {
            Err(Problem::invalid(field, "it may be at most ten years away")
                .with_next("leave it out for a rule that stays"))
        }
        expires => Ok((spec, expires.map(|(_, time)| time))),
    }
}

/// Who a place is, as an id for messages and commands.
fn argument(place: RulePlace) -> String {
    match place {
        RulePlace::Organization => String::new(),
        RulePlace::Repository(id) => format!(" --repo {id}"),
        RulePlace::Workspace(id) => format!(" --workspace {id}"),
    }
}
