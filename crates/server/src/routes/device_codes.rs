//! `/api/auth/device`: letting a device in that has no browser (RFC 8628).

use super::described::Routes;

pub(super) fn router() -> Routes {
    Routes::new()
}
