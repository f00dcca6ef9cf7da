//! Requests of workspaces that wait for a person. A workspace can't answer them: what is inside has
//! no way to call this.

use std::time::Duration;

use super::store_problem;
use crate::{access, app::App, auth::Caller};
use boatyard_api::{
    Cursor, Problem,
    page::limit,
    request::{Ask, AskFilter, AskPage, AskReply},
};
use boatyard_model::{AskAnswer, AskId, AskState, PortRange, Role, RuleAction, RuleSpec, Wish};
use boatyard_store::{AskOutcome, AskRow, NewRule, RulePlace, audit};

/// How long `ten_minutes` is.
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// Requests that wait, or waited, for a person; the newest first.
///
/// # Errors
/// When the filter makes no sense.
pub async fn list_asks(app: &App, caller: &Caller, filter: AskFilter) -> Result<AskPage, Problem> {
    let limit = limit(filter.limit)?;
    let before = super::tasks::cursor_id(filter.cursor.as_ref())?;
    let wanted = boatyard_store::AskFilter {
        state: filter.state,
        workspace: filter.workspace,
        before,
        seen_by: access::viewer(caller),
    };
    let rows = app
        .store
        .list_asks(caller.owner.organization, wanted, limit)
        .await
        .map_err(store_problem)?;
    let full = rows.len() == limit as usize;
    let next_cursor = rows.last().filter(|_| full).map(|row| Cursor::after(&row.id.to_string()));
    Ok(AskPage { items: rows.into_iter().map(|row| ask(app, row)).collect(), next_cursor })
}

/// One of them.
///
/// # Errors
/// When there is none.
pub async fn find_ask(app: &App, caller: &Caller, id: AskId) -> Result<Ask, Problem> {
    Ok(ask(app, row(app, caller, id, Wish::Look).await?))
}

/// An ask, for whom its workspace exists.
async fn row(app: &App, caller: &Caller, id: AskId, wish: Wish) -> Result<AskRow, Problem> {
    let row = app.store.ask(id).await.map_err(store_problem)?;
    let workspace = app.store.workspace(row.workspace).await.map_err(store_problem)?;
    access::check(app, caller, &workspace, wish).await.map_err(|problem| match problem.status {
        404 => Problem::not_found("ask", id),
        _ => problem,
    })?;
    Ok(row)
}

/// An ask as people see it.
pub(crate) fn ask(app: &App, row: AskRow) -> Ask {
    let waiting = match row.state {
        AskState::Open => app.hub.asks().waiting(&row),
        _ => 0,
    };
    Ask {
        id: row.id,
        workspace: row.workspace,
        repository: row.repository,
        task: row.task,
        session: row.session,
        state: row.state,
        method: row.method,
        host: row.host,
        port: u16::try_from(row.port).unwrap_or_default(),
        path: row.path,
        paths: row.shape,
        rule: row.rule,
        credential: row.credential,
        program: row.program,
        waiting,
        answer: row.answer,
        by: row.resolver,
        made: row.made,
        created: row.created,
        deadline: row.deadline,
        resolved: row.resolved,
    }
}

/// Answers a request that waits. The first answer wins; the same one again changes nothing. An
/// answer that lasts makes a rule, in the same transaction.
///
/// # Errors
/// When it was answered otherwise or is over, or the answer makes no rule.
pub async fn answer_ask(
    app: &App,
    caller: &Caller,
    id: AskId,
    reply: AskReply,
) -> Result<Ask, Problem> {
    let row = row(app, caller, id, Wish::Act).await?;
    let answer = reply.answer;
    audit::note("answer", answer);
    audit::note("host", &row.host);
    if answer == AskAnswer::Repository {
        let next = "Answer `workspace`, or ask an admin.";
        access::role(caller, Role::Admin, "an answer for the whole repository", next)?;
    }
    if row.state != AskState::Open {
        return match row.answer {
            Some(given) if given == answer => Ok(ask(app, row)),
            _ => Err(is_over(&row)),
        };
    }
    let rule = rule(app, caller, &row, answer)?;
    let mut outcome = AskOutcome::answered(answer, caller.name.to_string());
    outcome.made = rule.as_ref().map(|rule| rule.id.to_string());
    outcome.waited = app.hub.asks().waiting(&row) > 0;
    let made = rule.clone();
    let written = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let row = tx.resolve_ask(id, outcome).await?;
                if let Some(rule) = &made {
                    tx.create_rule(rule).await?;
                }
                Ok(row)
            })
        })
        .await;
    let row = match written {
        Ok(row) => row,
        Err(boatyard_store::Error::AlreadyResolved { .. }) => {
            let row = app.store.ask(id).await.map_err(store_problem)?;
            return match row.answer {
                Some(given) if given == answer => Ok(ask(app, row)),
                _ => Err(is_over(&row)),
            };
        }
        Err(error) => return Err(store_problem(error)),
    };
    app.hub.asks().answered(row.clone());
    if let Some(rule) = rule {
        app.hub.policies().changed(rule.owner.organization, rule.place).await;
    }
    Ok(ask(app, row))
}

fn is_over(row: &AskRow) -> Problem {
    let by = row.resolver.as_deref().unwrap_or("somebody");
    Problem::conflict(match (row.state, row.answer) {
        (_, Some(answer)) => format!("{by} has answered it already: {answer}"),
        (AskState::Expired, None) => {
            "nobody answered in time, and it was refused; the program may try again".to_owned()
        }
        _ => "what asked is gone, so there is nothing to answer".to_owned(),
    })
}

/// The rule that an answer makes; none for one that is about this time only.
fn rule(
    app: &App,
    caller: &Caller,
    row: &AskRow,
    answer: AskAnswer,
) -> Result<Option<NewRule>, Problem> {
    let workspace = RulePlace::Workspace(row.workspace);
    let (action, place) = match answer {
        AskAnswer::Once | AskAnswer::No => return Ok(None),
        AskAnswer::TenMinutes | AskAnswer::Workspace => (RuleAction::Allow, workspace),
        AskAnswer::Never => (RuleAction::Deny, workspace),
        AskAnswer::Repository => {
            let repository = row.repository.ok_or_else(|| {
                let detail =
                    "this workspace has no repository; answer `workspace` or `ten_minutes`";
                Problem::invalid("answer", detail)
            })?;
            (RuleAction::Allow, RulePlace::Repository(repository))
        }
    };
    let port = u16::try_from(row.port).unwrap_or_default();
    let spec = RuleSpec {
        action,
        host: Some(row.host.clone()),
        ports: vec![PortRange::from(port)],
        methods: row.method.iter().cloned().collect(),
        paths: row.shape.iter().cloned().collect(),
        note: Some(format!("{} answered {answer} ({})", caller.name, row.id)),
        ..RuleSpec::default()
    };
    boatyard_egress::Rule::from_spec("answer", &spec).map_err(|why| {
        let detail = format!("no rule can be made of this request: {why}; answer `once` or `no`");
        Problem::invalid("answer", detail)
    })?;
    // Whose the workspace is owns the rule too, whoever answered.
    let mut rule = NewRule::new(row.owner, place, spec);
    if answer == AskAnswer::TenMinutes {
        rule.expires = Some(app.store.now().after(TEN_MINUTES));
    }
    Ok(Some(rule))
}
