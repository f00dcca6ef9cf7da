//! The one table of operations: what each asks of its caller.
//!
//! Sorted by path, then by method. A new route without a line here is refused by the gate and
//! fails the tests.

use boatyard_model::{Role, Scope};
use http::Method;

use super::{Audit, Entry, Need};

const OPEN: Need = Need::Open;
const ONESELF: Need = Need::Oneself;
const KNOWN: Need = Need::Known;
const VIEWER: Need = Need::Role(Role::Viewer);
const MEMBER: Need = Need::Role(Role::Member);
const ADMIN: Need = Need::Role(Role::Admin);
const OWNER: Need = Need::Role(Role::Owner);
const OPERATOR: Need = Need::Operator;

macro_rules! table {
    ($($method:ident $path:literal $operation:ident $need:ident $scope:ident $audit:ident;)*) => {
        /// Every route.
        pub const TABLE: &[Entry] = &[$(Entry {
            method: &Method::$method,
            path: $path,
            operation: stringify!($operation),
            need: $need,
            scope: Scope::$scope,
            audit: Audit::$audit,
        },)*];
    };
}

table! {
    GET "/" enter OPEN Account Change;
    GET "/api/agents" list_agents VIEWER AgentsRead None;
    DELETE "/api/agents/{name}" remove_agent OPERATOR AgentsWrite Change;
    GET "/api/agents/{name}" find_agent VIEWER AgentsRead None;
    PUT "/api/agents/{name}" put_agent OPERATOR AgentsWrite Change;
    POST "/api/agents/{name}/check" check_agent OPERATOR AgentsWrite Change;
    POST "/api/agents/{name}/install" install_agent OPERATOR AgentsWrite Change;
    DELETE "/api/agents/{name}/settings" clear_agent_settings ADMIN AgentsWrite Change;
    GET "/api/agents/{name}/settings" find_agent_settings VIEWER AgentsRead None;
    PUT "/api/agents/{name}/settings" set_agent_settings ADMIN AgentsWrite Change;
    GET "/api/agents/{name}/tools" list_tools VIEWER AgentsRead None;
    DELETE "/api/agents/{name}/tools/{id}" remove_tool OPERATOR AgentsWrite Change;
    GET "/api/agents/{name}/tools/{id}" find_tool VIEWER AgentsRead None;
    GET "/api/api-keys" list_keys KNOWN KeysRead None;
    POST "/api/api-keys" create_key KNOWN KeysWrite Change;
    DELETE "/api/api-keys/{id}" revoke_key KNOWN KeysWrite Change;
    GET "/api/api-keys/{id}" find_key KNOWN KeysRead None;
    GET "/api/api-keys/{id}/calls" list_key_calls KNOWN KeysRead None;
    GET "/api/audit" list_audit ADMIN AuditRead None;
    GET "/api/audit/check" check_audit ADMIN AuditRead None;
    GET "/api/audit/retention" find_audit_retention ADMIN AuditRead None;
    PUT "/api/audit/retention" set_audit_retention OWNER MembersWrite Change;
    GET "/api/auth/accounts" list_accounts KNOWN Account None;
    DELETE "/api/auth/accounts/{id}" remove_account KNOWN Account Change;
    GET "/api/auth/callback/{provider}" finish_sign_in OPEN Account Change;
    POST "/api/auth/device/code" create_device_code OPEN Account None;
    POST "/api/auth/device/token" redeem_device_code OPEN Account Change;
    GET "/api/auth/device/{code}" find_device_code KNOWN KeysWrite None;
    POST "/api/auth/device/{code}" decide_device_code KNOWN KeysWrite Change;
    DELETE "/api/auth/devices" end_devices KNOWN Account Change;
    GET "/api/auth/devices" list_devices KNOWN Account None;
    DELETE "/api/auth/devices/{id}" end_device KNOWN Account Change;
    POST "/api/auth/guest" enter_as_guest OPEN Account Change;
    GET "/api/auth/invitation" preview_invitation OPEN Account None;
    DELETE "/api/auth/key" revoke_own_key ONESELF Account Change;
    GET "/api/auth/key" find_own_key ONESELF Account None;
    POST "/api/auth/links" create_login_link KNOWN Account Change;
    POST "/api/auth/login" sign_in OPEN Account Change;
    POST "/api/auth/logout" sign_out OPEN Account Change;
    GET "/api/auth/me" find_identity ONESELF Account None;
    PATCH "/api/auth/me" change_identity KNOWN Account Change;
    POST "/api/auth/organization" choose_organization KNOWN Account Change;
    GET "/api/auth/passkeys" list_passkeys KNOWN Account None;
    POST "/api/auth/passkeys/login/begin" begin_passkey_login OPEN Account None;
    POST "/api/auth/passkeys/login/finish" finish_passkey_login OPEN Account Change;
    POST "/api/auth/passkeys/register/begin" begin_passkey KNOWN Account None;
    POST "/api/auth/passkeys/register/finish" finish_passkey KNOWN Account Change;
    DELETE "/api/auth/passkeys/{id}" remove_passkey KNOWN Account Change;
    POST "/api/auth/password" set_password KNOWN Account Change;
    POST "/api/auth/setup" set_up OPEN Account Change;
    POST "/api/auth/sign-up" sign_up OPEN Account Change;
    GET "/api/auth/start/{provider}" begin_sign_in OPEN Account None;
    GET "/api/auth/ways" list_ways OPEN Account None;
    POST "/api/blobs" create_blob MEMBER TasksWrite Change;
    GET "/api/blobs/{id}" read_blob VIEWER TasksRead None;
    GET "/api/budgets" list_budgets VIEWER UsageRead None;
    POST "/api/budgets" set_budget ADMIN UsageWrite Change;
    DELETE "/api/budgets/{id}" remove_budget ADMIN UsageWrite Change;
    GET "/api/connections" list_connections VIEWER ConnectionsRead None;
    POST "/api/connections" create_connection MEMBER ConnectionsWrite Change;
    POST "/api/connections/rekey" rekey OPERATOR ConnectionsWrite Change;
    DELETE "/api/connections/{id}" remove_connection MEMBER ConnectionsWrite Change;
    GET "/api/connections/{id}" find_connection VIEWER ConnectionsRead None;
    POST "/api/connections/{id}/check" check_connection MEMBER ConnectionsWrite Change;
    PUT "/api/connections/{id}/value" rotate_connection MEMBER ConnectionsWrite Change;
    GET "/api/docs" read_docs KNOWN Account None;
    GET "/api/egress" find_egress VIEWER EgressRead None;
    PUT "/api/egress" set_egress ADMIN EgressWrite Change;
    GET "/api/egress/asks" list_asks VIEWER EgressRead None;
    GET "/api/egress/asks/{id}" find_ask VIEWER EgressRead None;
    POST "/api/egress/asks/{id}" answer_ask MEMBER Approve Change;
    GET "/api/egress/log" list_requests VIEWER EgressRead None;
    GET "/api/egress/log/summary" summarize_requests VIEWER EgressRead None;
    GET "/api/egress/presets" list_egress_presets VIEWER EgressRead None;
    GET "/api/egress/proposal" propose_egress VIEWER EgressRead None;
    GET "/api/egress/rules" list_egress_rules VIEWER EgressRead None;
    POST "/api/egress/rules" create_egress_rule ADMIN EgressWrite Change;
    DELETE "/api/egress/rules/{id}" delete_egress_rule ADMIN EgressWrite Change;
    GET "/api/egress/rules/{id}" find_egress_rule VIEWER EgressRead None;
    PUT "/api/egress/rules/{id}" change_egress_rule ADMIN EgressWrite Change;
    POST "/api/egress/test" test_egress VIEWER EgressRead None;
    GET "/api/environments" list_environments VIEWER RepositoriesRead None;
    GET "/api/events" follow_feed VIEWER TasksRead None;
    DELETE "/api/git/connections" disconnect_repository MEMBER RepositoriesWrite Change;
    GET "/api/git/connections" list_git_connections VIEWER RepositoriesRead None;
    PUT "/api/git/connections" connect_repository MEMBER RepositoriesWrite Change;
    DELETE "/api/git/identity" clear_git_identity MEMBER RepositoriesWrite Change;
    GET "/api/git/identity" find_git_identity VIEWER RepositoriesRead None;
    PUT "/api/git/identity" set_git_identity MEMBER RepositoriesWrite Change;
    GET "/api/git/key" find_git_key VIEWER RepositoriesRead None;
    POST "/api/git/key" renew_git_key ADMIN RepositoriesWrite Change;
    GET "/api/invitations" list_invitations ADMIN MembersRead None;
    POST "/api/invitations" create_invitation ADMIN MembersWrite Change;
    POST "/api/invitations/accept" accept_invitation KNOWN Account Change;
    DELETE "/api/invitations/{id}" withdraw_invitation ADMIN MembersWrite Change;
    GET "/api/invitations/{id}" find_invitation ADMIN MembersRead None;
    GET "/api/jobs" list_jobs OPERATOR ServerRead None;
    POST "/api/jobs" run_job OPERATOR ServerWrite Change;
    GET "/api/jobs/{id}" find_job OPERATOR ServerRead None;
    POST "/api/jobs/{id}/cancel" cancel_job OPERATOR ServerWrite Change;
    POST "/api/maintenance/gc" collect_garbage OPERATOR ServerWrite Change;
    GET "/api/members" list_members VIEWER MembersRead None;
    DELETE "/api/members/{id}" remove_member ADMIN MembersWrite Change;
    GET "/api/members/{id}" find_member VIEWER MembersRead None;
    PATCH "/api/members/{id}" update_member ADMIN MembersWrite Change;
    POST "/api/members/{id}/transfer" transfer_work ADMIN MembersWrite Change;
    GET "/api/openapi.json" read_openapi KNOWN Account None;
    GET "/api/organizations" list_organizations KNOWN MembersRead None;
    POST "/api/organizations" create_organization OPERATOR MembersWrite Change;
    DELETE "/api/organizations/{id}" delete_organization KNOWN MembersWrite Change;
    GET "/api/organizations/{id}" find_organization KNOWN MembersRead None;
    PATCH "/api/organizations/{id}" update_organization KNOWN MembersWrite Change;
    POST "/api/organizations/{id}/leave" leave_organization KNOWN MembersWrite Change;
    POST "/api/organizations/{id}/transfer" transfer_organization KNOWN MembersWrite Change;
    GET "/api/people" list_people OPERATOR ServerRead None;
    GET "/api/people/{id}" find_person OPERATOR ServerRead None;
    PATCH "/api/people/{id}" update_person OPERATOR ServerWrite Change;
    POST "/api/people/{id}/links" create_person_link OPERATOR ServerWrite Change;
    GET "/api/quotas" list_quotas VIEWER UsageRead None;
    PUT "/api/quotas" set_quota ADMIN UsageWrite Change;
    DELETE "/api/quotas/{id}" remove_quota ADMIN UsageWrite Change;
    GET "/api/repositories" list_repositories VIEWER RepositoriesRead None;
    POST "/api/repositories" create_repository MEMBER RepositoriesWrite Change;
    DELETE "/api/repositories/{id}" delete_repository ADMIN RepositoriesWrite Change;
    GET "/api/repositories/{id}" find_repository VIEWER RepositoriesRead None;
    GET "/api/repositories/{id}/access" find_repository_access ADMIN MembersRead None;
    PUT "/api/repositories/{id}/access" set_repository_access ADMIN MembersWrite Change;
    DELETE "/api/repositories/{id}/agents/{name}/settings" clear_repository_agent_settings ADMIN AgentsWrite Change;
    GET "/api/repositories/{id}/agents/{name}/settings" find_repository_agent_settings VIEWER AgentsRead None;
    PUT "/api/repositories/{id}/agents/{name}/settings" set_repository_agent_settings ADMIN AgentsWrite Change;
    PUT "/api/repositories/{id}/bundle" send_bundle MEMBER RepositoriesWrite Change;
    GET "/api/sessions" list_sessions VIEWER TasksRead None;
    POST "/api/sessions" create_session MEMBER TasksWrite Change;
    DELETE "/api/sessions/{id}" delete_session MEMBER TasksWrite Change;
    GET "/api/sessions/{id}" find_session VIEWER TasksRead None;
    PATCH "/api/sessions/{id}" change_session MEMBER TasksWrite Change;
    GET "/api/sessions/{id}/events" follow_session VIEWER TasksRead None;
    POST "/api/sessions/{id}/permissions/{permission}" answer_permission MEMBER Approve Change;
    GET "/api/sessions/{id}/presence" find_presence VIEWER TasksRead None;
    POST "/api/sessions/{id}/presence" set_presence VIEWER TasksRead None;
    GET "/api/sessions/{id}/prompts" list_prompts VIEWER TasksRead None;
    POST "/api/sessions/{id}/prompts" create_prompt MEMBER TasksWrite Change;
    DELETE "/api/sessions/{id}/prompts/{prompt}" delete_prompt MEMBER TasksWrite Change;
    GET "/api/sessions/{id}/prompts/{prompt}" find_prompt VIEWER TasksRead None;
    PATCH "/api/sessions/{id}/prompts/{prompt}" update_prompt MEMBER TasksWrite Change;
    POST "/api/sessions/{id}/questions/{question}" answer_question MEMBER Approve Change;
    POST "/api/sessions/{id}/stop" stop_session MEMBER TasksWrite Change;
    GET "/api/sessions/{id}/transcript" read_transcript VIEWER TasksRead None;
    GET "/api/shares" list_shares VIEWER TasksRead None;
    POST "/api/shares" create_share MEMBER TasksWrite Change;
    POST "/api/shares/redeem" take_share KNOWN TasksRead Change;
    DELETE "/api/shares/{id}" revoke_share MEMBER TasksWrite Change;
    GET "/api/shares/{id}" find_share VIEWER TasksRead None;
    GET "/api/sharing" find_sharing VIEWER TasksRead None;
    PUT "/api/sharing" set_sharing ADMIN MembersWrite Change;
    GET "/api/sign-in" find_sign_in OPERATOR ServerRead None;
    PUT "/api/sign-in" change_sign_in OPERATOR ServerWrite Change;
    GET "/api/sign-in/providers" list_sign_in_providers OPERATOR ServerRead None;
    POST "/api/sign-in/providers" create_sign_in_provider OPERATOR ServerWrite Change;
    DELETE "/api/sign-in/providers/{name}" remove_sign_in_provider OPERATOR ServerWrite Change;
    GET "/api/sign-in/providers/{name}" find_sign_in_provider OPERATOR ServerRead None;
    PUT "/api/sign-in/providers/{name}" change_sign_in_provider OPERATOR ServerWrite Change;
    POST "/api/sign-in/providers/{name}/check" check_sign_in_provider OPERATOR ServerWrite Change;
    GET "/api/tasks" list_tasks VIEWER TasksRead None;
    POST "/api/tasks" create_task MEMBER TasksWrite Change;
    GET "/api/tasks/{id}" find_task VIEWER TasksRead None;
    PATCH "/api/tasks/{id}" change_task MEMBER TasksWrite Change;
    GET "/api/tasks/{id}/attempts" list_attempts VIEWER TasksRead None;
    GET "/api/tasks/{id}/bundle" read_attempt_bundle VIEWER TasksRead None;
    POST "/api/tasks/{id}/cancel" cancel_task MEMBER TasksWrite Change;
    GET "/api/tasks/{id}/diff" read_attempt_diff VIEWER TasksRead None;
    GET "/api/tasks/{id}/patch" read_attempt_patch VIEWER TasksRead None;
    POST "/api/tasks/{id}/push" push_attempt MEMBER TasksWrite Change;
    GET "/api/tasks/{id}/result" find_task_result VIEWER TasksRead None;
    GET "/api/usage" read_usage VIEWER UsageRead None;
    GET "/api/usage/days" read_usage_days VIEWER UsageRead None;
    GET "/api/workspaces" list_workspaces VIEWER WorkspacesRead None;
    POST "/api/workspaces" create_workspace MEMBER WorkspacesWrite Change;
    DELETE "/api/workspaces/{id}" delete_workspace MEMBER WorkspacesWrite Change;
    GET "/api/workspaces/{id}" find_workspace VIEWER WorkspacesRead None;
    PATCH "/api/workspaces/{id}" change_workspace MEMBER WorkspacesWrite Change;
    GET "/api/workspaces/{id}/egress" find_workspace_egress VIEWER EgressRead None;
    PUT "/api/workspaces/{id}/egress" set_workspace_egress MEMBER EgressWrite Change;
    GET "/api/workspaces/{id}/egress/proposal" propose_workspace_egress VIEWER EgressRead None;
    GET "/api/workspaces/{id}/egress/rules" list_workspace_egress_rules VIEWER EgressRead None;
    POST "/api/workspaces/{id}/egress/rules" create_workspace_egress_rule MEMBER EgressWrite Change;
    DELETE "/api/workspaces/{id}/egress/rules/{rule}" delete_workspace_egress_rule MEMBER EgressWrite Change;
    GET "/api/workspaces/{id}/egress/rules/{rule}" find_workspace_egress_rule VIEWER EgressRead None;
    PUT "/api/workspaces/{id}/egress/rules/{rule}" change_workspace_egress_rule MEMBER EgressWrite Change;
    POST "/api/workspaces/{id}/egress/test" test_workspace_egress VIEWER EgressRead None;
    POST "/api/workspaces/{id}/exec" exec_in_workspace MEMBER WorkspacesWrite Beside;
    GET "/api/workspaces/{id}/files" list_files VIEWER WorkspacesRead None;
    GET "/api/workspaces/{id}/files/content" read_file VIEWER WorkspacesRead None;
    PUT "/api/workspaces/{id}/files/content" write_file MEMBER WorkspacesWrite Beside;
    POST "/api/workspaces/{id}/fork" fork_workspace MEMBER WorkspacesWrite Change;
    GET "/api/workspaces/{id}/git/diff" read_workspace_diff VIEWER WorkspacesRead None;
    GET "/api/workspaces/{id}/git/log" read_workspace_log VIEWER WorkspacesRead None;
    POST "/api/workspaces/{id}/snapshot" snapshot_workspace MEMBER WorkspacesWrite Change;
    POST "/api/workspaces/{id}/start" start_workspace MEMBER WorkspacesWrite Change;
    POST "/api/workspaces/{id}/stop" stop_workspace MEMBER WorkspacesWrite Change;
    GET "/health" find_health OPEN ServerRead None;
    GET "/metrics" read_metrics OPERATOR ServerRead None;
    GET "/skill.md" read_skill OPEN Account None;
}

/// The entry of an operation.
pub(crate) fn named(operation: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.operation == operation)
}

/// The entry of a method and a path.
pub(super) fn find(method: &Method, path: &str) -> Option<&'static Entry> {
    let order = |entry: &Entry| (entry.path, entry.method.as_str()).cmp(&(path, method.as_str()));
    let place = TABLE.binary_search_by(order).ok()?;
    TABLE.get(place)
}

/// Whether a path has an entry, whatever the method.
pub(super) fn has(path: &str) -> bool {
    TABLE.binary_search_by(|entry| entry.path.cmp(path)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_sorted_and_names_each_route_once() {
        for pair in TABLE.windows(2) {
            let key = |entry: &Entry| (entry.path, entry.method.as_str().to_owned());
            assert!(key(&pair[0]) < key(&pair[1]), "{:?} is out of place", pair[1]);
        }
        for entry in TABLE {
            assert_eq!(find(entry.method, entry.path), Some(entry));
        }
    }

    #[test]
    fn every_described_route_has_its_entry() {
        let document = serde_json::to_value(crate::routes::description()).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let Some(name) = operation["operationId"].as_str() else { continue };
                let method = method.to_uppercase().parse().unwrap();
                let entry = find(&method, path);
                let entry = entry.unwrap_or_else(|| panic!("{method} {path} has no entry"));
                assert_eq!(entry.operation, name, "{method} {path}");
                described.insert((path.clone(), method.to_string()));
            }
        }
        for path in crate::routes::unnamed() {
            assert!(TABLE.iter().any(|entry| entry.path == path), "{path} has no entry");
        }
        let undescribed = ["read_openapi", "read_docs", "read_skill", "enter"];
        for entry in TABLE.iter().filter(|entry| !undescribed.contains(&entry.operation)) {
            let key = (entry.path.to_owned(), entry.method.to_string());
            assert!(described.contains(&key), "{entry:?} is no route");
        }
    }
}
