//! Storing events: numbers, repetition, statements of many rows.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use boatyard_model::{EventBody, SessionId};

use super::{Appended, NewEvent, Origin, Prepared, Role};
use crate::{
    Result, Tx, bulk,
    bulk::Rows,
    conn::{Conn, Value, exec},
    jobs::NewJob,
    writer::{Answer, Group, Published},
};

const INSERT: &str =
    "INSERT INTO event (session_number, seq, time, turn, kind, item, body) VALUES ";
const ROW: &str = "(?,?,?,?,?,?,?)";
const UPSERT_HEAD: &str =
    "INSERT INTO session_head (session_number, last_seq, epoch, n, turn_seq) VALUES ";
const HEAD_ROW: &str = "(?,?,?,?,?)";
const HEAD_CONFLICT: &str = " ON CONFLICT (session_number) DO UPDATE SET \
    last_seq = excluded.last_seq, epoch = excluded.epoch, n = excluded.n, \
    turn_seq = excluded.turn_seq";

/// Sessions whose heads are remembered.
const HEADS_MAX: usize = 20_000;
/// Items of one session whose first delta is remembered.
const ITEMS_MAX: usize = 2_000;

/// What is known of the ends of logs. The one writer is the only one that changes them, so what it
/// remembers is true until a transaction is undone; then it forgets.
#[derive(Default)]
pub(crate) struct Heads(HashMap<SessionId, Head>);

struct Head {
    number: i64,
    last_seq: u64,
    origin: Origin,
    /// The first number of the newest turn.
    turn_seq: u64,
    /// Whether `items` knows every open item since `turn_seq`.
    whole: bool,
    /// The first delta of each item that has not completed.
    items: HashMap<Arc<str>, u64>,
}

impl Heads {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Called between transactions.
    pub(crate) fn trim(&mut self) {
        if self.0.len() > HEADS_MAX {
            self.0.clear();
        }
    }
}

impl Head {
    /// Remembers where an item's deltas begin.
    fn begins(&mut self, item: &Arc<str>, seq: u64) {
        if self.items.len() >= ITEMS_MAX {
            self.items.clear();
            self.whole = false;
        }
        self.items.entry(Arc::clone(item)).or_insert(seq);
    }

    /// No delta of the item lies before this number; none if it has no delta at all.
    fn ends(&mut self, item: &str) -> Option<u64> {
        let first = self.items.remove(item);
        if self.whole { first } else { Some(self.turn_seq) }
    }
}

impl Tx {
    pub(crate) async fn append_group(
        &mut self,
        group: Group<Prepared, Appended>,
        follow_up: Vec<NewJob>,
        answers: &mut Vec<Answer>,
    ) -> Result<()> {
        let mut events = Vec::new();
        let mut replies = Vec::with_capacity(group.len());
        for (part, reply) in group {
            replies.push((part.len(), reply));
            events.extend(part);
        }
        let mut outcome = self.append_prepared(events).await;
        if !follow_up.is_empty()
            && outcome.is_ok()
            && let Err(error) = self.insert_jobs(follow_up).await
        {
            outcome = Err(error);
        }
        bulk::deal(outcome, replies, answers)
    }

    /// Stores events, and what follows from them.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn append(&mut self, events: Vec<NewEvent>) -> Result<Vec<Appended>> {
        let events = events.into_iter().map(Prepared::new).collect::<Result<Vec<_>>>()?;
        self.append_prepared(events).await
    }

    pub(crate) async fn append_prepared(&mut self, events: Vec<Prepared>) -> Result<Vec<Appended>> {
        self.load_heads(&events).await?;
        let mut outcomes = Vec::with_capacity(events.len());
        let mut rows = Rows::new(INSERT, ROW, "");
        let mut touched = BTreeMap::new();
        let mut roles = Vec::new();
        for mut event in events {
            let Some(head) = self.heads.0.get_mut(&event.session) else {
                outcomes.push(Appended::NoSession);
                continue;
            };
            if let Some(origin) = event.origin {
                if origin <= head.origin {
                    outcomes.push(Appended::Repeated);
                    continue;
                }
                head.origin = origin;
            }
            let before = head.last_seq;
            let seq = before + 1;
            head.last_seq = seq;
            touched.insert(head.number, event.session);
            rows.add(|row| {
                row.int(head.number)
                    .int(i64::try_from(seq).unwrap_or(i64::MAX))
                    .int(event.time.0)
                    .maybe_int(event.turn.map(i64::from))
                    .shared(&event.kind)
                    .maybe_shared(event.item.as_ref())
                    .shared(&event.body);
            });
            match (std::mem::replace(&mut event.role, Role::Plain), &event.item) {
                (Role::Plain, _) => {}
                (Role::Delta, Some(item)) => head.begins(item, seq),
                (Role::Completes(kind, body), Some(item)) => {
                    if let Some(first) = head.ends(item) {
                        roles.push(Follow::Replace {
                            number: head.number,
                            first,
                            before: seq,
                            kind,
                            item: Arc::clone(item),
                        });
                    }
                    if let Some(body) = body {
                        roles.push(Follow::Consequence(event.session, seq, event.turn, body));
                    }
                }
                (Role::Delta | Role::Completes(..), None) => {}
                (Role::Consequence(body), _) => {
                    if matches!(*body, EventBody::TurnStarted { .. }) {
                        head.turn_seq = seq;
                        head.items.clear();
                        head.whole = true;
                    }
                    roles.push(Follow::Consequence(event.session, seq, event.turn, body));
                }
            }
            outcomes.push(Appended::Stored(seq));
            self.effects.events.push(Published { session: event.session, before, seq, event });
        }
        rows.flush(&mut self.conn).await?;
        self.store_heads(touched).await?;
        for follow in roles {
            match follow {
                Follow::Replace { number, first, before, kind, item } => {
                    exec!(
                        self,
                        "DELETE FROM event WHERE session_number = $1 AND seq >= $2 AND seq < $3
                         AND item = $4 AND kind = $5",
                        number,
                        first,
                        before,
                        *item,
                        kind,
                    )?;
                }
                Follow::Consequence(session, seq, turn, body) => {
                    // Boxed, since a consequence may append in its turn.
                    Box::pin(self.consequence(session, seq, turn, *body)).await?;
                }
            }
        }
        Ok(outcomes)
    }

    /// Looks up the sessions that are not remembered.
    async fn load_heads(&mut self, events: &[Prepared]) -> Result<()> {
        let mut missing: Vec<SessionId> = events
            .iter()
            .map(|event| event.session)
            .filter(|session| !self.heads.0.contains_key(session))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        for part in bulk::chunks(&missing) {
            let text = bulk::in_list(
                "SELECT session.id, session.number, last_seq, epoch, n, turn_seq
                 FROM session JOIN session_head ON session_head.session_number = session.number
                 WHERE session.id",
                part.len(),
            );
            let ids: Vec<Value<'_>> = part.iter().map(|id| id.to_string().into()).collect();
            let rows: Vec<(String, i64, i64, i64, i64, i64)> = match &self.conn {
                Conn::Sqlite(conn) => conn.all(&text, &ids)?,
            };
            for (id, number, last_seq, epoch, n, turn_seq) in rows {
                let Ok(session) = id.parse() else { continue };
                let head = Head {
                    number,
                    last_seq: last_seq.unsigned_abs(),
                    origin: Origin { epoch: epoch.unsigned_abs(), n: n.unsigned_abs() },
                    turn_seq: turn_seq.unsigned_abs(),
                    whole: last_seq == 0,
                    items: HashMap::new(),
                };
                self.heads.0.insert(session, head);
            }
        }
        Ok(())
    }

    async fn store_heads(&mut self, touched: BTreeMap<i64, SessionId>) -> Result<()> {
        let mut rows = Rows::new(UPSERT_HEAD, HEAD_ROW, HEAD_CONFLICT);
        let int = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        for (number, session) in touched {
            let Some(head) = self.heads.0.get(&session) else { continue };
            rows.add(|row| {
                row.int(number)
                    .int(int(head.last_seq))
                    .int(int(head.origin.epoch))
                    .int(int(head.origin.n))
                    .int(int(head.turn_seq));
            });
        }
        rows.flush(&mut self.conn).await
    }
}

/// What is to be done when the events are in the table.
enum Follow {
    Replace { number: i64, first: u64, before: u64, kind: &'static str, item: Arc<str> },
    Consequence(SessionId, u64, Option<u32>, Box<EventBody>),
}
