//! Where settings are looked for, and what the flags of `up` add to them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use boatyard_server::settings::{Resolved, Sources};

use crate::{data, failure::Failure};

/// The file's name in each folder.
const FILE: &str = "boatyard.toml";
/// The file for the whole machine.
const SYSTEM: &str = "/etc/boatyard/boatyard.toml";

/// Settings that may stand on the command line: the dotted name, the value, the flag.
pub(crate) type Flags = Vec<(&'static str, toml::Value, &'static str)>;

/// Reads settings from all their places. `config` and `data` are what the command line says.
///
/// Answers with the folder of the data beside them.
pub(crate) fn resolve(
    config: Option<&Path>,
    data: Option<&Path>,
    mut flags: Flags,
) -> Result<(Resolved, PathBuf)> {
    let named = data.map(std::path::absolute).transpose().context("--data can't be read")?;
    let likely = match &named {
        Some(path) => path.clone(),
        None => data::default_folder()?,
    };
    let file = find(config, &likely)?;
    if let Some(path) = &named {
        flags.push(("server.data", path.to_string_lossy().as_ref().into(), "--data"));
    }
    let in_folder = file.as_deref() == Some(likely.join(FILE).as_path());
    let mut sources = Sources::with_file(file)?;
    sources.variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    sources.flags = flags;
    let resolved = sources.resolve().map_err(|error| {
        Failure::usage("the settings can't be taken")
            .next("docs/configuration.md lists every setting; `boatyard up --print-config` shows the outcome")
            .because(error)
    })?;
    let folder = resolved.settings.server.data.clone().unwrap_or_else(|| likely.clone());
    if in_folder && folder != likely {
        let message = format!(
            "{} names another data folder, {}",
            likely.join(FILE).display(),
            folder.display()
        );
        return Err(Failure::usage(message)
            .next("move the file to /etc/boatyard/ or name it with --config")
            .into());
    }
    Ok((resolved, folder))
}

fn find(config: Option<&Path>, data: &Path) -> Result<Option<PathBuf>> {
    if let Some(path) = config {
        return std::path::absolute(path).map(Some).context("--config can't be read");
    }
    if let Some(path) = std::env::var_os("BOATYARD_CONFIG").filter(|path| !path.is_empty()) {
        return std::path::absolute(path).map(Some).context("BOATYARD_CONFIG can't be read");
    }
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|folder| folder.join("boatyard").join(FILE));
    let places = [Some(data.join(FILE)), own, Some(PathBuf::from(SYSTEM))];
    Ok(places.into_iter().flatten().find(|path| path.is_file()))
}
