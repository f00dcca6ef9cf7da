//! `/api/shares`, and who is present in a session.

use super::described::Routes;

pub(super) fn router() -> Routes {
    Routes::new()
}
