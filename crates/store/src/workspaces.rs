//! Workspaces.

use boatyard_model::{
    LayerId, OrganizationId, RepositoryId, TaskId, Timestamp, Visibility, WorkspaceId,
    WorkspaceKind, WorkspaceLimits, WorkspaceState,
};
use serde_json::json;

use crate::{
    Error, Owner, Result, Store, Tx,
    conn::{exec, find, read_all, read_one, read_page},
    row::{self, record},
    shares::{self, Listed, Viewer},
    tasks::Reason,
};

record! {
    /// A workspace.
    #[derive(Debug, Clone)]
    pub struct WorkspaceRow [owned] {
        /// Its id.
        pub id: WorkspaceId,
        /// What it is called, if anything.
        pub name: Option<String>,
        /// Who made the place.
        pub kind: WorkspaceKind,
        /// Where it stands.
        pub state: WorkspaceState,
        /// Why, where that is not plain.
        pub reason: Option<Reason>,
        /// What runs it: `native`, …
        pub runtime: String,
        /// How well it is shut off.
        pub isolation: Option<String>,
        /// How often it was started.
        pub generation: u64,
        /// The layers below its own files, the nearest first.
        pub lowers: Vec<LayerId>,
        /// The repository in it.
        pub repository: Option<RepositoryId>,
        /// The repository's folder below `/work`.
        pub folder: Option<String>,
        /// The commit that it began at.
        pub base_commit: Option<String>,
        /// The branch that it is on.
        pub branch: Option<String>,
        /// What it may use.
        pub limits: WorkspaceLimits,
        /// What its own files take, when it was measured last.
        pub disk_bytes: u64,
        /// Whether it was found again after a loss, so that its newest files may be missing.
        pub recovered: bool,
        /// The task that it was made for.
        pub task: Option<TaskId>,
        /// The one that it is a copy of.
        pub forked_from: Option<WorkspaceId>,
        /// When it was ordered.
        pub created: Timestamp,
        /// When something was done in it last.
        pub last_active: Timestamp,
        /// Who may see it.
        pub visibility: Visibility,
    }
}

/// A workspace that is about to be made.
#[derive(Debug, Clone)]
pub struct NewWorkspace {
    /// Its id.
    pub id: WorkspaceId,
    /// Whose it is.
    pub owner: Owner,
    /// What it is called, if anything.
    pub name: Option<String>,
    /// Who makes the place.
    pub kind: WorkspaceKind,
    /// What runs it.
    pub runtime: String,
    /// How well it is shut off.
    pub isolation: Option<String>,
    /// The layers below its own files, the nearest first.
    pub lowers: Vec<LayerId>,
    /// The repository in it.
    pub repository: Option<RepositoryId>,
    /// The repository's folder below `/work`.
    pub folder: Option<String>,
    /// The commit that it begins at.
    pub base_commit: Option<String>,
    /// The branch that it is on.
    pub branch: Option<String>,
    /// What it may use.
    pub limits: WorkspaceLimits,
    /// The task that it is made for.
    pub task: Option<TaskId>,
    /// The one that it is a copy of.
    pub forked_from: Option<WorkspaceId>,
    /// How it begins.
    pub begins: Begins,
}

/// How a workspace begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Begins {
    /// In state `creating`; what it is started from is found out first.
    #[default]
    Later,
    /// In state `creating`, and its first start is under way.
    AtOnce,
    /// `asleep`: it starts when somebody wants something of it.
    Asleep,
}

/// What becomes known of a workspace. What is absent stays as it is.
#[derive(Debug, Clone, Default)]
pub struct WorkspaceUpdate {
    /// How well it is shut off.
    pub isolation: Option<String>,
    /// The layers below its own files, the nearest first.
    pub lowers: Option<Vec<LayerId>>,
    /// The commit that it begins at.
    pub base_commit: Option<String>,
    /// The branch that it is on.
    pub branch: Option<String>,
    /// What its own files take.
    pub disk_bytes: Option<u64>,
    /// It was found again after a loss.
    pub recovered: Option<bool>,
}

impl Tx {
    /// Stores a workspace.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn create_workspace(&mut self, new: NewWorkspace) -> Result<()> {
        self.note("workspace", new.id);
        let (lowers, limits) = (row::json(&new.lowers)?, row::json(&new.limits)?);
        let (state, generation) = match new.begins {
            Begins::Later => (WorkspaceState::Creating, 0_u64),
            Begins::AtOnce => (WorkspaceState::Creating, 1),
            Begins::Asleep => (WorkspaceState::Asleep, 0),
        };
        exec!(
            self,
            "INSERT INTO workspace (id, organization, owner, name, kind, state, runtime, isolation,
                lowers, repository, folder, base_commit, branch, limits, task, forked_from,
                created, last_active, generation, visibility)
             VALUES ($1, $2, $3, $4, $5, $17, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
                $16, $16, $18, COALESCE((SELECT visibility FROM task WHERE task.id = $14),
                    (SELECT visibility FROM workspace AS source WHERE source.id = $15),
                    (SELECT visibility FROM organization WHERE id = $2), 'visible'))",
            new.id,
            new.owner.organization,
            new.owner.member,
            new.name,
            new.kind,
            new.runtime,
            new.isolation,
            lowers,
            new.repository,
            new.folder,
            new.base_commit,
            new.branch,
            limits,
            new.task,
            new.forked_from,
            self.now(),
            state,
            generation,
        )?;
        self.tell_workspace(new.owner, new.id, state).await
    }

    /// One workspace, as this transaction sees it.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn workspace(&mut self, id: WorkspaceId) -> Result<WorkspaceRow> {
        let sql = format!("SELECT {} FROM workspace WHERE id = $1", WorkspaceRow::COLUMNS);
        find!(self, WorkspaceRow, sql, id)?.ok_or_else(|| Error::not_found("workspace", id))
    }

    /// Changes a workspace's state. The state that it has already is no change.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IllegalState`].
    pub async fn set_workspace_state(
        &mut self,
        id: WorkspaceId,
        to: WorkspaceState,
        reason: Option<Reason>,
    ) -> Result<()> {
        let row = self.workspace(id).await?;
        if row.state == to {
            return Ok(());
        }
        if !row.state.may_become(to) {
            return Err(Error::IllegalState {
                kind: "workspace",
                id: id.to_string(),
                from: row.state.as_str(),
                to: to.as_str(),
            });
        }
        let reason = reason.as_ref().map(row::json).transpose()?;
        exec!(
            self,
            "UPDATE workspace SET state = $2, reason = $3, last_active = $4 WHERE id = $1",
            id,
            to,
            reason,
            self.now(),
        )?;
        self.tell_workspace(row.owner, id, to).await
    }

    async fn tell_workspace(
        &mut self,
        owner: Owner,
        workspace: WorkspaceId,
        state: WorkspaceState,
    ) -> Result<()> {
        let told = json!({ "workspace": workspace, "state": state });
        self.feed(owner, "workspace.state", told).await.map(drop)
    }

    /// Counts one more start of a workspace: the generation that it gets.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn next_generation(&mut self, id: WorkspaceId) -> Result<u64> {
        let row = find!(
            self,
            (i64,),
            "UPDATE workspace SET generation = generation + 1, last_active = $2
             WHERE id = $1 RETURNING generation",
            id,
            self.now(),
        )?;
        let (generation,) = row.ok_or_else(|| Error::not_found("workspace", id))?;
        Ok(generation.unsigned_abs())
    }

    /// Keeps what became known of a workspace.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn update_workspace(
        &mut self,
        id: WorkspaceId,
        update: WorkspaceUpdate,
    ) -> Result<()> {
        let lowers = update.lowers.as_ref().map(row::json).transpose()?;
        let touched = exec!(
            self,
            "UPDATE workspace SET isolation = COALESCE($2, isolation),
                lowers = COALESCE($3, lowers), base_commit = COALESCE($4, base_commit),
                branch = COALESCE($5, branch), disk_bytes = COALESCE($6, disk_bytes),
                recovered = COALESCE($7, recovered)
             WHERE id = $1",
            id,
            update.isolation,
            lowers,
            update.base_commit,
            update.branch,
            update.disk_bytes,
            update.recovered,
        )?;
        if touched == 0 { Err(Error::not_found("workspace", id)) } else { Ok(()) }
    }

    /// Gives a workspace a name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn name_workspace(&mut self, id: WorkspaceId, name: &str) -> Result<()> {
        let touched = exec!(self, "UPDATE workspace SET name = $2 WHERE id = $1", id, name)?;
        if touched == 0 { Err(Error::not_found("workspace", id)) } else { Ok(()) }
    }

    /// Notes that something is done in workspaces. To be called now and then, for many at once.
    ///
    /// # Errors
    /// When it can't be stored.
    pub async fn touch_workspaces(&mut self, ids: &[WorkspaceId]) -> Result<()> {
        let now = self.now();
        for id in ids {
            exec!(self, "UPDATE workspace SET last_active = $2 WHERE id = $1", id, now)?;
        }
        Ok(())
    }
}

impl Store {
    /// One workspace.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn workspace(&self, id: WorkspaceId) -> Result<WorkspaceRow> {
        let sql = format!("SELECT {} FROM workspace WHERE id = $1", WorkspaceRow::COLUMNS);
        read_one!(self, WorkspaceRow, sql, id)?.ok_or_else(|| Error::not_found("workspace", id))
    }

    /// Workspaces, newest first, without deleted ones unless they are asked for; those with a
    /// smaller id than `before`, and without what is not theirs to see for `seen_by`.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_workspaces(
        &self,
        organization: OrganizationId,
        state: Option<WorkspaceState>,
        before: Option<WorkspaceId>,
        limit: u32,
        seen_by: Option<Viewer>,
    ) -> Result<Vec<WorkspaceRow>> {
        let columns = WorkspaceRow::COLUMNS;
        let state_is = if state.is_some() { "state = $4" } else { "state <> 'deleted'" };
        let seen = shares::seen(seen_by, Listed::Workspaces, 5);
        read_page!(
            self,
            WorkspaceRow,
            format!(
                "SELECT {columns} FROM workspace WHERE organization = $1 AND {state_is}
                 AND ($2 IS NULL OR id < $2){seen} ORDER BY id DESC LIMIT $3"
            ),
            organization,
            before,
            limit,
            state,
            seen_by.map(|viewer| viewer.member),
            seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )
    }

    /// All workspaces in a state: what a server looks after when it starts.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn workspaces_in(&self, state: WorkspaceState) -> Result<Vec<WorkspaceRow>> {
        let columns = WorkspaceRow::COLUMNS;
        let sql = format!("SELECT {columns} FROM workspace WHERE state = $1 ORDER BY id");
        read_all!(self, WorkspaceRow, sql, state)
    }

    /// Workspaces that are awake although nothing was done in them since `before` and no session
    /// in them is under way.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn idle_workspaces(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<WorkspaceRow>> {
        let columns = WorkspaceRow::COLUMNS;
        let sql = format!(
            "SELECT {columns} FROM workspace WHERE state = 'awake' AND last_active < $1
             AND NOT EXISTS (SELECT 1 FROM session WHERE session.workspace = workspace.id
                AND session.state IN ('starting', 'running', 'waiting'))
             ORDER BY last_active LIMIT $2"
        );
        read_all!(self, WorkspaceRow, sql, before, limit)
    }

    /// How many workspaces there are in each state.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn count_workspaces(&self) -> Result<Vec<(WorkspaceState, u64)>> {
        let rows = read_all!(
            self,
            (String, i64),
            "SELECT state, COUNT(*) FROM workspace GROUP BY state",
        )?;
        let known =
            |(state, count): (String, i64)| Some((state.parse().ok()?, count.unsigned_abs()));
        Ok(rows.into_iter().filter_map(known).collect())
    }
}
