//! A provider, or a service for tokens, that plays answers that were written down, one after the
//! other, and keeps what it was asked.

use std::sync::Arc;

use boatyard_egress::gateway::{Auth, Credential, Later, Managed, Secret, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
};

use crate::fixture::{listen, read_head, soon};

/// A request as it came: its head in lower case but for the values, and its body.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let begin = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&*begin))
    }

    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }
}

pub(crate) struct Stage {
    pub(crate) port: u16,
    asked: mpsc::Receiver<Asked>,
}

impl Stage {
    /// One that gives these answers; past the last it hangs up.
    pub(crate) async fn plays(answers: Vec<Vec<u8>>) -> Self {
        let (listener, port) = listen().await;
        let (tell, asked) = mpsc::channel(100);
        let answers = Arc::new(Mutex::new(answers.into_iter()));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(play(stream, Arc::clone(&answers), tell.clone()));
            }
        });
        Self { port, asked }
    }

    pub(crate) async fn asked(&mut self) -> Asked {
        soon(self.asked.recv()).await.expect("a request")
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn play(
    mut stream: TcpStream,
    answers: Arc<Mutex<std::vec::IntoIter<Vec<u8>>>>,
    tell: mpsc::Sender<Asked>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        tell.send(Asked { head, body }).await.unwrap();
        let Some(answer) = answers.lock().await.next() else { return };
        // The other side may be gone.
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A whole answer.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

pub(crate) fn json(status: &str, body: &str) -> Vec<u8> {
    answer(status, "Content-Type: application/json\r\n", body)
}

pub(crate) fn events(body: &str) -> Vec<u8> {
    answer("200 OK", "Content-Type: text/event-stream\r\n", body)
}

/// Material that a test may change.
#[derive(Debug, Clone)]
pub(crate) struct Drawer(pub(crate) Arc<std::sync::Mutex<String>>);

impl Drawer {
    pub(crate) fn with(text: &str) -> Self {
        Self(Arc::new(std::sync::Mutex::new(text.to_owned())))
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn credential(&self, auth: Auth, token_url: Option<String>) -> Credential {
        let managed = Managed::new(auth, Arc::new(self.clone())).renewed_at(token_url);
        Credential::Managed(Box::new(managed))
    }
}

impl Source for Drawer {
    fn read(&self) -> Later<Result<Secret, String>> {
        Box::pin(std::future::ready(Ok(Secret::new(self.text()))))
    }

    fn keep(&self, material: Secret) -> Later<Result<(), String>> {
        material.expose().clone_into(&mut self.0.lock().unwrap());
        Box::pin(std::future::ready(Ok(())))
    }

    fn remedy(&self) -> String {
        "put another one into the drawer".to_owned()
    }
}

/// Reads the head of an answer and all that follows.
pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut all = read_head(stream).await;
    soon(stream.read_to_string(&mut all)).await.unwrap();
    all
}
