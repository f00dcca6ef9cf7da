//! The broker that has credentials.
//!
//! Where one goes is said by the [`Binding`]s of the workspace's policy; the value comes from the
//! [`Keeper`] for each request anew, so that one that was removed or has expired is refused at the
//! next request. A placeholder, whichever workspace's it is, that stands anywhere else is refused: in
//! a header, the path, the query or the body.
//!
//! What is packed (`Content-Encoding`) can't be looked into: requests that carry a value ask for
//! answers that are not.

use std::sync::Arc;

use boatyard_model::ConnectionId;
use http::{HeaderValue, Method, StatusCode, header, request};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

use super::{
    Body, Broker, Call, Echo, Keeper, Leave, Place, Prepared, Preparing, Refusal, Scheme, Told,
    What, Withheld,
    body::{Fault, Outward, Replace, Work, Writing},
    head::{self, Seen},
    placeholder::Scan,
};
use crate::policy::Binding;

/// A body in which a value is to be put is read whole up to this size, so that its length can be
/// told; a larger one goes in pieces, without a length if that changes.
pub(super) const WHOLE: usize = 1 << 20;

/// Puts credentials in that a [`Keeper`] has. A cheap clone.
#[derive(Debug, Clone)]
pub struct Exchange(Arc<dyn Keeper>);

impl Exchange {
    /// One that has the values from this keeper.
    pub fn new(keeper: Arc<dyn Keeper>) -> Self {
        Self(keeper)
    }

    async fn exchange(
        &self,
        call: Call<'_>,
        head: &mut request::Parts,
        body: Body,
    ) -> Result<Prepared, Refusal> {
        let about = About { call, method: head.method.clone() };
        let placeholders = self.0.placeholders();
        let mine = bound(call, head);
        let mut echo = Echo::default();
        let used = self.swap(head, &mine, &about, &mut echo).await?;
        if let Some((whose, place)) = head::left(head, call.policy, placeholders.as_deref()) {
            return Err(self.refuse(about.misplaced(whose, place)));
        }
        let replaces = self.replaces(head, &mine, &about, &mut echo).await;
        if !echo.is_empty() {
            // A value that comes back is not found in what is packed.
            head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let may_change = !replaces.is_empty() && !body.is_end_stream();
        let work = Work {
            replaces,
            scan: Scan::default(),
            placeholders,
            misplaced: about.misplaced(None, "body"),
            keeper: Arc::clone(&self.0),
        };
        let mut outward = Outward::new(body, work);
        if may_change {
            match outward.read(WHOLE).await {
                Ok(Some(length)) => {
                    head.headers.insert(header::CONTENT_LENGTH, length.into());
                }
                // Its length can't be told before all of it was seen.
                Ok(None) if !outward.is_even() => {
                    head.headers.remove(header::CONTENT_LENGTH);
                }
                Ok(None) => {}
                Err(fault) => return Err(self.refuse(fault)),
            }
        }
        Ok(Prepared { body: outward.boxed_unsync(), used, echo })
    }

    /// Puts values into headers and query: which.
    async fn swap(
        &self,
        head: &mut request::Parts,
        mine: &[Arc<Binding>],
        about: &About<'_>,
        echo: &mut Echo,
    ) -> Result<Vec<ConnectionId>, Refusal> {
        let seen = Seen::of(head);
        let mut used = Vec::new();
        for binding in mine {
            let is_asked = seen.holds(&binding.placeholder);
            if !is_asked && !binding.is_always {
                continue;
            }
            let value = match self.open(about, binding).await {
                Ok(value) => value,
                Err(fault) if is_asked => return Err(self.refuse(fault)),
                // One that would have been added unasked is not missed by the request.
                Err(_) => continue,
            };
            let is_swapped = head::swap(head, binding, &value, echo)
                || !is_asked && head::add(head, binding, &value, echo);
            if is_swapped {
                echo.paint(value.expose());
                used.push(binding.connection);
                self.0.tell(about.told(Some(binding), What::Used));
            }
        }
        Ok(used)
    }

    /// What may be put into the body.
    async fn replaces(
        &self,
        head: &request::Parts,
        mine: &[Arc<Binding>],
        about: &About<'_>,
        echo: &mut Echo,
    ) -> Vec<Replace> {
        let writing = Writing::of(&head.headers);
        let mut replaces = Vec::new();
        for binding in mine.iter().filter(|binding| binding.places.contains(&Place::Body)) {
            let with = self.open(about, binding).await.map(|value| {
                let written = writing.write(value.expose());
                echo.paint(value.expose());
                if *written != value.expose() {
                    echo.paint(&written);
                }
                written
            });
            let placeholder = binding.placeholder.as_bytes();
            replaces.push(Replace::new(placeholder, with, about.told(Some(binding), What::Used)));
        }
        replaces
    }

    async fn open(
        &self,
        about: &About<'_>,
        binding: &Arc<Binding>,
    ) -> Result<Arc<crate::gateway::Secret>, Fault> {
        if about.call.scheme == Scheme::Http && !binding.may_be_plain {
            let why = format!(
                "the connection `{}` would go to {} as plain text, which everybody on the way reads",
                binding.name, about.call.target
            );
            let mend = "Use https://, or make the connection anew with --plain-http.".to_owned();
            return Err(about.withheld(binding, Withheld { why, mend }));
        }
        let opened = self.0.open(about.call.workspace, binding.connection).await;
        opened.map_err(|withheld| about.withheld(binding, withheld))
    }

    fn refuse(&self, fault: Fault) -> Refusal {
        self.0.tell(*fault.told);
        fault.refusal
    }
}

impl Broker for Exchange {
    fn prepare<'a>(
        &'a self,
        call: Call<'a>,
        head: &'a mut request::Parts,
        body: Body,
    ) -> Preparing<'a> {
        Box::pin(self.exchange(call, head, body))
    }

    fn credential(&self, call: Call<'_>, head: &request::Parts) -> Option<Arc<str>> {
        let seen = Seen::of(head);
        let mine = bound(call, head);
        let carried = mine.iter().find(|binding| seen.holds(&binding.placeholder)).or_else(|| {
            mine.iter().find(|binding| binding.is_always || binding.places.contains(&Place::Body))
        });
        carried.map(|binding| Arc::clone(&binding.name))
    }

    fn answered(&self, call: Call<'_>, used: &[ConnectionId], status: StatusCode) {
        if status != StatusCode::UNAUTHORIZED {
            return;
        }
        let about = About { call, method: Method::default() };
        for binding in call.policy.bindings() {
            if used.contains(&binding.connection) {
                self.0.tell(about.told(Some(binding), What::Unknown));
            }
        }
    }
}

/// The bindings that are for a request.
fn bound(call: Call<'_>, head: &request::Parts) -> Vec<Arc<Binding>> {
    if call.leave == Leave::Learned {
        return Vec::new();
    }
    let uri = &head.uri;
    let is_for = |binding: &&Arc<Binding>| {
        binding.is_for(call.target, &head.method, uri.path(), uri.query())
    };
    call.policy.bindings().iter().filter(is_for).cloned().collect()
}

/// What is told of a request.
struct About<'a> {
    call: Call<'a>,
    method: Method,
}

impl About<'_> {
    fn told(&self, binding: Option<&Arc<Binding>>, what: What) -> Told {
        Told {
            workspace: self.call.workspace,
            host: self.call.target.host.to_string(),
            port: self.call.target.port,
            method: self.method.to_string(),
            connection: binding.map(|binding| (binding.connection, Arc::clone(&binding.name))),
            what,
        }
    }

    fn withheld(&self, binding: &Arc<Binding>, withheld: Withheld) -> Fault {
        let Withheld { why, mend } = withheld;
        let told = self.told(Some(binding), What::Withheld(why.clone()));
        Fault {
            refusal: Refusal { status: StatusCode::FORBIDDEN, why, mend },
            told: Box::new(told),
        }
    }

    fn misplaced(&self, whose: Option<&Arc<Binding>>, place: &str) -> Fault {
        let target = self.call.target;
        let is_bound_here =
            |binding: &Binding| binding.goes.iter().any(|rule| rule.is_about_host(target));
        let (why, mend) = match whose {
            _ if self.call.leave == Leave::Learned => (
                format!(
                    "a credential's placeholder stands in its {place}, and what passes only \
                     because the workspace learns carries no credential"
                ),
                format!("Allow {target} by a rule first."),
            ),
            Some(binding) if is_bound_here(binding) => (
                format!(
                    "the placeholder of the connection `{}` stands in its {place}, which this \
                     credential is not bound to together with that method and path",
                    binding.name
                ),
                shows(&binding.name),
            ),
            Some(binding) => (
                format!(
                    "the placeholder of the connection `{}` stands in its {place}, and this \
                     credential is not bound to {target}",
                    binding.name
                ),
                shows(&binding.name),
            ),
            None => (
                format!(
                    "the placeholder of a credential stands in its {place}, where none is bound to"
                ),
                "`boatyard connection list` tells which credentials there are, and where they go."
                    .to_owned(),
            ),
        };
        let told = self.told(whose, What::Misplaced(why.clone()));
        Fault {
            refusal: Refusal { status: StatusCode::FORBIDDEN, why, mend },
            told: Box::new(told),
        }
    }
}

fn shows(name: &str) -> String {
    format!("`boatyard connection show {name}` tells where it goes.")
}
