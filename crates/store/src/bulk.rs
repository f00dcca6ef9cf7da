//! Statements of many rows.
//!
//! A row at a time costs a look-up and a start of its statement each; about a hundred rows in a
//! statement make that small. The number of rows in a statement is one of [`SIZES`], so that a handful of
//! prepared statements serve every amount.
//!
//! Parameters are written `?` here and not `$n`: SQLite looks up a numbered parameter's name by a
//! walk over all of them, which makes binding a large statement quadratic. A driver that must have
//! `$n` numbers them in [`placeholders`].

use std::{borrow::Cow, fmt::Write as _, sync::Arc};

use crate::{
    Error, Result,
    conn::{Conn, Value},
    writer::{Answer, Reply},
};

/// Rows that a statement may have.
const SIZES: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// `items` in parts, each of one of [`SIZES`].
pub(crate) fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|size| *size <= items.len())?;
        let (part, rest) = items.split_at(size);
        items = rest;
        Some(part)
    })
}

/// `rows` times `template`, with commas.
fn placeholders(into: &mut String, template: &str, rows: usize) {
    for row in 0..rows {
        if row > 0 {
            into.push(',');
        }
        into.push_str(template);
    }
}

/// Rows to be inserted into one table.
pub(crate) struct Rows {
    /// `INSERT INTO … VALUES `.
    head: String,
    /// `(?,?,…)`, one row.
    template: &'static str,
    /// `ON CONFLICT …`, or nothing.
    tail: &'static str,
    /// Parameters of one row.
    width: usize,
    values: Vec<Value<'static>>,
}

/// Takes the values of one row.
pub(crate) struct RowValues<'a>(&'a mut Vec<Value<'static>>);

impl RowValues<'_> {
    pub(crate) fn text(&mut self, text: impl Into<String>) -> &mut Self {
        self.0.push(Value::Text(Cow::Owned(text.into())));
        self
    }

    pub(crate) fn shared(&mut self, text: &Arc<str>) -> &mut Self {
        self.0.push(Value::Shared(Arc::clone(text)));
        self
    }

    pub(crate) fn maybe(&mut self, text: Option<String>) -> &mut Self {
        self.0.push(text.into());
        self
    }

    pub(crate) fn maybe_shared(&mut self, text: Option<&Arc<str>>) -> &mut Self {
        self.0.push(text.map_or(Value::Null, |text| Value::Shared(Arc::clone(text))));
        self
    }

    pub(crate) fn int(&mut self, int: i64) -> &mut Self {
        self.0.push(Value::Int(int));
        self
    }

    pub(crate) fn maybe_int(&mut self, int: Option<i64>) -> &mut Self {
        self.0.push(int.into());
        self
    }
}

impl Rows {
    /// `head` is `INSERT INTO … VALUES `, `template` a row as `(?,'x',?)`.
    pub(crate) fn new(head: &str, template: &'static str, tail: &'static str) -> Self {
        let width = template.matches('?').count();
        Self { head: head.to_owned(), template, tail, width, values: Vec::new() }
    }

    pub(crate) fn add(&mut self, fill: impl FnOnce(&mut RowValues<'_>)) {
        fill(&mut RowValues(&mut self.values));
        debug_assert_eq!(self.values.len() % self.width, 0, "a row of {}", self.head);
    }

    /// Inserts them all.
    pub(crate) async fn flush(&mut self, conn: &mut Conn) -> Result<()> {
        let values = std::mem::take(&mut self.values);
        let mut left = values.as_slice();
        while let Some(size) = SIZES.into_iter().find(|size| size * self.width <= left.len()) {
            let (part, rest) = left.split_at(size * self.width);
            self.insert(conn, size, part).await?;
            left = rest;
        }
        Ok(())
    }

    /// Inserts the row that was added last unless it conflicts: whether it was inserted.
    pub(crate) async fn insert_last_or_nothing(&mut self, conn: &mut Conn) -> Result<bool> {
        let last = self.values.split_off(self.values.len().saturating_sub(self.width));
        self.flush(conn).await?;
        let tail = std::mem::replace(&mut self.tail, " ON CONFLICT DO NOTHING");
        let inserted = self.insert(conn, 1, &last).await;
        self.tail = tail;
        inserted.map(|rows| rows > 0)
    }

    async fn insert(&self, conn: &mut Conn, rows: usize, values: &[Value<'_>]) -> Result<u64> {
        let mut text = String::with_capacity(
            self.head.len() + rows * (self.template.len() + 1) + self.tail.len(),
        );
        text.push_str(&self.head);
        placeholders(&mut text, self.template, rows);
        text.push_str(self.tail);
        match conn {
            Conn::Sqlite(conn) => conn.execute(&text, values),
        }
    }
}

/// `SELECT … IN (…)` over any number of texts: the parts of the text and its parameters.
pub(crate) fn in_list(head: &str, count: usize) -> String {
    let mut text = String::with_capacity(head.len() + count * 2 + 2);
    // Writing to a string can't fail.
    let _ = write!(text, "{head} IN (");
    placeholders(&mut text, "?", count);
    text.push(')');
    text
}

/// Gives each caller of a group its part of the outcomes, once they are committed. Fails as the
/// whole failed.
pub(crate) fn deal<T: Send + 'static>(
    outcome: Result<Vec<T>>,
    replies: Vec<(usize, Reply<Vec<T>>)>,
    answers: &mut Vec<Answer>,
) -> Result<()> {
    let (mut outcomes, result) = match outcome {
        Ok(outcomes) => (outcomes.into_iter(), Ok(())),
        Err(error) => (Vec::new().into_iter(), Err(error)),
    };
    for (count, reply) in replies {
        let part: Vec<T> = outcomes.by_ref().take(count).collect();
        let whole = part.len() == count;
        answers.push(Box::new(move |committed| {
            let answer = committed.and(if whole { Ok(part) } else { Err(Error::Closed) });
            // A caller that went away doesn't want to know.
            let _ = reply.send(answer);
        }));
    }
    result
}
