//! Real repositories of the real git; the server's side is a bare one beside.

use std::{fs, path::Path};

use futures_util::TryStreamExt as _;

use super::*;

async fn run(folder: &Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=T", "-c", "user.email=t@example.com"];
    let ran = git(folder, who.iter().chain(args)).await.unwrap();
    assert!(ran.status.success(), "git {args:?}: {}", ran.stderr);
    ran.text()
}

struct Place {
    dir: tempfile::TempDir,
    checkout: Checkout,
    head: CommitId,
}

/// A checkout with two commits, and an empty bare repository `mirror` beside it.
async fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("app");
    fs::create_dir(&root).unwrap();
    run(&root, &["init", "-q", "-b", "main"]).await;
    for name in ["one", "two"] {
        fs::write(root.join(name), name).unwrap();
        run(&root, &["add", "-A"]).await;
        run(&root, &["commit", "-qm", name]).await;
    }
    run(dir.path(), &["init", "-q", "--bare", "mirror"]).await;
    let checkout = Checkout::find(&root).await.unwrap();
    let head = checkout.commit("HEAD").await.unwrap().unwrap();
    Place { dir, checkout, head }
}

impl Place {
    /// Sends `base` under a name, and says how many objects the bundle had.
    async fn send(&self, reference: &str, base: &CommitId) -> usize {
        let mirror = self.dir.path().join("mirror");
        let refs = run(&mirror, &["for-each-ref", "--format=%(refname) %(objectname)"]).await;
        let known: Vec<Ref> = refs
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(name, commit)| Ref { name: name.into(), commit: commit.into() })
            .collect();
        let borrowed = Borrowed::new(&self.checkout).await.unwrap();
        let pack = borrowed.bundle(reference, base, &known).await.unwrap();
        let pieces: Vec<Vec<u8>> =
            stream::try_unfold(pack, Pack::next).try_collect().await.unwrap();
        let path = self.dir.path().join("sent.bundle");
        fs::write(&path, pieces.concat()).unwrap();
        let refspec = format!("+{reference}:{reference}");
        run(&mirror, &["fetch", "-q", path.to_str().unwrap(), &refspec]).await;
        assert_eq!(run(&mirror, &["rev-parse", reference]).await, base.as_str());
        run(&mirror, &["fsck", "--strict", "--connectivity-only"]).await;
        // What was in the bundle, as git counts it.
        let header_end = pieces.concat().windows(2).position(|two| two == b"\n\n").unwrap() + 2;
        let pack = &pieces.concat()[header_end..];
        u32::from_be_bytes(pack[8..12].try_into().unwrap()) as usize
    }
}

#[tokio::test]
async fn only_what_the_server_lacks_is_sent() {
    let place = place().await;
    // Two commits, two trees, two files.
    assert_eq!(place.send("refs/heads/main", &place.head).await, 6);
    fs::write(place.checkout.root.join("three"), "three").unwrap();
    run(&place.checkout.root, &["add", "-A"]).await;
    run(&place.checkout.root, &["commit", "-qm", "three"]).await;
    let head = place.checkout.commit("HEAD").await.unwrap().unwrap();
    assert_eq!(place.send("refs/heads/main", &head).await, 3);
    // An older commit is there already and gets a name.
    assert_eq!(place.send("refs/boatyard/sent/older", &place.head).await, 3);
}

#[tokio::test]
async fn what_is_not_committed_is_sent_without_a_trace_here() {
    let place = place().await;
    let root = &place.checkout.root;
    fs::write(root.join("one"), "changed").unwrap();
    fs::write(root.join("new"), "new").unwrap();
    fs::write(root.join(".gitignore"), "secret\n").unwrap();
    fs::write(root.join("secret"), "secret").unwrap();
    run(root, &["add", "new"]).await;
    let before = (
        run(root, &["status", "--porcelain"]).await,
        run(root, &["for-each-ref"]).await,
        run(root, &["rev-parse", "HEAD"]).await,
        run(root, &["count-objects", "-v"]).await,
    );
    let borrowed = Borrowed::new(&place.checkout).await.unwrap();
    let all = borrowed.commit_everything(&place.checkout, &place.head).await.unwrap();
    let pack = borrowed.bundle("refs/boatyard/sent/x", &all, &[]).await.unwrap();
    let pieces: Vec<Vec<u8>> = stream::try_unfold(pack, Pack::next).try_collect().await.unwrap();
    let after = (
        run(root, &["status", "--porcelain"]).await,
        run(root, &["for-each-ref"]).await,
        run(root, &["rev-parse", "HEAD"]).await,
        run(root, &["count-objects", "-v"]).await,
    );
    assert_eq!(before, after);
    let path = place.dir.path().join("sent.bundle");
    fs::write(&path, pieces.concat()).unwrap();
    let mirror = place.dir.path().join("mirror");
    run(&mirror, &["fetch", "-q", path.to_str().unwrap(), "refs/boatyard/sent/x:refs/x"]).await;
    let names = run(&mirror, &["ls-tree", "--name-only", "refs/x"]).await;
    assert_eq!(names, ".gitignore\nnew\none\ntwo");
    assert_eq!(run(&mirror, &["show", "refs/x:one"]).await, "changed");
    assert_eq!(run(&mirror, &["rev-parse", "refs/x^"]).await, place.head.as_str());
}

#[tokio::test]
async fn half_a_bundle_is_an_error() {
    let place = place().await;
    let borrowed = Borrowed::new(&place.checkout).await.unwrap();
    // A commit that is not there: git gives up.
    let gone = "0123456789012345678901234567890123456789".parse().unwrap();
    let packed = fs::read_dir(place.checkout.root.join(".git/objects")).unwrap();
    assert!(packed.count() > 2);
    assert!(borrowed.bundle("refs/heads/main", &gone, &[]).await.is_err());
    // An object that is missing is found while the bundle is made.
    let blob = run(&place.checkout.root, &["rev-parse", "HEAD:one"]).await;
    let object = format!(".git/objects/{}/{}", &blob[..2], &blob[2..]);
    fs::remove_file(place.checkout.root.join(object)).unwrap();
    let pack = borrowed.bundle("refs/heads/main", &place.head, &[]).await.unwrap();
    let sent: io::Result<Vec<Vec<u8>>> = stream::try_unfold(pack, Pack::next).try_collect().await;
    assert!(sent.unwrap_err().to_string().contains("`git bundle` failed"));
}
