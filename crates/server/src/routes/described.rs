//! Routes that can be described, and are only when somebody asks.
//!
//! The description of all routes is some megabytes of small values, which a server that starts has
//! no use for. So a group of routes ([`routes!`]) carries two functions: one puts its handlers into
//! the router, the other makes what the OpenAPI document says of them. Address and method of a
//! handler come from its `utoipa::path` in both, so the two can't disagree.

use axum::{Router, handler::Handler, routing::MethodRouter};
use utoipa::{Path, openapi::OpenApi};
use utoipa_axum::{
    PathItemExt as _,
    router::{OpenApiRouter, UtoipaMethodRouter},
};

use super::Api;

/// Routes of one resource, or of all.
#[derive(Default)]
pub(super) struct Routes {
    served: Router<Api>,
    described: Vec<fn() -> UtoipaMethodRouter<Api>>,
    /// Those that the document does not name.
    unnamed: Vec<String>,
}

/// Handlers of one address.
pub(super) struct Group {
    pub(super) serve: fn(Router<Api>) -> Router<Api>,
    pub(super) describe: fn() -> UtoipaMethodRouter<Api>,
}

impl Routes {
    /// None.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// With these.
    pub(super) fn routes(mut self, group: Group) -> Self {
        self.served = (group.serve)(self.served);
        self.described.push(group.describe);
        self
    }

    /// With one that the document does not name.
    pub(super) fn route(mut self, path: &str, method: MethodRouter<Api>) -> Self {
        self.served = self.served.route(path, method);
        self.unnamed.push(path.to_owned());
        self
    }

    /// With all of these.
    pub(super) fn merge(mut self, other: Self) -> Self {
        self.served = self.served.merge(other.served);
        self.described.extend(other.described);
        self.unnamed.extend(other.unnamed);
        self
    }

    /// The addresses that the document does not name.
    #[cfg(test)]
    pub(super) fn into_unnamed(self) -> Vec<String> {
        self.unnamed
    }

    /// What serves them.
    pub(super) fn into_router(self) -> Router<Api> {
        self.served
    }

    /// What there is to say of them.
    pub(super) fn into_openapi(self) -> OpenApi {
        let all = self.described.into_iter();
        all.fold(OpenApiRouter::new(), |all, describe| all.routes(describe())).into_openapi()
    }
}

/// Puts a handler where its description `D` says.
pub(super) fn serve<D: Path, H: Handler<T, Api>, T: 'static>(
    router: Router<Api>,
    handler: H,
) -> Router<Api> {
    let methods = D::methods().into_iter();
    let methods = methods.fold(MethodRouter::new(), |all, method| {
        all.on(method.to_method_filter(), handler.clone())
    });
    router.route(&D::path(), methods)
}

/// A [`Group`] of handlers that have a `utoipa::path`.
macro_rules! routes {
    ($($handler:ident),+ $(,)?) => {
        $crate::routes::described::Group {
            serve: |router| {
                $(let router = utoipa_axum::paste! {
                    $crate::routes::described::serve::<[<__path_ $handler>], _, _>(router, $handler)
                };)+
                router
            },
            describe: || utoipa_axum::routes!($($handler),+),
        }
    };
}

pub(super) use routes;
