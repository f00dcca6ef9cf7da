//! Answers that come packed although they were asked not to be: unpacked on their way in, so that a
//! value in them is found.

use std::{
    fmt,
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::{StatusCode, header, response};
use hyper::body::{Body, Frame, SizeHint};

use super::BodyError;

/// So much is unpacked at once: a thousand times as much comes of it at most, which is what one
/// answer may take of our memory.
const STEP: usize = 1024;

/// How an answer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As `gzip` does.
    Gzip,
    /// As zlib does.
    Deflate,
}

/// What an answer is packed in; with what it is called if it can't be unpacked.
pub(super) fn packing(head: &response::Parts) -> Result<Option<Packing>, String> {
    let mut found = Vec::new();
    for value in head.headers.get_all(header::CONTENT_ENCODING) {
        let names = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        found.extend(names.split(',').map(|name| name.trim().to_owned()));
    }
    // What is no packing (`identity`, `utf-8`, `aws-chunked`) is looked through as it is.
    found.retain(|name| {
        matches!(
            &**name,
            "gzip"
                | "x-gzip"
                | "deflate"
                | "br"
                | "zstd"
                | "compress"
                | "x-compress"
                | "dcb"
                | "dcz"
        )
    });
    match &found[..] {
        [] => Ok(None),
        _ if head.status == StatusCode::PARTIAL_CONTENT => Err(format!("a part of {}", found[0])),
        [one] if matches!(&**one, "gzip" | "x-gzip") => Ok(Some(Packing::Gzip)),
        [one] if one == "deflate" => Ok(Some(Packing::Deflate)),
        several => Err(several.join(", ")),
    }
}

/// An answer's body as it was before it was packed.
pub(super) struct Unpacked<B> {
    body: B,
    decoder: Decoder,
    /// What came and is still packed.
    packed: Bytes,
    /// What follows the last of it.
    last: Option<Frame<Bytes>>,
    is_over: bool,
}

enum Decoder {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    fn unpack(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        // What can be unpacked so far comes out with `flush`.
        match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// What is left; an error if it was not whole.
    fn rest(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Self::Deflate(decoder) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }
}

impl<B> Unpacked<B> {
    pub(super) fn new(body: B, packing: Packing) -> Self {
        let decoder = match packing {
            Packing::Gzip => Decoder::Gzip(MultiGzDecoder::new(Vec::new())),
            Packing::Deflate => Decoder::Deflate(ZlibDecoder::new(Vec::new())),
        };
        Self { body, decoder, packed: Bytes::new(), last: None, is_over: false }
    }
}

impl<B> fmt::Debug for Unpacked<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacked").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

impl<B> Body for Unpacked<B>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            let unpacked = if !this.packed.is_empty() {
                let step = this.packed.split_to(this.packed.len().min(STEP));
                this.decoder.unpack(&step)
            } else if this.is_over {
                return Poll::Ready(this.last.take().map(Ok));
            } else {
                match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            this.packed = data;
                            continue;
                        }
                        Err(trailers) => {
                            this.is_over = true;
                            this.last = Some(trailers);
                            this.decoder.rest()
                        }
                    },
                    Some(Err(error)) => {
                        this.is_over = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        this.is_over = true;
                        this.decoder.rest()
                    }
                }
            };
            match unpacked {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out.into())))),
                Err(error) => {
                    (this.is_over, this.packed, this.last) = (true, Bytes::new(), None);
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.packed.is_empty() && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };
    use http::{HeaderValue, Response};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn head(encodings: &[&str]) -> response::Parts {
        let (mut head, ()) = Response::new(()).into_parts();
        for encoding in encodings {
            let value = HeaderValue::from_str(encoding).unwrap();
            head.headers.append(header::CONTENT_ENCODING, value);
        }
        head
    }

    #[test]
    fn packings_are_told_apart() {
        assert_eq!(packing(&head(&[])), Ok(None));
        assert_eq!(packing(&head(&["identity", "aws-chunked"])), Ok(None));
        assert_eq!(packing(&head(&["GZIP"])), Ok(Some(Packing::Gzip)));
        assert_eq!(packing(&head(&["identity, x-gzip"])), Ok(Some(Packing::Gzip)));
        assert_eq!(packing(&head(&["deflate"])), Ok(Some(Packing::Deflate)));
        assert_eq!(packing(&head(&["br"])), Err("br".to_owned()));
        assert_eq!(packing(&head(&["gzip", "gzip"])), Err("gzip, gzip".to_owned()));
        let mut part = head(&["gzip"]);
        part.status = StatusCode::PARTIAL_CONTENT;
        assert_eq!(packing(&part), Err("a part of gzip".to_owned()));
    }

    async fn through(packed: &[u8], packing: Packing, cut: usize) -> Result<Vec<u8>, BodyError> {
        let pieces: Vec<Result<_, BodyError>> = packed
            .chunks(cut)
            .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let body = StreamBody::new(futures_util::stream::iter(pieces));
        Ok(Unpacked::new(body, packing).collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn it_comes_out_as_it_was_wherever_it_is_cut() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(&text).unwrap();
        let deflate = deflate.finish().unwrap();
        for cut in [1, 7, 1500, usize::MAX] {
            assert_eq!(through(&gzip, Packing::Gzip, cut).await.unwrap(), text);
            assert_eq!(through(&deflate, Packing::Deflate, cut).await.unwrap(), text);
        }
        let twice = [&gzip[..], &gzip].concat();
        assert_eq!(through(&twice, Packing::Gzip, 999).await.unwrap().len(), 2 * text.len());
        through(&gzip[..gzip.len() / 2], Packing::Gzip, 999).await.unwrap_err();
        through(b"no gzip at all", Packing::Gzip, 999).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_bomb_comes_out_in_pieces() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            gzip.write_all(&[0; 1 << 20]).unwrap();
        }
        let body = http_body_util::Full::new(Bytes::from(gzip.finish().unwrap()));
        let mut body = Unpacked::new(body.map_err(|never| match never {}), Packing::Gzip);
        let mut total = 0;
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= 2 << 20, "{}", piece.len());
            total += piece.len();
        }
        assert_eq!(total, 64 << 20);
    }
}
