//! What left workspaces, and what was kept from leaving: one row for each request or tunnel, in
//! the order in which they ended.
//!
//! Rows are written in statements of many ([`Tx::log_requests`]), read a page at a time by their
//! number, added up in buckets of time, and removed from the oldest on ([`Tx::trim_requests`]).

use boatyard_model::{
    OrganizationId, RequestVerdict, RequestWay, SessionId, TaskId, Timestamp, WorkspaceId,
};

use crate::{
    Owner, Result, Store, Tx,
    bulk::Rows,
    conn::{exec, read_all, read_one, read_page},
    row::record,
    shares::{self, Listed, Viewer},
};

const INSERT: &str = "INSERT INTO egress_request (organization, owner, time, workspace, session, \
    task, way, program, method, host, port, path, verdict, rule, reason, credential, status, \
    sent, received, micros) VALUES ";
const ROW: &str = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";

record! {
    /// A request or tunnel, as it is remembered.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RequestRow [owned] {
        /// Its place in the log: rising, with gaps. 0 for one that is about to be stored.
        pub number: u64,
        /// When it began.
        pub time: Timestamp,
        /// Where it came from.
        pub workspace: WorkspaceId,
        /// The session that ran there, where there was one alone.
        pub session: Option<SessionId>,
        /// The task that the workspace was made for.
        pub task: Option<TaskId>,
        /// By which way it left.
        pub way: RequestWay,
        /// The program inside, where it is known.
        pub program: Option<String>,
        /// `CONNECT` or its method.
        pub method: String,
        /// The host as it was asked for; empty where the request named none.
        pub host: String,
        /// The port.
        pub port: u32,
        /// The path without its query, for a request that could be seen.
        pub path: Option<String>,
        /// What became of it.
        pub verdict: RequestVerdict,
        /// The rule that decided, or came nearest.
        pub rule: Option<String>,
        /// Why it was refused or failed.
        pub reason: Option<String>,
        /// The credential that was added on the way.
        pub credential: Option<String>,
        /// The status of the answer, where there was one.
        pub status: Option<u32>,
        /// Bytes from the workspace.
        pub sent: u64,
        /// Bytes to the workspace.
        pub received: u64,
        /// How long it took, in microseconds.
        pub micros: u64,
    }
}

/// Which requests are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestFilter {
    /// From this workspace.
    pub workspace: Option<WorkspaceId>,
    /// Of this session.
    pub session: Option<SessionId>,
    /// Of this task.
    pub task: Option<TaskId>,
    /// To this host; with `*.` before it, to those below it.
    pub host: Option<String>,
    /// That ended so.
    pub verdict: Option<RequestVerdict>,
    /// By this way.
    pub way: Option<RequestWay>,
    /// That this rule decided.
    pub rule: Option<String>,
    /// Of this program.
    pub program: Option<String>,
    /// That began at this time or later.
    pub from: Option<Timestamp>,
    /// That began before this time.
    pub to: Option<Timestamp>,
    /// Without what is not theirs to see; none for those who may see all.
    pub seen_by: Option<Viewer>,
}

/// Which page of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestPage {
    /// Those before this number, the newest first.
    Before(u64),
    /// Those after this number, the oldest first.
    After(u64),
}

impl RequestPage {
    /// The newest.
    pub const NEWEST: Self = Self::Before(u64::MAX);
}

/// What requests are told apart by when they are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestGroup {
    /// What became of them.
    Verdict,
    /// Where they went.
    Host,
    /// What decided.
    Rule,
    /// Where they came from.
    Workspace,
    /// Who asked.
    Program,
}

impl RequestGroup {
    const fn column(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Host => "host",
            Self::Rule => "COALESCE(rule, '')",
            Self::Workspace => "workspace",
            Self::Program => "COALESCE(program, '')",
        }
    }
}

/// Requests added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSum {
    /// When the bucket begins; 0 where all times are taken together.
    pub time: Timestamp,
    /// The group's value.
    pub key: String,
    /// How many.
    pub count: u64,
    /// How many of them were kept from leaving.
    pub refused: u64,
    /// Bytes from workspaces.
    pub sent: u64,
    /// Bytes to workspaces.
    pub received: u64,
}

type SumRow = (i64, String, i64, i64, i64, i64);

impl From<SumRow> for RequestSum {
    fn from((time, key, count, refused, sent, received): SumRow) -> Self {
        Self {
            time: Timestamp(time),
            key,
            count: count.unsigned_abs(),
            refused: refused.unsigned_abs(),
            sent: sent.unsigned_abs(),
            received: received.unsigned_abs(),
        }
    }
}

/// What is added up of each group.
const SUMS: &str = "COUNT(*),
    COALESCE(SUM(CASE WHEN verdict IN ('denied', 'asked_denied', 'asked_expired', \
        'asked_withdrawn') THEN 1 ELSE 0 END), 0),
    COALESCE(SUM(sent), 0), COALESCE(SUM(received), 0)";

/// How a list is to find its rows: by the order of their numbers, or by time.
#[derive(Clone, Copy)]
enum Walk {
    Numbers,
    Times,
}

impl RequestFilter {
    /// The conditions that it makes, with `$4` and on as their parameters: always the same number
    /// for the same field, so that all may be bound whichever are used.
    fn conditions(&self, walk: Walk) -> String {
        let mut text = String::from("organization = $1");
        let time = match walk {
            // The sign keeps a database from sorting by time what is wanted by number.
            Walk::Numbers => "+time",
            Walk::Times => "time",
        };
        let host = match self.suffix() {
            Some(_) => " AND substr(host, -length($7)) = $7".to_owned(),
            None => " AND host = $7".to_owned(),
        };
        for (wanted, condition) in [
            (self.workspace.is_some(), " AND workspace = $4".to_owned()),
            (self.session.is_some(), " AND session = $5".to_owned()),
            (self.task.is_some(), " AND task = $6".to_owned()),
            (self.host.is_some(), host),
            (self.verdict.is_some(), " AND verdict = $8".to_owned()),
            (self.way.is_some(), " AND way = $9".to_owned()),
            (self.rule.is_some(), " AND rule = $10".to_owned()),
            (self.program.is_some(), " AND program = $11".to_owned()),
            (self.from.is_some(), format!(" AND {time} >= $12")),
            (self.to.is_some(), format!(" AND {time} < $13")),
        ] {
            if wanted {
                text.push_str(&condition);
            }
        }
        let workspace = Listed::InWorkspaces("egress_request.workspace");
        text.push_str(&shares::seen(self.seen_by, workspace, 14));
        text
    }

    /// What a host must end with, if only that matters.
    fn suffix(&self) -> Option<&str> {
        self.host.as_deref()?.strip_prefix('*').filter(|suffix| suffix.starts_with('.'))
    }

    fn wanted_host(&self) -> Option<&str> {
        self.suffix().or(self.host.as_deref())
    }
}

impl Tx {
    /// Adds requests to the log.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn log_requests(&mut self, requests: Vec<RequestRow>) -> Result<()> {
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut rows = Rows::new(INSERT, ROW, "");
        for request in requests {
            rows.add(|row| {
                row.text(request.owner.organization.to_string())
                    .text(request.owner.member.to_string())
                    .int(request.time.0)
                    .text(request.workspace.to_string())
                    .maybe(request.session.map(|id| id.to_string()))
                    .maybe(request.task.map(|id| id.to_string()))
                    .text(request.way.as_str())
                    .maybe(request.program)
                    .text(request.method)
                    .text(request.host)
                    .int(i64::from(request.port))
                    .maybe(request.path)
                    .text(request.verdict.as_str())
                    .maybe(request.rule)
                    .maybe(request.reason)
                    .maybe(request.credential)
                    .maybe_int(request.status.map(i64::from))
                    .int(int(request.sent))
                    .int(int(request.received))
                    .int(int(request.micros));
            });
        }
        rows.flush(&mut self.conn).await
    }

    /// Removes at most `limit` of the oldest requests: those that began before `before`, and those
    /// of which there are more than `rows`. The number that were removed; call again while it is
    /// `limit`.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn trim_requests(&mut self, before: Timestamp, rows: u64, limit: u32) -> Result<u64> {
        let too_many = exec!(
            self,
            "DELETE FROM egress_request WHERE number IN (SELECT number FROM egress_request
                WHERE number <= (SELECT MAX(number) FROM egress_request) - $1
                ORDER BY number LIMIT $2)",
            rows,
            limit,
        )?;
        let too_old = exec!(
            self,
            "DELETE FROM egress_request WHERE number IN (SELECT number FROM egress_request
                WHERE organization IN (SELECT id FROM organization) AND time < $1 LIMIT $2)",
            before,
            limit,
        )?;
        Ok(too_many.max(too_old))
    }
}

impl Store {
    /// Requests of an organization.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn list_requests(
        &self,
        organization: OrganizationId,
        filter: &RequestFilter,
        page: RequestPage,
        limit: u32,
    ) -> Result<Vec<RequestRow>> {
        let (bound, order, number) = match page {
            RequestPage::Before(number) => ("number < $2", "number DESC", number),
            RequestPage::After(number) => ("number > $2", "number", number),
        };
        let columns = RequestRow::COLUMNS;
        let conditions = filter.conditions(Walk::Numbers);
        read_page!(
            self,
            RequestRow,
            format!(
                "SELECT {columns} FROM egress_request WHERE {conditions} AND {bound}
                 ORDER BY {order} LIMIT $3"
            ),
            organization,
            number,
            limit,
            filter.workspace,
            filter.session,
            filter.task,
            filter.wanted_host(),
            filter.verdict,
            filter.way,
            filter.rule,
            filter.program,
            filter.from,
            filter.to,
            filter.seen_by.map(|viewer| viewer.member),
            filter.seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )
    }

    /// Requests added up in buckets of `bucket` milliseconds, the oldest first; at most `limit`
    /// sums.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn request_buckets(
        &self,
        organization: OrganizationId,
        filter: &RequestFilter,
        group: RequestGroup,
        bucket: u64,
        limit: u32,
    ) -> Result<Vec<RequestSum>> {
        let key = group.column();
        let conditions = filter.conditions(Walk::Times);
        let rows = read_all!(
            self,
            SumRow,
            format!(
                "SELECT time / $2 * $2, {key}, {SUMS} FROM egress_request WHERE {conditions}
                 GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $3"
            ),
            organization,
            bucket.max(1),
            limit,
            filter.workspace,
            filter.session,
            filter.task,
            filter.wanted_host(),
            filter.verdict,
            filter.way,
            filter.rule,
            filter.program,
            filter.from,
            filter.to,
            filter.seen_by.map(|viewer| viewer.member),
            filter.seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )?;
        Ok(rows.into_iter().map(RequestSum::from).collect())
    }

    /// Requests added up over all of the time, the most frequent group first.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn top_requests(
        &self,
        organization: OrganizationId,
        filter: &RequestFilter,
        group: RequestGroup,
        limit: u32,
    ) -> Result<Vec<RequestSum>> {
        let key = group.column();
        let conditions = filter.conditions(Walk::Times);
        let rows = read_all!(
            self,
            SumRow,
            format!(
                "SELECT $2, {key}, {SUMS} FROM egress_request WHERE {conditions}
                 GROUP BY 2 ORDER BY 3 DESC, 2 LIMIT $3"
            ),
            organization,
            0_i64,
            limit,
            filter.workspace,
            filter.session,
            filter.task,
            filter.wanted_host(),
            filter.verdict,
            filter.way,
            filter.rule,
            filter.program,
            filter.from,
            filter.to,
            filter.seen_by.map(|viewer| viewer.member),
            filter.seen_by.map(|viewer| viewer.holder()),
            self.now(),
        )?;
        Ok(rows.into_iter().map(RequestSum::from).collect())
    }

    /// The number of the newest request; 0 if there is none.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn last_request(&self) -> Result<u64> {
        let last = read_one!(self, (Option<i64>,), "SELECT MAX(number) FROM egress_request")?;
        Ok(last.and_then(|(number,)| number).map_or(0, i64::unsigned_abs))
    }
}

impl RequestRow {
    /// A request from a workspace that began at this time, before anything else is known of it.
    pub fn new(owner: Owner, workspace: WorkspaceId, time: Timestamp) -> Self {
        Self {
            owner,
            number: 0,
            time,
            workspace,
            session: None,
            task: None,
            way: RequestWay::Proxy,
            program: None,
            method: String::new(),
            host: String::new(),
            port: 0,
            path: None,
            verdict: RequestVerdict::Failed,
            rule: None,
            reason: None,
            credential: None,
            status: None,
            sent: 0,
            received: 0,
            micros: 0,
        }
    }
}
