//! The log of calls with keys: written by the batch, each row for one or several of the same kind, and
//! only the newest of each key are kept.

use boatyard_model::{KeyId, Timestamp};

use crate::{
    Result, Store, Tx,
    bulk::Rows,
    conn::{exec, read_page},
    row::record,
};

const INSERT_CALLS: &str = "INSERT INTO api_key_call (organization, owner, api_key, time, method, \
    path, status, address, calls, micros) VALUES ";
const CALL: &str = "(?,?,?,?,?,?,?,?,?,?)";

record! {
    /// Calls with one key, of one kind and within a moment.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyCallRow [owned] {
        /// Their place in the log: rising, with gaps. 0 for those that are about to be stored.
        pub number: u64,
        /// The key.
        pub api_key: KeyId,
        /// When the first of them ended.
        pub time: Timestamp,
        /// Their method.
        pub method: String,
        /// Their path without the query; where there were too many different ones, the route.
        pub path: String,
        /// The status of their answers.
        pub status: u32,
        /// Where they came from.
        pub address: Option<String>,
        /// How many they are.
        pub calls: u64,
        /// How long the longest of them took until its answer began, in microseconds.
        pub micros: u64,
    }
}

impl Tx {
    /// Adds calls to the log, and the newest address to their keys; of each key, only its newest
    /// `keep` rows stay.
    ///
    /// # Errors
    /// When they can't be stored.
    pub async fn log_key_calls(&mut self, calls: Vec<KeyCallRow>, keep: u64) -> Result<()> {
        let mut keys: Vec<(KeyId, Option<String>)> = Vec::new();
        let mut rows = Rows::new(INSERT_CALLS, CALL, "");
        let int = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for call in calls {
            match keys.iter_mut().find(|(key, _)| *key == call.api_key) {
                Some((_, address)) => address.clone_from(&call.address),
                None => keys.push((call.api_key, call.address.clone())),
            }
            rows.add(|row| {
                row.text(call.owner.organization.to_string())
                    .text(call.owner.member.to_string())
                    .text(call.api_key.to_string())
                    .int(call.time.0)
                    .text(call.method)
                    .text(call.path)
                    .int(i64::from(call.status))
                    .maybe(call.address)
                    .int(int(call.calls))
                    .int(int(call.micros));
            });
        }
        rows.flush(&mut self.conn).await?;
        for (key, address) in keys {
            exec!(
                self,
                "UPDATE api_key SET last_address = $2 WHERE id = $1
                 AND COALESCE(last_address, '') <> COALESCE($2, '')",
                key,
                address,
            )?;
            exec!(
                self,
                "DELETE FROM api_key_call WHERE api_key = $1 AND number <= (SELECT number
                    FROM api_key_call WHERE api_key = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)",
                key,
                keep,
            )?;
        }
        Ok(())
    }

    /// Removes at most `limit` calls that ended before this time: how many. Call again while it is
    /// `limit`.
    ///
    /// # Errors
    /// When they can't be removed.
    pub async fn trim_key_calls(&mut self, before: Timestamp, limit: u32) -> Result<u64> {
        exec!(
            self,
            "DELETE FROM api_key_call WHERE number IN
                (SELECT number FROM api_key_call WHERE time < $1 LIMIT $2)",
            before,
            limit,
        )
    }
}

impl Store {
    /// Calls with a key before this number, the newest first; with `failed` only those that were
    /// refused or failed.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn key_calls(
        &self,
        key: KeyId,
        before: u64,
        failed: bool,
        limit: u32,
    ) -> Result<Vec<KeyCallRow>> {
        let columns = KeyCallRow::COLUMNS;
        read_page!(
            self,
            KeyCallRow,
            format!(
                "SELECT {columns} FROM api_key_call WHERE api_key = $1 AND number < $2
                 AND status >= $3 ORDER BY number DESC LIMIT $4"
            ),
            key,
            before,
            if failed { 400_u32 } else { 0 },
            limit,
        )
    }
}
