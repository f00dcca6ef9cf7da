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
