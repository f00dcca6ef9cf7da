//! The byte form of a [`Record`]: how what happened crosses the link and lies in the spool.
//!
//! ```text
//! u32 length of all that follows │ u32 length of the JSON │ JSON │ bytes (a blob's)
//! ```
//!
//! Both lengths are little-endian. The JSON is a [`Record`]; only [`RecordKind::Blob`] has bytes.
//! [`decode`] takes hostile input: every length is checked before it is used.
//!
//! [`RecordKind::Blob`]: crate::message::RecordKind::Blob

use bytes::{Buf, Bytes, BytesMut};
use serde::Deserialize;

use crate::message::{Position, RECORD_MAX, Record};

/// How many bytes of lengths stand before the JSON.
pub const PREFIX: usize = 8;

/// The largest JSON of a record, in bytes: an event's text is at most 256 KiB, a tool's arguments,
/// output and diffs stay below this together.
pub const RECORD_JSON_MAX: usize = 8 << 20;

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is larger than [`RECORD_MAX`], or its JSON than [`RECORD_JSON_MAX`].
    #[error("a record of {0} bytes is larger than allowed")]
    TooLarge(usize),
    /// Its lengths contradict each other.
    #[error("the lengths of a record contradict each other")]
    Lengths,
    /// Its JSON is not a record's.
    #[error("the JSON of a record can't be understood")]
    Json(#[source] serde_json::Error),
}

/// The byte form of a record with the bytes that go with it.
///
/// # Errors
/// When it would be larger than [`RECORD_MAX`].
pub fn encode(record: &Record, bytes: &[u8]) -> Result<Vec<u8>, RecordError> {
    // Most records are small events; one growth step more is cheap beside serialization.
    let mut out = Vec::with_capacity(PREFIX + 512 + bytes.len());
    out.extend_from_slice(&[0; PREFIX]);
    serde_json::to_writer(&mut out, record).map_err(RecordError::Json)?;
    let json = out.len() - PREFIX;
    let total = out.len() + bytes.len();
    if json > RECORD_JSON_MAX || total > RECORD_MAX {
        return Err(RecordError::TooLarge(total));
    }
    out.extend_from_slice(bytes);
    out[..4].copy_from_slice(&length(total - 4));
    out[4..PREFIX].copy_from_slice(&length(json));
    Ok(out)
}

/// Both parts of a record's byte form, with its leading length.
///
/// # Errors
/// When the form is not one that [`encode`] makes.
pub fn decode(form: &[u8]) -> Result<(Record, &[u8]), RecordError> {
    let (json, bytes) = parts(form)?;
    let record = serde_json::from_slice(json).map_err(RecordError::Json)?;
    Ok((record, bytes))
}

/// The place of a record, understood even where the rest is of a newer version.
///
/// # Errors
/// When the form is not one that [`encode`] makes.
pub fn position(form: &[u8]) -> Result<Position, RecordError> {
    #[derive(Deserialize)]
    struct Placed {
        position: Position,
    }
    let (json, _) = parts(form)?;
    serde_json::from_slice::<Placed>(json).map(|p| p.position).map_err(RecordError::Json)
}

/// Takes the first whole record off what has arrived; none if more must arrive first.
///
/// The buffer never needs to hold more than one record: read on only when this gave none.
///
/// # Errors
/// When what arrived can't become a record; the stream is then of no use any more.
pub fn take(buffer: &mut BytesMut) -> Result<Option<(Record, Bytes)>, RecordError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let total = u32::from_le_bytes(*prefix) as usize + 4;
    if total > RECORD_MAX {
        return Err(RecordError::TooLarge(total));
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let mut form = buffer.split_to(total).freeze();
    let (record, bytes) = decode(&form)?;
    let skip = form.len() - bytes.len();
    form.advance(skip);
    Ok(Some((record, form)))
}

fn parts(form: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    if form.len() > RECORD_MAX {
        return Err(RecordError::TooLarge(form.len()));
    }
    let (prefix, rest) = form.split_first_chunk::<PREFIX>().ok_or(RecordError::Lengths)?;
    let [a, b, c, d, e, f, g, h] = *prefix;
    let total = u32::from_le_bytes([a, b, c, d]) as usize;
    let json = u32::from_le_bytes([e, f, g, h]) as usize;
    if json > RECORD_JSON_MAX {
        return Err(RecordError::TooLarge(json));
    }
    if total != form.len() - 4 || json > rest.len() {
        return Err(RecordError::Lengths);
    }
    Ok(rest.split_at(json))
}

fn length(value: usize) -> [u8; 4] {
    // Bounded by RECORD_MAX above, far below 4 GiB.
    u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use boatyard_model::{BlobId, EventBody, SessionId, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::message::RecordKind;

    fn record(n: u64, text: &str) -> Record {
        Record {
            position: Position { epoch: 1, n },
            session: SessionId::new(),
            time: Timestamp(5),
            turn: Some(1),
            what: RecordKind::Event(EventBody::MessageDelta {
                message: "m".into(),
                text: text.into(),
            }),
        }
    }

    #[test]
    fn a_blob_survives_a_round_trip() {
        let mut blob = record(1, "");
        blob.what = RecordKind::Blob { blob: BlobId::new(), mime: "image/png".into() };
        let form = encode(&blob, b"\x89PNG").unwrap();
        assert_eq!(decode(&form).unwrap(), (blob.clone(), &b"\x89PNG"[..]));
        assert_eq!(position(&form).unwrap(), blob.position);
    }

    #[test]
    fn too_large_is_refused() {
        let bytes = vec![0; RECORD_MAX];
        assert!(matches!(encode(&record(1, ""), &bytes), Err(RecordError::TooLarge(_))));
        let mut buffer = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        assert!(matches!(take(&mut buffer), Err(RecordError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn records_survive_any_cut_of_the_stream(
            texts in proptest::collection::vec(".{0,40}", 1..8),
            cuts in proptest::collection::vec(1_usize..50, 1..60),
        ) {
            let records: Vec<_> =
                texts.iter().enumerate().map(|(i, t)| record(i as u64 + 1, t)).collect();
            let mut wire = Vec::new();
            for r in &records {
                wire.extend(encode(r, &[]).unwrap());
            }
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            let mut rest = &wire[..];
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let n = cuts.next().unwrap().min(rest.len());
                buffer.extend_from_slice(&rest[..n]);
                rest = &rest[n..];
                while let Some((r, bytes)) = take(&mut buffer).unwrap() {
                    prop_assert!(bytes.is_empty());
                    seen.push(r);
                }
            }
            prop_assert_eq!(seen, records);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = position(&bytes);
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
        }
    }
}
