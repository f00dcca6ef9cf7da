//! Fetching from a folder on this machine: what is new, what is not, and what went.

use super::*;

/// A repository of somebody else's, and our mirror of it.
struct Pair {
    dir: tempfile::TempDir,
    mirrors: Mirrors,
    network: Network,
    source: RepositorySource,
    id: RepositoryId,
}

impl Pair {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let app = dir.path().join("app");
        std::fs::create_dir_all(&app).unwrap();
        let mut settings = Settings::default();
        settings.repositories.roots = vec![dir.path().to_owned()];
        let network = Network::new(Arc::new(settings), &data).unwrap();
        let source = RepositorySource::parse(app.to_str().unwrap(), "github.com").unwrap();
        let mirrors = Mirrors::open(&data).unwrap();
        let this = Self { dir, mirrors, network, source, id: RepositoryId::new() };
        this.git(&["init", "-q", "-b", "main"]);
        this
    }

    fn git(&self, args: &[&str]) -> String {
        let output = std::process::Command::new("git")
            .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
            .args(args)
            .current_dir(self.dir.path().join("app"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self) -> String {
        self.git(&["commit", "-q", "--allow-empty", "-m", "Something"]);
        self.git(&["rev-parse", "HEAD"])
    }

    async fn fetch(&self) -> Fetched {
        self.mirrors.fetch(self.id, &self.source, &self.network).await.unwrap()
    }

    async fn base(&self, wanted: Option<&str>) -> Result<Base, FetchError> {
        self.mirrors.base(self.id, wanted).await
    }
}

#[tokio::test]
async fn only_what_is_new_is_fetched_and_what_went_goes() {
    let pair = Pair::new();
    assert_eq!(pair.fetch().await, Fetched::Nothing, "an empty repository");
    assert_eq!(pair.base(None).await.unwrap().commit, None);

    let first = pair.commit();
    pair.git(&["tag", "-a", "-m", "A release", "v1"]);
    assert_eq!(pair.fetch().await, Fetched::New);
    assert_eq!(pair.fetch().await, Fetched::Nothing);
    let base = pair.base(None).await.unwrap();
    assert_eq!(base.commit.unwrap().as_str(), first);
    assert_eq!(base.tree, EMPTY_TREE);
    assert_eq!(base.branch.unwrap().to_string(), "main");

    let second = pair.commit();
    assert_eq!(pair.fetch().await, Fetched::New);
    for (wanted, commit, branch) in
        [("main", &second, Some("main")), ("v1", &first, None), (first.as_str(), &first, None)]
    {
        let base = pair.base(Some(wanted)).await.unwrap();
        assert_eq!(base.commit.unwrap().as_str(), commit, "{wanted}");
        assert_eq!(base.branch.map(|branch| branch.to_string()).as_deref(), branch, "{wanted}");
    }

    // Another default branch, and the old one deleted.
    pair.git(&["branch", "-q", "-m", "main", "trunk"]);
    assert_eq!(pair.fetch().await, Fetched::New);
    assert_eq!(pair.base(None).await.unwrap().branch.unwrap().to_string(), "trunk");
    let gone = pair.base(Some("main")).await.unwrap_err().to_string();
    assert!(gone.contains("trunk"), "what there is: {gone}");

    // Only HEAD moves.
    pair.git(&["branch", "-q", "other"]);
    pair.fetch().await;
    pair.git(&["checkout", "-q", "other"]);
    assert_eq!(pair.fetch().await, Fetched::Nothing);
    assert_eq!(pair.base(None).await.unwrap().branch.unwrap().to_string(), "other");
}
