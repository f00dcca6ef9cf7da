//! Guests: browsers that have the link of a share and no account.
//!
//! A guest's cookie is the page's, and stands in a table of its own. The caller is nobody: no
//! person, a member that does not exist, the role of a viewer, and scopes for looking. What it may
//! look at is decided by its share alone (`access::things`), and which operations it may ask for by
//! the table (`access::Entry::guests`).

use std::sync::Arc;

use boatyard_model::{MemberId, Role, Scope, Scopes, Timestamp};
use boatyard_store::{Owner, ShareRow};

use super::{Caller, Refusal, Via, find::Outcome};

/// What a guest is called.
const NAME: &str = "Guest";

/// The member that nobody is.
const NOBODY: MemberId = MemberId::from_u128(0);

/// What a guest may ask about.
const SCOPES: Scopes =
    Scopes::NONE.with(Scope::TasksRead).with(Scope::WorkspacesRead).with(Scope::Account);

/// The guest of a share, as long as it works.
pub(super) fn of_share(share: Option<ShareRow>) -> Outcome {
    let Some(share) = share.filter(|share| share.guests) else { return Err(Refusal::SignedOut) };
    let until: Option<Timestamp> = Some(share.expires);
    let caller = Caller {
        owner: Owner { organization: share.owner.organization, member: NOBODY },
        person: None,
        role: Role::Viewer,
        operator: false,
        scopes: SCOPES,
        address: None,
        name: Arc::from(NAME),
        via: Via::Guest(share.id),
    };
    Ok((caller, until))
}
