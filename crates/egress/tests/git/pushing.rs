//! Pushes: what passes, and what git prints where one does not.

use std::io::Write as _;

use boatyard_egress::Outcome;

use crate::fixture::{Fixture, OWN, noise};

#[tokio::test]
async fn a_branch_of_ones_own_passes() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.commit("one", "a", b"a\n").await;
    fixture.done("one", &["push", "-q", "origin", "HEAD:boatyard/x"]).await;
    let head = fixture.done("one", &["rev-parse", "HEAD"]).await;
    assert_eq!(fixture.github.git(OWN, &["rev-parse", "boatyard/x"]), head);
    // Within the namespace it may be written over.
    fixture.done("one", &["commit", "-q", "--amend", "-m", "other"]).await;
    fixture.done("one", &["push", "-q", "--force", "origin", "HEAD:boatyard/x"]).await;
}

#[tokio::test]
async fn what_is_not_ones_own_is_refused_in_gits_own_words() {
    let mut fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.commit("one", "a", b"a\n").await;
    while fixture.records.try_recv().is_ok() {}
    let before = fixture.github.git(OWN, &["for-each-ref"]);

    let said = fixture.git("one", &["push", "origin", "HEAD:main"]).await;
    assert!(!said.ok);
    let main = "! [remote rejected] HEAD -> main (Boatyard lets this workspace push to \
                `boatyard/*` only)";
    assert!(said.err.contains(main), "{}", said.err);
    assert!(said.err.contains("remote: "), "{}", said.err);
    assert!(said.err.contains("git push origin HEAD:boatyard/NAME"), "{}", said.err);

    let said = fixture.git("one", &["push", "origin", ":main"]).await;
    assert!(said.err.contains("(Boatyard passes on no deletions)"), "{}", said.err);
    let said = fixture.git("one", &["push", "origin", "HEAD:refs/tags/v1"]).await;
    assert!(said.err.contains("(Boatyard passes on branches only)"), "{}", said.err);
    let said = fixture.git("one", &["push", "origin", "HEAD:main", "HEAD:boatyard/x"]).await;
    assert!(said.err.contains("boatyard/x (not pushed, since another part"), "{}", said.err);

    assert_eq!(fixture.github.git(OWN, &["for-each-ref"]), before, "nothing changed");
    assert_eq!(fixture.seen("POST"), 2, "of the clone: no push reached the other side");
    let mut denied = 0;
    while let Ok(record) = fixture.records.try_recv() {
        denied += u32::from(matches!(record.outcome, Outcome::Denied { .. }));
    }
    assert_eq!(denied, 4);
}

#[tokio::test]
async fn options_of_a_push_do_not_pass() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.github.git(OWN, &["config", "receive.advertisePushOptions", "true"]);
    fixture.commit("one", "a", b"a\n").await;
    let merge = ["push", "-o", "merge_request.create", "origin", "HEAD:boatyard/x"];
    let said = fixture.git("one", &merge).await;
    let refused = "! [remote rejected] HEAD -> boatyard/x (Boatyard passes on no push options)";
    assert!(!said.ok && said.err.contains(refused), "{}", said.err);
    assert!(said.err.contains("Push without `-o`"), "{}", said.err);
    assert_eq!(fixture.github.git(OWN, &["for-each-ref", "refs/heads/boatyard"]), "");
    fixture.done("one", &["push", "-q", "origin", "HEAD:boatyard/x"]).await;
}

#[tokio::test]
async fn a_push_of_too_many_branches_is_told_why() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    let id = fixture.done("one", &["rev-parse", "HEAD"]).await;
    let refs: String = (0..1001).map(|n| format!("{id} refs/heads/boatyard/{n}\n")).collect();
    let packed = format!("# pack-refs with: peeled fully-peeled \n{refs}");
    std::fs::write(fixture.path("one").join(".git/packed-refs"), packed).unwrap();
    let all = ["push", "origin", "refs/heads/boatyard/*:refs/heads/boatyard/*"];
    let said = fixture.git("one", &all).await;
    let why = "no more than 1000 references at once";
    assert!(!said.ok && said.err.contains(why), "{}", said.err);
    assert_eq!(fixture.github.git(OWN, &["for-each-ref", "refs/heads/boatyard"]), "");
}

#[tokio::test]
async fn all_or_nothing_tags_and_odd_names_are_judged_as_they_are() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.commit("one", "a", b"a\n").await;
    let atomic = ["push", "--atomic", "origin", "HEAD:boatyard/a", "HEAD:refs/for/main"];
    let said = fixture.git("one", &atomic).await;
    assert!(!said.ok && said.err.contains("(Boatyard passes on branches only)"), "{}", said.err);
    fixture.done("one", &["tag", "v1"]).await;
    let said = fixture.git("one", &["push", "--follow-tags", "--tags", "origin"]).await;
    assert!(!said.ok, "{}", said.err);
    // What git itself would never send.
    let host = fixture.github.host();
    let head = format!(
        "POST /git/{host}/{OWN}/git-receive-pack HTTP/1.1\r\n\
         Content-Type: application/x-git-receive-pack-request"
    );
    let id = "1".repeat(40);
    for name in [
        "refs/heads/boatyard/../main",
        "refs/heads/boatyard//main",
        "refs/heads/boatyard/x y",
        "refs/heads/boatyard/@{1}",
        "refs/heads/boatyard/x.lock",
        "refs/heads/boatyard/./../../main",
        "refs/heads/BOATYARD/x",
        "HEAD",
        "refs/heads/boatyard/x\n\n",
        "refs/heads/boatyard/\u{202e}/../x",
        " refs/heads/boatyard/x",
    ] {
        let line = format!("{} {id} {name}\0 report-status", "0".repeat(40));
        let body = format!("{:04x}{line}0000", line.len() + 4);
        let before = fixture.seen("POST");
        let answer = fixture.raw(&head, body.as_bytes()).await;
        let passed = fixture.seen("POST") != before;
        assert!(!passed || name.ends_with("\n\n"), "{name:?}: {answer}");
    }
    assert_eq!(fixture.github.git(OWN, &["for-each-ref", "refs/heads/boatyard"]), "");
}

#[tokio::test]
async fn a_large_push_that_is_refused_is_told_when_git_reads() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.commit("one", "large", &noise(6 << 20)).await;
    let said = fixture.git("one", &["push", "origin", "HEAD:main"]).await;
    assert!(!said.ok && said.err.contains("[remote rejected] HEAD -> main"), "{}", said.err);
}

#[tokio::test]
async fn commands_are_read_in_packed_requests_too() {
    let fixture = Fixture::start().await;
    let id = "1".repeat(40);
    let line = format!("{id} {id} refs/heads/main\0 report-status");
    let body = format!("{:04x}{line}0000", line.len() + 4);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(body.as_bytes()).unwrap();
    let host = fixture.github.host();
    let head = format!(
        "POST /git/{host}/{OWN}/git-receive-pack HTTP/1.1\r\nContent-Encoding: gzip\r\n\
         Content-Type: application/x-git-receive-pack-request"
    );
    let answer = fixture.raw(&head, &packed.finish().unwrap()).await;
    assert!(answer.contains("ng refs/heads/main Boatyard lets this"), "{answer}");

    let other = head.replace("gzip", "br");
    let answer = fixture.raw(&other, b"xx").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("other than gzip"), "{answer}");
    let answer = fixture.raw(&head, b"no gzip at all").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let plain = head.replace("Content-Encoding: gzip\r\n", "");
    for wrong in [&b""[..], b"hello world", b"0009hello0000"] {
        let answer = fixture.raw(&plain, wrong).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("Boatyard does not pass on this push"), "{answer}");
    }
    assert_eq!(fixture.seen("POST"), 0);
}
