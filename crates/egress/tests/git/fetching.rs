//! Clones and fetches, in every version of the protocol and for every way of writing an address.

use boatyard_egress::Outcome;

use crate::fixture::{Fixture, OWN, TOKEN, noise, read};

#[tokio::test]
async fn every_version_of_the_protocol_passes_with_the_real_token() {
    let mut fixture = Fixture::start().await;
    for version in ["0", "1", "2"] {
        let protocol = format!("protocol.version={version}");
        let url = fixture.github.url(OWN);
        fixture.done(".", &["-c", &protocol, "clone", "-q", &url, version]).await;
        let readme = read(&fixture.path(version).join("README.md"));
        assert_eq!(readme, b"# An example\n", "version {version}");
    }
    let seen = fixture.github.seen();
    assert!(seen.iter().all(|seen| seen.token.as_deref() == Some(TOKEN)), "{seen:?}");
    let record = fixture.records.recv().await.unwrap();
    assert_eq!((&*record.host, record.rule.as_deref()), ("localhost", Some("own")));
    assert_eq!(record.path.as_deref(), Some("/acme/app/info/refs"));
    assert!(matches!(record.outcome, Outcome::Passed { status: 200 }), "{record:?}");
    assert!(fixture.word().taken > 0);
}

#[tokio::test]
async fn addresses_of_ssh_lead_to_the_same_place() {
    let fixture = Fixture::start().await;
    let host = fixture.github.host();
    for (n, url) in [
        format!("ssh://git@{host}/{OWN}.git"),
        format!("https://me:anything@{host}/{OWN}"),
        format!("https://{host}/{OWN}.git"),
    ]
    .iter()
    .enumerate()
    {
        fixture.done(".", &["clone", "-q", url, &n.to_string()]).await;
    }
    // What the caller brought along stays here.
    let seen = fixture.github.seen();
    assert!(seen.iter().all(|seen| seen.token.as_deref() == Some(TOKEN)), "{seen:?}");
}

#[tokio::test]
async fn what_is_new_is_fetched_with_a_long_packed_request() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    fixture.clone_to("two").await;
    // So many commits of one's own that git packs the list of them.
    for n in 0..40 {
        let message = format!("own {n}");
        fixture.done("one", &["commit", "-q", "--allow-empty", "-m", &message]).await;
    }
    fixture.commit("two", "new", b"from elsewhere\n").await;
    fixture.done("two", &["push", "-q", "origin", "HEAD:boatyard/new"]).await;
    for version in ["protocol.version=0", "protocol.version=2"] {
        let args = ["-c", version, "fetch", "-q", "origin", "boatyard/new"];
        fixture.done("one", &args).await;
    }
    let found = fixture.done("one", &["show", "FETCH_HEAD:new"]).await;
    assert_eq!(found, "from elsewhere");
}

#[tokio::test]
async fn large_packs_pass_both_ways() {
    let fixture = Fixture::start().await;
    fixture.clone_to("one").await;
    let large = noise(24 << 20);
    fixture.commit("one", "large", &large).await;
    // Larger than git's buffer: it asks first, and then sends in pieces.
    fixture.done("one", &["push", "-q", "origin", "HEAD:boatyard/large"]).await;
    let url = fixture.github.url(OWN);
    fixture.done(".", &["clone", "-q", "-b", "boatyard/large", &url, "two"]).await;
    assert!(read(&fixture.path("two").join("large")) == large, "what came is what was sent");
}
