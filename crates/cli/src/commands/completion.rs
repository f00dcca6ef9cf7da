//! `boatyard completion SHELL`

use anyhow::Result;
use clap::CommandFactory as _;

use crate::{failure::Exit, output::Output};

/// How to load it, by shell:
///   bash   boatyard completion bash > ~/.local/share/bash-completion/completions/boatyard
///   zsh    boatyard completion zsh > "${fpath[1]}/_boatyard"
///   fish   boatyard completion fish > ~/.config/fish/completions/boatyard.fish
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// For which shell
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: Args, output: &Output) -> Result<Exit> {
    let mut script = Vec::new();
    let mut command = crate::args::Args::command();
    clap_complete::generate(args.shell, &mut command, "boatyard", &mut script);
    output.data(script)?;
    Ok(Exit::Done)
}
