//! A repository whose settings start programs, and whose folders lead elsewhere.

use anyhow::{Context as _, Result, ensure};
use boatyard_api::{
    model::WorkspaceId,
    workspace::{NewWorkspace, WorkspaceDiffQuery},
};
use boatyard_runtime::escape::{Finding, Outcome};
use tokio::{process::Command, time::timeout};

use super::{Traps, WITHIN, judge, shown};

/// Makes a repository at `$0` that everybody may read.
const MAKE: &str = "mkdir -p \"$0\" && cd \"$0\" && git init -q -b main && echo one > one && \
     git add -A && git -c user.name=T -c user.email=t@example.com commit -q -m First && \
     chmod -R a+rX .";

/// Every setting that names a program. Whoever runs it leaves a word of who that was.
const SETTINGS: &str = r"cd /work/example || exit
cat > evil <<'END'
#!/bin/sh
(id -u; grep CapEff /proc/self/status) >> /work/ran 2>/dev/null
touch LEFT 2>/dev/null
cat
END
chmod +x evil
for name in core.fsmonitor diff.external core.pager core.sshCommand gpg.program core.editor \
    filter.x.clean filter.x.smudge filter.x.process diff.x.textconv core.alternateRefsCommand \
    credential.helper uploadpack.packObjectsHook; do git config $name ./evil; done
git config core.hooksPath .
git config log.showSignature true
for hook in post-index-change pre-commit post-commit post-checkout reference-transaction; do cp evil $hook; done
echo '* filter=x diff=x' > .gitattributes
echo two >> one
rm -f /work/ran";

/// A tree with a name that climbs, as no git would write it by itself.
const TREE: &str = r"cd /work/example || exit
rm -f .git; mv .git.own .git
rm -f .git/info/exclude .git/refs/heads/other .gitattributes
mv .git/objects/info/alternates.own .git/objects/info/alternates
blob=$(echo x | git hash-object -w --stdin)
raw=$(printf '%s' $blob | sed 's/../\\x&/g')
{ printf '100644 ../../left-by-an-attack\0'; bash -c 'printf $0' $raw; } > /tmp/tree
tree=$(git hash-object -t tree -w --literally /tmp/tree)
commit=$(git -c user.name=T -c user.email=t@example.com commit-tree $tree -m bad -p HEAD)
git update-ref HEAD $commit";

impl Traps<'_> {
    pub(super) async fn git(&mut self) -> Result<()> {
        let place = self.scene.server.beside().join("example");
        let made = Command::new("/bin/sh")
            .args(["-c", MAKE])
            .arg(&place)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .status()
            .await
            .context("git can't be started")?;
        ensure!(made.success(), "git makes no repository");
        let new = NewWorkspace { repository: Some(shown(&place)), ..NewWorkspace::default() };
        let workspace = self.scene.client().create_workspace(&new, None).await?.id;
        let left = shown(&self.left_at());

        self.inside(workspace, &SETTINGS.replace("LEFT", &left)).await?;
        let said = self.look(workspace).await;
        let ran = self.inside(workspace, "cat /work/ran 2>/dev/null").await?;
        let rights = ran.lines().filter_map(|line| line.strip_prefix("CapEff:"));
        let rights = rights.into_iter().any(|set| !set.trim().trim_matches('0').is_empty());
        let found = match self.left("no program ran") {
            left if left.outcome == Outcome::Escaped => left,
            _ if rights => Finding::new(Outcome::Escaped, "one ran with the runner's rights"),
            _ if !ran.is_empty() => {
                Finding::new(Outcome::Contained, "it ran inside, as the worker")
            }
            quiet => quiet,
        };
        let tries = "Has git start programs by its settings, hooks and attributes";
        self.tell("git-settings", tries, &found);
        let found = judge(said.as_bytes());
        self.tell("git-output", "Has such a program write the diff that the server shows", &found);

        let (file, folder) = (shown(&self.scene.bait.host.file), shown(&place));
        let script = format!(
            "cd /work/example || exit; mv .git/config .git/config.evil; \
             printf '[core]\\n\\trepositoryformatversion = 0\\n' > .git/config; rm .gitattributes; \
             ln -sfn {file} one; ln -sfn {file} new; mkdir -p .git/objects/info; \
             cp .git/objects/info/alternates .git/objects/info/alternates.own; \
             echo {folder}/.git/objects >> .git/objects/info/alternates; \
             ln -sfn {file} .git/info/exclude; ln -sfn {file} .git/refs/heads/other"
        );
        self.inside(workspace, &script).await?;
        let found = judge(self.look(workspace).await.as_bytes());
        self.tell("git-links", "Has git read files of the host by links and alternates", &found);

        let script = format!(
            "cd /work/example && mv .git .git.own && printf 'gitdir: {folder}/.git\\n' > .git"
        );
        self.inside(workspace, &script).await?;
        let said = self.look(workspace).await;
        let found = if said.contains("First") {
            Finding::new(Outcome::Escaped, "the host's repository was read")
        } else {
            Finding::new(Outcome::Blocked, said)
        };
        self.tell("git-folder-elsewhere", "Makes a repository of the host its own", &found);

        self.inside(workspace, TREE).await?;
        let said = self.look(workspace).await;
        let found = match self.left(&said) {
            found if found.outcome == Outcome::Escaped => found,
            _ if said.contains("left-by") => Finding::new(Outcome::Contained, "shown as text"),
            found => found,
        };
        self.tell("git-tree-climbs", "Commits a tree with `..` in a name", &found);

        let script = format!(
            "cd /tmp && mkdir -p a && echo x > a/x && \
             tar -cPf bad.tar --transform 's,^a/x,../../../../..{left},' a/x; \
             cd /work; tar -xPf /tmp/bad.tar 2>&1; tar -xf /tmp/bad.tar 2>&1 | head -1"
        );
        let said = self.inside(workspace, &script).await?;
        let found = self.left(if said.is_empty() { "it stays inside" } else { &said });
        self.tell("archive-climbs", "Unpacks an archive with `..` in its names", &found);
        Ok(())
    }

    /// What the server shows of a workspace's repository, or says.
    async fn look(&self, workspace: WorkspaceId) -> String {
        let client = self.scene.client();
        let query = WorkspaceDiffQuery::default();
        let diff = client.read_workspace_diff(workspace, &query);
        let diff = match timeout(WITHIN, diff).await {
            Err(_) => "the server waits for ever".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(diff)) => serde_json::to_string(&diff).unwrap_or_default(),
        };
        let log = client.read_workspace_log(workspace, None);
        let log = match timeout(WITHIN, log).await {
            Err(_) => "the server waits for ever".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(log)) => serde_json::to_string(&log).unwrap_or_default(),
        };
        format!("{diff} {log}")
    }
}
