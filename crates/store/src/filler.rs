//! Work that is over, by the thousand: for measuring how a database answers that is not empty.

use boatyard_model::{SessionId, TaskId, TaskLimits, WorkspaceId, WorkspaceLimits};

use crate::{Owner, Result, Tx, bulk::Rows, conn::exec, row::json};

const TASKS: &str = "INSERT INTO task (id, organization, owner, state, title, source, agent, \
                     attempts, created, started, ended) VALUES ";
const TASK: &str = "(?,?,?,'succeeded',?,'https://example.com/owner/repository','demo',1,?,?,?)";
const ORDERS: &str =
    "INSERT INTO task_order (task, limits, workspace_limits, options, prompt) VALUES ";
const ORDER: &str = "(?,?,?,'{}','[]')";
const SESSIONS: &str = "INSERT INTO session (id, organization, owner, workspace, agent, cwd, \
                        state, turns, created, last_active, ended) VALUES ";
const SESSION: &str = "(?,?,?,?,'demo','/work','ended',1,?,?,?)";

impl Tx {
    /// Stores `count` tasks and as many sessions that are over, without what happened in them. The
    /// workspace is where the sessions were.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn fill(&mut self, owner: Owner, workspace: WorkspaceId, count: u32) -> Result<()> {
        let now = self.now().0;
        let limits = (json(&TaskLimits::default())?, json(&WorkspaceLimits::default())?);
        let (organization, member) = (owner.organization.to_string(), owner.member.to_string());
        let mut tasks = Rows::new(TASKS, TASK, "");
        let mut orders = Rows::new(ORDERS, ORDER, "");
        let mut sessions = Rows::new(SESSIONS, SESSION, "");
        for n in 0..count {
            let task = TaskId::new().to_string();
            tasks.add(|row| {
                row.text(task.clone()).text(organization.clone()).text(member.clone());
                row.text(format!("Task {n} that says what was to be done"));
                row.int(now).int(now).int(now);
            });
            orders.add(|row| {
                row.text(task).text(limits.0.clone()).text(limits.1.clone());
            });
            sessions.add(|row| {
                row.text(SessionId::new().to_string());
                row.text(organization.clone()).text(member.clone());
                row.text(workspace.to_string()).int(now).int(now).int(now);
            });
        }
        tasks.flush(&mut self.conn).await?;
        orders.flush(&mut self.conn).await?;
        sessions.flush(&mut self.conn).await?;
        exec!(
            self,
            "INSERT INTO session_head (session_number, last_seq, epoch, n, turn_seq)
             SELECT number, 0, 0, 0, 0 FROM session WHERE workspace = $1
             ON CONFLICT (session_number) DO NOTHING",
            workspace,
        )?;
        Ok(())
    }
}
