//! Whose a row is. Until people arrive there is one organization with one member.

use boatyard_model::{MemberId, OrganizationId};

/// The organization that exists from the first migration on.
pub const BUILT_IN_ORGANIZATION: OrganizationId = OrganizationId::from_u128(1);
/// The member that exists from the first migration on.
pub const BUILT_IN_MEMBER: MemberId = MemberId::from_u128(1);

/// Who asks, and whose the rows are that follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The team.
    pub organization: OrganizationId,
    /// The person in it.
    pub member: MemberId,
}

impl Owner {
    /// The one that exists until people arrive.
    pub const BUILT_IN: Self =
        Self { organization: BUILT_IN_ORGANIZATION, member: BUILT_IN_MEMBER };
}

impl Default for Owner {
    fn default() -> Self {
        Self::BUILT_IN
    }
}
