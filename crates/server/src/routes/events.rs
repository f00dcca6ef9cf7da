//! Streams of events: a session's, and the organization's feed.

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use boatyard_api::{Problem, feed::FeedEvent, session::FollowQuery};
use boatyard_model::{Event, SessionId, SessionState};
use boatyard_store::ThingId;
use http::HeaderMap;

use super::{
    Api,
    answer::Answer,
    described::{Routes, routes},
    extract::{Path, Query},
};
use crate::{
    access::{
        self,
        leases::{About, Want},
        things,
    },
    app::App,
    auth::Known,
    operations::sessions,
    sse::Following,
};

pub(super) fn router() -> Routes {
    Routes::new().routes(routes!(follow_session)).routes(routes!(follow_feed))
}

/// A session's events, as Server-Sent Events with `id: <seq>`.
///
/// Begins after `Last-Event-ID` or `after`. An `end` event tells that the session is over (or,
/// with `follow=false`, that all that is stored was sent); a `goodbye` event tells that the server
/// is going down: connect again; a `closed` event tells why the right to the stream is gone. A
/// `presence` event, without an id, tells who else follows and who writes.
#[utoipa::path(get, path = "/api/sessions/{id}/events", tag = "sessions",
    params(("id" = SessionId, Path), FollowQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Begin after this event.")),
    responses((status = 200, description = "The events.", body = Event,
        content_type = "text/event-stream")))]
async fn follow_session(
    State(api): State<Api>,
    State(app): State<App>,
    Extension(known): Extension<Known>,
    Path(id): Path<SessionId>,
    Query(query): Query<FollowQuery>,
    request: Request,
) -> Answer<Response> {
    let after = place(request.headers(), query)?;
    let session = sessions::find_session(&app, &known.caller, id).await?;
    if after > session.last_seq {
        let detail = format!("the newest event is {}", session.last_seq);
        return Err(Problem::invalid("query.after", detail).into());
    }
    // Of a session that is over, what is stored is all there will be.
    let stored = query.follow == Some(false) || session.state == SessionState::Ended;
    let following = if stored { Following::Stored } else { Following::Live };
    let about = About::Thing(ThingId::Session(id), Want::Look);
    let lease = super::lease(&api, &known, "follow_session", about)?;
    Ok(api.watchers.sessions.answer(id, after, following, &request, lease, None)?)
}

/// The organization's feed: states, approvals, notices; as Server-Sent Events with `id: <seq>`.
#[utoipa::path(get, path = "/api/events", tag = "feed",
    params(FollowQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Begin after this entry.")),
    responses((status = 200, description = "The entries.", body = FeedEvent,
        content_type = "text/event-stream")))]
async fn follow_feed(
    State(api): State<Api>,
    State(app): State<App>,
    Extension(known): Extension<Known>,
    Query(query): Query<FollowQuery>,
    request: Request,
) -> Answer<Response> {
    let after = place(request.headers(), query)?;
    let organization = known.caller.owner.organization;
    let lease = super::lease(&api, &known, "follow_feed", About::Organization(organization))?;
    let sees = (!access::sees_all(&known.caller)).then(|| things::sees(app, known.caller));
    let following = if query.follow == Some(false) { Following::Stored } else { Following::Live };
    Ok(api.watchers.feeds.answer(organization, after, following, &request, lease, sees)?)
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
