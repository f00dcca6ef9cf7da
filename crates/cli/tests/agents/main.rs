//! The real agents in real sandboxes, through the product as people use it.
//!
//! ```text
//!   test ─ API ─► boatyard up ─► sandbox: Claude Code, Codex, OpenCode, Gemini CLI, …
//!    │                 ▲              │ 127.0.0.1:7080, a placeholder as key
//!    │                 └── gateway ◄──┘
//!    └─ serves ─► a scripted provider with faults, which keeps what it was asked ◄─ the real key
//! ```
//!
//! One test for each agent: [`house`] starts a server and has it install the agent from npm, then
//! the [`scenarios`] run in it side by side, each in workspaces of its own, and last those that kill
//! the server. What an agent does in its own way stands in its [`Agent`]; a scenario asserts that.
//!
//! `BOATYARD_SCENES=write,ask` runs those alone. `BOATYARD_AGENT_TOOLS` names a folder in which npm
//! has installed the agents before (`NAME/node_modules`), so that nothing is fetched.

mod agent;
mod house;
mod provider;
mod quiet;
mod scenarios;
mod talk;
#[path = "../shared/yard.rs"]
#[expect(dead_code, reason = "the transcripts need more of it")]
mod yard;

use agent::{Agent, CLAUDE, CODEX, COPILOT, GEMINI, OPENCODE, QWEN};

async fn prove(agent: Agent) {
    scenarios::run(house::House::open(agent).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claude() {
    prove(CLAUDE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codex() {
    prove(CODEX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opencode() {
    prove(OPENCODE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini() {
    prove(GEMINI).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "part of `make soak`"]
async fn qwen() {
    prove(QWEN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "part of `make soak`"]
async fn copilot() {
    prove(COPILOT).await;
}
