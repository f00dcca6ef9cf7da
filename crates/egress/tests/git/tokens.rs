//! Tokens that end while a workspace works, and where they come from.

use std::sync::Arc;

use boatyard_egress::{
    Guard,
    gateway::Secret,
    git::{
        Direction, Remote,
        token::{Source, TokenError},
    },
    https::Https,
    resolve::System,
};
use boatyard_model::Timestamp;
use boatyard_testkit::github::{APP_ID, APP_KEY, AUTHORITY, GitHub};
use serde_json::json;

use crate::fixture::{Fixture, OWN, TOKEN};

#[tokio::test]
async fn a_token_that_ended_is_replaced_where_there_is_another() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.github.revoke(TOKEN);
    fixture.github.take("ghp_fresh");
    fixture.word().fresh = Some("ghp_fresh".to_owned());
    fixture.done("one", &["fetch", "-q"]).await;
    assert_eq!(fixture.word().not_taken, 1);
}

#[tokio::test]
async fn a_token_that_was_revoked_is_told_with_its_mend_and_works_again_when_mended() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.commit("one", "a", b"a\n").await;
    fixture.github.revoke(TOKEN);
    for args in [&["fetch", "-q"][..], &["push", "-q", "origin", "HEAD:boatyard/x"]] {
        let said = fixture.git("one", args).await;
        assert!(!said.ok);
        assert!(said.err.contains("does not take the connection `our-github`"), "{}", said.err);
        assert!(said.err.contains("To mend it, give it another value"), "{}", said.err);
        assert!(!said.err.contains(TOKEN), "{}", said.err);
    }
    assert_eq!(fixture.word().not_taken, 2);
    fixture.github.take(TOKEN);
    fixture.done("one", &["push", "-q", "origin", "HEAD:boatyard/x"]).await;
}

#[tokio::test]
async fn without_a_token_it_is_said_how_to_connect_one() {
    let fixture = Fixture::start().await;
    fixture.word().token = None;
    let said = fixture.git(".", &["clone", "-q", &fixture.github.url(OWN), "one"]).await;
    assert!(said.err.contains("boatyard repository connect localhost:"), "{}", said.err);
    fixture.github.publish(OWN);
    fixture.clone_to("one").await;
    fixture.word().token = Some(TOKEN.to_owned());
    let said = fixture.git(".", &["ls-remote", &fixture.github.url("acme/none")]).await;
    assert!(said.err.contains("acme/none was not found"), "{}", said.err);
}

struct Office {
    github: GitHub,
    https: Https,
    guard: Guard,
}

impl Office {
    async fn open() -> Self {
        let github = GitHub::start().await;
        let https = Https::new(Default::default(), AUTHORITY.as_bytes(), Arc::new(System)).unwrap();
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        Self { github, https, guard }
    }
}

fn source(value: serde_json::Value) -> Source {
    Source::parse(&Secret::new(value.to_string())).unwrap()
}

#[tokio::test]
async fn an_app_gives_tokens_for_one_repository_and_one_direction() {
    let office = Office::open().await;
    office.github.create(OWN);
    let Source::App(app) = source(json!({ "app_id": APP_ID, "private_key": APP_KEY })) else {
        panic!()
    };
    let remote = Remote::from_url(&office.github.url(OWN)).unwrap();
    let now = Timestamp(1_700_000_000_000);
    let token =
        async |direction| app.token(&office.https, &office.guard, &remote, direction, now).await;
    let error = token(Direction::Fetch).await.unwrap_err();
    assert!(matches!(error, TokenError::NotInstalled { .. }), "{error}");
    office.github.install(OWN);
    let read = token(Direction::Fetch).await.unwrap();
    assert!(read.expires.is_some_and(|end| end > now));
    assert!(!format!("{read:?}").contains("ghs_"));
    token(Direction::Push).await.unwrap();

    let other = json!({ "app_id": 1, "private_key": APP_KEY });
    let Source::App(other) = source(other) else { panic!() };
    let error = other
        .token(&office.https, &office.guard, &remote, Direction::Fetch, now)
        .await
        .unwrap_err();
    assert!(matches!(error, TokenError::NotTaken { status: 401, .. }), "{error}");
}

#[tokio::test]
async fn a_refresh_token_gives_a_token_and_the_next_of_its_kind() {
    let office = Office::open().await;
    office.github.take_refresh("ghr_first");
    let value = json!({
        "token_url": format!("https://{}/login/oauth/access_token", office.github.host()),
        "client_id": "Iv1.x", "client_secret": "s", "refresh_token": "ghr_first",
    });
    let Source::OAuth(oauth) = source(value) else { panic!() };
    let now = Timestamp(1_700_000_000_000);
    let refreshed = oauth.token(&office.https, &office.guard, now).await.unwrap();
    assert!(refreshed.token.expires.is_some_and(|end| end > now));
    let next = oauth.renewed(&refreshed.next.unwrap());
    let error = oauth.token(&office.https, &office.guard, now).await.unwrap_err();
    assert!(matches!(error, TokenError::NotTaken { .. }), "it is worth nothing now: {error}");
    let Source::OAuth(next) = Source::parse(&next).unwrap() else { panic!() };
    next.token(&office.https, &office.guard, now).await.unwrap();
}
