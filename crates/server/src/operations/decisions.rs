//! What waits for a person: permissions and questions. An agent can't answer them: what is inside
//! a workspace has no way to call this.

use boatyard_api::{
    Problem,
    session::{Decision, PermissionAnswer, QuestionAnswer},
};
use boatyard_link::message::{FailureCode, Request};
use boatyard_model::{
    PermissionId, QuestionId, SessionId, Wish,
    event::{PermissionKind, PermissionOption, PermissionOutcome},
};
use boatyard_store::{Resolution, audit};

use super::{hub_problem, sessions, store_problem};
use crate::{app::App, auth::Caller, ledger::asking};

/// The longest answer to a question, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// Answers a permission request, by option or by plain yes or no. The first answer wins.
///
/// # Errors
/// When it is resolved already, or there is no such option.
pub async fn answer_permission(
    app: &App,
    caller: &Caller,
    session: SessionId,
    id: PermissionId,
    answer: PermissionAnswer,
) -> Result<(), Problem> {
    let row = sessions::row(app, caller, session, Wish::Act).await?;
    let permission = app.store.permission(id).await.map_err(store_problem)?;
    if permission.session != session {
        return Err(Problem::not_found("permission", id));
    }
    let option = choose(&permission.options, &answer)?;
    let allowed = option.as_ref().is_some_and(|option| {
        matches!(option.kind, PermissionKind::AllowOnce | PermissionKind::AllowAlways)
    });
    let outcome = if allowed { PermissionOutcome::Allowed } else { PermissionOutcome::Denied };
    let chosen = option.map(|option| option.id);
    let resolution =
        Resolution { outcome, option: chosen.clone(), by: Some(caller.name.to_string()) };
    audit::note("answer", if allowed { "allowed" } else { "denied" });
    if let Some(option) = &chosen {
        audit::note("option", option);
    }
    let money = app.store.budget_ask(id).await.map_err(store_problem)?;
    if let Some(money) = money.as_ref().filter(|_| allowed) {
        asking::may_raise(app, caller, money).await?;
    }
    let (owner, asked) = (caller.owner, money.clone());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let option = resolution.option.clone();
                tx.resolve_permission(id, resolution).await?;
                match &asked {
                    Some(asked) => asking::apply(tx, owner, asked, option.as_deref()).await,
                    None => Ok(()),
                }
            })
        })
        .await
        .map_err(store_problem)?;
    // It was the server that asked, not the agent.
    if let Some(money) = money {
        return asking::answered(app, &money, outcome).await.map_err(hub_problem);
    }
    let request = Request::AnswerPermission { session, permission: id, option: chosen };
    hand_over(app, row.workspace, request).await
}

/// The option that is meant; none for a plain no that the agent offers no option for.
fn choose(
    options: &[PermissionOption],
    answer: &PermissionAnswer,
) -> Result<Option<PermissionOption>, Problem> {
    if let Some(id) = &answer.option {
        let found = options.iter().find(|option| option.id == *id);
        return match found {
            Some(option) => Ok(Some(option.clone())),
            None => {
                let offered: Vec<&str> = options.iter().map(|option| option.id.as_str()).collect();
                let detail = format!("`{id}` is not offered; there is {}", offered.join(", "));
                Err(Problem::invalid("option", detail))
            }
        };
    }
    let wanted: &[PermissionKind] = match answer.decision {
        Some(Decision::Allow) => &[PermissionKind::AllowOnce, PermissionKind::AllowAlways],
        Some(Decision::Deny) => &[PermissionKind::RejectOnce, PermissionKind::RejectAlways],
        None => return Err(Problem::invalid("option", "give an option or a decision")),
    };
    let found = wanted.iter().find_map(|kind| options.iter().find(|option| option.kind == *kind));
    match (found, answer.decision) {
        (None, Some(Decision::Allow)) => {
            Err(Problem::invalid("decision", "the agent offers no way to allow it"))
        }
        (found, _) => Ok(found.cloned()),
    }
}

/// Answers an agent's question.
///
/// # Errors
/// When it is answered already.
pub async fn answer_question(
    app: &App,
    caller: &Caller,
    session: SessionId,
    id: QuestionId,
    answer: QuestionAnswer,
) -> Result<(), Problem> {
    let row = sessions::row(app, caller, session, Wish::Act).await?;
    let question = app.store.question(id).await.map_err(store_problem)?;
    if question.session != session {
        return Err(Problem::not_found("question", id));
    }
    if answer.answer.len() > ANSWER_MAX {
        return Err(Problem::invalid("answer", format!("it has more than {ANSWER_MAX} bytes")));
    }
    let (said, by) = (answer.answer.clone(), Some(caller.name.to_string()));
    app.store
        .write(move |tx| Box::pin(async move { tx.answer_question(id, Some(said), by).await }))
        .await
        .map_err(store_problem)?;
    let request = Request::AnswerQuestion { session, question: id, answer: Some(answer.answer) };
    hand_over(app, row.workspace, request).await
}

/// Tells the agent. It is decided and stored: what asked and is gone meanwhile asks again.
async fn hand_over(
    app: &App,
    workspace: boatyard_model::WorkspaceId,
    request: Request,
) -> Result<(), Problem> {
    let attached = app.hub.attach(workspace).await.map_err(hub_problem)?;
    match attached.ask(request).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(FailureCode::NotFound) => Ok(()),
        Err(error) => Err(hub_problem(error)),
    }
}
