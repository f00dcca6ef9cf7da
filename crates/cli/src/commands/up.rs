//! `boatyard up`: the whole product on one machine.
//!
//! ```text
//! settings ─► data folder, lock, port ─► supervise ─┬─► (this process) supervisor: spawner, signals
//!                                                   └─► server: log ─┬─► database ─► serve ─┬─► up
//!                                                                    └─► try the machine ───┘
//! ```
//!
//! Everything up to the split runs with one thread, as the supervisor needs it. Ctrl-C or SIGTERM
//! ends in order: no new work is taken, streams end with a hint to resume, agents go on. A second
//! signal, or [`GRACE`], ends at once: that loses nothing either.

use std::{
    ffi::OsString,
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use boatyard_api::identity::ServerState;
use boatyard_runtime::native::{
    NativeRuntime, Source,
    launch::{SpawnerSettings, Trust},
    layout,
    supervisor::{Role, Supervised, supervise_without, take_variable},
};
use boatyard_server::{
    Entry, Listeners, Parts,
    auth::{Admin, admin},
    providers::{Providers, Variables},
    settings::{Settings, tls::From},
    tls::Certificate,
    trust,
    vault::{self, Master},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use self::bootstrap::Bootstrap;
use crate::{
    args::Global,
    data::{ClientFile, DataFolder, is_root},
    failure::{Exit, Failure},
    logging,
    output::{Output, Verbosity, to_stderr},
    port, sources,
};

mod bootstrap;
mod database;
mod key;
mod notify;
pub(super) mod open;

/// How long an orderly end may take.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the whole product on this machine: page, API, workspaces, database.
///
/// Runs until Ctrl-C; agents at work go on without it, and are found again at the next start.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address of page and API [default: 127.0.0.1:7070]
    #[arg(long, env = "BOATYARD_LISTEN", value_name = "ADDR")]
    listen: Option<String>,
    /// The database [default: boatyard.db in the data folder]
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Show every setting with where it comes from, and end
    #[arg(long)]
    print_config: bool,
    /// Open the page in a browser
    #[arg(long)]
    open: bool,
}

pub(crate) fn run(args: Args, global: &Global, output: &Output) -> Result<Exit> {
    // Before anything else is started or looks at the environment.
    let variables = Variables::take(take_variable)?;
    let master = take_variable(vault::VARIABLE)?;
    let admin = (take_variable(admin::EMAIL)?, take_variable(admin::PASSWORD)?);
    let first_key = take_variable(bootstrap::VARIABLE)?;
    let mut flags: sources::Flags = Vec::new();
    if let Some(listen) = &args.listen {
        flags.push(("server.listen", listen.as_str().into(), "--listen"));
    }
    if let Some(database) = &args.database {
        flags.push(("server.database", database.as_str().into(), "--database"));
    }
    let (mut resolved, data) =
        sources::resolve(args.config.as_deref(), global.data.as_deref(), flags)?;
    for warning in &resolved.warnings {
        output.warning(warning);
    }
    if args.print_config {
        resolved.key_variables = variables.names().collect();
        print_config(&resolved, &data, output)?;
        return Ok(Exit::Done);
    }
    let settings = resolved.settings;
    let admin = read_admin(admin)?;
    check_database(&settings)?;
    // With the rights that we were started with, which the server gives up.
    let mut providers = Some(read_keys(&settings, variables, output)?);
    let mut master = Some(read_master(&settings, master, output)?);
    let mut admin = Some(admin);
    let file = settings.server.bootstrap_key_file.as_deref();
    let mut first_key = Bootstrap::read(first_key, file, output)?;
    let folder = DataFolder::open(&data)?;
    let lock = folder.lock()?;
    // With the rights that we were started with: a low port may need them, and so does finding out
    // who holds a busy one. What is started beside the server does not keep it.
    let listener = bind(settings.server.listen)?;
    let clear = settings.server.listen_clear.map(bind).transpose()?;
    let certificate = read_certificate(&settings)?;
    let mut spawner = SpawnerSettings::new(folder.path().to_owned());
    spawner.tools.clone_from(&settings.tools.paths);
    spawner.trust = Some(trusted(folder.path(), &settings)?);
    // The supervisor lives as long as the server, and has no use for keys.
    let role = supervise_without(&spawner, || {
        (providers, master, admin, first_key) = (None, None, None, None);
    })
    .context("Boatyard can't start")?;
    match role {
        Role::Over(code) => {
            drop(lock);
            Ok(Exit::Process(code))
        }
        Role::Server(supervised) => {
            let providers = providers.unwrap_or_default();
            let open = args.open;
            let master = master.unwrap_or_default();
            let admin = admin.unwrap_or_default();
            let server = Server {
                settings,
                providers,
                master,
                admin,
                first_key,
                folder,
                supervised,
                listener,
                clear,
                certificate,
                open,
            };
            let result = server.run(output);
            drop(lock);
            result
        }
    }
}

/// The server's half.
struct Server {
    settings: Settings,
    providers: Providers,
    master: Master,
    admin: Option<Admin>,
    first_key: Option<Bootstrap>,
    folder: DataFolder,
    supervised: Supervised,
    listener: std::net::TcpListener,
    clear: Option<std::net::TcpListener>,
    certificate: Option<Certificate>,
    open: bool,
}

impl Server {
    fn run(self, output: &Output) -> Result<Exit> {
        let destination = logging::destination(&self.settings.log, &self.folder.log());
        let extra = match output.verbosity {
            Verbosity::Debug => Some("debug"),
            Verbosity::Quiet | Verbosity::Normal | Verbosity::Verbose => None,
        };
        let guard = logging::start(&self.settings.log, &destination, extra)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("boatyard")
            .build()
            .context("the async runtime can't be started")?;
        let folder = self.folder;
        let plan = Plan {
            settings: self.settings,
            providers: self.providers,
            master: self.master,
            admin: self.admin,
            first_key: self.first_key,
            folder: &folder,
            supervised: self.supervised,
            listener: self.listener,
            clear: self.clear,
            certificate: self.certificate,
            open: self.open,
            destination,
        };
        let result = runtime.block_on(serve(plan, output));
        runtime.shutdown_timeout(Duration::from_secs(1));
        if let Err(error) = &result {
            tracing::error!(error = format!("{error:#}"), "the server ends");
        }
        drop(guard);
        result
    }
}

struct Plan<'a> {
    settings: Settings,
    providers: Providers,
    master: Master,
    admin: Option<Admin>,
    first_key: Option<Bootstrap>,
    folder: &'a DataFolder,
    supervised: Supervised,
    listener: std::net::TcpListener,
    clear: Option<std::net::TcpListener>,
    certificate: Option<Certificate>,
    open: bool,
    destination: logging::Destination,
}

async fn serve(plan: Plan<'_>, output: &Output) -> Result<Exit> {
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be watched")?;
    let Plan {
        settings,
        providers,
        master,
        admin,
        first_key,
        folder,
        supervised,
        listener,
        clear,
        certificate,
        open,
        destination,
    } = plan;
    let address = listener.local_addr().context("the port can't be read")?;
    let source = Source::supervisor(supervised).context("the spawner can't be reached")?;
    let (runtime, trial) =
        NativeRuntime::begin(source, folder.path()).context("the data folder can't be used")?;
    // It takes longer than everything else, so that runs beside it.
    let trial = tokio::spawn(trial.run());
    let store = database::open(folder, &settings).await?;
    let key = key::ensure(&store, folder).await?;
    if let Some(first_key) = first_key {
        first_key.ensure(&store, output).await?;
    }
    let server = address_for_clients(address);
    folder.write_client(&ClientFile { server, key: key.secret })?;
    let data = folder.path().to_owned();
    let runtime = Arc::new(runtime);
    // Held until the process is gone: the supervisor would take the spawner's end for a crash, and
    // start another.
    std::mem::forget(Arc::clone(&runtime));
    let parts = Parts { data, store, settings, runtime, providers, master, admin };
    let used = |listener| TcpListener::from_std(listener).context("the port can't be used");
    let clear = clear.map(used).transpose()?;
    let listeners = Listeners { main: used(listener)?, clear, certificate };
    let serving = boatyard_server::start(parts, listeners).await;
    // First what the machine refuses: it explains what the server can't do.
    let tried = trial.await.context("the machine can't be tried")?;
    tried.context("this machine can't make sandboxes")?;
    let serving = serving.context("the server can't start")?;
    let entry = serving.entry(key.id);
    announce(&entry, &destination, output)?;
    notify::ready();
    if open {
        open::browser(&entry.url, output);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify::stopping();
    output.note("Ending. Agents at work go on, and are found again at the next start.");
    tokio::select! {
        () = serving.stop() => {}
        () = tokio::time::sleep(GRACE) => {
            tracing::warn!("what was under way did not end in time");
        }
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(Exit::Done)
}

fn announce(entry: &Entry, destination: &logging::Destination, output: &Output) -> Result<()> {
    let link = &entry.url;
    if output.is_json() {
        let line =
            serde_json::json!({ "url": link, "state": entry.state, "pid": std::process::id() });
        return output.json_line(&line);
    }
    if output.verbosity >= Verbosity::Normal {
        let how = match entry.state {
            ServerState::Single => "Open it here (the link works once):",
            ServerState::Setup => {
                "Nobody has set it up yet: whoever opens this link first owns it:"
            }
            ServerState::People => "Sign in here:",
        };
        to_stderr(&format!("{} Boatyard is up. {how}", output.err.good("✓")));
    }
    output.line(format!("  {link}"))?;
    let log = match destination {
        logging::Destination::Files(folder) => format!("log in {}", folder.display()),
        logging::Destination::Stderr => "log here".to_owned(),
        logging::Destination::Journal => "log in the journal".to_owned(),
    };
    output.note(format!(
        "\nIn another shell, in any git repository:\n  \
         boatyard run \"make hello.txt with a greeting in it\" --repo .\n\n{}",
        output.err.dim(format!("Ctrl-C ends it; {log}"))
    ));
    std::io::stdout().flush()?;
    Ok(())
}

/// What a client of this machine connects to.
fn address_for_clients(listening: SocketAddr) -> String {
    let mut address = listening;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

fn bind(address: SocketAddr) -> Result<std::net::TcpListener> {
    let listener =
        std::net::TcpListener::bind(address).map_err(|error| port::busy(address, error))?;
    listener.set_nonblocking(true).context("the port can't be used")?;
    Ok(listener)
}

/// The certificate that the settings name, with the rights that we were started with.
fn read_certificate(settings: &Settings) -> Result<Option<Certificate>> {
    let From::Files(certificate, key) = settings.tls.from() else { return Ok(None) };
    let read = Certificate::read(certificate, key).map_err(|error| {
        Failure::usage("the certificate can't be used")
            .next(
                "give `certificate` and `key` of [tls] as PEM files that belong together; \
                 docs/network.md tells how",
            )
            .because(error)
    })?;
    Ok(Some(read))
}

/// What workspaces trust, with the authority of this installation, which is made with the rights
/// that we were started with and belongs to the server.
fn trusted(data: &Path, settings: &Settings) -> Result<Trust> {
    let other = is_root().then(layout::server_uid);
    let trust = trust::prepare(data, settings, other)
        .context("what workspaces trust can't be put together")?;
    Ok(Trust { bundle: trust.bundle, java: trust.java })
}

/// The providers of models, with their keys.
fn read_keys(settings: &Settings, variables: Variables, output: &Output) -> Result<Providers> {
    let providers = Providers::read(settings, variables).map_err(|error| {
        Failure::usage("the key of a model provider can't be taken")
            .next(
                "put the key, alone, into a file of your own (chmod 600), and its path into \
                 boatyard.toml; docs/providers.md tells how",
            )
            .because(error)
    })?;
    for warning in &providers.warnings {
        output.warning(warning);
    }
    Ok(providers)
}

/// Who sets the server up, as the environment says.
fn read_admin(variables: (Option<OsString>, Option<OsString>)) -> Result<Option<Admin>> {
    let (email, password) = variables;
    Admin::read(email, password).map_err(|error| {
        Failure::usage("the first account can't be taken from the environment")
            .next(
                "set BOATYARD_ADMIN_EMAIL and a BOATYARD_ADMIN_PASSWORD of your own, or neither: \
                 the printed link sets the server up as well",
            )
            .because(error)
            .into()
    })
}

/// The master key of the vault.
fn read_master(
    settings: &Settings,
    variable: Option<std::ffi::OsString>,
    output: &Output,
) -> Result<Master> {
    let master = Master::read(settings, variable).map_err(|error| {
        Failure::usage("the master key of the vault can't be taken")
            .next("give one key, from one place; docs/connections.md tells how")
            .because(error)
    })?;
    for warning in &master.warnings {
        output.warning(warning);
    }
    Ok(master)
}

fn check_database(settings: &Settings) -> Result<()> {
    match settings.server.database.as_deref() {
        Some(url) if !url.starts_with("sqlite:") => {
            Err(Failure::usage("only SQLite databases are supported in this release")
                .next("write sqlite:///PATH, or leave `database` out")
                .into())
        }
        _ => Ok(()),
    }
}

fn print_config(
    resolved: &boatyard_server::settings::Resolved,
    data: &Path,
    output: &Output,
) -> Result<()> {
    if output.is_json() {
        let values: Vec<_> = resolved
            .values()
            .into_iter()
            .map(|(name, value, origin)| {
                serde_json::json!({ "name": name, "value": value, "source": origin.to_string() })
            })
            .collect();
        return output.json(&serde_json::json!({
            "file": resolved.file, "data": data, "settings": values,
        }));
    }
    let file = match &resolved.file {
        Some(path) => format!("# Settings file: {}\n", path.display()),
        None => "# There is no settings file.\n".to_owned(),
    };
    output.data(format!("{file}# Data folder: {}\n\n{}", data.display(), resolved.show()))?;
    Ok(())
}
