//! The agents that are known now, and what of them is installed: one view in memory, kept in step
//! with the store.
//!
//! ```text
//!   built in  <  boatyard.toml  <  added at run time  ──►  Catalogue
//!   tools that are ready                               ──►  InstalledTool
//! ```
//!
//! They are the server's: every organization has the same, and its own settings for them. Their rows
//! are those of the first organization.
//!
//! [`Agents::refresh`] reads the store and swaps the view; whoever changes one of the two tables
//! calls it after. An added entry that makes no sense (any more) is kept aside with its reason: the
//! server comes up without it.

use std::{collections::BTreeMap, sync::Arc};

use boatyard_agent::{Catalogue, catalogue::Entry};
use boatyard_model::{AgentOffers, ToolId, name::AgentName};
use boatyard_runtime::tool_folder;
use boatyard_store::{AgentEntryRow, BUILT_IN_ORGANIZATION, Store, ToolKind, ToolRow, ToolState};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::jobs::install::recipe::{self, Recipe};

/// How many agents are installed or tried at once. The Node that one of them waits for comes beside
/// them.
const BUILDERS: usize = 4;

/// The known agents. A cheap clone.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
}

struct Shared {
    /// What does not change while the server runs.
    base: Catalogue,
    view: watch::Sender<Arc<View>>,
    /// Held while the view is made anew, so that an older one never replaces a newer one.
    turn: tokio::sync::Mutex<()>,
    /// Who may install or try an agent: each takes a workspace.
    builders: Arc<Semaphore>,
}

/// What is known at a moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The agents.
    pub catalogue: Arc<Catalogue>,
    /// Those that were added at run time, or changed.
    pub added: Vec<AgentName>,
    /// Added entries that make no sense, with what is wrong with them.
    pub broken: BTreeMap<String, String>,
    /// Every tool that is not deleted, the oldest first.
    pub tools: Vec<ToolRow>,
}

/// A tool that is there to be used.
#[derive(Debug, Clone, PartialEq)]
pub struct InstalledTool {
    /// Its id.
    pub id: ToolId,
    /// The agent's version.
    pub version: String,
    /// The Node that it runs on.
    pub node: Option<ToolId>,
    /// What the agent was found to offer when it was last checked.
    pub offers: Option<AgentOffers>,
}

impl InstalledTool {
    fn of(row: &ToolRow) -> Self {
        Self {
            id: row.id,
            version: row.version.clone(),
            node: row.node,
            offers: row.offers.clone(),
        }
    }

    /// Where its packages are, seen from inside a workspace.
    pub fn package(&self) -> String {
        tool_folder(self.id)
    }

    /// The program of the Node that it runs on, seen from inside a workspace.
    pub fn node_program(&self) -> Option<String> {
        self.node.map(node_program)
    }
}

/// Where the program of an installed Node is, seen from inside a workspace.
pub fn node_program(node: ToolId) -> String {
    format!("{}/node", node_folder(node))
}

/// The folder of an installed Node's program: to be put on the `PATH`.
pub fn node_folder(node: ToolId) -> String {
    format!("{}/node_modules/node/bin", tool_folder(node))
}

impl Agents {
    /// The agents of program and settings; what the store knows comes with [`Self::refresh`].
    pub fn new(base: Catalogue) -> Self {
        let view = View {
            catalogue: Arc::new(base.clone()),
            added: Vec::new(),
            broken: BTreeMap::new(),
            tools: Vec::new(),
        };
        let (view, _) = watch::channel(Arc::new(view));
        let (turn, builders) = (tokio::sync::Mutex::default(), Arc::new(Semaphore::new(BUILDERS)));
        Self { shared: Arc::new(Shared { base, view, turn, builders }) }
    }

    /// A place to install or try an agent in, if there is one now.
    pub(crate) fn try_build(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.builders).try_acquire_owned().ok()
    }

    /// A place to install or try an agent in, when there is one.
    pub(crate) async fn build(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.shared.builders).acquire_owned().await.ok()
    }

    /// All agents that can be used or mended.
    pub fn current(&self) -> Arc<Catalogue> {
        Arc::clone(&self.view().catalogue)
    }

    /// What is known now.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.shared.view.borrow())
    }

    /// Tells each new view.
    pub fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.shared.view.subscribe()
    }

    /// Reads what was added and installed.
    ///
    /// # Errors
    /// When it can't be read; the view stays as it was.
    pub async fn refresh(&self, store: &Store) -> boatyard_store::Result<()> {
        let _turn = self.shared.turn.lock().await;
        let rows = store.agent_entries(BUILT_IN_ORGANIZATION).await?;
        let tools = store.list_tools(BUILT_IN_ORGANIZATION).await?;
        let view = Arc::new(View::new(&self.shared.base, rows, tools));
        self.shared.view.send_replace(view);
        Ok(())
    }

    /// The catalogue as it would be with this entry under this name, to see whether it holds
    /// together.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn with_entry(
        &self,
        name: &AgentName,
        entry: &serde_json::Value,
    ) -> Result<Entry, boatyard_agent::Error> {
        let mut catalogue = self.shared.base.clone();
        lay(&mut catalogue, name.as_str(), entry)?;
        catalogue.get(name).cloned()
    }

    /// Whether an agent of this name is there without anything having been added.
    pub fn is_given(&self, name: &AgentName) -> bool {
        self.shared.base.get(name).is_ok()
    }

    /// The installed tool that an agent is run from: the newest of the wanted version, or of exactly
    /// the packages that its entry pins.
    pub fn tool_for(
        &self,
        name: &AgentName,
        entry: &Entry,
        version: Option<&str>,
    ) -> Option<InstalledTool> {
        self.view().tool_for(name, entry, version)
    }

    /// The installed tool with this id, if it is there to be used.
    pub fn tool(&self, id: ToolId) -> Option<InstalledTool> {
        self.view().tool(id)
    }
}

impl View {
    fn new(base: &Catalogue, rows: Vec<AgentEntryRow>, tools: Vec<ToolRow>) -> Self {
        let mut catalogue = base.clone();
        let (mut added, mut broken) = (Vec::new(), BTreeMap::new());
        for row in rows {
            let laid = match serde_json::from_str(&row.entry) {
                Ok(entry) => lay(&mut catalogue, &row.name, &entry).map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match (laid, row.name.parse()) {
                (Ok(()), Ok(name)) => added.push(name),
                (Ok(()), Err(_)) => {}
                (Err(reason), _) => {
                    tracing::warn!(agent = row.name, reason, "an added agent is not valid");
                    broken.insert(row.name, reason);
                }
            }
        }
        Self { catalogue: Arc::new(catalogue), added, broken, tools }
    }

    /// As [`Agents::tool_for`].
    pub fn tool_for(
        &self,
        name: &AgentName,
        entry: &Entry,
        version: Option<&str>,
    ) -> Option<InstalledTool> {
        // What is no package's name was refused when the entry was added.
        let pinned = Recipe::of(entry, &[]).ok().flatten()?;
        let is_ready = |row: &&ToolRow| row.state == ToolState::Ready;
        let fits = |row: &&ToolRow| match version {
            Some(version) => row.version == version,
            None => Recipe::parse(&row.recipe).is_ok_and(|recipe| recipe.is_same_packages(&pinned)),
        };
        let node_is_there = |row: &&ToolRow| {
            recipe::node_of(entry).is_none()
                || self.tools.iter().any(|node| Some(node.id) == row.node && is_ready(&node))
        };
        let found = self.of(name).filter(is_ready).filter(fits).rfind(node_is_there);
        found.map(InstalledTool::of)
    }

    /// As [`Agents::tool`].
    pub fn tool(&self, id: ToolId) -> Option<InstalledTool> {
        let ready =
            |id| self.tools.iter().find(|row| row.id == id && row.state == ToolState::Ready);
        let tool = ready(id)?;
        tool.node.is_none_or(|node| ready(node).is_some()).then(|| InstalledTool::of(tool))
    }

    /// The tools of an agent, the oldest first.
    pub fn of<'a>(&'a self, name: &'a AgentName) -> impl DoubleEndedIterator<Item = &'a ToolRow> {
        self.tools
            .iter()
            .filter(move |row| row.kind == ToolKind::Agent && row.name == name.as_str())
    }
}

/// Lays an entry over what the catalogue has under its name.
fn lay(
    catalogue: &mut Catalogue,
    name: &str,
    entry: &serde_json::Value,
) -> Result<(), boatyard_agent::Error> {
    let table = toml::Table::try_from(entry).map_err(|error| boatyard_agent::Error::Entry {
        agent: name.to_owned(),
        reason: error.to_string(),
    })?;
    catalogue.lay(name, &table)
}

#[cfg(test)]
mod tests {
    use boatyard_model::Timestamp;
    use boatyard_store::Owner;
    use serde_json::{Value, json};

    use super::*;

    fn entry(packages: &str, node: Value) -> Value {
        let mut entry = json!({
            "protocol": "acp", "command": ["{package}/it"],
            "install": { "from": "npm", "packages": [packages], "bin": "it" },
        });
        if !node.is_null() {
            entry["install"]["node"] = node;
        }
        entry
    }

    fn row(name: &str, entry: &Value) -> AgentEntryRow {
        AgentEntryRow {
            owner: Owner::BUILT_IN,
            name: name.to_owned(),
            entry: entry.to_string(),
            changed: Timestamp(0),
        }
    }

    fn tool(kind: ToolKind, recipe: String, version: &str, node: Option<ToolId>) -> ToolRow {
        ToolRow {
            owner: Owner::BUILT_IN,
            id: ToolId::new(),
            kind,
            name: "it".into(),
            version: version.into(),
            recipe,
            node,
            state: ToolState::Ready,
            phase: None,
            reason: None,
            offers: None,
            bytes: 0,
            created: Timestamp(0),
            ready: None,
            last_used: Timestamp(0),
        }
    }

    #[test]
    fn a_broken_entry_stands_aside_with_its_reason() {
        let rows = vec![
            row("bad", &json!({ "protocol": "acp", "comand": ["x"] })),
            row("good", &entry("it@1.0.0", Value::Null)),
            row("shell", &json!({ "title": "My shell" })),
        ];
        let view = View::new(&Catalogue::builtin(), rows, Vec::new());
        assert!(view.broken["bad"].contains("comand"), "{:?}", view.broken);
        let shell = view.catalogue.get(&"shell".parse().unwrap()).unwrap();
        assert_eq!(shell.title, "My shell");
        assert_eq!(shell.command[0], "/bin/sh", "the rest is as it was");
        assert_eq!(view.added.len(), 2);
    }

    #[test]
    fn the_pinned_version_is_used_unless_another_is_named() {
        let name: AgentName = "it".parse().unwrap();
        let view = |node: Value, tools: Vec<ToolRow>| {
            View::new(&Catalogue::builtin(), vec![row("it", &entry("it@2.0.0", node))], tools)
        };
        let found = |view: &View, version: Option<&str>| {
            let entry = view.catalogue.get(&name).unwrap().clone();
            view.tool_for(&name, &entry, version).map(|tool| tool.version)
        };
        let pinned = {
            let view = view(Value::Null, Vec::new());
            let entry = view.catalogue.get(&name).unwrap();
            Recipe::of(entry, &[]).unwrap().unwrap().text()
        };
        let old = || tool(ToolKind::Agent, "another".into(), "1.0.0", None);
        let new = || tool(ToolKind::Agent, pinned.clone(), "2.0.0", None);
        let none = view(Value::Null, vec![old()]);
        assert_eq!(found(&none, None), None);
        assert_eq!(found(&none, Some("1.0.0")).as_deref(), Some("1.0.0"));
        let both = view(Value::Null, vec![old(), new()]);
        assert_eq!(found(&both, None).as_deref(), Some("2.0.0"));
        assert_eq!(found(&both, Some("3.0.0")), None);
        let without_node = view(json!("22"), vec![new()]);
        assert_eq!(found(&without_node, None), None, "its Node is not there");
        let node = tool(ToolKind::Node, "node".into(), "22.0.0", None);
        let with_node = tool(ToolKind::Agent, new().recipe, "2.0.0", Some(node.id));
        let with_node = view(json!("22"), vec![node, with_node]);
        assert_eq!(found(&with_node, None).as_deref(), Some("2.0.0"));
    }
}
