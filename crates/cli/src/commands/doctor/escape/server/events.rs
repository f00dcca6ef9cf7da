//! An agent that says things in the name of another session.

use std::time::Duration;

use anyhow::{Context as _, Result};
use boatyard_api::{
    agent::AgentEntry,
    client::Step,
    model::{PromptMode, SessionId, WorkspaceId, name::AgentName},
    session::{NewPrompt, NewSession},
};
use boatyard_runtime::escape::{FORGED, FORGER_ARGUMENT, Finding, Outcome};
use serde_json::json;
use tokio::time::timeout;

use super::{Traps, judge};

/// How long a turn may take.
const TURN: Duration = Duration::from_secs(60);

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
