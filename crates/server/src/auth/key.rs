//! Who speaks with an API key: its member, less what the key is not for.
//!
//! | kind | member | role | scopes |
//! |---|---|---|---|
//! | `local`, `bootstrap` | the built-in one | owner, operator | the key's |
//! | `personal`, `login` | a person's | the person's now | the key's |
//! | `service` | one of its own | the member's now | the key's |
//!
//! What a member may do is looked up with the key, each time anew: whose role shrinks or who is
//! removed can do no more with a key than in a browser.

use boatyard_model::Role;
use boatyard_store::{KeyRow, StandingRow};

use super::{Caller, Via, find::caller_of};

/// Who speaks with a key, where its member stands so; nobody if it is no member any more. The
/// server's own account can't be locked out.
pub(super) fn caller(row: &KeyRow, standing: Option<StandingRow>) -> Option<Caller> {
    let via = Via::Key(row.id);
    match standing {
        Some(standing) => Some(limited(caller_of(standing, via), row)),
        None if row.kind.is_server_s() => {
            let name = "Owner".into();
            Some(limited(Caller { owner: row.owner, via, name, ..Caller::server() }, row))
        }
        None => None,
    }
}

/// What a caller may who came with a key.
pub(super) fn limited(caller: Caller, key: &KeyRow) -> Caller {
    let at_home = caller.owner.organization == key.owner.organization;
    let everything = key.kind.is_server_s();
    Caller {
        role: if everything && at_home { Role::Owner } else { caller.role },
        operator: everything || caller.operator,
        scopes: key.scopes,
        ..caller
    }
}
