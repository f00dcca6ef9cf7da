//! Housekeeping on demand.

use boatyard_api::{
    Problem,
    system::{GarbageReport, GarbageRequest},
};

use crate::{
    app::App,
    auth::Caller,
    jobs::housekeeping::{Dry, collect},
};

/// Removes what nothing refers to, or only counts it.
///
/// # Errors
/// When the store or the disk refuses.
pub async fn collect_garbage(
    app: &App,
    _: &Caller,
    request: GarbageRequest,
) -> Result<GarbageReport, Problem> {
    let dry = if request.dry_run { Dry::Yes } else { Dry::No };
    collect(app, dry).await.map_err(|error| Problem::internal(error.into_boxed_dyn_error()))
}
