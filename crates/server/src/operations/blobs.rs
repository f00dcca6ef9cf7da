//! Pictures and attachments.

use boatyard_api::{
    Problem,
    blob::{BLOB_MAX, Blob, BlobContent},
};
use boatyard_model::{BlobId, Content};
use boatyard_store::BlobRow;
use bytes::Bytes;

use super::{own, store_problem};
use crate::{
    access::{self, things},
    app::App,
    auth::Caller,
};

/// Kinds of pictures that agents take.
const PICTURES: &[&str] = &["image/png", "image/jpeg", "image/gif", "image/webp"];

/// Keeps bytes.
///
/// # Errors
/// When there are too many.
pub async fn create_blob(
    app: &App,
    caller: &Caller,
    bytes: Bytes,
    mime: String,
) -> Result<Blob, Problem> {
    if bytes.len() as u64 > BLOB_MAX {
        return Err(Problem::too_large("a blob", BLOB_MAX));
    }
    let (id, length) = (BlobId::new(), bytes.len() as u64);
    app.blobs
        .keep(&app.store, caller.owner, id, mime.clone(), bytes)
        .await
        .map_err(Problem::internal)?;
    let row = app.store.blob(id).await.map_err(store_problem)?;
    Ok(Blob { id, mime, bytes: length, created: row.created })
}

/// Gives bytes.
///
/// # Errors
/// When there are none.
pub async fn read_blob(app: &App, caller: &Caller, id: BlobId) -> Result<BlobContent, Problem> {
    let row = app.store.blob(id).await.map_err(store_problem)?;
    see(app, caller, &row).await?;
    let bytes = app.blobs.read(&row.sha256).await.map_err(Problem::internal)?;
    Ok(BlobContent { mime: row.mime, bytes })
}

/// Refuses who may see nothing that holds a blob and did not send it either. What is shared with
/// another organization, or with guests, is seen with its pictures.
async fn see(app: &App, caller: &Caller, row: &BlobRow) -> Result<(), Problem> {
    let at_home = row.owner.organization == caller.owner.organization;
    if row.owner == caller.owner || at_home && access::sees_all(caller) {
        return Ok(());
    }
    for holder in app.store.holders_of_blob(row.id).await.map_err(store_problem)? {
        let Ok(holder) = holder.parse() else { continue };
        let found = match things::thing(app, holder).await {
            Ok(thing) => things::right(app, caller, &thing).await?,
            // Its log is kept for a while longer than itself.
            Err(problem) if problem.status == 404 => None,
            Err(problem) => return Err(problem),
        };
        if found.is_some() {
            return Ok(());
        }
    }
    Err(Problem::not_found("blob", row.id))
}

/// A prompt's content: its text and its pictures, each checked.
///
/// # Errors
/// When a picture is not there or of no kind that agents take.
pub(crate) async fn content(
    app: &App,
    caller: &Caller,
    text: &str,
    images: &[BlobId],
) -> Result<Vec<Content>, Problem> {
    let mut content = vec![Content::Text { text: text.to_owned() }];
    for id in images {
        let row = app.store.blob(*id).await.map_err(|e| store_problem(e).at("images"))?;
        own(caller, row.owner, "blob", id)?;
        see(app, caller, &row).await.map_err(|problem| problem.at("images"))?;
        if !PICTURES.contains(&row.mime.as_str()) {
            let detail = format!("{id} is {}; pictures are {}", row.mime, PICTURES.join(", "));
            return Err(Problem::invalid("images", detail));
        }
        content.push(Content::Image { blob: *id, mime: row.mime });
    }
    Ok(content)
}

/// The text and the pictures of a prompt's content.
pub(crate) fn split(content: &[Content]) -> (String, Vec<BlobId>) {
    let mut text = String::new();
    let mut images = Vec::new();
    for piece in content {
        match piece {
            Content::Text { text: more } => text.push_str(more),
            Content::Image { blob, .. } => images.push(*blob),
        }
    }
    (text, images)
}
