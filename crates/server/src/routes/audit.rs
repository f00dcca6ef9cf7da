//! `/api/audit`.

use super::described::Routes;

pub(super) fn router() -> Routes {
    Routes::new()
}
