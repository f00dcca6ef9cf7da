//! What may be typed. Parsing has no effects; each command's own arguments stand in its file.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::commands::{
    agent, answer, apply, attach, audit, backup, bench, budget, completion, connection, diff,
    doctor, egress, exec, gc, internal, invite, job, key, login, logout, logs, member,
    organization, person, prompt, push, quota, repository, restore, run, service, session, share,
    stop, task, up, usage, workspace,
};

/// Runs coding agents in isolated workspaces, on machines that you own.
#[derive(Debug, Parser)]
#[command(
    name = "boatyard",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Begin with `boatyard up`, then `boatyard run \"PROMPT\" --repo .` in another shell.\n\
                  Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 not allowed, \
                  5 waiting for a person, 130 interrupted."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print JSON instead of text for people
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The server's address; by default the one that runs on this machine
    #[arg(long, global = true, env = "BOATYARD_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The API key; by default the one in the data folder of the server on this machine
    #[arg(
        long,
        global = true,
        env = "BOATYARD_API_KEY",
        hide_env_values = true,
        value_name = "KEY"
    )]
    pub(crate) api_key: Option<String>,
    /// The organization to work in, by name or id; by default the one that the key is for
    #[arg(long, global = true, env = "BOATYARD_ORGANIZATION", value_name = "ORGANIZATION")]
    pub(crate) organization: Option<String>,
    /// The data folder of the server on this machine
    #[arg(long, global = true, env = "BOATYARD_DATA", hide_env_values = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Say more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing but data and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the whole product on this machine
    Up(up::Args),
    /// Give an agent a task and watch it work
    Run(run::Args),
    /// List, show and cancel tasks
    #[command(subcommand, visible_alias = "tasks")]
    Task(task::Command),
    /// List and show conversations with agents
    #[command(subcommand, visible_alias = "sessions")]
    Session(session::Command),
    /// List, show, make and remove workspaces
    #[command(subcommand, visible_alias = "workspaces")]
    Workspace(workspace::Command),
    /// Print what happened in a session
    Logs(logs::Args),
    /// Follow a session live
    Attach(attach::Args),
    /// Say something to the agent of a session
    Prompt(prompt::Args),
    /// Stop what the agent of a session does; files and conversation stay
    Stop(stop::StopArgs),
    /// Cancel a task with all its attempts
    Cancel(stop::CancelArgs),
    /// Show what a task changed
    Diff(diff::Args),
    /// Bring what a task changed into your own checkout
    Apply(apply::Args),
    /// Push what a task changed to the repository's origin
    Push(push::Args),
    /// Answer an agent that asks to be allowed something
    #[command(subcommand)]
    Permission(answer::PermissionCommand),
    /// Answer an agent's question
    #[command(subcommand)]
    Question(answer::QuestionCommand),
    /// Say what may leave workspaces, answer what waits, see what left
    #[command(subcommand)]
    Egress(egress::Command),
    /// List the agents that can be used
    #[command(subcommand, visible_alias = "agents")]
    Agent(agent::Command),
    /// List and forget repositories
    #[command(subcommand, visible_alias = "repositories")]
    Repository(repository::Command),
    /// Make, list and leave organizations: teams on one server
    #[command(subcommand, visible_alias = "organizations")]
    Organization(organization::Command),
    /// List the members of the organization, and say what each may do
    #[command(subcommand, visible_alias = "members")]
    Member(member::Command),
    /// Invite people into the organization
    #[command(subcommand)]
    Invite(invite::Command),
    /// List the accounts of the server, and say who may sign in and who runs it
    #[command(subcommand, visible_alias = "people")]
    Person(person::Command),
    /// Limit what the organization and its people may use, and see what is used
    #[command(subcommand, visible_alias = "quotas")]
    Quota(quota::Command),
    /// Keep credentials for outside services, which workspaces use without having them
    #[command(subcommand, visible_alias = "connections")]
    Connection(connection::Command),
    /// Share tasks, workspaces and sessions by a link
    #[command(subcommand, visible_alias = "shares")]
    Share(share::Command),
    /// Show what models were asked and what it cost
    Usage(usage::Args),
    /// Set what models may cost
    #[command(subcommand, visible_alias = "budgets")]
    Budget(budget::Command),
    /// Show who changed what, and check that nobody changed that
    #[command(subcommand)]
    Audit(audit::Command),
    Login(login::Args),
    Logout(logout::Args),
    /// Say who the server takes you for, and what you may do
    Whoami,
    /// Make, list and revoke API keys, and see what was called with them
    #[command(subcommand, visible_alias = "keys")]
    Key(key::Command),
    /// List, show, cancel and run background jobs
    #[command(subcommand, visible_alias = "jobs")]
    Job(job::Command),
    /// Run a command in a workspace
    Shell(exec::ShellArgs),
    /// Say what this machine can do, and how to mend what it can't
    Doctor(doctor::Args),
    /// Remove what nothing refers to any more
    Gc(gc::Args),
    /// Save database, blobs, mirrors and keys
    Backup(backup::Args),
    /// Bring back what `backup` saved
    Restore(restore::Args),
    /// Run Boatyard at boot, by systemd
    #[command(subcommand)]
    Service(service::Command),
    /// Measure this machine
    Bench(bench::Args),
    /// Print a completion script for a shell
    Completion(completion::Args),
    /// Print the version
    Version,
    /// For building and testing Boatyard itself
    #[command(subcommand, hide = true)]
    Internal(internal::Command),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_declarations_hold_together() {
        Args::command().debug_assert();
    }
}
