//! Streams of events: a session's, and the organization's feed.

use axum::{
    extract::{Request, State},
    response::Response,
};
use boatyard_api::{Problem, feed::FeedEvent, session::FollowQuery};
use boatyard_model::{Event, SessionId, SessionState};
use http::HeaderMap;

use super::{
    Api,
    answer::Answer,
    described::{Routes, routes},
    extract::{Path, Query},
};
use crate::{app::App, auth::Caller, operations::sessions, sse::Following};

pub(super) fn router() -> Routes {
    Routes::new().routes(routes!(follow_session)).routes(routes!(follow_feed))
}

/// A session's events, as Server-Sent Events with `id: <seq>`.
///
/// Begins after `Last-Event-ID` or `after`. An `end` event tells that the session is over (or,
/// with `follow=false`, that all that is stored was sent); a `goodbye` event tells that the server
/// is going down: connect again.
#[utoipa::path(get, path = "/api/sessions/{id}/events", tag = "sessions",
    params(("id" = SessionId, Path), FollowQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Begin after this event.")),
    responses((status = 200, description = "The events.", body = Event,
        content_type = "text/event-stream")))]
async fn follow_session(
    State(api): State<Api>,
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<SessionId>,
    Query(query): Query<FollowQuery>,
    request: Request,
) -> Answer<Response> {
    let after = place(request.headers(), query)?;
    let session = sessions::find_session(&app, &caller, id).await?;
    if after > session.last_seq {
        let detail = format!("the newest event is {}", session.last_seq);
        return Err(Problem::invalid("query.after", detail).into());
    }
    // Of a session that is over, what is stored is all there will be.
    let stored = query.follow == Some(false) || session.state == SessionState::Ended;
    let following = if stored { Following::Stored } else { Following::Live };
    Ok(api.watchers.sessions.answer(id, after, following, &request)?)
}

/// The organization's feed: states, approvals, notices; as Server-Sent Events with `id: <seq>`.
#[utoipa::path(get, path = "/api/events", tag = "feed",
    params(FollowQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Begin after this entry.")),
    responses((status = 200, description = "The entries.", body = FeedEvent,
        content_type = "text/event-stream")))]
async fn follow_feed(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<FollowQuery>,
    request: Request,
) -> Answer<Response> {
    let after = place(request.headers(), query)?;
    let following = if query.follow == Some(false) { Following::Stored } else { Following::Live };
    Ok(api.watchers.feeds.answer(caller.owner.organization, after, following, &request)?)
}

/// Where to begin. A browser that connects again sends the header and the first query once more,
/// so the header goes first.
fn place(headers: &HeaderMap, query: FollowQuery) -> Result<u64, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(query.after.unwrap_or(0)) };
    let text = value.to_str().unwrap_or_default().trim();
    if text.is_empty() {
        return Ok(query.after.unwrap_or(0));
    }
    text.parse().map_err(|_| Problem::invalid("header.last-event-id", "expected a number"))
}
