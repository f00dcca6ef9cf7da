//! Real repositories of the real git.

use std::{fs, path::PathBuf};

use super::*;

async fn run(folder: &Path, args: &[&str]) -> String {
    let ran = git(folder, args).await.unwrap();
    assert!(ran.status.success(), "git {args:?}: {}", ran.stderr);
    ran.text()
}

/// A repository with one commit of one file.
async fn repository() -> (tempfile::TempDir, Checkout) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("app");
    fs::create_dir(&root).unwrap();
    run(&root, &["init", "--quiet", "-b", "main"]).await;
    for (key, value) in [("user.name", "T"), ("user.email", "t@example.com")] {
        run(&root, &["config", key, value]).await;
    }
    fs::write(root.join("a.txt"), "one\ntwo\nthree\nfour\nfive\nsix\n").unwrap();
    run(&root, &["add", "-A"]).await;
    run(&root, &["commit", "-qm", "First"]).await;
    let checkout = Checkout::find(&root).await.unwrap();
    (dir, checkout)
}

/// A result that changes `a.txt` and adds `b.txt`, made in a clone.
async fn result(checkout: &Checkout, dir: &Path) -> (Bundle, String, String) {
    let clone: PathBuf = dir.join("clone");
    let (root, clone_text) = (checkout.root.to_str().unwrap(), clone.to_str().unwrap());
    run(dir, &["clone", "-q", root, clone_text]).await;
    let base = run(&clone, &["rev-parse", "HEAD"]).await;
    run(&clone, &["switch", "-qc", "boatyard/x-1"]).await;
    fs::write(clone.join("a.txt"), "one\nTWO\nthree\nfour\nfive\nsix\n").unwrap();
    fs::write(clone.join("b.txt"), "new\n").unwrap();
    run(&clone, &["add", "-A"]).await;
    let who = ["-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-qm", "Work"];
    run(&clone, &who).await;
    let head = run(&clone, &["rev-parse", "HEAD"]).await;
    let folder = temporary().unwrap();
    let path = folder.path().join("result.bundle");
    let path = path.to_str().unwrap();
    run(&clone, &["bundle", "create", "-q", path, "boatyard/x-1", &format!("^{base}")]).await;
    (Bundle::at(folder), base, head)
}

#[tokio::test]
async fn a_result_comes_in_as_a_branch_and_loses_no_other() {
    let (dir, checkout) = repository().await;
    let (bundle, base, head) = result(&checkout, dir.path()).await;
    let name: Branch = "boatyard/x-1".parse().unwrap();
    let brought = checkout.bring_branch(&bundle, "boatyard/x-1", &base, &name).await.unwrap();
    assert_eq!(brought, Brought::Branch);
    assert_eq!(run(&checkout.root, &["rev-parse", "boatyard/x-1"]).await, head);
    assert_eq!(run(&checkout.root, &["rev-parse", "HEAD"]).await, base);

    run(&checkout.root, &["commit", "-q", "--allow-empty", "-m", "Mine"]).await;
    run(&checkout.root, &["branch", "taken"]).await;
    let taken = "taken".parse().unwrap();
    let error = checkout.bring_branch(&bundle, "boatyard/x-1", &base, &taken).await.unwrap_err();
    assert!(error.to_string().contains("has other commits"), "{error}");
    let main = "main".parse().unwrap();
    let error = checkout.bring_branch(&bundle, "boatyard/x-1", &base, &main).await.unwrap_err();
    assert!(error.to_string().contains("checked out"), "{error}");
}

#[tokio::test]
async fn changes_come_into_the_working_tree_beside_the_user_s_own() {
    let (dir, checkout) = repository().await;
    let (bundle, base, head) = result(&checkout, dir.path()).await;
    fs::write(checkout.root.join("mine.txt"), "mine\n").unwrap();
    let brought = checkout.bring_changes(&bundle, "boatyard/x-1", &base, &head).await.unwrap();
    assert_eq!(brought, Brought::Changes { conflicts: vec![] });
    assert!(fs::read_to_string(checkout.root.join("a.txt")).unwrap().contains("TWO"));
    assert!(checkout.root.join("b.txt").exists() && checkout.root.join("mine.txt").exists());
    assert_eq!(run(&checkout.root, &["rev-parse", "HEAD"]).await, base);
}

#[tokio::test]
async fn uncommitted_work_is_never_lost() {
    let (dir, checkout) = repository().await;
    let (bundle, base, head) = result(&checkout, dir.path()).await;
    fs::write(checkout.root.join("b.txt"), "my own\n").unwrap();
    let error = checkout.bring_changes(&bundle, "boatyard/x-1", &base, &head).await.unwrap_err();
    assert!(error.to_string().contains("b.txt"), "{error}");
    assert_eq!(fs::read_to_string(checkout.root.join("b.txt")).unwrap(), "my own\n");
    assert!(!fs::read_to_string(checkout.root.join("a.txt")).unwrap().contains("TWO"));
}

#[tokio::test]
async fn a_conflict_is_marked_and_told() {
    let (dir, checkout) = repository().await;
    let (bundle, base, head) = result(&checkout, dir.path()).await;
    fs::write(checkout.root.join("a.txt"), "one\nzwei\nthree\nfour\nfive\nsix\n").unwrap();
    run(&checkout.root, &["commit", "-qam", "Mine"]).await;
    let brought = checkout.bring_changes(&bundle, "boatyard/x-1", &base, &head).await.unwrap();
    assert_eq!(brought, Brought::Changes { conflicts: vec!["a.txt".to_owned()] });
    assert!(fs::read_to_string(checkout.root.join("a.txt")).unwrap().contains("<<<<<<<"));
}

#[tokio::test]
async fn another_repository_is_refused() {
    let (dir, checkout) = repository().await;
    let (bundle, _, head) = result(&checkout, dir.path()).await;
    let base = "0123456789012345678901234567890123456789";
    let error = checkout.bring_changes(&bundle, "boatyard/x-1", base, &head).await.unwrap_err();
    assert!(error.to_string().contains("has not got the commit"), "{error}");
}

#[tokio::test]
async fn what_is_no_checkout_is_named_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let error = Checkout::find(dir.path()).await.unwrap_err().to_string();
    assert!(error.contains("not in a git repository"), "{error}");
    run(dir.path(), &["init", "-q", "--bare", "bare.git"]).await;
    let error = Checkout::find(&dir.path().join("bare.git")).await.unwrap_err().to_string();
    assert!(error.contains("bare"), "{error}");
    let error = Checkout::find(&dir.path().join("nothing")).await.unwrap_err().to_string();
    assert!(error.contains("is no folder"), "{error}");
}
