//! The table of operations, tried: every route, for everybody, with keys for each scope. What the
//! table refuses is refused, and nothing else is; so that what stands in docs/roles.md is true.

use boatyard_api::{Problem, ProblemKind};
use boatyard_model::{
    AskId, KeyKind, PermissionId, PromptId, QuestionId, Role, RuleId, Scope, Scopes, Timestamp,
};
use boatyard_server::{
    access::{Entry, Need, table::TABLE},
    settings::Settings,
};
use boatyard_store::Owner;
use futures_util::StreamExt as _;
use reqwest::{Method, Response, StatusCode, header};
use serde_json::json;

use crate::{machine::Machine, team};

/// Requests under way at a time.
const AT_ONCE: usize = 8;

/// What ends its caller, or the rights of others who are tried here: each is tried elsewhere.
const ENDS: &[&str] = &["revoke_own_key"];

/// Somebody who asks.
#[derive(Clone)]
struct Asker {
    name: String,
    secret: Option<String>,
    role: Role,
    operator: bool,
    scopes: Scopes,
}

impl Asker {
    /// Whether the table lets them.
    fn may(&self, entry: &Entry) -> bool {
        let is_known = self.secret.is_some();
        let role = match entry.need {
            Need::Open => return true,
            Need::Oneself => return is_known,
            Need::Known => true,
            Need::Role(role) => self.role.includes(role),
            Need::Operator => self.operator,
        };
        is_known && role && self.scopes.has(entry.scope)
    }
}

/// The path with ids that are well formed and of nothing.
fn with_ids(entry: &Entry) -> String {
    let kind = entry.path.split('/').nth(2).unwrap_or_default();
    let prefix = match kind {
        "tasks" => "tsk",
        "workspaces" => "ws",
        "sessions" => "ses",
        "repositories" => "rep",
        "blobs" => "blb",
        "agents" => "tol",
        "connections" => "con",
        "organizations" => "org",
        "members" => "mem",
        "shares" => "shr",
        _ => "job",
    };
    let id = format!("{prefix}_00000000000000000000000007");
    let id = if entry.path.contains("/asks/") { AskId::new().to_string() } else { id };
    entry
        .path
        .replace("{id}", &id)
        .replace("{name}", "nobody")
        .replace("{provider}", "nobody")
        .replace("{code}", "BCDF-GHJK")
        .replace("{prompt}", &PromptId::new().to_string())
        .replace("{permission}", &PermissionId::new().to_string())
        .replace("{question}", &QuestionId::new().to_string())
        .replace("{rule}", &RuleId::new().to_string())
}

async fn ask(machine: &Machine, asker: &Asker, method: &Method, path: &str) -> Response {
    let mut request = machine.anonymous(method.clone(), path);
    if let Some(secret) = &asker.secret {
        request = request.bearer_auth(secret);
    }
    if !method.is_safe() {
        request = request.json(&json!({}));
    }
    request.send().await.unwrap()
}

/// Whether it was the table that refused, and how.
async fn refusal(answer: Response) -> Option<Problem> {
    let status = answer.status();
    if !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        // Some answers never end; what matters is known.
        return None;
    }
    let mime = answer.headers().get(header::CONTENT_TYPE).cloned();
    if mime.is_none_or(|mime| mime != "application/problem+json") {
        return None;
    }
    let problem: Problem = answer.json().await.unwrap();
    let of_the_table = ["this needs ", "this key is not for", "this is for those who run"];
    of_the_table.iter().any(|begin| problem.detail.starts_with(begin)).then_some(problem)
}

/// What is not as the table says.
async fn check(machine: &Machine, asker: &Asker, entry: &Entry) -> Option<String> {
    if ENDS.contains(&entry.operation) && asker.may(entry) {
        return None;
    }
    let path = with_ids(entry);
    let mut methods = vec![entry.method.clone()];
    if *entry.method == Method::GET {
        methods.push(Method::HEAD);
    }
    for method in methods {
        let answer = ask(machine, asker, &method, &path).await;
        let status = answer.status();
        let what = format!("{method} {path} ({}) by {}: {status}", entry.operation, asker.name);
        // A machine that can make no sandbox says so, which is no fault of the server's.
        if matches!(status.as_u16(), 405 | 429 | 500) {
            return Some(what);
        }
        if method == Method::HEAD {
            // Without a body there is only the status, which other things may be the cause of.
            if !asker.may(entry) && !matches!(status.as_u16(), 401 | 403) {
                return Some(what);
            }
            continue;
        }
        let refused = refusal(answer).await;
        if refused.is_none() != asker.may(entry) {
            return Some(format!("{what}: {refused:?}"));
        }
        let Some(problem) = refused else { continue };
        let (kind, has_next) = match &asker.secret {
            None => (ProblemKind::Unauthenticated, true),
            Some(_) => (ProblemKind::NotAllowed, problem.next.is_some()),
        };
        if !problem.is(kind) || !has_next {
            return Some(format!("{what}: {problem:?}"));
        }
    }
    None
}

async fn check_all(machine: &Machine, askers: &[Asker]) {
    let all = askers.iter().flat_map(|asker| TABLE.iter().map(move |entry| (asker, entry)));
    let wrong: Vec<String> = futures_util::stream::iter(all)
        .map(|(asker, entry)| check(machine, asker, entry))
        .buffer_unordered(AT_ONCE)
        .filter_map(|wrong| async { wrong })
        .collect()
        .await;
    assert!(
        wrong.is_empty(),
        "{} answers are not as the table says:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn every_operation_is_for_those_whom_the_table_names() {
    let machine = Machine::start().await;
    let nobody = Asker {
        name: "nobody".to_owned(),
        secret: None,
        role: Role::Viewer,
        operator: false,
        scopes: Scopes::NONE,
    };
    let mut askers = vec![nobody];
    for role in Role::ALL {
        let somebody = team::member(&machine, role.as_str(), *role).await;
        askers.push(Asker {
            name: role.to_string(),
            secret: Some(somebody.secret),
            role: *role,
            operator: false,
            scopes: Scopes::ALL,
        });
    }
    check_all(&machine, &askers).await;
}

#[tokio::test]
async fn a_key_is_for_its_scopes_only() {
    // Codes are asked for more often here than by anybody who has one.
    let mut settings = Settings::default();
    (settings.rates.codes, settings.rates.tokens) = (0, 0);
    let machine = Machine::with(settings, None).await;
    let mut askers = Vec::new();
    let sets = Scope::ALL.iter().map(|scope| Scopes::NONE.with(*scope));
    for scopes in sets.chain([Scopes::NONE, Scopes::ALL]) {
        let (_, secret) = team::key(&machine, Owner::BUILT_IN, KeyKind::Local, scopes, None).await;
        askers.push(Asker {
            name: format!("a key for `{scopes}`"),
            secret: Some(secret),
            role: Role::Owner,
            operator: true,
            scopes,
        });
    }
    check_all(&machine, &askers).await;
}

#[tokio::test]
async fn what_is_over_opens_nothing() {
    let machine = Machine::start().await;
    let removed = team::member(&machine, "Removed", Role::Admin).await;
    let revoked = team::member(&machine, "Revoked", Role::Admin).await;
    let (id, Owner { organization, member }) = (revoked.key, removed.owner);
    machine
        .store
        .write(move |tx| {
            Box::pin(async move {
                tx.revoke_key(id).await?;
                tx.remove_member(organization, member, None).await.map(drop)
            })
        })
        .await
        .unwrap();
    let past = Some(Timestamp(1000));
    let (_, expired) =
        team::key(&machine, Owner::BUILT_IN, KeyKind::Local, Scopes::ALL, past).await;
    for (name, secret) in [
        ("removed", removed.secret.as_str()),
        ("revoked", &revoked.secret),
        ("expired", &expired),
        ("unknown", "by_00000000000000000000000000000000000000000000000000000000000000000"),
        ("empty", ""),
    ] {
        for entry in TABLE.iter().filter(|entry| entry.need != Need::Open) {
            let request = machine.anonymous(entry.method.clone(), &with_ids(entry));
            let answer = request.bearer_auth(secret).send().await.unwrap();
            assert_eq!(answer.status(), 401, "{} with a key that is {name}", entry.operation);
        }
    }
}

#[tokio::test]
async fn another_organization_finds_nothing() {
    let machine = Machine::start().await;
    let stranger = team::elsewhere(&machine, "Stranger").await;
    let visibility = boatyard_model::Visibility::Open;
    let (workspace, session) = team::session(&machine, Owner::BUILT_IN, visibility).await;
    for entry in TABLE.iter().filter(|entry| entry.path.contains("{id}")) {
        let path = match entry.path.split('/').nth(2) {
            Some("workspaces") => entry.path.replace("{id}", &workspace.to_string()),
            Some("sessions") => entry.path.replace("{id}", &session.to_string()),
            _ => continue,
        };
        let path = with_ids(&Entry { path: path.leak(), ..*entry });
        let path = if path.ends_with("/content") { format!("{path}?path=a") } else { path };
        let request = machine.anonymous(entry.method.clone(), &path).bearer_auth(&stranger.secret);
        let request = match entry.operation {
            "exec_in_workspace" => request.json(&json!({ "command": ["true"] })),
            "create_prompt" => request.json(&json!({ "text": "hello" })),
            "answer_permission" => request.json(&json!({ "decision": "allow" })),
            "answer_question" => request.json(&json!({ "answer": "yes" })),
            "test_workspace_egress" => request.json(&json!({ "url": "https://example.com/" })),
            operation if operation.ends_with("_rule") => {
                request.json(&json!({ "action": "allow", "rule": "example.com" }))
            }
            _ if entry.method.is_safe() || *entry.method == Method::DELETE => request,
            _ => request.json(&json!({})),
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 404, "{} {path}", entry.operation);
    }
    assert!(stranger.client.list_sessions(&Default::default()).await.unwrap().items.is_empty());
    assert!(stranger.client.list_workspaces(&Default::default()).await.unwrap().items.is_empty());
}
