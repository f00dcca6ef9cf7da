//! An agent whose side of the protocol a test plays by hand.

use std::path::Path;

use boatyard_agent::{Driver, Protocol};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf},
    time::timeout,
};

use crate::support::{PATIENCE, Played, launch, program};

/// The agent's side of a driver, in the test's hands.
pub(crate) struct Agent {
    pub(crate) lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    pub(crate) writer: WriteHalf<DuplexStream>,
}

impl Agent {
    pub(crate) fn start() -> (Driver, Self) {
        let (ours, agent) = duplex();
        let program = program(Protocol::Acp, &["played"], "");
        (Driver::start(launch(program, Path::new("/")), Played::new(vec![ours])), agent)
    }

    /// The next message, which must be of this method.
    pub(crate) async fn expect(&mut self, method: &str) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("in time").unwrap();
        let message: Value = serde_json::from_str(&line.expect("the driver goes on")).unwrap();
        assert_eq!(message["method"], method, "{message}");
        message
    }

    pub(crate) async fn say(&mut self, message: Value) {
        let line = format!("{message}\n");
        self.writer.write_all(line.as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, to: &Value, result: Value) {
        self.say(json!({ "jsonrpc": "2.0", "id": to["id"], "result": result })).await;
    }

    pub(crate) async fn update(&mut self, update: Value) {
        let params = json!({ "sessionId": "s", "update": update });
        self.say(json!({ "jsonrpc": "2.0", "method": "session/update", "params": params })).await;
    }

    /// Up to the first prompt, whose request is given back.
    pub(crate) async fn begin(&mut self, can: Value) -> Value {
        let hello = self.expect("initialize").await;
        self.answer(&hello, json!({ "protocolVersion": 1, "agentCapabilities": can })).await;
        let new = self.expect("session/new").await;
        self.answer(&new, json!({ "sessionId": "s" })).await;
        self.expect("session/prompt").await
    }
}

/// The driver's end of the streams, and the agent at the other.
pub(crate) fn duplex() -> (DuplexStream, Agent) {
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let (reader, writer) = tokio::io::split(theirs);
    (ours, Agent { lines: BufReader::new(reader).lines(), writer })
}

pub(crate) fn chunk(text: &str) -> Value {
    json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": text } })
}
