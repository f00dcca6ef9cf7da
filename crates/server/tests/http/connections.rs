//! Connections over HTTP: values go in, and never come out.

use boatyard_api::{
    ProblemKind,
    connection::{
        ConnectionBinding, ConnectionState, NewConnection, Rekey, RotateConnection, SecretText,
    },
};
use boatyard_model::{ConnectionId, Timestamp};

use crate::machine::{Machine, problem_of};

const VALUE: &str = "ghp_hidden-from-everybody";

fn new(kind: &str) -> NewConnection {
    NewConnection {
        name: None,
        kind: kind.to_owned(),
        value: SecretText::new(VALUE.to_owned()),
        binding: ConnectionBinding::default(),
        scope: boatyard_api::connection::ConnectionScope::Organization,
        provider: None,
        user: None,
        expires: None,
    }
}

#[tokio::test]
async fn a_value_goes_in_and_never_comes_out() {
    let machine = Machine::start().await;
    let made = machine.client.create_connection(&new("github")).await.unwrap();
    assert_eq!((made.name.as_str(), made.state), ("github", ConnectionState::Active));
    assert_eq!(made.binding.variables, ["GITHUB_TOKEN", "GH_TOKEN"]);
    assert!(made.warnings.iter().any(|text| text.contains("boatyard egress allow")), "{made:?}");
    assert_eq!(machine.client.list_connections().await.unwrap().items.len(), 1);
    let value = SecretText::new("ghp_another-hidden-one".to_owned());
    let request = RotateConnection { value, expires: Some(Timestamp(4_000_000_000_000)) };
    let rotated = machine.client.rotate_connection(made.id, &request).await.unwrap();
    assert_eq!(rotated.expires, request.expires);
    let rekey = Rekey { data: true, master: true, forget: false };
    let done = machine.client.rekey(&rekey).await.unwrap();
    assert_eq!((done.sealed, done.rewrapped > 0), (1, true));
    for path in ["", &format!("/{}", made.id)] {
        let text = machine.get(&format!("/api/connections{path}")).await.text().await.unwrap();
        assert!(text.contains("github") && !text.contains("hidden"), "{text}");
    }
    let feed = machine.get("/api/events?follow=false").await.text().await.unwrap();
    assert!(feed.contains("connection.rotated") && !feed.contains("hidden"), "{feed}");
    machine.client.remove_connection(made.id).await.unwrap();
    let gone = machine.client.find_connection(made.id).await.unwrap_err();
    assert!(gone.problem().unwrap().is(ProblemKind::NotFound));
    machine.client.create_connection(&new("github")).await.unwrap();
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_at_its_field() {
    let machine = Machine::start().await;
    let check = async |new: &NewConnection, field: &str, says: &str| {
        let error = machine.client.create_connection(new).await.unwrap_err();
        let problem = error.problem().unwrap();
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
        assert!(problem.detail.contains(says) && !problem.detail.contains("hidden"), "{problem:?}");
    };
    check(&new("gihub"), "kind", "gihub").await;
    check(&new("generic"), "binding.hosts", "goes nowhere").await;
    let mut everywhere = new("github");
    everywhere.binding.hosts = vec!["*".to_owned()];
    check(&everywhere, "binding.hosts[0]", "every host").await;
    let over = NewConnection { expires: Some(Timestamp(1)), ..new("github") };
    check(&over, "expires", "over already").await;
    let short = NewConnection { value: SecretText::new("hidden".to_owned()), ..new("github") };
    check(&short, "value", "shorter").await;
    machine.client.create_connection(&new("github")).await.unwrap();
    check(&new("github"), "name", "already").await;
    let again = NewConnection { name: Some("again".to_owned()), ..new("github") };
    check(&again, "binding.variables", "GITHUB_TOKEN").await;
    let nothing = machine.client.rekey(&Rekey::default()).await.unwrap_err();
    assert!(nothing.problem().unwrap().is(ProblemKind::Invalid));
    let forget = Rekey { forget: true, ..Rekey::default() };
    let open = machine.client.rekey(&forget).await.unwrap_err();
    assert!(open.problem().unwrap().detail.contains("not locked"));
    let missing = machine.get(&format!("/api/connections/{}", ConnectionId::new())).await;
    assert!(problem_of(missing).await.is(ProblemKind::NotFound));
}
