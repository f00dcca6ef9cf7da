//! One file per subcommand.
//!
//! A client command gets a [`Context`] and answers with the code to end with; what starts
//! processes or threads of its own ([`up`], [`doctor`], [`bench`]) is run before anything async.

use anyhow::{Context as _, Result};
use boatyard_api::Client;

use crate::{
    args::{Args, Command, Global},
    connect,
    failure::Exit,
    output::Output,
};

pub(crate) mod access;
pub(crate) mod agent;
pub(crate) mod answer;
pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod bench;
pub(crate) mod budget;
pub(crate) mod completion;
pub(crate) mod connection;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod egress;
pub(crate) mod exec;
pub(crate) mod gc;
pub(crate) mod internal;
pub(crate) mod invite;
pub(crate) mod job;
pub(crate) mod key;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod logs;
pub(crate) mod member;
pub(crate) mod organization;
pub(crate) mod person;
pub(crate) mod prompt;
pub(crate) mod push;
pub(crate) mod quota;
pub(crate) mod repository;
pub(crate) mod requests;
pub(crate) mod restore;
pub(crate) mod rules;
pub(crate) mod run;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod share;
pub(crate) mod stop;
pub(crate) mod task;
pub(crate) mod up;
pub(crate) mod usage;
pub(crate) mod whoami;
pub(crate) mod workspace;

/// What a client command works with.
pub(crate) struct Context<'a> {
    /// The server.
    pub(crate) client: Client,
    /// Where words go.
    pub(crate) output: &'a Output,
}

/// Does what was asked.
pub(crate) fn run(args: Args, output: &Output) -> Result<Exit> {
    let global = &args.global;
    match args.command {
        Command::Up(args) => up::run(args, global, output),
        Command::Doctor(args) => doctor::run(args, global, output),
        Command::Bench(args) => bench::run(args, global, output),
        Command::Service(command) => service::run(command, global, output),
        Command::Completion(args) => completion::run(args, output),
        Command::Version => version(output),
        Command::Audit(audit::Command::Verify { file: Some(file), expect, .. }) => {
            audit::verify_file(&file, expect.as_ref(), output)
        }
        Command::Internal(command) => internal::run(command, output),
        Command::Backup(args) => with_async(backup::run(args, global, output)),
        Command::Restore(args) => with_async(restore::run(args, global, output)),
        Command::Login(args) => with_async(login::run(args, global, output)),
        Command::Logout(args) => with_async(logout::run(args, global, output)),
        command => with_async(client_command(command, global, output)),
    }
}

async fn client_command(command: Command, global: &Global, output: &Output) -> Result<Exit> {
    let mut client = connect::connect(global)?;
    if let Some(text) = &global.organization {
        let organization = organization::named(&client, text).await?;
        client = client.in_organization(organization);
    }
    let context = &Context { client, output };
    match command {
        Command::Run(args) => run::run(args, context).await,
        Command::Task(command) => task::run(command, context).await,
        Command::Session(command) => session::run(command, context).await,
        Command::Workspace(command) => workspace::run(command, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Attach(args) => attach::run(args, context).await,
        Command::Prompt(args) => prompt::run(args, context).await,
        Command::Stop(args) => stop::stop(args, context).await,
        Command::Cancel(args) => stop::cancel(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::Apply(args) => apply::run(args, context).await,
        Command::Push(args) => push::run(args, context).await,
        Command::Permission(command) => answer::permission(command, context).await,
        Command::Question(command) => answer::question(command, context).await,
        Command::Agent(command) => agent::run(command, context).await,
        Command::Repository(command) => repository::run(command, context).await,
        Command::Organization(command) => organization::run(command, context).await,
        Command::Member(command) => member::run(command, context).await,
        Command::Invite(command) => invite::run(command, context).await,
        Command::Person(command) => person::run(command, context).await,
        Command::Connection(command) => connection::run(command, context).await,
        Command::Share(command) => share::run(command, context).await,
        Command::Budget(command) => budget::run(command, context).await,
        Command::Quota(command) => quota::run(command, context).await,
        Command::Usage(args) => usage::run(args, context).await,
        Command::Audit(command) => audit::run(command, context).await,
        Command::Job(command) => job::run(command, context).await,
        Command::Key(command) => key::run(command, context).await,
        Command::Whoami => whoami::run(context).await,
        Command::Egress(command) => egress::run(command, context).await,
        Command::Shell(args) => exec::shell(args, context).await,
        Command::Gc(args) => gc::run(args, context).await,
        Command::Up(_)
        | Command::Doctor(_)
        | Command::Bench(_)
        | Command::Service(_)
        | Command::Completion(_)
        | Command::Version
        | Command::Internal(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Login(_)
        | Command::Logout(_) => unreachable!("run() takes these itself"),
    }
}

/// A client waits for one thing at a time: one thread is enough.
fn with_async<F: Future<Output = Result<Exit>>>(future: F) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the async runtime can't be started")?;
    let result = runtime.block_on(future);
    // A thread may still wait for a line that nobody types.
    runtime.shutdown_background();
    result
}

fn version(output: &Output) -> Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    if output.is_json() {
        output.json(&serde_json::json!({ "version": version }))?;
    } else {
        output.line(format!("boatyard {version}"))?;
    }
    Ok(Exit::Done)
}
