//! One method per endpoint, named as the operation in the OpenAPI document.

use std::time::Duration;

use boatyard_model::{
    BlobId, Event, JobId, PermissionId, PromptId, QuestionId, RepositoryId, SessionId, TaskId,
    ToolId, WorkspaceId, name::AgentName,
};
use bytes::Bytes;
use reqwest::{Method, header};
use serde::Serialize;

use super::{Client, Follow, Result, follow::Following};
use crate::{
    IdempotencyKey,
    agent::{Agent, AgentCheck, AgentEntry, AgentList, InstallAgent, Tool, ToolList, ToolQuery},
    blob::{Blob, BlobContent},
    feed::FeedEvent,
    identity::{Identity, LoginLink},
    job::{Job, JobFilter, JobPage, NewJob},
    repository::{
        EnvironmentFilter, EnvironmentList, NewRepository, Repository, RepositoryFilter,
        RepositoryPage,
    },
    session::{
        NewPrompt, NewSession, PermissionAnswer, Prompt, PromptFilter, PromptPage, PromptUpdate,
        QuestionAnswer, Session, SessionChange, SessionFilter, SessionPage, Stopped, Transcript,
        TranscriptQuery,
    },
    system::{GarbageReport, GarbageRequest, Health},
    task::{
        AttemptChoice, AttemptDiffQuery, AttemptList, Diff, NewTask, Task, TaskFilter, TaskPage,
        TaskResult,
    },
    workspace::{
        CommitList, ExecOutput, ExecRequest, ExecResult, FileListing, FileQuery, FolderQuery,
        ForkRequest, NewWorkspace, Snapshot, Workspace, WorkspaceDiffQuery, WorkspaceFilter,
        WorkspaceLogQuery, WorkspacePage, WriteFileQuery, WrittenFile,
    },
};

/// How long a repository may take to be fetched or taken in.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a workspace may take to be made, with a repository that is not here yet.
const CREATE_TIMEOUT: Duration = FETCH_TIMEOUT;

/// What an exec may take beside the command itself: waking the workspace.
const EXEC_MARGIN: Duration = Duration::from_secs(60);

/// The time of a command that names none.
const EXEC_DEFAULT: u32 = 60;

/// How long an agent that is tried may take to come up, with its workspace.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How long news of an installation may take; the server answers in half of it.
const AWAIT_TIMEOUT: Duration = Duration::from_secs(50);

/// A collection of garbage may have much to remove.
const GARBAGE_TIMEOUT: Duration = Duration::from_secs(30 * 60);

#[derive(Serialize)]
struct NoBody {}

fn exec_timeout(request: &ExecRequest) -> Duration {
    EXEC_MARGIN + Duration::from_secs(u64::from(request.timeout.unwrap_or(EXEC_DEFAULT)))
}

/// Every method fails with an [`Error`](super::Error): the server's problem, no connection, or an
/// answer that is not understood.
#[expect(clippy::missing_errors_doc, reason = "all fail in the same way, as said above")]
impl Client {
    // === tasks ===

    /// Orders a task.
    pub async fn create_task(&self, task: &NewTask, key: Option<&IdempotencyKey>) -> Result<Task> {
        self.json(self.call(Method::POST, "api/tasks").json(task).once(key)).await
    }

    /// A page of tasks, the newest first.
    pub async fn list_tasks(&self, filter: &TaskFilter) -> Result<TaskPage> {
        self.json(self.call(Method::GET, "api/tasks").query(filter)).await
    }

    /// A task with its attempts.
    pub async fn find_task(&self, id: TaskId) -> Result<Task> {
        self.json(self.call(Method::GET, format!("api/tasks/{id}"))).await
    }

    /// Ends every attempt at a task.
    pub async fn cancel_task(&self, id: TaskId) -> Result<Task> {
        self.json(self.call(Method::POST, format!("api/tasks/{id}/cancel"))).await
    }

    /// What an attempt handed back; the best one's if none is named.
    pub async fn find_task_result(&self, id: TaskId, attempt: Option<u32>) -> Result<TaskResult> {
        let call = self.call(Method::GET, format!("api/tasks/{id}/result"));
        self.json(call.query(&AttemptChoice { attempt })).await
    }

    /// The attempts at a task.
    pub async fn list_attempts(&self, id: TaskId) -> Result<AttemptList> {
        self.json(self.call(Method::GET, format!("api/tasks/{id}/attempts"))).await
    }

    /// What an attempt changed, file by file and as a patch.
    pub async fn read_attempt_diff(&self, id: TaskId, query: &AttemptDiffQuery) -> Result<Diff> {
        self.json(self.call(Method::GET, format!("api/tasks/{id}/diff")).query(query)).await
    }

    /// What an attempt changed, as a patch for `git apply`.
    pub async fn read_attempt_patch(&self, id: TaskId, attempt: Option<u32>) -> Result<Bytes> {
        let call = self.call(Method::GET, format!("api/tasks/{id}/patch")).accept("*/*");
        self.bytes(call.query(&AttemptChoice { attempt })).await
    }

    /// An attempt's branch as a git bundle that needs its base only. The body is to be read
    /// piece by piece (`chunk`).
    pub async fn read_attempt_bundle(
        &self,
        id: TaskId,
        attempt: Option<u32>,
    ) -> Result<reqwest::Response> {
        let call = self.call(Method::GET, format!("api/tasks/{id}/bundle")).accept("*/*");
        self.send(call.query(&AttemptChoice { attempt }).within(FETCH_TIMEOUT)).await
    }

    /// Pushes an attempt's branch to the repository's origin.
    pub async fn push_attempt(&self, id: TaskId, attempt: Option<u32>) -> Result<Task> {
        let call = self.call(Method::POST, format!("api/tasks/{id}/push"));
        self.json(call.query(&AttemptChoice { attempt }).within(FETCH_TIMEOUT)).await
    }

    // === workspaces ===

    /// Makes a workspace.
    pub async fn create_workspace(
        &self,
        workspace: &NewWorkspace,
        key: Option<&IdempotencyKey>,
    ) -> Result<Workspace> {
        let call = self.call(Method::POST, "api/workspaces").json(workspace).once(key);
        self.json(call.within(CREATE_TIMEOUT)).await
    }

    /// A page of workspaces, the newest first.
    pub async fn list_workspaces(&self, filter: &WorkspaceFilter) -> Result<WorkspacePage> {
        self.json(self.call(Method::GET, "api/workspaces").query(filter)).await
    }

    /// A workspace.
    pub async fn find_workspace(&self, id: WorkspaceId) -> Result<Workspace> {
        self.json(self.call(Method::GET, format!("api/workspaces/{id}"))).await
    }

    /// Deletes a workspace with its files and sessions.
    pub async fn delete_workspace(&self, id: WorkspaceId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/workspaces/{id}"))).await
    }

    /// Wakes a workspace.
    pub async fn start_workspace(&self, id: WorkspaceId) -> Result<Workspace> {
        self.json(self.call(Method::POST, format!("api/workspaces/{id}/start"))).await
    }

    /// Ends every process of a workspace; its files stay.
    pub async fn stop_workspace(&self, id: WorkspaceId) -> Result<Workspace> {
        self.json(self.call(Method::POST, format!("api/workspaces/{id}/stop"))).await
    }

    /// Makes a workspace with the same files.
    pub async fn fork_workspace(
        &self,
        id: WorkspaceId,
        request: &ForkRequest,
        key: Option<&IdempotencyKey>,
    ) -> Result<Workspace> {
        let call = self.call(Method::POST, format!("api/workspaces/{id}/fork"));
        self.json(call.json(request).once(key)).await
    }

    /// Freezes a workspace's files as a layer.
    pub async fn snapshot_workspace(&self, id: WorkspaceId) -> Result<Snapshot> {
        self.json(self.call(Method::POST, format!("api/workspaces/{id}/snapshot"))).await
    }

    /// Runs a command to its end.
    pub async fn exec_in_workspace(
        &self,
        id: WorkspaceId,
        request: &ExecRequest,
    ) -> Result<ExecResult> {
        let call = self.call(Method::POST, format!("api/workspaces/{id}/exec")).json(request);
        self.json(call.within(exec_timeout(request))).await
    }

    /// Runs a command and shows its output as it comes. The last piece is its exit.
    pub async fn exec_streaming(
        &self,
        id: WorkspaceId,
        request: &ExecRequest,
    ) -> Result<Output<ExecOutput>> {
        let call = self.call(Method::POST, format!("api/workspaces/{id}/exec")).json(request);
        let call = call.accept("text/event-stream");
        let response = self.send_open(call, Some(exec_timeout(request))).await?;
        Ok(Output::new(self.clone(), response))
    }

    /// The entries of a folder.
    pub async fn list_files(&self, id: WorkspaceId, path: &str) -> Result<FileListing> {
        let query = FolderQuery { path: path.to_owned() };
        self.json(self.call(Method::GET, format!("api/workspaces/{id}/files")).query(&query)).await
    }

    /// A file's bytes.
    pub async fn read_file(&self, id: WorkspaceId, path: &str) -> Result<Bytes> {
        let call = self.call(Method::GET, format!("api/workspaces/{id}/files/content"));
        self.bytes(call.query(&FileQuery { path: path.to_owned() }).accept("*/*")).await
    }

    /// Writes a file, beside and renamed.
    pub async fn write_file(
        &self,
        id: WorkspaceId,
        query: &WriteFileQuery,
        bytes: impl Into<reqwest::Body>,
    ) -> Result<WrittenFile> {
        let call = self.call(Method::PUT, format!("api/workspaces/{id}/files/content"));
        self.json(call.query(query).raw("application/octet-stream", bytes)).await
    }

    /// What differs in a workspace's repository.
    pub async fn read_workspace_diff(
        &self,
        id: WorkspaceId,
        query: &WorkspaceDiffQuery,
    ) -> Result<Diff> {
        let call = self.call(Method::GET, format!("api/workspaces/{id}/git/diff"));
        self.json(call.query(query)).await
    }

    /// The commits of a workspace's repository, the newest first.
    pub async fn read_workspace_log(
        &self,
        id: WorkspaceId,
        limit: Option<u32>,
    ) -> Result<CommitList> {
        let call = self.call(Method::GET, format!("api/workspaces/{id}/git/log"));
        self.json(call.query(&WorkspaceLogQuery { limit })).await
    }

    // === sessions ===

    /// Begins a conversation.
    pub async fn create_session(
        &self,
        session: &NewSession,
        key: Option<&IdempotencyKey>,
    ) -> Result<Session> {
        let call = self.call(Method::POST, "api/sessions").json(session).once(key);
        self.json(call).await
    }

    /// A page of sessions, the newest first.
    pub async fn list_sessions(&self, filter: &SessionFilter) -> Result<SessionPage> {
        self.json(self.call(Method::GET, "api/sessions").query(filter)).await
    }

    /// A session, with what waits for a person.
    pub async fn find_session(&self, id: SessionId) -> Result<Session> {
        self.json(self.call(Method::GET, format!("api/sessions/{id}"))).await
    }

    /// Changes how a session's agent works.
    pub async fn change_session(&self, id: SessionId, change: &SessionChange) -> Result<Session> {
        self.json(self.call(Method::PATCH, format!("api/sessions/{id}")).json(change)).await
    }

    /// Ends a session; its log stays.
    pub async fn delete_session(&self, id: SessionId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/sessions/{id}"))).await
    }

    /// Says something to the agent.
    pub async fn create_prompt(
        &self,
        id: SessionId,
        prompt: &NewPrompt,
        key: Option<&IdempotencyKey>,
    ) -> Result<Prompt> {
        let call = self.call(Method::POST, format!("api/sessions/{id}/prompts"));
        self.json(call.json(prompt).once(key)).await
    }

    /// A page of what was said, the newest first.
    pub async fn list_prompts(&self, id: SessionId, filter: &PromptFilter) -> Result<PromptPage> {
        self.json(self.call(Method::GET, format!("api/sessions/{id}/prompts")).query(filter)).await
    }

    /// Something that was said.
    pub async fn find_prompt(&self, id: SessionId, prompt: PromptId) -> Result<Prompt> {
        self.json(self.call(Method::GET, format!("api/sessions/{id}/prompts/{prompt}"))).await
    }

    /// Changes what was said, while the agent does not have it.
    pub async fn update_prompt(
        &self,
        id: SessionId,
        prompt: PromptId,
        update: &PromptUpdate,
    ) -> Result<Prompt> {
        let call = self.call(Method::PATCH, format!("api/sessions/{id}/prompts/{prompt}"));
        self.json(call.json(update)).await
    }

    /// Takes back what was said, while the agent does not have it.
    pub async fn delete_prompt(&self, id: SessionId, prompt: PromptId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/sessions/{id}/prompts/{prompt}"))).await
    }

    /// Ends every process of a session; its files and its conversation stay.
    pub async fn stop_session(&self, id: SessionId) -> Result<Stopped> {
        self.json(self.call(Method::POST, format!("api/sessions/{id}/stop"))).await
    }

    /// Says yes or no to an agent.
    pub async fn answer_permission(
        &self,
        id: SessionId,
        permission: PermissionId,
        answer: &PermissionAnswer,
    ) -> Result<()> {
        let path = format!("api/sessions/{id}/permissions/{permission}");
        self.empty(self.call(Method::POST, path).json(answer)).await
    }

    /// Answers an agent's question.
    pub async fn answer_question(
        &self,
        id: SessionId,
        question: QuestionId,
        answer: &QuestionAnswer,
    ) -> Result<()> {
        let path = format!("api/sessions/{id}/questions/{question}");
        self.empty(self.call(Method::POST, path).json(answer)).await
    }

    /// A part of a session's log.
    pub async fn read_transcript(
        &self,
        id: SessionId,
        query: &TranscriptQuery,
    ) -> Result<Transcript> {
        self.json(self.call(Method::GET, format!("api/sessions/{id}/transcript")).query(query))
            .await
    }

    /// A session's events after `after` (0 is the beginning), until the session is over. Connects
    /// at the first `next`.
    pub fn follow_session(&self, id: SessionId, after: u64) -> Follow<Event> {
        Follow::new(self.clone(), format!("api/sessions/{id}/events"), after, Following::Live)
    }

    /// A session's stored events after `after`.
    pub fn read_session(&self, id: SessionId, after: u64) -> Follow<Event> {
        Follow::new(self.clone(), format!("api/sessions/{id}/events"), after, Following::Stored)
    }

    /// The organization's feed after `after` (0 is the oldest entry that is kept).
    pub fn follow_feed(&self, after: u64) -> Follow<FeedEvent> {
        Follow::new(self.clone(), "api/events".to_owned(), after, Following::Live)
    }

    // === repositories ===

    /// A page of repositories, the newest first.
    pub async fn list_repositories(&self, filter: &RepositoryFilter) -> Result<RepositoryPage> {
        self.json(self.call(Method::GET, "api/repositories").query(filter)).await
    }

    /// Registers a repository, or finds it; the answer has what the mirror has.
    pub async fn create_repository(&self, repository: &NewRepository) -> Result<Repository> {
        let call = self.call(Method::POST, "api/repositories").json(repository);
        self.json(call.within(FETCH_TIMEOUT)).await
    }

    /// A repository, with what the mirror has.
    pub async fn find_repository(&self, id: RepositoryId) -> Result<Repository> {
        self.json(self.call(Method::GET, format!("api/repositories/{id}"))).await
    }

    /// Sends a git bundle with what the mirror lacks. The body may be a stream.
    pub async fn send_bundle(
        &self,
        id: RepositoryId,
        bundle: impl Into<reqwest::Body>,
    ) -> Result<Repository> {
        let call = self.call(Method::PUT, format!("api/repositories/{id}/bundle"));
        self.json(call.raw("application/x-git-bundle", bundle).within(FETCH_TIMEOUT)).await
    }

    /// The environments that a repository describes.
    pub async fn list_environments(&self, repository: RepositoryId) -> Result<EnvironmentList> {
        let call = self.call(Method::GET, "api/environments").within(FETCH_TIMEOUT);
        self.json(call.query(&EnvironmentFilter { repository })).await
    }

    /// Forgets a repository and removes its mirror.
    pub async fn delete_repository(&self, id: RepositoryId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/repositories/{id}"))).await
    }

    // === blobs ===

    /// Uploads a picture or an attachment.
    pub async fn create_blob(&self, mime: &str, bytes: impl Into<reqwest::Body>) -> Result<Blob> {
        self.json(self.call(Method::POST, "api/blobs").raw(mime, bytes)).await
    }

    /// A blob with its content.
    pub async fn read_blob(&self, id: BlobId) -> Result<BlobContent> {
        let call = self.call(Method::GET, format!("api/blobs/{id}")).accept("*/*");
        let response = self.send(call).await?;
        let mime = response
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("application/octet-stream")
            .to_owned();
        Ok(BlobContent { mime, bytes: self.collect(response).await? })
    }

    // === the rest ===

    /// The agents that the server knows.
    pub async fn list_agents(&self) -> Result<AgentList> {
        self.json(self.call(Method::GET, "api/agents")).await
    }

    /// An agent.
    pub async fn find_agent(&self, name: &AgentName) -> Result<Agent> {
        self.json(self.call(Method::GET, format!("api/agents/{name}"))).await
    }

    /// Adds an agent to the catalogue, or changes one.
    pub async fn put_agent(&self, name: &AgentName, entry: &AgentEntry) -> Result<Agent> {
        self.json(self.call(Method::PUT, format!("api/agents/{name}")).json(entry)).await
    }

    /// Takes an added agent out of the catalogue again.
    pub async fn remove_agent(&self, name: &AgentName) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/agents/{name}"))).await
    }

    /// Installs an agent, or finds it installed; answers at once.
    pub async fn install_agent(&self, name: &AgentName, request: &InstallAgent) -> Result<Tool> {
        let call = self.call(Method::POST, format!("api/agents/{name}/install"));
        self.json(call.json(request)).await
    }

    /// Starts an agent once and tells what it takes.
    pub async fn check_agent(&self, name: &AgentName) -> Result<AgentCheck> {
        let call = self.call(Method::POST, format!("api/agents/{name}/check"));
        self.json(call.json(&NoBody {}).within(CHECK_TIMEOUT)).await
    }

    /// The installed versions of an agent, the newest first.
    pub async fn list_tools(&self, name: &AgentName) -> Result<ToolList> {
        self.json(self.call(Method::GET, format!("api/agents/{name}/tools"))).await
    }

    /// An installed version of an agent, or one on its way.
    pub async fn find_tool(&self, name: &AgentName, id: ToolId) -> Result<Tool> {
        self.json(self.call(Method::GET, format!("api/agents/{name}/tools/{id}"))).await
    }

    /// The same, when it stands elsewhere than here, or after a while.
    pub async fn await_tool(&self, name: &AgentName, id: ToolId, unlike: String) -> Result<Tool> {
        let query = ToolQuery { unlike: Some(unlike) };
        let call = self.call(Method::GET, format!("api/agents/{name}/tools/{id}"));
        self.json(call.query(&query).within(AWAIT_TIMEOUT)).await
    }

    /// Removes an installed version of an agent.
    pub async fn remove_tool(&self, name: &AgentName, id: ToolId) -> Result<()> {
        self.empty(self.call(Method::DELETE, format!("api/agents/{name}/tools/{id}"))).await
    }

    /// A page of jobs, the newest first.
    pub async fn list_jobs(&self, filter: &JobFilter) -> Result<JobPage> {
        self.json(self.call(Method::GET, "api/jobs").query(filter)).await
    }

    /// A job.
    pub async fn find_job(&self, id: JobId) -> Result<Job> {
        self.json(self.call(Method::GET, format!("api/jobs/{id}"))).await
    }

    /// Ends a job that is no longer wanted.
    pub async fn cancel_job(&self, id: JobId) -> Result<Job> {
        self.json(self.call(Method::POST, format!("api/jobs/{id}/cancel"))).await
    }

    /// Runs a maintenance job now.
    pub async fn run_job(&self, name: &str) -> Result<Job> {
        let job = NewJob { name: name.to_owned() };
        self.json(self.call(Method::POST, "api/jobs").json(&job)).await
    }

    /// Removes what nothing refers to.
    pub async fn collect_garbage(&self, request: &GarbageRequest) -> Result<GarbageReport> {
        let call = self.call(Method::POST, "api/maintenance/gc").json(request);
        self.json(call.within(GARBAGE_TIMEOUT)).await
    }

    /// How the server is.
    pub async fn health(&self) -> Result<Health> {
        self.json(self.call(Method::GET, "health")).await
    }

    /// Who the server takes this client for.
    pub async fn whoami(&self) -> Result<Identity> {
        self.json(self.call(Method::GET, "api/auth/me")).await
    }

    /// A link that signs a browser in once.
    pub async fn create_login_link(&self) -> Result<LoginLink> {
        self.json(self.call(Method::POST, "api/auth/links").json(&NoBody {})).await
    }

    /// The server's figures, in the text form of Prometheus.
    pub async fn metrics(&self) -> Result<Bytes> {
        self.bytes(self.call(Method::GET, "metrics").accept("text/plain")).await
    }
}

/// What a request shows as it goes, in order, once: it is not taken up again after a cut.
pub struct Output<T> {
    client: Client,
    response: reqwest::Response,
    parser: super::Parser,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: serde::de::DeserializeOwned> Output<T> {
    fn new(client: Client, response: reqwest::Response) -> Self {
        let parser = super::Parser::default();
        Self { client, response, parser, kind: std::marker::PhantomData }
    }

    /// The next piece; none at the end.
    ///
    /// # Errors
    /// When the connection breaks, or a piece is not understood.
    pub async fn next(&mut self) -> Option<Result<T>> {
        loop {
            match self.parser.frame() {
                Ok(Some(frame)) if !frame.data.is_empty() => {
                    let piece = serde_json::from_str(&frame.data);
                    return Some(piece.map_err(|e| self.client.protocol(e.to_string())));
                }
                Ok(Some(_)) => {}
                Ok(None) => match self.response.chunk().await {
                    Ok(Some(bytes)) => {
                        if let Err(error) = self.parser.push(&bytes) {
                            return Some(Err(self.client.protocol(error.to_string())));
                        }
                    }
                    Ok(None) => return None,
                    Err(error) => return Some(Err(self.client.unreachable(error))),
                },
                Err(error) => return Some(Err(self.client.protocol(error.to_string()))),
            }
        }
    }
}
