//! The audit log's place in a request's way.
//!
//! ```text
//! gate: admitted ─► table says what is audited ─► context ─► route ─► answer
//!          │                                                  │        │
//!       refused: an entry `denied`             first write: entry   no write: entry beside,
//!                                              in its transaction   before the answer goes out
//! ```
//!
//! What is asked of an operation is next to nothing: where its address does not say enough, it adds
//! a [note](boatyard_store::audit::note) before it writes; where its work is not in the database (a
//! command, a file), it says when that [begins](boatyard_store::audit::begins).
//!
//! Whoever hangs up before the answer leaves an entry too: what was begun may have been done.
//!
//! An answer that tells of a change goes out when its entry is stored. If it can't be, the answer is
//! that failure: nobody is told that all is well with what nobody will be able to look up.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use boatyard_api::Problem;
use boatyard_model::AuditOutcome;
use boatyard_store::{
    Store,
    audit::{self, Actor, Context},
};
use http::{Method, StatusCode};

use crate::{
    access::{self, Audit, Entry, Need},
    auth::{Caller, Known, Via},
    gate,
    request_id::RequestId,
    routes::answer::Failure,
};

/// Serves an admitted request; what it changes is in the audit log when this returns.
pub(crate) async fn run(store: &Store, request: Request, id: &RequestId, next: Next) -> Response {
    let Some(Audited { entry, context }) = Audited::of(&request, id) else {
        return next.run(request).await;
    };
    let unanswered = Unanswered { store, context: Some(Arc::clone(&context)) };
    let mut work = pin!(audit::within(Arc::clone(&context), next.run(request)));
    let response = if entry.audit == Audit::Beside {
        tokio::select! {
            biased;
            response = &mut work => response,
            () = context.begun() => {
                let write = store.audit(&context, AuditOutcome::Allowed, None);
                let (written, response) = tokio::join!(write, work);
                match written {
                    Ok(()) => response,
                    Err(error) => unwritten(error),
                }
            }
        }
    } else {
        work.await
    };
    let response = conclude(store, &context, entry, response).await;
    unanswered.over();
    response
}

/// A request while it has no answer. Dropped before it has one, nobody waits for it any more: the
/// log gets its entry all the same.
struct Unanswered<'s> {
    store: &'s Store,
    context: Option<Arc<Context>>,
}

impl Unanswered<'_> {
    fn over(mut self) {
        self.context = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        // Nobody did nothing.
        let somebody = |context: &Arc<Context>| context.has_actor() || context.has_notes();
        let Some(context) = self.context.take().filter(somebody) else { return };
        // Without a runtime the server is gone, and the store with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let store = self.store.clone();
        runtime.spawn(async move {
            if let Err(error) = store.audit_left(&context).await {
                let error = crate::chain(&error);
                tracing::error!(error, "what nobody waited for is not in the audit log");
            }
        });
    }
}

/// The page, which a link's code makes a sign-in.
const ENTER: &str = "enter";

/// Whether somebody who is not signed in shows the code of a link.
fn is_link(request: &Request) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let known = request.extensions().get::<Known>();
    request.method() == Method::GET
        && known.is_none_or(|known| matches!(known.caller.via, Via::Guest(_)))
        && url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "code")
}

/// A request that changes something, or wants to.
pub(crate) struct Audited {
    entry: &'static Entry,
    context: Arc<Context>,
}

impl Audited {
    /// What is known of a request, if it is one of those.
    pub(crate) fn of(request: &Request, id: &RequestId) -> Option<Self> {
        let path = request.extensions().get::<MatchedPath>()?;
        let entry = access::entry(request.method(), path.as_str())?;
        if entry.audit == Audit::None || entry.operation == ENTER && !is_link(request) {
            return None;
        }
        Some(Self { entry, context: context(entry, request, id) })
    }

    /// Answers one that was not admitted.
    pub(crate) async fn refused(this: Option<Self>, store: &Store, problem: Problem) -> Response {
        let response = Failure(problem).into_response();
        match this {
            Some(Self { entry, context }) => conclude(store, &context, entry, response).await,
            None => response,
        }
    }
}

fn context(entry: &'static Entry, request: &Request, id: &RequestId) -> Arc<Context> {
    let known = request.extensions().get::<Known>();
    let mut actor = known.map(|known| actor(&known.caller)).unwrap_or_default();
    if actor.address.is_none() {
        actor.address = gate::address(request.extensions()).map(|address| address.to_string());
    }
    let subjects = subjects(entry.path, request.uri().path());
    Context::new(entry.operation, actor, subjects, Some(id.to_string()))
}

/// Who asks, as the log has it.
pub fn actor(caller: &Caller) -> Actor {
    Actor {
        organization: Some(caller.owner.organization),
        member: Some(caller.owner.member),
        person: caller.person,
        name: caller.name.to_string(),
        via: via(&caller.via),
        address: caller.address.map(|address| address.to_string()),
    }
}

fn via(via: &Via) -> String {
    match via {
        Via::Key(id) => format!("key {id}"),
        Via::Device(id) => format!("device {id}"),
        Via::Guest(id) => format!("guest {id}"),
        Via::Server => "server".to_owned(),
    }
}

/// The names and ids in an address, by the names that its route gives them.
fn subjects(route: &str, path: &str) -> BTreeMap<String, String> {
    let pairs = route.split('/').zip(path.split('/'));
    pairs
        .filter_map(|(place, text)| {
            let name = place.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*');
            let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
            Some((name.to_owned(), text.into_owned()))
        })
        .collect()
}

/// Sees to it that the log has what the answer tells.
async fn conclude(
    store: &Store,
    context: &Arc<Context>,
    entry: &Entry,
    response: Response,
) -> Response {
    let status = response.status();
    // A browser that is led to the page, where it is told why it is not let in.
    let led_away = status.is_redirection() && response.extensions().get::<Problem>().is_some();
    let outcome = if !led_away && (status.is_success() || status.is_redirection()) {
        // Nobody did nothing: a browser without a session that signs out.
        let anybody = context.has_actor() || context.has_notes();
        anybody.then_some(AuditOutcome::Allowed)
    } else if led_away || status == StatusCode::FORBIDDEN
        // Whoever is not known is refused by the thousand; who tries to sign in is written down.
        || status == StatusCode::UNAUTHORIZED && entry.need == Need::Open
    {
        Some(AuditOutcome::Denied)
    } else if status.is_server_error() || context.is_recorded() {
        Some(AuditOutcome::Failed)
    } else {
        None
    };
    let Some(outcome) = outcome else { return response };
    if outcome == AuditOutcome::Allowed {
        return match store.audit(context, outcome, None).await {
            Ok(()) => response,
            Err(error) => unwritten(error),
        };
    }
    let reason = response.extensions().get::<Problem>().map(|problem| match &problem.detail {
        // The inside of a failure is for the server's log.
        _ if problem.status >= 500 => problem.title.clone(),
        detail if detail.is_empty() => problem.title.clone(),
        detail => detail.clone(),
    });
    if let Err(error) = store.audit_end(context, outcome, reason).await {
        tracing::error!(error = %crate::chain(&error), "a refusal is not in the audit log");
    }
    response
}

fn unwritten(error: boatyard_store::Error) -> Response {
    Failure(Problem::internal(error)).into_response()
}

#[cfg(test)]
mod tests {
    use boatyard_store::{AuditFilter, AuditPage};
    use tower::ServiceExt as _;

    use super::*;

    /// What is no `GET` and changes nothing all the same.
    const UNCHANGING: &[&str] = &[
        // The entry comes with what is decided, or with who signs in.
        "create_device_code",
        "begin_passkey_login",
        "begin_passkey",
        // Questions whose words take a body.
        "test_egress",
        "test_workspace_egress",
        // Who looks at a session is told to those who look at it, and kept nowhere.
        "set_presence",
    ];

    #[test]
    fn every_change_is_written_down() {
        for entry in access::table::TABLE {
            let changes = entry.audit != Audit::None;
            let reads = entry.method.is_safe() || UNCHANGING.contains(&entry.operation);
            // A provider leads the browser back by a GET, which signs it in, as a link's does.
            let is_exception = ["finish_sign_in", ENTER].contains(&entry.operation);
            assert_eq!(changes, !reads || is_exception, "{} {}", entry.method, entry.path);
        }
    }

    #[tokio::test]
    async fn whoever_hangs_up_before_the_answer_is_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let options = boatyard_store::Options::new(folder.path().join("boatyard.db"));
        let store = Store::open(options).await.unwrap();
        let begun = Arc::new(tokio::sync::Notify::new());
        let never = {
            let begun = Arc::clone(&begun);
            async move || {
                audit::note("scope", "organization");
                begun.notify_one();
                std::future::pending::<()>().await;
            }
        };
        let audited = {
            let store = store.clone();
            axum::middleware::from_fn(move |request: Request, next: Next| {
                let store = store.clone();
                async move {
                    let id = RequestId::of(request.headers());
                    run(&store, request, &id, next).await
                }
            })
        };
        let routes: axum::Router =
            axum::Router::new().route("/api/budgets", axum::routing::post(never)).layer(audited);
        let request = Request::post("/api/budgets").body(axum::body::Body::empty()).unwrap();
        let answer = tokio::spawn(routes.oneshot(request));
        begun.notified().await;
        answer.abort();
        assert!(answer.await.unwrap_err().is_cancelled());
        let written = async {
            let (all, page) = (AuditFilter::default(), AuditPage::After(0));
            loop {
                let found = store.list_audit(None, &all, page, 10).await.unwrap();
                if !found.is_empty() {
                    break found;
                }
            }
        };
        let deadline = std::time::Duration::from_secs(20);
        let found = tokio::time::timeout(deadline, written).await.unwrap();
        assert_eq!((found.len(), found[0].operation.as_str()), (1, "set_budget"));
        assert_eq!(found[0].outcome, AuditOutcome::Failed);
        assert!(found[0].reason.as_deref().unwrap().contains("went away"), "{found:?}");
    }

    #[test]
    fn subjects_are_what_the_address_names() {
        let found = subjects("/api/agents/{name}/tools/{id}", "/api/agents/my%20agent/tools/tol_1");
        assert_eq!(found["name"], "my agent");
        assert_eq!(found["id"], "tol_1");
        assert!(subjects("/api/tasks", "/api/tasks").is_empty());
    }
}
