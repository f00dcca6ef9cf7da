//! The `control` stream: requests of the server, answered as they get done.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use boatyard_link::{
    Stream,
    message::{
        Failure, FailureCode, FromRunner, MESSAGE_MAX, Program, Reply, Request, Status, ToRunner,
    },
};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

use super::Runner;

/// How many requests may be under way; more wait in the link.
const UNDER_WAY: usize = 64;

/// Where programs connect that know of a proxy, or of the gateway.
const LISTENERS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), boatyard_sandbox::EGRESS_PORT),
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), boatyard_sandbox::GATEWAY_PORT),
];

/// How long commands, and what they left behind, have to end by themselves.
const GRACE: Duration = Duration::from_millis(500);

/// How long they may then take to be dead.
const DEATH: Duration = Duration::from_secs(5);

/// Serves the stream until it ends. What was begun goes on all the same.
pub(super) async fn serve(runner: Arc<Runner>, stream: Stream) {
    let (mut send, mut recv) = stream.split();
    let (answers, mut to_send) = mpsc::channel::<FromRunner>(UNDER_WAY);
    let places = Arc::new(Semaphore::new(UNDER_WAY));
    let sending = async {
        while let Some(answer) = to_send.recv().await {
            if send.send_message(&answer).await.is_err() {
                break;
            }
        }
        // The other side ended it or is gone.
        let _ = send.finish();
    };
    let receiving = async {
        // An error is the end of the stream as well; the server opens another.
        while let Ok(Some(bytes)) = recv.recv_raw_message(MESSAGE_MAX).await {
            let Ok(place) = places.clone().acquire_owned().await else { break };
            let (runner, answers) = (runner.clone(), answers.clone());
            tokio::spawn(async move {
                let Some((id, request)) = read(&bytes) else { return };
                let result = match request {
                    Ok(request) => runner.request(request).await,
                    Err(failure) => Err(failure),
                };
                // Whoever asked may be gone; the request asked again finds it done.
                let _ = answers.send(FromRunner::Reply { id, result }).await;
                drop(place);
            });
        }
        drop(answers);
    };
    tokio::join!(sending, receiving);
}

/// The number of a request, and the request or why it is not understood. None if there is not even
/// a number to answer to.
fn read(bytes: &[u8]) -> Option<(u64, Result<Request, Failure>)> {
    #[derive(Deserialize)]
    struct Numbered {
        id: u64,
    }
    match serde_json::from_slice::<ToRunner>(bytes) {
        Ok(ToRunner { id, request }) => Some((id, Ok(request))),
        Err(error) => {
            let Numbered { id } = serde_json::from_slice(bytes).ok()?;
            let message = format!("this runner does not understand the request: {error}");
            Some((id, Err(Failure { code: FailureCode::Unsupported, message })))
        }
    }
}

impl Runner {
    /// The program with a connection. One search at a time: who asks in the meantime waits in the
    /// pool's queue.
    async fn who_connects(
        &self,
        own: SocketAddr,
        to: Option<SocketAddr>,
    ) -> Result<Reply, Failure> {
        let to = to.map_or_else(|| LISTENERS.to_vec(), |to| vec![to]);
        let finder = Arc::clone(&self.finder);
        let search =
            move || finder.lock().unwrap_or_else(PoisonError::into_inner).with_connection(own, &to);
        let found = tokio::task::spawn_blocking(search).await.map_err(|error| Failure {
            code: FailureCode::Internal,
            message: format!("the search for a program ended early: {error}"),
        })?;
        let found = found.map(|program| Program {
            session: program.group.and_then(|group| self.sessions.with_group(&group)),
            name: program.name,
            pid: program.pid,
        });
        Ok(Reply::Program { found })
    }

    async fn request(&self, request: Request) -> Result<Reply, Failure> {
        match request {
            Request::Status => Ok(Reply::Status(Status {
                generation: self.generation,
                sessions: self.sessions.status(),
                execs: self.execs.load(Ordering::Relaxed),
            })),
            Request::Quiesce => {
                self.sessions.quiesce().await?;
                self.commands.end(GRACE, DEATH).await.map_err(|error| Failure {
                    code: FailureCode::Internal,
                    message: format!("not every process could be ended: {error}"),
                })?;
                Ok(Reply::Done)
            }
            Request::WhoConnects { own, to } => self.who_connects(own, to).await,
            request => self.sessions.request(request).await,
        }
    }
}
