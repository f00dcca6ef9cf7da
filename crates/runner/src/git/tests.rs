//! Real repositories: checkouts, checkpoints, results, packs.

use std::{path::PathBuf, process::Command};

use boatyard_link::message::GitAuthor;
use boatyard_model::event::FileChange;
use boatyard_sandbox::spawn::Identity;

use super::{checkpoint::TURNS, *};

struct World {
    dir: tempfile::TempDir,
    git: Git,
}

fn author() -> GitAuthor {
    GitAuthor { name: "A. Person".into(), email: "a@example.org".into(), signs: false }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap().to_owned();
        for folder in ["work", "home/agent"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let layout = Layout {
            work: format!("{root}/work"),
            home: format!("{root}/home/agent"),
            mirror: format!("{root}/mirror"),
            path: std::env::var("PATH").unwrap(),
        };
        let work = Folder::open(&dir.path().join("work"), None).unwrap();
        let starter = Starter::new(Identity::Caller, None);
        let git = Git::new(Arc::new(layout), Arc::new(starter), Arc::new(work));
        Self { dir, git }
    }

    /// With a mirror of one commit that has `README` and `src/main`.
    fn with_mirror() -> (Self, String) {
        let world = Self::new();
        let seed = world.dir.path().join("seed");
        std::fs::create_dir_all(seed.join("src")).unwrap();
        std::fs::write(seed.join("README"), "one\ntwo\nthree\n").unwrap();
        std::fs::write(seed.join("src/main"), "main\n").unwrap();
        plain(&seed, &["init", "-q", "-b", "trunk"]);
        plain(&seed, &["add", "."]);
        plain(&seed, &["commit", "-q", "-m", "first"]);
        let mirror = world.dir.path().join("mirror");
        plain(&seed, &["clone", "-q", "--mirror", ".", mirror.to_str().unwrap()]);
        let commit = plain(&seed, &["rev-parse", "HEAD"]);
        (world, commit)
    }

    async fn repository(&self) -> Repository<'_> {
        self.git.repository("repo").await.unwrap()
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("work/repo")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.repo().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn plain(&self, args: &[&str]) -> String {
        plain(&self.repo(), args)
    }

    /// A checkout on the branch `boatyard/x`.
    async fn on_branch() -> (Self, String) {
        let (world, commit) = Self::with_mirror();
        let repository = world.repository().await;
        repository.checkout(&commit, "https://example.org/x").await.unwrap();
        repository.begin_branch("boatyard/x", &commit, &author()).await.unwrap();
        drop(repository);
        (world, commit)
    }
}

fn plain(cwd: &std::path::Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=t@example.org"])
        .args(args)
        .current_dir(cwd)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_checkout_shares_the_mirrors_objects_and_can_be_brought_on() {
    let (world, first) = World::with_mirror();
    let repository = world.repository().await;
    repository.checkout(&first, "https://example.org/x").await.unwrap();
    assert_eq!(std::fs::read_to_string(world.repo().join("src/main")).unwrap(), "main\n");
    assert_eq!(world.plain(&["status", "--porcelain"]), "");
    assert_eq!(world.plain(&["config", "remote.origin.url"]), "https://example.org/x");
    assert_eq!(world.plain(&["count-objects"]), "0 objects, 0 kilobytes");
    assert_eq!(world.plain(&["rev-parse", "origin/trunk"]), first);

    let seed = world.dir.path().join("seed");
    std::fs::write(seed.join("README"), "changed\n").unwrap();
    plain(&seed, &["commit", "-q", "-a", "-m", "second"]);
    plain(&world.dir.path().join("mirror"), &["fetch", "-q"]);
    let second = plain(&seed, &["rev-parse", "HEAD"]);
    world.write("README", "dirty\n");
    repository.checkout(&second, "https://example.org/x").await.unwrap();
    assert_eq!(std::fs::read_to_string(world.repo().join("README")).unwrap(), "changed\n");
    assert_eq!(world.plain(&["rev-parse", "HEAD"]), second);
    repository.checkout(&second, "https://example.org/x").await.unwrap();
    let nowhere = "1".repeat(40);
    let error = repository.checkout(&nowhere, "").await.unwrap_err();
    assert!(matches!(error, Error::NoCommit(_)), "{error}");
}

#[tokio::test]
async fn a_branch_begins_once() {
    let (world, commit) = World::on_branch().await;
    assert_eq!(world.plain(&["symbolic-ref", "HEAD"]), "refs/heads/boatyard/x");
    assert_eq!(world.plain(&["config", "--local", "user.name"]), "A. Person");
    let repository = world.repository().await;
    repository.begin_branch("boatyard/x", &commit, &author()).await.unwrap();
    world.write("more", "1");
    world.plain(&["add", "."]);
    world.plain(&["commit", "-q", "-m", "more"]);
    let error = repository.begin_branch("boatyard/x", &commit, &author()).await.unwrap_err();
    assert!(matches!(error, Error::BranchExists(_)), "{error}");
    assert!(repository.begin_branch("--bad", &commit, &author()).await.is_err());
    assert!(world.git.repository("../outside").await.is_err());
    assert!(world.git.repository("").await.is_err());
}

#[tokio::test]
async fn a_checkpoint_takes_all_files_and_leaves_index_and_branch() {
    let (world, commit) = World::on_branch().await;
    let repository = world.repository().await;
    let before = repository.now().await.unwrap();
    world.write(".gitignore", "ignored\n");
    world.write("ignored", "x");
    world.write("new/file", "a\nb\n");
    world.write("README", "one\ntwo\n");
    std::fs::remove_file(world.repo().join("src/main")).unwrap();
    world.write("staged", "s");
    world.plain(&["add", "staged"]);
    let status = world.plain(&["status", "--porcelain"]);

    let now = repository.now().await.unwrap();
    let kept = repository.keep_checkpoint(3, &now.tree).await.unwrap();
    assert_eq!(now.left_out, None);
    assert_eq!(world.plain(&["rev-parse", &format!("{TURNS}3")]), kept.as_str());
    assert_eq!(world.plain(&["rev-parse", &format!("{kept}^")]), commit);
    assert_eq!(world.plain(&["rev-parse", "HEAD"]), commit);
    assert_eq!(world.plain(&["status", "--porcelain"]), status);
    let files = world.plain(&["ls-tree", "-r", "--name-only", kept.as_str()]);
    assert_eq!(files, ".gitignore\nREADME\nnew/file\nstaged");

    let difference = repository.difference(&before.tree, &now.tree).await.unwrap();
    let seen: Vec<_> =
        difference.files.iter().map(|f| (f.path.as_str(), f.change, f.added, f.removed)).collect();
    assert_eq!(
        seen,
        [
            (".gitignore", FileChange::Added, Some(1), Some(0)),
            ("README", FileChange::Modified, Some(0), Some(1)),
            ("new/file", FileChange::Added, Some(2), Some(0)),
            ("src/main", FileChange::Deleted, Some(0), Some(1)),
            ("staged", FileChange::Added, Some(1), Some(0)),
        ]
    );
}

#[tokio::test]
async fn a_diff_names_renamed_and_binary_files_and_is_cut() {
    let (world, commit) = World::on_branch().await;
    let repository = world.repository().await;
    let odd = "ü \"quoted\"\n.txt";
    std::fs::rename(world.repo().join("README"), world.repo().join(odd)).unwrap();
    std::fs::write(world.repo().join("picture"), [0_u8, 1, 2, 0, 255]).unwrap();
    let from = repository.base(&Base::parse(&commit).unwrap()).await.unwrap();
    let to = repository.now().await.unwrap().tree;
    let files = repository.difference(&from, &to).await.unwrap().files;
    assert_eq!(files.len(), 2);
    assert_eq!((files[0].path.as_str(), files[0].added), ("picture", None));
    assert_eq!(files[1].old_path.as_deref(), Some("README"));
    assert_eq!((files[1].path.as_str(), files[1].change), (odd, FileChange::Renamed));
    let (patch, cut) = repository.patch(&from, &to, 3, 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&patch).contains("rename from README") && !cut);
    let (patch, cut) = repository.patch(&from, &to, 3, 20).await.unwrap();
    assert_eq!((patch.len(), cut), (20, true));
}

#[tokio::test]
async fn the_agents_own_commits_are_told() {
    let (world, commit) = World::on_branch().await;
    let before: CommitId = commit.parse().unwrap();
    for subject in ["first: a\\b", "second"] {
        world.write("file", subject);
        world.plain(&["add", "."]);
        world.plain(&["commit", "-q", "-m", subject]);
    }
    let repository = world.repository().await;
    let made = repository.made_since(Some(&before)).await.unwrap();
    let subjects: Vec<_> = made.iter().map(|m| m.subject.as_str()).collect();
    assert_eq!(subjects, ["first: a\\b", "second"]);
    assert_eq!(repository.made_since(Some(&made[1].commit)).await.unwrap(), []);
}

#[tokio::test]
async fn the_result_is_what_is_there_wherever_the_head_went() {
    let (world, base) = World::on_branch().await;
    world.write("kept", "by the agent\n");
    world.plain(&["add", "."]);
    world.plain(&["commit", "-q", "-m", "agent"]);
    let on_branch = world.plain(&["rev-parse", "HEAD"]);
    world.plain(&["switch", "-q", "--detach", &base]);
    world.write("left", "over\n");
    let repository = world.repository().await;
    let done = repository.finish("boatyard/x", &base, "Result\n", &author()).await.unwrap();
    let head = done.head.unwrap();
    assert_eq!(world.plain(&["rev-parse", "boatyard/x"]), head.as_str());
    assert_eq!(world.plain(&["symbolic-ref", "HEAD"]), "refs/heads/boatyard/x");
    assert_eq!(world.plain(&["status", "--porcelain"]), "");
    assert_eq!(world.plain(&["rev-parse", &format!("{head}^2")]), on_branch);
    assert_eq!(done.files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["left"]);

    let again = repository.finish("boatyard/x", &base, "Result\n", &author()).await.unwrap();
    assert_eq!(again.head.unwrap(), head);
    assert_eq!(again.commits, done.commits);
}

#[tokio::test]
async fn a_result_without_changes_is_the_base() {
    let (world, base) = World::on_branch().await;
    let repository = world.repository().await;
    let done = repository.finish("boatyard/x", &base, "Result\n", &author()).await.unwrap();
    assert_eq!(done.head.unwrap().as_str(), base);
    assert_eq!((done.commits, done.files.len()), (0, 0));
}

#[tokio::test]
async fn a_repository_without_commits_works_throughout() {
    let world = World::new();
    let repository = world.repository().await;
    repository.checkout("", "https://example.org/x").await.unwrap();
    repository.checkout("", "https://example.org/x").await.unwrap();
    repository.begin_branch("boatyard/x", "", &author()).await.unwrap();
    assert_eq!(repository.head().await.unwrap(), None);
    let nothing = repository.finish("boatyard/x", "", "Result\n", &author()).await.unwrap();
    assert_eq!((nothing.head, nothing.commits), (None, 0));

    world.write("hello.txt", "hello\n");
    let now = repository.now().await.unwrap();
    let kept = repository.keep_checkpoint(1, &now.tree).await.unwrap();
    assert_eq!(world.plain(&["ls-tree", "--name-only", kept.as_str()]), "hello.txt");
    let done = repository.finish("boatyard/x", "", "Result\n", &author()).await.unwrap();
    assert_eq!((done.commits, done.files.len()), (1, 1));
    assert_eq!(world.plain(&["symbolic-ref", "HEAD"]), "refs/heads/boatyard/x");
    assert_eq!(world.plain(&["log", "--format=%an %s"]), "A. Person Result");
}

#[tokio::test]
async fn a_pack_holds_what_the_server_lacks() {
    let (world, base) = World::on_branch().await;
    world.write("new", "content\n");
    let repository = world.repository().await;
    let done = repository.finish("boatyard/x", &base, "Result\n", &author()).await.unwrap();
    let head = done.head.unwrap().to_string();
    let unknown = "2".repeat(40);
    let (mut running, revisions) = repository.pack(&head, &[base.clone(), unknown]).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(&revisions).await.unwrap();
    drop(stdin);
    let mut pack = Vec::new();
    running.stdout.read_to_end(&mut pack).await.unwrap();
    assert_eq!(running.exit.wait().await, Exit::Code(0));
    // A commit, its tree and the new file.
    assert_eq!(pack[..12], *b"PACK\0\0\0\x02\0\0\0\x03");
    assert!(matches!(repository.pack(&"3".repeat(40), &[]).await, Err(Error::NoCommit(_))));
}

#[tokio::test]
async fn nothing_that_the_repository_configures_is_run() {
    let (world, base) = World::on_branch().await;
    let trap = world.dir.path().join("trap");
    let script = format!("#!/bin/sh\ntouch {}\n", trap.display());
    for hook in ["reference-transaction", "post-checkout", "post-index-change"] {
        world.write(&format!(".git/hooks/{hook}"), &script);
        world.write("monitor", &script);
    }
    for path in [".git/hooks/reference-transaction", ".git/hooks/post-checkout", "monitor"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(world.repo().join(path), mode).unwrap();
    }
    let monitor = world.repo().join("monitor");
    world.plain(&["config", "core.fsmonitor", monitor.to_str().unwrap()]);
    world.plain(&["config", "diff.external", monitor.to_str().unwrap()]);
    let _ = std::fs::remove_file(&trap);
    let repository = world.repository().await;
    let now = repository.now().await.unwrap();
    repository.keep_checkpoint(1, &now.tree).await.unwrap();
    let from = repository.base(&Base::parse(&base).unwrap()).await.unwrap();
    repository.patch(&from, &now.tree, 3, 1 << 20).await.unwrap();
    repository.finish("boatyard/x", &base, "Result\n", &author()).await.unwrap();
    assert!(!trap.exists());
}

#[tokio::test]
async fn an_embedded_repository_without_commits_costs_only_itself() {
    let (world, _) = World::on_branch().await;
    std::fs::create_dir_all(world.repo().join("sub")).unwrap();
    plain(&world.repo().join("sub"), &["init", "-q"]);
    world.write("sub/file", "x");
    world.write("beside", "y");
    let repository = world.repository().await;
    let now = repository.now().await.unwrap();
    assert!(now.left_out.is_some());
    let files = world.plain(&["ls-tree", "-r", "--name-only", now.tree.as_str()]);
    assert_eq!(files, "README\nbeside\nsrc/main");
}

/// The worst that a crash leaves: files and git's own without content, locks of nobody.
#[tokio::test]
async fn after_a_crash_of_the_host_the_files_are_those_of_the_last_checkpoint() {
    let (world, base) = World::on_branch().await;
    let repository = world.repository().await;
    world.write("src/main", "checkpointed\n");
    world.write("new", "new\n");
    let now = repository.now().await.unwrap();
    repository.keep_checkpoint(2, &now.tree).await.unwrap();
    world.write("src/main", "later\n");
    world.write("later", "later\n");
    let later = repository.now().await.unwrap();
    repository.keep_checkpoint(10, &later.tree).await.unwrap();
    drop(repository);

    // The last checkpoint lost an object, the branch its tip, a file its content.
    let blob = world.plain(&["rev-parse", "refs/boatyard/turns/10:later"]);
    let object = format!(".git/objects/{}/{}", &blob[..2], &blob[2..]);
    for hollow in [&object, ".git/refs/heads/boatyard/x", ".git/index", "README"] {
        let _ = std::fs::remove_file(world.repo().join(hollow));
        world.write(hollow, "");
    }
    world.write(".git/index.lock", "");

    let repository = world.repository().await;
    let recovered = repository.recover(Some("boatyard/x"), &base, 3).await.unwrap();
    assert_eq!(recovered.turn, Some(10), "the file of the lost object was there to make it anew");
    assert_eq!(world.plain(&["rev-parse", "HEAD"]), base);
    assert_eq!(std::fs::read_to_string(world.repo().join("README")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(std::fs::read_to_string(world.repo().join("later")).unwrap(), "later\n");
    assert_eq!(world.plain(&["status", "--porcelain"]), "M src/main\n?? later\n?? new");
    let kept = recovered.kept.unwrap();
    assert_eq!(world.plain(&["show", &format!("{kept}:README")]), "");
    assert_eq!(world.plain(&["rev-parse", "refs/boatyard/recovered/3"]), kept.as_str());
}

#[tokio::test]
async fn a_checkpoint_that_is_not_whole_is_passed_over() {
    let (world, base) = World::on_branch().await;
    let repository = world.repository().await;
    world.write("new", "first\n");
    let now = repository.now().await.unwrap();
    repository.keep_checkpoint(1, &now.tree).await.unwrap();
    world.write("new", "second\n");
    let now = repository.now().await.unwrap();
    repository.keep_checkpoint(2, &now.tree).await.unwrap();
    let blob = world.plain(&["rev-parse", "refs/boatyard/turns/2:new"]);
    std::fs::remove_file(world.repo().join(format!(".git/objects/{}/{}", &blob[..2], &blob[2..])))
        .unwrap();
    world.write("new", "third\n");
    world.write("third", "third\n");
    let recovered = repository.recover(Some("boatyard/x"), &base, 2).await.unwrap();
    assert_eq!(recovered.turn, Some(1));
    assert_eq!(std::fs::read_to_string(world.repo().join("new")).unwrap(), "first\n");
    assert!(!world.repo().join("third").exists());
    let kept = recovered.kept.unwrap();
    assert_eq!(world.plain(&["show", &format!("{kept}:third")]), "third");
}

#[tokio::test]
async fn without_a_checkpoint_files_stay_as_the_disk_has_them() {
    let (world, base) = World::on_branch().await;
    world.write("new", "new\n");
    let repository = world.repository().await;
    let recovered = repository.recover(Some("boatyard/x"), &base, 2).await.unwrap();
    assert_eq!(recovered.turn, None);
    assert_eq!(std::fs::read_to_string(world.repo().join("new")).unwrap(), "new\n");
    assert_eq!(world.plain(&["show", &format!("{}:new", recovered.kept.unwrap())]), "new");
}
