//! Real git behind HTTP: the program `git http-backend`, spoken to as CGI has it.

use std::{
    io,
    path::Path,
    pin::Pin,
    process::Stdio,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader, ReadBuf},
    process::{Child, ChildStdout, Command},
};

use super::{Answer, plain};

/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

pub(super) async fn serve(
    root: &Path,
    repository: &str,
    rest: &str,
    request: Request<Incoming>,
) -> Answer {
    let (head, body) = request.into_parts();
    let text = |name: HeaderName| {
        head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let started = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "somebody")
        .env("REQUEST_METHOD", head.method.as_str())
        .env("PATH_INFO", format!("/{repository}.git/{rest}"))
        .env("QUERY_STRING", head.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
        .env("GIT_PROTOCOL", text(HeaderName::from_static("git-protocol")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = started else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "git can't be started");
    };
    let (mut stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
    tokio::spawn(async move {
        let mut body = body;
        while let (Some(stdin), Some(Ok(frame))) = (&mut stdin, body.frame().await) {
            let Ok(data) = frame.into_data() else { continue };
            // One that ends early has said why.
            if stdin.write_all(&data).await.is_err() {
                return;
            }
        }
    });
    match answered(child, stdout).await {
        Ok(answer) => answer,
        Err(error) => plain(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

async fn answered(child: Child, stdout: ChildStdout) -> io::Result<Answer> {
    let mut out = BufReader::with_capacity(PIECE, stdout);
    let mut response = Response::builder();
    let mut line = String::new();
    loop {
        line.clear();
        out.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        if name == "Status" {
            response = response.status(value.get(..3).unwrap_or(value));
        } else {
            let value = HeaderValue::from_str(value).map_err(io::Error::other)?;
            response = response.header(name, value);
        }
    }
    let body = Output { out, _child: child };
    response.body(body.boxed_unsync()).map_err(io::Error::other)
}

/// What the program prints; it ends with this.
struct Output {
    out: BufReader<ChildStdout>,
    _child: Child,
}

impl Body for Output {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut piece = BytesMut::zeroed(PIECE);
        let mut buffer = ReadBuf::new(&mut piece);
        match Pin::new(&mut self.out).poll_read(cx, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let length = buffer.filled().len();
                piece.truncate(length);
                let piece = (length > 0).then(|| Ok(Frame::data(piece.freeze())));
                Poll::Ready(piece)
            }
        }
    }
}
