//! What does not pass, and what is said instead.

use std::time::Duration;

use boatyard_egress::git::Settings;

use crate::fixture::{Fixture, OWN};

#[tokio::test]
async fn the_desks_word_is_what_git_prints() {
    let fixture = Fixture::start().await;
    fixture.word().refuses = Some(("acme/other", "Fetching from there is not allowed."));
    let url = fixture.github.url("acme/other");
    let said = fixture.git(".", &["clone", "-q", &url, "one"]).await;
    assert!(!said.ok && said.err.contains("Fetching from there is not allowed."), "{}", said.err);
    assert_eq!(fixture.github.seen().len(), 0);
    // In the middle of a fetch, where no status is shown.
    let host = fixture.github.host();
    let head = format!("POST /git/{host}/acme/other/git-upload-pack HTTP/1.1");
    let answer = fixture.raw(&head, b"0000").await;
    assert!(answer.contains("ERR Fetching from there is not allowed."), "{answer}");
}

#[tokio::test]
async fn redirects_are_judged_anew_or_not_followed() {
    let fixture = Fixture::start().await;
    fixture.github.redirect("acme/old", &fixture.github.url(OWN));
    fixture.github.redirect("acme/gone", "https://elsewhere.example/x/y");
    let clone = async |name: &str| {
        let url = fixture.github.url(name);
        fixture.git(".", &["clone", "-q", &url, name]).await
    };
    let said = clone("acme/old").await;
    assert!(said.ok, "{}", said.err);
    let said = clone("acme/gone").await;
    assert!(said.err.contains("a redirect to https://elsewhere.example/x/y"), "{}", said.err);
    fixture.word().refuses = Some((OWN, "Not this one."));
    let said = fixture.git(".", &["ls-remote", &fixture.github.url("acme/old")]).await;
    assert!(!said.ok && said.err.contains("Not this one."), "{}", said.err);
}

#[tokio::test]
async fn only_the_smart_protocol_is_passed_on() {
    let fixture = Fixture::start().await;
    let host = fixture.github.host();
    let ask = async |line: &str, body: &str| {
        let head = format!("{} HTTP/1.1", line.replace("HOST", &host));
        fixture.raw(&head, body.as_bytes()).await
    };
    let lfs = ask("POST /git/HOST/acme/app.git/info/lfs/objects/batch", "{}").await;
    assert!(lfs.starts_with("HTTP/1.1 501"), "{lfs}");
    assert!(lfs.contains("\"message\":\"Boatyard does not pass on Git LFS"), "{lfs}");
    for line in ["GET /git/HOST/acme/app/HEAD", "GET /git/HOST/acme/app/info/refs"] {
        let answer = ask(line, "").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(answer.contains("git's smart protocol over HTTP only"), "{answer}");
    }
    for line in ["GET /git/", "GET /git", "POST /git/HOST/../x/git-upload-pack", "GET /git/a b/c"] {
        let answer = ask(line, "").await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{line}: {answer}");
    }
    assert_eq!(fixture.github.seen().len(), 0);
    let key = ask("GET /git/-/key", "").await;
    assert!(key.contains("\r\n\r\nssh-ed25519 AAAA"), "{key}");
    let signed = ask("POST /git/-/sign", "object").await;
    assert!(signed.ends_with("6 bytes"), "{signed}");
    let large = "x".repeat((1 << 20) + 1);
    let answer = ask("POST /git/-/sign", &large).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{}", &answer[..200]);
}

#[tokio::test]
async fn what_is_no_git_server_is_said() {
    let fixture = Fixture::start().await;
    let said = fixture.git(".", &["ls-remote", "https://localhost:1/o/r"]).await;
    assert!(said.err.contains("localhost:1/o/r can't be reached"), "{}", said.err);
    // It answers in JSON.
    let url = format!("https://{}/api/v3/x", fixture.github.host());
    let said = fixture.git(".", &["ls-remote", &url]).await;
    assert!(!said.ok && said.err.contains("remote: "), "{}", said.err);
}

#[tokio::test]
async fn a_push_that_does_not_go_on_is_ended() {
    let within = Duration::from_millis(50);
    let settings = Settings { commands_within: within, ..Settings::default() };
    let fixture = Fixture::with(settings).await;
    let head = format!(
        "POST /git/{}/{OWN}/git-receive-pack HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: y",
        fixture.github.host()
    );
    // A body of pieces, of which none comes.
    let head = format!("{head}\r\nHost: x\r\nConnection: close\r\n\r\n");
    let mut stream = tokio::net::TcpStream::connect(fixture.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let settings = Settings { max_push: 1 << 20, ..Settings::default() };
    let fixture = Fixture::with(settings).await;
    fixture.clone_to("one").await;
    fixture.commit("one", "large", &crate::fixture::noise(3 << 20)).await;
    let said = fixture.git("one", &["push", "origin", "HEAD:boatyard/x"]).await;
    assert!(!said.ok, "{}", said.err);
}
