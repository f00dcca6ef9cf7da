//! Quotas, figures of days, and what is a person's own, over HTTP.

use boatyard_api::{
    ProblemKind,
    connection::{ConnectionBinding, ConnectionScope, NewConnection, SecretText},
    git::NewGitIdentity,
    quota::{DaysGroup, DaysQuery, NewQuota, QuotaKind, QuotaScope},
    workspace::NewWorkspace,
};
use boatyard_model::QuotaId;
use reqwest::{Method, header};
use serde_json::json;

use crate::machine::{Machine, problem_of};

fn quota(kind: QuotaKind, scope: QuotaScope, limit: f64) -> NewQuota {
    NewQuota { kind, scope, subject: None, limit }
}

#[tokio::test]
async fn quotas_are_set_shown_with_what_is_used_and_removed() {
    let machine = Machine::start().await;
    let client = &machine.client;
    for (kind, limit) in [
        (QuotaKind::Tasks, 4.0),
        (QuotaKind::Workspaces, 10.0),
        (QuotaKind::Minutes, 90.5),
        (QuotaKind::Storage, 1e9),
        (QuotaKind::Money, 12.5),
    ] {
        let set = client.set_quota(&quota(kind, QuotaScope::Organization, limit)).await.unwrap();
        assert_eq!((set.kind, set.limit, set.reached), (kind, limit, false));
    }
    // There is one for each; the later one holds.
    client.set_quota(&quota(QuotaKind::Tasks, QuotaScope::Organization, 2.0)).await.unwrap();
    client.set_quota(&quota(QuotaKind::Tasks, QuotaScope::Each, 1.0)).await.unwrap();
    client.set_quota(&quota(QuotaKind::Tasks, QuotaScope::Person, 0.0)).await.unwrap();
    // Who runs the server is an administrator like others, unless they name the organization.
    let mut new = quota(QuotaKind::Workspaces, QuotaScope::Organization, 8.0);
    assert!(!client.set_quota(&new).await.unwrap().imposed);
    new.subject = Some(boatyard_store::BUILT_IN_ORGANIZATION.to_string());
    assert!(client.set_quota(&new).await.unwrap().imposed);
    new.subject = None;
    assert!(client.set_quota(&new).await.unwrap().imposed, "it stays what it was");
    let list = client.list_quotas().await.unwrap();
    assert_eq!(list.items.len(), 7);
    assert_eq!((list.organization.tasks, list.own.storage), (0, 0));
    let own = list.items.iter().find(|item| item.scope == QuotaScope::Person).unwrap();
    assert!(own.reached && own.name.is_some(), "{own:?}");
    // Money of a month is a budget, and the same number removes it.
    assert_eq!(client.list_budgets().await.unwrap().items.len(), 1);
    for item in &list.items {
        client.remove_quota(item.id).await.unwrap();
    }
    assert!(client.list_quotas().await.unwrap().items.is_empty());
    assert!(client.list_budgets().await.unwrap().items.is_empty());
}

#[tokio::test]
async fn what_is_no_quota_is_refused_with_the_field() {
    let machine = Machine::start().await;
    for (body, field) in [
        (json!({ "kind": "tasks", "limit": -1 }), "limit"),
        (json!({ "kind": "tasks", "limit": 1.5 }), "limit"),
        (json!({ "kind": "storage", "limit": 1e300 }), "limit"),
        (json!({ "kind": "money", "limit": 1, "scope": "each" }), "scope"),
        (json!({ "kind": "tasks", "limit": 1, "scope": "person", "subject": "me" }), "subject"),
        (
            json!({ "kind": "tasks", "limit": 1, "scope": "person",
                "subject": "mem_0000000000000000000000000Z" }),
            "subject",
        ),
        (
            json!({ "kind": "tasks", "limit": 1, "subject": "org_0000000000000000000000000Z" }),
            "subject",
        ),
    ] {
        let answer = machine.request(Method::PUT, "/api/quotas").json(&body).send().await.unwrap();
        let problem = problem_of(answer).await;
        assert!(problem.is(ProblemKind::Invalid), "{body}: {problem:?}");
        assert_eq!(problem.field.as_deref(), Some(field), "{body}");
    }
    let gone = format!("/api/quotas/{}", QuotaId::new());
    let problem = problem_of(machine.request(Method::DELETE, &gone).send().await.unwrap()).await;
    assert!(problem.is(ProblemKind::NotFound) && problem.detail.contains("quota"), "{problem:?}");
}

#[tokio::test]
async fn a_workspace_that_a_quota_does_not_allow_is_refused_with_what_to_do() {
    let machine = Machine::start().await;
    let none = quota(QuotaKind::Workspaces, QuotaScope::Person, 0.0);
    machine.client.set_quota(&none).await.unwrap();
    let refused = machine.client.create_workspace(&NewWorkspace::default(), None).await;
    let boatyard_api::Error::Problem(problem) = refused.unwrap_err() else { panic!("no problem") };
    assert!(problem.is(ProblemKind::QuotaReached), "{problem:?}");
    assert!(problem.detail.contains("may have 0 workspaces in use"), "{problem:?}");
}

#[tokio::test]
async fn figures_of_days_come_as_series_and_as_a_table() {
    let machine = Machine::start().await;
    let query = DaysQuery { by: Some(DaysGroup::Person), ..DaysQuery::default() };
    let days = machine.client.read_usage_days(&query).await.unwrap();
    assert_eq!((days.days.len(), days.total.points.len(), days.series.len()), (30, 30, 0));
    let csv = machine.request(Method::GET, "/api/usage/days?by=person");
    let csv = csv.header(header::ACCEPT, "text/csv").send().await.unwrap();
    assert_eq!(csv.headers()[header::CONTENT_TYPE], "text/csv; charset=utf-8; header=present");
    let text = csv.text().await.unwrap();
    assert!(text.starts_with("day,person,name,tasks,minutes,calls,"), "{text}");
    for wrong in ["from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from=1970-01-01T00:00:00Z"]
    {
        let answer = machine.get(&format!("/api/usage/days?{wrong}")).await;
        let problem = problem_of(answer).await;
        assert!(problem.is(ProblemKind::Invalid), "{wrong}: {problem:?}");
    }
    // The job that stores them can be asked for by name.
    machine.client.run_job("daily-usage").await.unwrap();
}

fn own(kind: &str, name: &str, provider: Option<&str>) -> NewConnection {
    NewConnection {
        name: Some(name.to_owned()),
        kind: kind.to_owned(),
        value: SecretText::new("sk-hidden-from-everybody".to_owned()),
        binding: ConnectionBinding::default(),
        user: None,
        scope: ConnectionScope::Person,
        provider: provider.map(str::to_owned),
        expires: None,
    }
}

#[tokio::test]
async fn a_connection_of_ones_own_is_for_one_provider_and_beside_the_organizations() {
    let machine = Machine::start().await;
    let client = &machine.client;
    let made = client.create_connection(&own("model", "mine", Some("openai"))).await.unwrap();
    assert_eq!((made.scope, made.provider.as_deref()), (ConnectionScope::Person, Some("openai")));
    let all = NewConnection { scope: ConnectionScope::Organization, ..own("github", "mine", None) };
    client.create_connection(&all).await.unwrap();
    assert_eq!(client.list_connections().await.unwrap().items.len(), 2);
    for (new, field) in [
        (own("model", "other", None), "provider"),
        (own("model", "other", Some("nobody")), "provider"),
        (own("model", "other", Some("openai")), "provider"),
        (own("github", "other", Some("openai")), "provider"),
        (own("model", "mine", Some("anthropic")), "name"),
    ] {
        let refused = client.create_connection(&new).await.unwrap_err();
        let boatyard_api::Error::Problem(problem) = refused else { panic!("no problem") };
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
    }
}

#[tokio::test]
async fn workspaces_commit_in_the_name_of_whose_they_are() {
    let machine = Machine::start().await;
    let client = &machine.client;
    assert!(!client.find_git_identity().await.unwrap().own);
    let new = NewGitIdentity { name: " Ann ".to_owned(), email: "ann@example.com".to_owned() };
    let set = client.set_git_identity(&new).await.unwrap();
    assert_eq!((set.name.as_str(), set.email.as_str(), set.own), ("Ann", "ann@example.com", true));
    for (name, email) in
        [("", "a@b"), ("A <b>", "a@b"), ("A", "a"), ("A", "a b@c"), ("A\nB", "a@b")]
    {
        let new = NewGitIdentity { name: name.to_owned(), email: email.to_owned() };
        let refused = client.set_git_identity(&new).await.unwrap_err();
        let boatyard_api::Error::Problem(problem) = refused else { panic!("no problem") };
        assert!(problem.is(ProblemKind::Invalid), "{problem:?}");
    }
    client.clear_git_identity().await.unwrap();
    assert!(!client.find_git_identity().await.unwrap().own);
}
