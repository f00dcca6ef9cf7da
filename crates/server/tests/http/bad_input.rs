//! Bad input of every kind: always a problem document, never a fault of the server.

use boatyard_api::ProblemKind;
use boatyard_model::{
    AskId, BlobId, BudgetId, ConnectionId, DeviceId, IdentityId, InvitationId, JobId, KeyId,
    MemberId, OrganizationId, PasskeyId, PermissionId, PersonId, PromptId, QuestionId, QuotaId,
    RepositoryId, RuleId, SessionId, ShareId, TaskId, ToolId, WorkspaceId,
};
use boatyard_server::{
    access::{self, Need},
    settings::Settings,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::machine::{Machine, problem_of};

/// Every operation of the description: method, path, whether it takes JSON.
async fn operations(machine: &Machine) -> Vec<(Method, String, bool)> {
    let document: Value = machine.get("/api/openapi.json").await.json().await.unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let json = operation["requestBody"]["content"]["application/json"].is_object();
            all.push((method.to_uppercase().parse().unwrap(), path.clone(), json));
        }
    }
    assert!(all.len() > 40, "{}", all.len());
    all
}

/// The path with ids that are well formed and of nothing.
fn with_ids(path: &str) -> String {
    let id = match path.split('/').nth(2).unwrap_or_default() {
        "tasks" => TaskId::new().to_string(),
        "workspaces" => WorkspaceId::new().to_string(),
        "sessions" => SessionId::new().to_string(),
        "repositories" => RepositoryId::new().to_string(),
        "blobs" => BlobId::new().to_string(),
        "agents" => ToolId::new().to_string(),
        "connections" => ConnectionId::new().to_string(),
        "budgets" => BudgetId::new().to_string(),
        "organizations" => OrganizationId::new().to_string(),
        "members" => MemberId::new().to_string(),
        "invitations" => InvitationId::new().to_string(),
        "api-keys" => KeyId::new().to_string(),
        "people" => PersonId::new().to_string(),
        "auth" if path.contains("/devices/") => DeviceId::new().to_string(),
        "auth" if path.contains("/accounts/") => IdentityId::new().to_string(),
        "auth" if path.contains("/passkeys/") => PasskeyId::new().to_string(),
        "shares" => ShareId::new().to_string(),
        "quotas" => QuotaId::new().to_string(),
        "egress" if path.contains("/asks/") => AskId::new().to_string(),
        "egress" => RuleId::new().to_string(),
        _ => JobId::new().to_string(),
    };
    path.replace("{id}", &id)
        .replace("{code}", "BCDF-GHJK")
        .replace("{name}", "nobody")
        .replace("{prompt}", &PromptId::new().to_string())
        .replace("{permission}", &PermissionId::new().to_string())
        .replace("{question}", &QuestionId::new().to_string())
        .replace("{rule}", &RuleId::new().to_string())
}

#[tokio::test]
async fn every_operation_needs_a_caller() {
    let machine = Machine::start().await;
    for (method, path, _) in operations(&machine).await {
        if access::entry(&method, &path).is_some_and(|entry| entry.need == Need::Open) {
            continue;
        }
        let answer = machine.anonymous(method.clone(), &with_ids(&path)).send().await.unwrap();
        let problem = problem_of(answer).await;
        assert!(problem.is(ProblemKind::Unauthenticated), "{method} {path}: {problem:?}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_no_fault() {
    let machine = Machine::start().await;
    for (method, path, json) in operations(&machine).await {
        // What can be put where nothing was is not looked for.
        if !path.contains('{') || (method == Method::PUT && path.ends_with("/{name}")) {
            continue;
        }
        // A browser on its way to a provider is led to the page, which says what is the matter.
        if path.ends_with("/{provider}") {
            continue;
        }
        let filled = with_ids(&path);
        let mut request = machine.request(method.clone(), &filled);
        if json {
            request = request.json(&body_for(&path));
        }
        if path.ends_with("/content") {
            request = machine.request(method.clone(), &format!("{filled}?path=a"));
        }
        let problem = problem_of(request.send().await.unwrap()).await;
        assert!(problem.is(ProblemKind::NotFound), "{method} {path}: {problem:?}");
    }
}

/// A body that is right.
fn body_for(path: &str) -> Value {
    if path.contains("/asks/") {
        return json!({ "answer": "once" });
    }
    if path.contains("/rules") {
        return json!({ "action": "allow", "rule": "example.com" });
    }
    if path.starts_with("/api/organizations/") && path.ends_with("/transfer") {
        return json!({ "member": MemberId::new() });
    }
    if path.starts_with("/api/members/") {
        return match path.ends_with("/transfer") {
            true => json!({ "to": MemberId::new() }),
            false => json!({ "role": "member" }),
        };
    }
    match path.rsplit('/').next().unwrap_or_default() {
        "test" => json!({ "url": "https://example.com/" }),
        "value" => json!({ "value": "something" }),
        "exec" => json!({ "command": ["true"] }),
        "prompts" => json!({ "text": "hello" }),
        "{permission}" => json!({ "decision": "allow" }),
        "{question}" => json!({ "answer": "yes" }),
        "{prompt}" => json!({ "text": "other" }),
        "{code}" => json!({ "approve": false }),
        _ => json!({}),
    }
}

#[tokio::test]
async fn malformed_ids_bodies_and_queries_are_named() {
    // More codes are tried than by a person.
    let mut settings = Settings::default();
    settings.rates.codes = 0;
    let machine = Machine::with(settings, None).await;
    for (method, path, json) in operations(&machine).await {
        if path.contains('{') && !path.ends_with("/{provider}") {
            for bad in
                ["x", "tsk_", "..%2f..%2fetc", "ws_00000000000000000000000000000000000", "%00"]
            {
                let bad = path
                    .replace("{id}", bad)
                    .replace("{name}", "No_Name")
                    .replace("{code}", "x")
                    .replace("{prompt}", "x")
                    .replace("{permission}", "x")
                    .replace("{question}", "x")
                    .replace("{rule}", "x");
                let answer = machine.request(method.clone(), &bad).send().await.unwrap();
                let problem = problem_of(answer).await;
                assert!(problem.is(ProblemKind::Invalid), "{method} {bad}: {problem:?}");
                assert!(problem.field.as_deref().unwrap().starts_with("path"), "{problem:?}");
            }
        }
        // What programs ask that want to be let in is answered as RFC 8628 has it.
        let in_words_of_its_own = ["/api/auth/device/code", "/api/auth/device/token"];
        if json && !in_words_of_its_own.contains(&path.as_str()) {
            for bad in ["", "{", "[]", "null", "\"x\"", "{\"no-such-field\":1}", "\u{0}"] {
                let request = machine.request(method.clone(), &with_ids(&path));
                let request = request.header("content-type", "application/json").body(bad);
                let problem = problem_of(request.send().await.unwrap()).await;
                let expected = problem.status < 500 && problem.status != 404;
                assert!(expected, "{method} {path} {bad}: {problem:?}");
            }
            let request = machine.request(method.clone(), &with_ids(&path)).body("{}");
            let problem = problem_of(request.send().await.unwrap()).await;
            assert!(problem.is(ProblemKind::UnsupportedMediaType), "{method} {path}: {problem:?}");
        }
    }
    for (path, field) in [
        ("/api/tasks?limit=0", "query.limit"),
        ("/api/tasks?limit=201", "query.limit"),
        ("/api/tasks?limit=x", "query.limit"),
        ("/api/tasks?cursor=x", "query.cursor"),
        ("/api/tasks?state=loud", "query.state"),
        ("/api/tasks?colour=red", "query.colour"),
        ("/api/sessions?cursor=MQ", "query.cursor"),
        ("/api/workspaces?limit=-1", "query.limit"),
        ("/api/repositories?limit=99999999999", "query.limit"),
        ("/api/jobs?state=loud", "query.state"),
        ("/api/events?after=x", "query.after"),
        ("/api/events?follow=maybe", "query.follow"),
    ] {
        let problem = problem_of(machine.get(path).await).await;
        assert!(problem.is(ProblemKind::Invalid), "{path}: {problem:?}");
        assert_eq!(problem.field.as_deref(), Some(field), "{path}");
    }
}

#[tokio::test]
async fn a_task_that_can_not_be_is_refused_at_once() {
    // More codes are tried here than anybody has.
    let mut settings = Settings::default();
    (settings.rates.codes, settings.rates.sign_in, settings.rates.tokens) = (0, 0, 0);
    let machine = Machine::with(settings, None).await;
    let order = |change: Value| {
        let mut order = json!({ "prompt": "do it", "repository": "owner/repo" });
        for (key, value) in change.as_object().unwrap() {
            order[key] = value.clone();
        }
        machine.request(Method::POST, "/api/tasks").json(&order).send()
    };
    for (change, field) in [
        (json!({ "prompt": "" }), "prompt"),
        (json!({ "prompt": " \n\t" }), "prompt"),
        (json!({ "prompt": "x".repeat((1 << 20) + 1) }), "prompt"),
        (json!({ "agent": "no-such-agent" }), "agent"),
        (json!({ "agent": "Not A Name" }), "agent"),
        (json!({ "attempts": 0 }), "attempts"),
        (json!({ "attempts": 1000 }), "attempts"),
        (json!({ "base": "a..b" }), "base"),
        (json!({ "base": "--upload-pack=x" }), "base"),
        (json!({ "images": [BlobId::new()] }), "images"),
        (json!({ "repository": "" }), "repository"),
        (json!({ "repository": "file:///etc" }), "repository"),
        (json!({ "repository": "ext::sh -c id" }), "repository"),
        (json!({ "repository": "--upload-pack=x" }), "repository"),
        (json!({ "repository": "https://user:secret@host/x" }), "repository"),
        (json!({ "repository": "/etc" }), "repository"),
        (json!({ "repository": RepositoryId::new() }), "repository"),
        (json!({ "limits": { "time": -1 } }), "limits.time"),
        (json!({ "title": "x".repeat(10_000) }), "title"),
    ] {
        let problem = problem_of(order(change.clone()).await.unwrap()).await;
        let shown: String = change.to_string().chars().take(80).collect();
        assert!(problem.status < 500, "{shown}: {problem:?}");
        assert_eq!(problem.field.as_deref(), Some(field), "{shown}: {problem:?}");
        assert!(!problem.detail.contains("secret"), "{problem:?}");
    }
    let enormous = json!({ "prompt": "x".repeat(9 << 20) });
    assert!(problem_of(order(enormous).await.unwrap()).await.is(ProblemKind::TooLarge));
    let odd = machine.request(Method::POST, "/api/tasks").header("idempotency-key", "a b");
    let odd = odd.json(&json!({ "prompt": "p", "repository": "a/b" })).send().await.unwrap();
    assert_eq!(problem_of(odd).await.field.as_deref(), Some("header.idempotency-key"));
}

#[tokio::test]
async fn the_same_key_makes_one_task_and_refuses_another() {
    let machine = Machine::start().await;
    let source = "sent:once".to_owned();
    let new = boatyard_api::repository::NewRepository { source };
    let repository = machine.client.create_repository(&new).await.unwrap();
    let order = |prompt: &str| {
        let order = json!({ "prompt": prompt, "repository": repository.id });
        machine
            .request(Method::POST, "/api/tasks")
            .header("idempotency-key", "k1")
            .json(&order)
            .send()
    };
    let first = order("one").await.unwrap();
    assert_eq!(first.status(), 201);
    let location = first.headers()["location"].to_str().unwrap().to_owned();
    let first: Value = first.json().await.unwrap();
    let again: Value = order("one").await.unwrap().json().await.unwrap();
    assert_eq!(first["id"], again["id"]);
    assert_eq!(location, format!("/api/tasks/{}", first["id"].as_str().unwrap()));
    let other = problem_of(order("two").await.unwrap()).await;
    assert!(other.is(ProblemKind::IdempotencyConflict), "{other:?}");
}
