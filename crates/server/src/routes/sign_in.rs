//! `/api/sign-in` and `/api/auth` of providers and passkeys: how people sign in.

use super::described::Routes;

pub(super) fn router() -> Routes {
    Routes::new()
}
