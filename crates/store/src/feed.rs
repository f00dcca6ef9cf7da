//! The organization's feed: state changes, approvals, notices, in the order in which they were
//! stored. The store writes the entries itself, in the transaction of the change.
//!
//! | kind | body |
//! |---|---|
//! | `task.state` | `task`, `title`, `state`, `attempt?` (its number) |
//! | `session.state` | `session`, `workspace`, `state`, `reason?` |
//! | `workspace.state` | `workspace`, `state` |
//! | `tool.state` | `tool`, `name`, `version`, `state`, `phase?`, `reason?` |
//! | `permission.requested` | `session`, `permission`, `title`, `deadline` |
//! | `permission.resolved` | `session`, `permission`, `outcome` |
//! | `question.asked` | `session`, `question`, `text`, `deadline` |
//! | `question.answered` | `session`, `question` |
//! | `egress.asked` | `ask`, `workspace`, `task?`, `host`, `port`, `method?`, `deadline` |
//! | `egress.answered` | `ask`, `workspace`, `state`, `answer?` |
//! | `member.changed` | `member`, `change` (`joined`, `changed`, `removed`) |
//! | `organization.changed` | `organization`, `name`, `visibility` |
//! | `repository.access` | `repository` |
//! | `work.transferred` | `from`, `to`, `tasks`, `sessions`, `workspaces` |

use std::sync::Arc;

use boatyard_model::{OrganizationId, Timestamp};
use serde_json::Value;

use crate::{
    Result, Store, Tx,
    conn::{find, read_all, read_one},
    follow::{Follower, Sequenced},
    owner::Owner,
    row::{json, record},
};

record! {
    /// One entry of the feed, as it is stored.
    #[derive(Debug, Clone)]
    pub struct FeedRow {
        /// Its place: rising, with gaps.
        pub seq: u64,
        /// When it was stored.
        pub time: Timestamp,
        /// What happened.
        pub kind: String,
        /// The rest, a JSON object.
        pub body: String,
    }
}

/// One entry of the feed, ready to be sent.
#[derive(Debug, Clone)]
pub struct FeedEntry {
    /// Its place: rising, with gaps.
    pub seq: u64,
    /// What happened.
    pub kind: Arc<str>,
    /// The whole as a JSON object: `seq`, `time`, `type`, and the body's fields.
    pub json: Arc<str>,
}

impl From<FeedRow> for FeedEntry {
    fn from(row: FeedRow) -> Self {
        let head = format!(
            r#"{{"seq":{},"time":"{}","type":"{}""#,
            row.seq,
            row.time,
            row.kind.escape_default()
        );
        Self { seq: row.seq, json: spliced(head, &row.body).into(), kind: row.kind.into() }
    }
}

/// `head`, an object without its closing brace, and the fields of the object `body`.
pub(crate) fn spliced(mut head: String, body: &str) -> String {
    let fields = body.strip_prefix('{').unwrap_or("}");
    if fields != "}" {
        head.push(',');
    }
    head.push_str(fields);
    head
}

impl Sequenced for FeedEntry {
    fn seq(&self) -> u64 {
        self.seq
    }

    fn bytes(&self) -> usize {
        self.json.len()
    }
}

/// Follows the feed; see [`Follower`] for what it promises.
pub type FeedFollower = Follower<FeedEntry>;

impl Tx {
    /// Adds an entry to the feed. `body` is a JSON object.
    pub async fn feed(&mut self, owner: Owner, kind: &'static str, body: Value) -> Result<u64> {
        let now = self.now();
        let row = FeedRow { seq: 0, time: now, kind: kind.to_owned(), body: json(&body)? };
        let stored = find!(
            self,
            (i64,),
            "INSERT INTO feed (organization, owner, time, kind, body)
             VALUES ($1, $2, $3, $4, $5) RETURNING seq",
            owner.organization,
            owner.member,
            now,
            row.kind,
            row.body,
        )?;
        let seq = stored.map_or(0, |(seq,)| seq.unsigned_abs());
        self.effects.feed.push((owner.organization, FeedEntry::from(FeedRow { seq, ..row })));
        Ok(seq)
    }
}

impl Store {
    /// Entries after `after`, oldest first, at most `limit`.
    pub async fn read_feed(
        &self,
        organization: OrganizationId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<FeedEntry>> {
        let rows = read_all!(
            self,
            FeedRow,
            format!(
                "SELECT {} FROM feed WHERE seq > $1 AND organization = $2 ORDER BY seq LIMIT $3",
                FeedRow::COLUMNS
            ),
            after,
            organization,
            limit,
        )?;
        Ok(rows.into_iter().map(FeedEntry::from).collect())
    }

    /// The place of the newest entry; 0 if there is none.
    pub async fn last_feed_seq(&self) -> Result<u64> {
        let last = read_one!(self, (Option<i64>,), "SELECT MAX(seq) FROM feed")?;
        Ok(last.and_then(|(seq,)| seq).map_or(0, i64::unsigned_abs))
    }

    /// Follows the feed from after `after`.
    pub fn follow_feed(&self, organization: OrganizationId, after: u64) -> FeedFollower {
        let channel = self.shared().feeds.get_or_open(organization);
        Follower::open(self.clone(), organization, channel, after)
    }
}
