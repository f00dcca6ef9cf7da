//! `/api/organizations`, `/api/members`, `/api/invitations`.

use super::described::Routes;

pub(super) fn router() -> Routes {
    Routes::new()
}
