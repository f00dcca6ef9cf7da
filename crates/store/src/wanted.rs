//! What was recorded of requests that no rule let pass: what rules are proposed from.

use boatyard_model::{OrganizationId, Timestamp};

use crate::{Result, RulePlace, Store, conn::read_all, row::record};

/// The most different requests that are looked at.
const WANTED_MAX: u32 = 5000;

record! {
    /// Requests that are the same but for their query.
    #[derive(Debug, Clone)]
    pub struct WantedRow {
        /// Where they went.
        pub host: String,
        /// The port.
        pub port: u32,
        /// The method.
        pub method: String,
        /// The path, where it was seen.
        pub path: Option<String>,
        /// How many there were.
        pub requests: u64,
    }
}

impl Store {
    /// What passed only because a workspace learned, in a place; with `refused` also what was
    /// refused. The most frequent first.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn wanted(
        &self,
        organization: OrganizationId,
        place: RulePlace,
        refused: Option<Timestamp>,
    ) -> Result<Vec<WantedRow>> {
        let whose = match place {
            RulePlace::Organization => "$2 = ''",
            RulePlace::Repository(_) => {
                "workspace IN (SELECT id FROM workspace WHERE repository = $2)"
            }
            RulePlace::Workspace(_) => "workspace = $2",
        };
        read_all!(
            self,
            WantedRow,
            format!(
                "SELECT {} FROM (
                     SELECT host, port, method, path, COUNT(*) AS requests FROM egress_request
                     WHERE organization = $1 AND {whose} AND way = 'proxy'
                         AND (verdict = 'learned' OR (verdict = 'denied' AND time >= $3))
                     GROUP BY host, port, method, path
                 ) AS wanted
                 ORDER BY requests DESC, host, path LIMIT {WANTED_MAX}",
                WantedRow::COLUMNS
            ),
            organization,
            place.place(),
            refused.map_or(i64::MAX, |since| since.0),
        )
    }
}
