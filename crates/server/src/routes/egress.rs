//! `/api/egress` and `/api/workspaces/{id}/egress`: what may leave.

use axum::extract::State;
use boatyard_api::egress::{
    Egress, EgressOutcome, EgressPresetList, EgressProposal, EgressQuery, EgressRule,
    EgressRuleList, EgressScope, EgressTest, NewEgressRule, ProposalQuery,
};
use boatyard_model::{RepositoryId, RuleId, WorkspaceId};
use boatyard_store::RulePlace;
use http::StatusCode;

use super::{
    answer::{Answer, Created, Json},
    described::{Routes, routes},
    extract::{self, Path, Query},
};
use crate::{app::App, auth::Caller, operations::egress};

pub(super) fn router() -> Routes {
    Routes::new()
        .routes(routes!(find_egress, set_egress))
        .routes(routes!(list_egress_rules, create_egress_rule))
        .routes(routes!(find_egress_rule, change_egress_rule, delete_egress_rule))
        .routes(routes!(list_egress_presets))
        .routes(routes!(test_egress))
        .routes(routes!(propose_egress))
        .routes(routes!(find_workspace_egress, set_workspace_egress))
        .routes(routes!(list_workspace_egress_rules, create_workspace_egress_rule))
        .routes(routes!(
            find_workspace_egress_rule,
            change_workspace_egress_rule,
            delete_workspace_egress_rule
        ))
        .routes(routes!(test_workspace_egress))
        .routes(routes!(propose_workspace_egress))
}

fn place(repository: Option<RepositoryId>) -> RulePlace {
    repository.map_or(RulePlace::Organization, RulePlace::Repository)
}

/// What may leave, for the organization or a repository: mode, scope and rules.
#[utoipa::path(get, path = "/api/egress", tag = "egress", params(EgressQuery),
    responses((status = 200, description = "As it holds.", body = Egress)))]
async fn find_egress(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<EgressQuery>,
) -> Answer<Json<Egress>> {
    Ok(Json(egress::find_egress(&app, &caller, place(query.repository)).await?))
}

/// Sets mode and scope of the organization or a repository: the whole of it.
///
/// It is in force when the answer comes.
#[utoipa::path(put, path = "/api/egress", tag = "egress", params(EgressQuery),
    request_body = EgressScope,
    responses((status = 200, description = "As it holds now.", body = Egress)))]
async fn set_egress(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<EgressQuery>,
    extract::Json(set): extract::Json<EgressScope>,
) -> Answer<Json<Egress>> {
    Ok(Json(egress::set_egress(&app, &caller, place(query.repository), set).await?))
}

/// The rules of the organization or of a repository.
#[utoipa::path(get, path = "/api/egress/rules", tag = "egress", params(EgressQuery),
    responses((status = 200, description = "The rules.", body = EgressRuleList)))]
async fn list_egress_rules(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<EgressQuery>,
) -> Answer<Json<EgressRuleList>> {
    Ok(Json(egress::list_rules(&app, &caller, place(query.repository)).await?))
}

/// Makes a rule for the organization or for a repository.
///
/// It is in force in every running workspace when the answer comes.
#[utoipa::path(post, path = "/api/egress/rules", tag = "egress", params(EgressQuery),
    request_body = NewEgressRule,
    responses((status = 201, description = "Made.", body = EgressRule)))]
async fn create_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<EgressQuery>,
    extract::Json(new): extract::Json<NewEgressRule>,
) -> Answer<Created<EgressRule>> {
    created(egress::create_rule(&app, &caller, place(query.repository), new).await?)
}

fn created(body: EgressRule) -> Answer<Created<EgressRule>> {
    let location = format!("/api/egress/rules/{}", body.name);
    Ok(Created { location, body })
}

/// A rule, of any scope.
#[utoipa::path(get, path = "/api/egress/rules/{id}", tag = "egress",
    params(("id" = RuleId, Path)),
    responses((status = 200, description = "The rule.", body = EgressRule)))]
async fn find_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RuleId>,
) -> Answer<Json<EgressRule>> {
    Ok(Json(egress::find_rule(&app, &caller, id, None).await?))
}

/// Puts another rule in the place of one, of any scope.
#[utoipa::path(put, path = "/api/egress/rules/{id}", tag = "egress",
    params(("id" = RuleId, Path)), request_body = NewEgressRule,
    responses((status = 200, description = "As it is now.", body = EgressRule)))]
async fn change_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RuleId>,
    extract::Json(new): extract::Json<NewEgressRule>,
) -> Answer<Json<EgressRule>> {
    Ok(Json(egress::change_rule(&app, &caller, id, None, new).await?))
}

/// Removes a rule, of any scope. What it alone let pass is cut off.
#[utoipa::path(delete, path = "/api/egress/rules/{id}", tag = "egress",
    params(("id" = RuleId, Path)), responses((status = 204, description = "Gone.")))]
async fn delete_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<RuleId>,
) -> Answer<StatusCode> {
    egress::delete_rule(&app, &caller, id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The sets of hosts that Boatyard knows.
#[utoipa::path(get, path = "/api/egress/presets", tag = "egress",
    responses((status = 200, description = "By name.", body = EgressPresetList)))]
async fn list_egress_presets(_: Caller) -> Answer<Json<EgressPresetList>> {
    Ok(Json(egress::list_presets()))
}

/// What would become of a request by the rules of the organization or of a repository.
///
/// Nothing is sent.
#[utoipa::path(post, path = "/api/egress/test", tag = "egress", params(EgressQuery),
    request_body = EgressTest,
    responses((status = 200, description = "What would become of it.", body = EgressOutcome)))]
async fn test_egress(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<EgressQuery>,
    extract::Json(test): extract::Json<EgressTest>,
) -> Answer<Json<EgressOutcome>> {
    Ok(Json(egress::test_egress(&app, &caller, place(query.repository), test).await?))
}

/// The smallest set of rules for what was recorded in the organization or in a repository.
#[utoipa::path(get, path = "/api/egress/proposal", tag = "egress", params(ProposalQuery),
    responses((status = 200, description = "The rules.", body = EgressProposal)))]
async fn propose_egress(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ProposalQuery>,
) -> Answer<Json<EgressProposal>> {
    let refused = query.refused.unwrap_or(false);
    Ok(Json(egress::propose_egress(&app, &caller, place(query.repository), refused).await?))
}

/// What may leave a workspace: mode, scope, and the rules of all scopes that hold in it.
#[utoipa::path(get, path = "/api/workspaces/{id}/egress", tag = "egress",
    params(("id" = WorkspaceId, Path)),
    responses((status = 200, description = "As it holds.", body = Egress)))]
async fn find_workspace_egress(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<Json<Egress>> {
    Ok(Json(egress::find_egress(&app, &caller, RulePlace::Workspace(id)).await?))
}

/// Sets a workspace's mode: the whole of what is set for it.
#[utoipa::path(put, path = "/api/workspaces/{id}/egress", tag = "egress",
    params(("id" = WorkspaceId, Path)), request_body = EgressScope,
    responses((status = 200, description = "As it holds now.", body = Egress)))]
async fn set_workspace_egress(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    extract::Json(set): extract::Json<EgressScope>,
) -> Answer<Json<Egress>> {
    Ok(Json(egress::set_egress(&app, &caller, RulePlace::Workspace(id), set).await?))
}

/// The rules of a workspace's own.
#[utoipa::path(get, path = "/api/workspaces/{id}/egress/rules", tag = "egress",
    params(("id" = WorkspaceId, Path)),
    responses((status = 200, description = "The rules.", body = EgressRuleList)))]
async fn list_workspace_egress_rules(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
) -> Answer<Json<EgressRuleList>> {
    Ok(Json(egress::list_rules(&app, &caller, RulePlace::Workspace(id)).await?))
}

/// Makes a rule for a workspace. It is in force when the answer comes.
#[utoipa::path(post, path = "/api/workspaces/{id}/egress/rules", tag = "egress",
    params(("id" = WorkspaceId, Path)), request_body = NewEgressRule,
    responses((status = 201, description = "Made.", body = EgressRule)))]
async fn create_workspace_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    extract::Json(new): extract::Json<NewEgressRule>,
) -> Answer<Created<EgressRule>> {
    created(egress::create_rule(&app, &caller, RulePlace::Workspace(id), new).await?)
}

/// A rule of a workspace's own.
#[utoipa::path(get, path = "/api/workspaces/{id}/egress/rules/{rule}", tag = "egress",
    params(("id" = WorkspaceId, Path), ("rule" = RuleId, Path)),
    responses((status = 200, description = "The rule.", body = EgressRule)))]
async fn find_workspace_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path((id, rule)): Path<(WorkspaceId, RuleId)>,
) -> Answer<Json<EgressRule>> {
    let place = Some(RulePlace::Workspace(id));
    Ok(Json(egress::find_rule(&app, &caller, rule, place).await?))
}

/// Puts another rule in the place of one of a workspace's own.
#[utoipa::path(put, path = "/api/workspaces/{id}/egress/rules/{rule}", tag = "egress",
    params(("id" = WorkspaceId, Path), ("rule" = RuleId, Path)), request_body = NewEgressRule,
    responses((status = 200, description = "As it is now.", body = EgressRule)))]
async fn change_workspace_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path((id, rule)): Path<(WorkspaceId, RuleId)>,
    extract::Json(new): extract::Json<NewEgressRule>,
) -> Answer<Json<EgressRule>> {
    let place = Some(RulePlace::Workspace(id));
    Ok(Json(egress::change_rule(&app, &caller, rule, place, new).await?))
}

/// Removes a rule of a workspace's own.
#[utoipa::path(delete, path = "/api/workspaces/{id}/egress/rules/{rule}", tag = "egress",
    params(("id" = WorkspaceId, Path), ("rule" = RuleId, Path)),
    responses((status = 204, description = "Gone.")))]
async fn delete_workspace_egress_rule(
    State(app): State<App>,
    caller: Caller,
    Path((id, rule)): Path<(WorkspaceId, RuleId)>,
) -> Answer<StatusCode> {
    egress::delete_rule(&app, &caller, rule, Some(RulePlace::Workspace(id))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What would become of a request from a workspace, and by which rule of which scope.
///
/// Nothing is sent.
#[utoipa::path(post, path = "/api/workspaces/{id}/egress/test", tag = "egress",
    params(("id" = WorkspaceId, Path)), request_body = EgressTest,
    responses((status = 200, description = "What would become of it.", body = EgressOutcome)))]
async fn test_workspace_egress(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    extract::Json(test): extract::Json<EgressTest>,
) -> Answer<Json<EgressOutcome>> {
    Ok(Json(egress::test_egress(&app, &caller, RulePlace::Workspace(id), test).await?))
}

/// The smallest set of rules for what was recorded of a workspace, and what its repository's
/// environment asks for. Nothing of it is in force.
#[utoipa::path(get, path = "/api/workspaces/{id}/egress/proposal", tag = "egress",
    params(("id" = WorkspaceId, Path),
        ("refused" = Option<bool>, Query, description = "Also of what was refused because no \
            rule allows it, not only of what passed while learning.")),
    responses((status = 200, description = "The rules.", body = EgressProposal)))]
async fn propose_workspace_egress(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<WorkspaceId>,
    Query(query): Query<ProposalQuery>,
) -> Answer<Json<EgressProposal>> {
    let (place, refused) = (RulePlace::Workspace(id), query.refused.unwrap_or(false));
    Ok(Json(egress::propose_egress(&app, &caller, place, refused).await?))
}
