//! The endpoints of the log of requests, and of those that wait for a person.

use std::time::Duration;

use boatyard_model::AskId;
use reqwest::Method;

use super::{Client, Result};
use crate::request::{
    Ask, AskFilter, AskPage, AskReply, RequestFilter, RequestPage, RequestSummary,
    RequestSummaryQuery,
};

/// How long the whole log may take to be read.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// In what form the log is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportForm {
    /// A JSON object in each line.
    Lines,
    /// Comma-separated values, with names in the first line.
    Csv,
}

impl ExportForm {
    /// Its media type.
    pub const fn mime(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

#[expect(clippy::missing_errors_doc, reason = "all fail as the other endpoints do")]
impl Client {
    /// A page of requests that wait, or waited, for a person; the newest first.
    pub async fn list_asks(&self, filter: &AskFilter) -> Result<AskPage> {
        self.json(self.call(Method::GET, "api/egress/asks").query(filter)).await
    }

    /// One of them.
    pub async fn find_ask(&self, id: AskId) -> Result<Ask> {
        self.json(self.call(Method::GET, format!("api/egress/asks/{id}"))).await
    }

    /// Answers it.
    pub async fn answer_ask(&self, id: AskId, reply: &AskReply) -> Result<Ask> {
        self.json(self.call(Method::POST, format!("api/egress/asks/{id}")).json(reply)).await
    }

    /// A page of the log, the newest first.
    pub async fn list_requests(&self, filter: &RequestFilter) -> Result<RequestPage> {
        self.json(self.call(Method::GET, "api/egress/log").query(filter)).await
    }

    /// The whole log, the oldest first, to be read piece by piece (`chunk`).
    pub async fn export_requests(
        &self,
        filter: &RequestFilter,
        form: ExportForm,
    ) -> Result<reqwest::Response> {
        let call = self.call(Method::GET, "api/egress/log").query(filter).accept(form.mime());
        self.send(call.within(EXPORT_TIMEOUT)).await
    }

    /// The log added up.
    pub async fn summarize_requests(&self, query: &RequestSummaryQuery) -> Result<RequestSummary> {
        self.json(self.call(Method::GET, "api/egress/log/summary").query(query)).await
    }

    /// What was used, day by day, as comma-separated values.
    pub async fn export_usage_days(
        &self,
        query: &crate::quota::DaysQuery,
    ) -> Result<reqwest::Response> {
        let call = self.call(Method::GET, "api/usage/days").query(query);
        self.send(call.accept(ExportForm::Csv.mime()).within(EXPORT_TIMEOUT)).await
    }
}
