//! Installed programs: agents from npm or PyPI, and the Node that they run on.
//!
//! ```text
//!   installing ──► ready ──► deleted
//!        └───────► failed ─────┘
//! ```
//!
//! A tool's `recipe` says all that it is made of; two of the same recipe are the same thing, so that
//! asking twice installs once ([`Tx::install_tool`]). Several versions stand beside each other.

use boatyard_model::{AgentOffers, OrganizationId, Timestamp, ToolId};

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, list, read_all, read_one},
    row::{json, record},
    state::words,
};

words! {
    /// What an installed tool is.
    ToolKind {
        /// An agent's packages.
        Agent = "agent",
        /// A Node that agents run on.
        Node = "node",
    }

    /// Where a tool stands.
    ToolState {
        /// It is being installed.
        Installing = "installing",
        /// It may be used.
        Ready = "ready",
        /// It could not be installed.
        Failed = "failed",
        /// Nothing may use it any more; its files go.
        Deleted = "deleted",
    }
}

record! {
    /// An installed tool, or one on its way.
    #[derive(Debug, Clone)]
    pub struct ToolRow [owned] {
        /// Its id; its folder's name.
        pub id: ToolId,
        /// What it is.
        pub kind: ToolKind,
        /// The agent's name, or `node`.
        pub name: String,
        /// That of the first package.
        pub version: String,
        /// All that it was made of.
        pub recipe: String,
        /// The Node that it runs on.
        pub node: Option<ToolId>,
        /// Where it stands.
        pub state: ToolState,
        /// What an installation under way does.
        pub phase: Option<String>,
        /// Why it failed.
        pub reason: Option<String>,
        /// What the agent was found to offer when it was last checked.
        pub offers: Option<AgentOffers>,
        /// What it takes on disk.
        pub bytes: u64,
        /// When it was asked for.
        pub created: Timestamp,
        /// When it became ready.
        pub ready: Option<Timestamp>,
        /// When it was used last.
        pub last_used: Timestamp,
    }
}

/// A tool that is wanted.
#[derive(Debug, Clone)]
pub struct NewTool {
    /// Its id, if it is not there yet.
    pub id: ToolId,
    /// Whose it is.
    pub owner: Owner,
    /// What it is.
    pub kind: ToolKind,
    /// The agent's name, or `node`.
    pub name: String,
    /// That of the first package.
    pub version: String,
    /// All that it is made of.
    pub recipe: String,
}

/// What came of an installation that went well.
#[derive(Debug, Clone)]
pub struct ToolMade {
    /// The version that it turned out to be.
    pub version: String,
    /// The Node that it runs on.
    pub node: Option<ToolId>,
    /// What it takes on disk.
    pub bytes: u64,
    /// What the agent was found to offer, if it was tried.
    pub offers: Option<AgentOffers>,
    /// Why it did not start, when it was tried.
    pub reason: Option<String>,
}

/// Whether one that is ready already will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It will.
    No,
    /// It is installed anew beside it; one under way is waited for all the same.
    Yes,
}

/// What became of a wish for a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wished {
    /// It is to be installed under this id.
    New(ToolId),
    /// One of the same recipe is there, or under way.
    There(ToolId),
}

impl Wished {
    /// The tool, whichever it is.
    pub const fn id(self) -> ToolId {
        match self {
            Self::New(id) | Self::There(id) => id,
        }
    }
}

record! {
    /// An agent that was added to the catalogue at run time.
    #[derive(Debug, Clone)]
    pub struct AgentEntryRow [owned] {
        /// The agent's name.
        pub name: String,
        /// The entry as JSON; what it may hold is the catalogue's business.
        pub entry: String,
        /// When it was added or changed.
        pub changed: Timestamp,
    }
}

impl Tx {
    /// Stores that a tool is to be installed, unless one of the same recipe is there or under way.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn install_tool(&mut self, new: NewTool, again: Again) -> Result<Wished> {
        let states = match again {
            Again::No => "('installing', 'ready')",
            Again::Yes => "('installing')",
        };
        let there = find!(
            self,
            (ToolId,),
            format!(
                "SELECT id FROM tool WHERE organization = $1 AND kind = $2 AND name = $3
                 AND recipe = $4 AND state IN {states} ORDER BY state DESC, id DESC LIMIT 1"
            ),
            new.owner.organization,
            new.kind,
            new.name,
            new.recipe,
        )?;
        if let Some((there,)) = there {
            return Ok(Wished::There(there));
        }
        exec!(
            self,
            "INSERT INTO tool (id, organization, owner, kind, name, version, recipe, state,
                created, last_used)
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'installing', $8, $8)",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.kind,
            new.name,
            new.version,
            new.recipe,
            self.now(),
        )?;
        self.tell_tool(new.id).await?;
        Ok(Wished::New(new.id))
    }

    /// Notes what an installation under way does, for those who watch.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not under way any more.
    pub async fn tool_phase(&mut self, id: ToolId, phase: &'static str) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE tool SET phase = $2 WHERE id = $1 AND state = 'installing'",
            id,
            phase,
        )?;
        self.touched_tool(id, touched).await
    }

    /// Notes that a tool's files are there.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not under way any more.
    pub async fn tool_ready(&mut self, id: ToolId, made: ToolMade) -> Result<()> {
        let offers = made.offers.as_ref().map(json).transpose()?;
        let touched = exec!(
            self,
            "UPDATE tool SET state = 'ready', phase = NULL, version = $2, node = $3, bytes = $4,
                offers = $5, reason = $6, ready = $7, last_used = $7
             WHERE id = $1 AND state = 'installing'",
            id,
            made.version,
            made.node,
            made.bytes,
            offers,
            made.reason,
            self.now(),
        )?;
        self.touched_tool(id, touched).await
    }

    /// Notes that a ready tool's files are gone.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn tool_lost(&mut self, id: ToolId) -> Result<()> {
        exec!(
            self,
            "UPDATE tool SET state = 'failed', reason = 'Its files are gone.'
             WHERE id = $1 AND state = 'ready'",
            id,
        )?;
        self.tell_tool(id).await
    }

    /// Notes why a tool could not be installed.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not under way any more.
    pub async fn tool_failed(&mut self, id: ToolId, reason: String) -> Result<()> {
        let touched = exec!(
            self,
            "UPDATE tool SET state = 'failed', reason = $2 WHERE id = $1 AND state = 'installing'",
            id,
            reason,
        )?;
        self.touched_tool(id, touched).await
    }

    /// Keeps what an agent was found to offer, now that it starts.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn set_tool_offers(&mut self, id: ToolId, offers: &AgentOffers) -> Result<()> {
        exec!(
            self,
            "UPDATE tool SET offers = $2, reason = NULL WHERE id = $1 AND state = 'ready'",
            id,
            json(offers)?,
        )?;
        Ok(())
    }

    /// Notes that a tool is used, and with it the Node that it runs on.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_tool(&mut self, id: ToolId) -> Result<()> {
        exec!(
            self,
            "UPDATE tool SET last_used = $2
             WHERE id = $1 OR id = (SELECT node FROM tool WHERE id = $1)",
            id,
            self.now(),
        )?;
        Ok(())
    }

    /// Marks a tool whose files are to go, if nothing uses it: no session that has not ended, no
    /// other tool. Whether it did.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn delete_tool_if_unused(&mut self, id: ToolId) -> Result<bool> {
        let marked = exec!(
            self,
            "UPDATE tool SET state = 'deleted' WHERE id = $1 AND state <> 'deleted'
             AND NOT EXISTS (SELECT 1 FROM session
                WHERE session.tool = tool.id AND session.state <> 'ended')
             AND NOT EXISTS (SELECT 1 FROM tool AS upper
                WHERE upper.node = tool.id AND upper.state <> 'deleted')",
            id,
        )?;
        if marked > 0 {
            self.tell_tool(id).await?;
            return Ok(true);
        }
        match find!(self, (ToolId,), "SELECT id FROM tool WHERE id = $1", id)? {
            Some(_) => Ok(false),
            None => Err(Error::not_found("tool", id)),
        }
    }

    /// Forgets a tool whose files are gone.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_tool(&mut self, id: ToolId) -> Result<()> {
        exec!(self, "DELETE FROM tool WHERE id = $1 AND state = 'deleted'", id)?;
        Ok(())
    }

    /// Adds an agent to the catalogue, or changes the one of this name.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn put_agent_entry(
        &mut self,
        owner: Owner,
        name: String,
        entry: String,
    ) -> Result<()> {
        exec!(
            self,
            "INSERT INTO agent_entry (organization, owner, name, entry, changed)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (organization, name) DO UPDATE SET
                owner = excluded.owner, entry = excluded.entry, changed = excluded.changed",
            owner.organization,
            owner.member,
            name,
            entry,
            self.now(),
        )?;
        Ok(())
    }

    /// Takes an added agent out again: whether there was one.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn remove_agent_entry(
        &mut self,
        organization: OrganizationId,
        name: String,
    ) -> Result<bool> {
        let gone = exec!(
            self,
            "DELETE FROM agent_entry WHERE organization = $1 AND name = $2",
            organization,
            name,
        )?;
        Ok(gone > 0)
    }

    async fn touched_tool(&mut self, id: ToolId, touched: u64) -> Result<()> {
        if touched == 0 {
            return Err(Error::not_found("installation under way", id));
        }
        self.tell_tool(id).await
    }

    /// Tells the feed where a tool stands.
    async fn tell_tool(&mut self, id: ToolId) -> Result<()> {
        let sql = format!("SELECT {} FROM tool WHERE id = $1", ToolRow::COLUMNS);
        let Some(row) = find!(self, ToolRow, sql, id)? else { return Ok(()) };
        let mut body = serde_json::json!({
            "tool": row.id, "name": row.name, "version": row.version, "state": row.state,
        });
        if let Some(phase) = row.phase {
            body["phase"] = phase.into();
        }
        if let Some(reason) = row.reason {
            body["reason"] = reason.into();
        }
        // A tool is the server's, and everybody's news.
        let all = list!(
            self,
            (OrganizationId,),
            "SELECT id FROM organization WHERE deleted IS NULL ORDER BY id",
        )?;
        for (organization,) in all {
            let owner = Owner { organization, ..row.owner };
            self.feed(owner, "tool.state", body.clone()).await?;
        }
        Ok(())
    }
}

impl Store {
    /// One tool.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn tool(&self, id: ToolId) -> Result<ToolRow> {
        let sql = format!("SELECT {} FROM tool WHERE id = $1", ToolRow::COLUMNS);
        read_one!(self, ToolRow, sql, id)?.ok_or_else(|| Error::not_found("tool", id))
    }

    /// All tools of an organization that are not deleted, the oldest first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_tools(&self, organization: OrganizationId) -> Result<Vec<ToolRow>> {
        let sql = format!(
            "SELECT {} FROM tool WHERE organization = $1 AND state <> 'deleted' ORDER BY id",
            ToolRow::COLUMNS
        );
        read_all!(self, ToolRow, sql, organization)
    }

    /// Tools in a state, of all organizations.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn tools_in(&self, state: ToolState) -> Result<Vec<ToolRow>> {
        let sql = format!("SELECT {} FROM tool WHERE state = $1 ORDER BY id", ToolRow::COLUMNS);
        read_all!(self, ToolRow, sql, state)
    }

    /// The agents that were added to an organization's catalogue, by name.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn agent_entries(&self, organization: OrganizationId) -> Result<Vec<AgentEntryRow>> {
        let sql = format!(
            "SELECT {} FROM agent_entry WHERE organization = $1 ORDER BY name",
            AgentEntryRow::COLUMNS
        );
        read_all!(self, AgentEntryRow, sql, organization)
    }
}
