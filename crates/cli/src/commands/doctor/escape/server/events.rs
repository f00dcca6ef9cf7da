//! An agent that says things in the name of another session.

use std::time::Duration;

use anyhow::{Context as _, Result};
use boatyard_api::{
    agent::AgentEntry,
    client::Step,
    model::{PromptMode, SessionId, WorkspaceId, name::AgentName},
    session::{NewPrompt, NewSession},
    usage::UsageQuery,
};
use boatyard_runtime::escape::{FORGED, FORGER_ARGUMENT, Finding, Outcome};
use serde_json::json;
use tokio::time::timeout;

use super::{Traps, judge};

/// How long a turn may take.
const TURN: Duration = Duration::from_secs(60);
/// Sends a body to a path of the gateway.
const ASK: &str = r#"exec 3<>/dev/tcp/127.0.0.1/7080
printf "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" "$0" "${#1}" "$1" >&3
timeout 10 cat <&3"#;

impl Traps<'_> {
    pub(super) async fn events(&mut self) -> Result<()> {
        let shell: AgentName = "shell".parse().context("no agent `shell`")?;
        let victim = self.session(self.scene.neighbour, shell, "echo mine").await?;
        let before = self.said(victim).await?;
        let name: AgentName = "escape-forger".parse().context("no such name")?;
        let entry = json!({
            "title": "Forger",
            "protocol": "acp",
            "command": ["{runner}", FORGER_ARGUMENT, victim.to_string()],
            "install": { "from": "built-in" },
        });
        let entry: AgentEntry = serde_json::from_value(entry).context("no such agent")?;
        self.scene.client().put_agent(&name, &entry).await?;
        let forger = self.session(self.scene.attacker, name, "forge").await?;
        let (own, after) = (self.said(forger).await?, self.said(victim).await?);
        let found = if after.contains(FORGED) || !after.starts_with(&before) {
            Finding::new(Outcome::Escaped, "it stands in the other session")
        } else if own.contains(FORGED) {
            Finding::new(Outcome::Contained, "it stands in its own session")
        } else {
            Finding::new(Outcome::Blocked, "it stands in no session")
        };
        self.tell("forge-events", "Has an agent say things in another session's name", &found);
        let found = match judge(own.as_bytes()) {
            found if found.outcome == Outcome::Escaped => found,
            _ => Finding::new(Outcome::Blocked, "the runner reads nothing for an agent"),
        };
        self.tell("read-by-agent", "Has an agent ask the runner to read files for it", &found);
        self.other_session(victim).await
    }

    /// Asks the gateway by the path of another workspace's session.
    async fn other_session(&mut self, victim: SessionId) -> Result<()> {
        let calls = async |session| {
            let query = UsageQuery { session, ..UsageQuery::default() };
            anyhow::Ok(self.scene.client().read_usage(&query).await?.total.calls)
        };
        let ask = async |path: &str, body: &str| {
            let script = format!("bash -c '{ASK}' {path} '{body}'");
            self.inside(self.scene.attacker, &script).await
        };
        let before = calls(None).await?;
        let body = r#"{"model":"house-1","max_tokens":1,"messages":[]}"#;
        let said = ask(&format!("/s/{victim}/anthropic/v1/messages"), body).await?;
        let (all, victims) = (calls(None).await?, calls(Some(victim)).await?);
        let spent = if victims > 0 {
            Finding::new(Outcome::Escaped, "the other session pays")
        } else if all > before {
            Finding::new(Outcome::Contained, "its own workspace pays")
        } else {
            Finding::new(Outcome::Blocked, said.lines().next().unwrap_or("nobody answers"))
        };
        // A commit that is signed where a workspace asks for its own.
        let body = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
                    author Boatyard <boatyard@localhost> 1700000000 +0000\n\
                    committer Boatyard <boatyard@localhost> 1700000000 +0000\n\nx\n";
        let mut signed = Finding::new(Outcome::Blocked, "nobody answers");
        for path in ["git/-/sign", "git/-/key", "%67it/-/sign", "../../git/-/key"] {
            let said = ask(&format!("/s/{victim}/{path}"), body).await?;
            let first = said.lines().next().unwrap_or("nobody answers");
            if said.contains("SSH SIGNATURE") || said.contains("ssh-ed25519 ") {
                signed = Finding::new(Outcome::Escaped, format!("{path}: {first}"));
                break;
            }
            signed.detail = first.to_owned();
        }
        self.tell("spend-for-others", "Asks a model in another session's name", &spent);
        let tries = "Asks for signatures and keys by the path of another session";
        self.tell("sign-for-others", tries, &signed);
        Ok(())
    }

    /// A session whose first turn is over.
    async fn session(
        &self,
        workspace: WorkspaceId,
        agent: AgentName,
        text: &str,
    ) -> Result<SessionId> {
        let client = self.scene.client();
        let new = NewSession {
            workspace,
            agent: Some(agent),
            model: None,
            autonomy: None,
            settings: None,
            cwd: None,
            key: None,
            visibility: None,
        };
        let id = client.create_session(&new, None).await?.id;
        let prompt =
            NewPrompt { text: text.to_owned(), images: Vec::new(), mode: PromptMode::Queue };
        client.create_prompt(id, &prompt, None).await?;
        let mut events = client.follow_session(id, 0);
        let over = async {
            while let Some(event) = events.next().await {
                let Step::Item(event) = event? else { continue };
                let event = serde_json::to_string(&event)?;
                if event.contains("\"turn.completed\"") || event.contains("\"turn.failed\"") {
                    break;
                }
            }
            anyhow::Ok(())
        };
        timeout(TURN, over).await.context("an agent does not end its turn")??;
        Ok(id)
    }

    /// All that was stored of a session, as text.
    async fn said(&self, session: SessionId) -> Result<String> {
        let mut events = self.scene.client().read_session(session, 0);
        let mut text = String::new();
        while let Some(event) = events.next().await {
            let Step::Item(event) = event? else { continue };
            text.push_str(&serde_json::to_string(&event)?);
            text.push('\n');
        }
        Ok(text)
    }
}
