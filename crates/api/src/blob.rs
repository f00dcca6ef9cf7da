//! Blobs: pictures, attachments and large outputs, kept beside the database.

use boatyard_model::{BlobId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest blob that a client may upload, in bytes.
pub const BLOB_MAX: u64 = 20 << 20;

/// A blob that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Blob {
    /// Its id.
    pub id: BlobId,
    /// Its kind, as `image/png`.
    pub mime: String,
    /// Its size.
    pub bytes: u64,
    /// When it was uploaded.
    pub created: Timestamp,
}

/// A blob with its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobContent {
    /// Its kind, as `image/png`.
    pub mime: String,
    /// Its bytes.
    pub bytes: bytes::Bytes,
}
