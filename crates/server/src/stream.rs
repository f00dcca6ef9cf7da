//! Bytes that come or go piece by piece, between a route and its operation.

use std::{io, pin::Pin};

use bytes::Bytes;
use futures_util::Stream;

/// A body that is not held in memory as a whole. An error ends it. `tokio_util::io::StreamReader`
/// makes a reader of it.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;
