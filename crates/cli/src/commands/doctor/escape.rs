//! `boatyard doctor --escape`: workspaces are attacked from inside, in every way that is known.
//!
//! ```text
//! baits on the host ─► a server of its own ─► three workspaces: one attacks, one has what it must
//!      ▲                                      not find, one is for bombs
//!      └─ touched? ◄─ attacks inside ([`boatyard_runtime::escape`]) and by the API ([`server`])
//! ```
//!
//! The server is a real one in a process of its own, over a temporary folder; workspaces and
//! commands are made by its API, as everybody's are. Nothing here needs or disturbs another server.

mod server;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use boatyard_api::{
    Client,
    connection::{ConnectionBinding, NewConnection, SecretText},
    model::WorkspaceId,
    task::WorkspaceLimitsWanted,
    workspace::{ExecExit, ExecOutput, ExecRequest, ExecResult, NewWorkspace},
};
use boatyard_runtime::{
    Isolation,
    capabilities::{Check, Outcome as CheckOutcome},
    escape::{
        ALLOWED, ARGUMENT, BOUND, Bait, Baits, Finding, Group, House, Limited, NEIGHBOUR_ARGUMENT,
        Neighbour, Outcome, Report, token,
    },
    files_within,
};

use crate::{
    commands::bench::server::{Server, temporary},
    failure::Exit,
    output::{Output, table::Table},
    text::clean_line,
};

/// The runner's program inside.
const RUNNER: &str = "/opt/boatyard/boatyard-runner";
/// How long the attacks of a group may take, in seconds.
const GROUP_LIMIT: u32 = 600;
/// How long a bomb may take, in seconds.
const BOMB_LIMIT: u32 = 90;
/// How long the neighbour stays, in seconds.
const NEIGHBOUR_STAYS: u32 = 3600;
/// Where the house stands: an address of this machine that nothing else uses.
const HOUSE: [u8; 4] = [127, 77, 0, 1];
/// The folder of the host that everybody may write to.
const BAITS: &str = "baits";
/// Where workspaces find the placeholder of the credential that is laid out.
const VARIABLE: &str = "ESCAPE_TOKEN";
/// What the workspace for bombs may use: little, so that they end soon.
const MEMORY: u64 = 256 << 20;
const PROCESSES: u32 = 64;
const DISK: u64 = 128 << 20;

/// Everything that attacks are made on.
struct Scene {
    server: Server,
    baits: Baits,
    /// Stands as long as this does.
    _house: House,
    bait: Bait,
    attacker: WorkspaceId,
    neighbour: WorkspaceId,
    bombs: WorkspaceId,
    /// Where the baits are.
    folder: tempfile::TempDir,
}

pub(super) async fn run(isolation: Isolation, checks: &[Check], output: &Output) -> Result<Exit> {
    output.note(output.err.dim("a server, three workspaces and what they must not find …"));
    let scene = Scene::set(limits(checks)).await?;
    let attacked = attack_all(&scene, output).await;
    // Also after an attack that broke something.
    let ended = scene.server.end().await;
    let (reports, got) = attacked?;
    ended?;
    ensure!(
        got == isolation.to_string(),
        "a workspace got the isolation {got}, where this machine gives {isolation}"
    );
    let escaped = reports.iter().filter(|report| report.outcome == Outcome::Escaped).count();
    if output.is_json() {
        output.json(&serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "isolation": isolation,
            "attacks": reports,
        }))?;
    } else {
        show(&reports, isolation, output)?;
    }
    Ok(if escaped > 0 { Exit::Failed } else { Exit::Done })
}

/// What is limited here, as the checks found.
fn limits(checks: &[Check]) -> Limited {
    let find = |name: &str| checks.iter().find(|check| check.name == name);
    // Without a control group of its own, memory and processes are limited one by one.
    let groups = find("cgroup").is_some_and(|check| !check.detail.contains("no control group"));
    let quota = find("disk quota").is_some_and(|check| check.outcome == CheckOutcome::Works);
    Limited {
        processes: Some(u64::from(PROCESSES)),
        memory: groups.then_some(MEMORY),
        disk: quota.then_some(DISK),
        inodes: quota.then_some(files_within(DISK)),
    }
}

impl Scene {
    async fn set(limited: Limited) -> Result<Self> {
        let folder = temporary(None)?;
        let outside = folder.path().join(BAITS);
        std::fs::create_dir(&outside).context("no temporary folder can be made")?;
        let baits = Baits::lay(&outside).context("the baits can't be laid out")?;
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&outside, everybody).context("no temporary folder can be made")?;
        let token_of_host = baits.bait.token.clone();
        let elsewhere = *baits.bait.host.tcp.first().context("no bait has a port")?;
        let house = House::open(SocketAddr::from((HOUSE, 0)), &token_of_host, elsewhere)
            .context("no web server can be opened on the loopback")?;
        let key = folder.path().join("key");
        std::fs::write(&key, &token_of_host).context("no temporary file can be made")?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        let server = Server::start_with(None, &settings(house.address(), &key)).await?;
        let client = &server.client;
        client.create_connection(&credential(house.address(), &token_of_host)).await?;
        let make = async |limits| {
            let new = NewWorkspace { limits, ..NewWorkspace::default() };
            anyhow::Ok(client.create_workspace(&new, None).await?.id)
        };
        let (attacker, neighbour) = (make(None).await?, make(None).await?);
        let bombs = make(Some(WorkspaceLimitsWanted {
            memory_bytes: Some(MEMORY),
            processes: Some(PROCESSES),
            disk_bytes: Some(DISK),
            cpu_millis: None,
        }))
        .await?;
        let data = server.data();
        let address = server.access.server.trim_start_matches("http://").parse().ok();
        let own = ["client.toml", "boatyard.db", "vault.key", "authority/key.pem"];
        let bait = Bait {
            data: Some(data.clone()),
            secrets: own.iter().map(|name| data.join(name)).chain([key]).collect(),
            server: address,
            house: Some(house.address()),
            limited,
            ..baits.bait.clone()
        };
        Ok(Self { server, baits, _house: house, bait, attacker, neighbour, bombs, folder })
    }

    /// A folder of the host that everybody may write to: what appears in it got out.
    fn outside(&self) -> PathBuf {
        self.folder.path().join(BAITS)
    }

    fn client(&self) -> &Client {
        &self.server.client
    }

    /// Starts the neighbour's process and learns what it has laid out. It stays while the second
    /// value lives.
    async fn neighbour(&self) -> Result<(Neighbour, impl Sized)> {
        let token = token().context("nothing random is to be had")?;
        let request = ExecRequest {
            command: [RUNNER, NEIGHBOUR_ARGUMENT, &token].map(str::to_owned).into(),
            timeout: Some(NEIGHBOUR_STAYS),
            ..ExecRequest::default()
        };
        let mut running = self.client().exec_streaming(self.neighbour, &request).await?;
        let mut said = String::new();
        let told: Neighbour = loop {
            match running.next().await.context("the neighbour says nothing")?? {
                ExecOutput::Stdout { text } => said.push_str(&text),
                ExecOutput::Stderr { text } => bail!("the neighbour: {}", clean_line(&text)),
                ExecOutput::Exit { .. } => bail!("the neighbour has ended"),
            }
            if said.ends_with('\n') {
                break serde_json::from_str(&said).context("the neighbour says something else")?;
            }
        };
        let data = self.server.data();
        let folder = data.join("sandboxes/ws").join(self.neighbour.to_string());
        let file = told.shared.file.file_name().unwrap_or_default().to_owned();
        let neighbour = Neighbour {
            files: vec![folder.join("u/work").join(file), folder.join("spool")],
            link: Some(data.join("run").join(format!("{}.sock", self.neighbour))),
            ..told
        };
        Ok((neighbour, running))
    }

    /// What a workspace has in place of the credential.
    async fn placeholder(&self, workspace: WorkspaceId) -> Result<String> {
        let request = ExecRequest {
            command: ["/bin/sh", "-c", &format!("printf %s \"${VARIABLE}\"")]
                .map(str::to_owned)
                .into(),
            timeout: Some(30),
            ..ExecRequest::default()
        };
        let told = self.client().exec_in_workspace(workspace, &request).await?.stdout;
        ensure!(told.starts_with("byph_"), "a workspace has no placeholder for a credential");
        Ok(told)
    }

    async fn run_inside(
        &self,
        workspace: WorkspaceId,
        what: &str,
        bait: &Bait,
        limit: u32,
    ) -> Result<ExecResult> {
        let request = ExecRequest {
            command: [RUNNER, ARGUMENT, what].map(str::to_owned).into(),
            stdin: Some(serde_json::to_string(bait)?),
            timeout: Some(limit),
            ..ExecRequest::default()
        };
        Ok(self.client().exec_in_workspace(workspace, &request).await?)
    }
}

/// The house is let through in part, and names that lead to nobody and to the host as a whole; the
/// key of a provider that stands in the house is the token.
fn settings(house: SocketAddr, key: &Path) -> String {
    let key = toml::Value::String(key.to_string_lossy().into_owned());
    format!(
        "[log]\ntarget = \"files\"\n[egress]\npresets = [\"packages\"]\n\
         allow = [\"GET {house}/open*\", \"POST {house}/open/post\", \"{ALLOWED}:*\", \"localhost:*\"]\n\
         allow_private = [\"{}/32\"]\n\
         [git]\nsign = true\n\
         [providers.anthropic]\nkey_file = {key}\nbase_url = \"http://{house}/provider\"\n",
        house.ip()
    )
}

/// A credential for a part of the house. Its value is the token.
fn credential(house: SocketAddr, token: &str) -> NewConnection {
    NewConnection {
        name: Some("escape".to_owned()),
        kind: "generic".to_owned(),
        value: SecretText::new(token.to_owned()),
        binding: ConnectionBinding {
            hosts: vec![house.ip().to_string()],
            ports: vec![house.port().into()],
            paths: vec![BOUND.to_owned(), format!("{BOUND}/*")],
            places: vec!["bearer".to_owned()],
            variables: vec![VARIABLE.to_owned()],
            plain_http: true,
            ..ConnectionBinding::default()
        },
        scope: boatyard_api::connection::ConnectionScope::Organization,
        provider: None,
        user: None,
        expires: None,
    }
}

/// Every attack with its outcome, and the isolation that the attacked workspace got.
async fn attack_all(scene: &Scene, output: &Output) -> Result<(Vec<Report>, String)> {
    let (neighbour, _stays) = scene.neighbour().await?;
    let bait = Bait {
        neighbour: Some(neighbour),
        placeholder: Some(scene.placeholder(scene.attacker).await?),
        neighbours_placeholder: Some(scene.placeholder(scene.neighbour).await?),
        ..scene.bait.clone()
    };
    let mut reports = Vec::new();
    for group in Group::ALL {
        output.note(output.err.dim(format!("{} …", group.title())));
        match group {
            Group::Server => reports.extend(server::attack(scene).await?),
            Group::Bombs => reports.extend(bombs(scene, &bait).await?),
            _ => {
                let result =
                    scene.run_inside(scene.attacker, group.as_str(), &bait, GROUP_LIMIT).await?;
                reports.extend(told(group, &result));
            }
        }
    }
    // Some attacks see no answer, but arrive.
    for touch in scene.baits.touched() {
        if let Some(report) = reports.iter_mut().find(|report| report.name == touch.attack) {
            report.outcome = Outcome::Escaped;
            report.detail = format!("{} of the host was reached", touch.what);
        }
    }
    // Whoever was attacked still works.
    for workspace in [scene.attacker, scene.neighbour, scene.bombs] {
        alive(scene.client(), workspace).await?;
    }
    let attacked = scene.client().find_workspace(scene.attacker).await?;
    Ok((reports, attacked.isolation.unwrap_or_default()))
}

/// What the program inside said of a group. An attack of which it said nothing was not tried.
fn told(group: Group, result: &ExecResult) -> Vec<Report> {
    let said: BTreeMap<String, Report> = result
        .stdout
        .lines()
        .filter_map(|line| serde_json::from_str::<Report>(line).ok())
        .map(|report| (report.name.clone(), report))
        .collect();
    group
        .attacks()
        .iter()
        .map(|attack| match said.get(attack.name) {
            // Only name, outcome and detail are the workspace's word.
            Some(known) => report(group, attack.name, attack.tries, known.outcome, &known.detail),
            None => {
                let why = format!("the program ended before: {}", ended(result));
                report(group, attack.name, attack.tries, Outcome::Skipped, &why)
            }
        })
        .collect()
}

fn ended(result: &ExecResult) -> String {
    let how = match &result.exit {
        ExecExit::Exited { code } => format!("code {code}"),
        ExecExit::Signalled { signal } => format!("signal {signal}"),
        ExecExit::TimedOut => "its time was over".to_owned(),
        ExecExit::NotStarted { message } => message.clone(),
    };
    format!("{how} {}", result.stderr.lines().next().unwrap_or_default())
}

fn report(group: Group, name: &str, tries: &str, outcome: Outcome, detail: &str) -> Report {
    let Finding { outcome, detail } = Finding::new(outcome, detail.trim());
    Report { name: name.to_owned(), outcome, detail, group, tries: tries.to_owned() }
}

/// Each bomb by itself: it may take the program with it, and the workspace must come back.
async fn bombs(scene: &Scene, bait: &Bait) -> Result<Vec<Report>> {
    let mut reports = Vec::new();
    for attack in Group::Bombs.attacks() {
        let result = scene.run_inside(scene.bombs, attack.name, bait, BOMB_LIMIT).await;
        let mut found = match &result {
            Ok(result) => told(Group::Bombs, result)
                .into_iter()
                .find(|report| report.name == attack.name)
                .filter(|report| report.outcome != Outcome::Skipped)
                .unwrap_or_else(|| {
                    let detail = format!("a limit ended all of it: {}", ended(result));
                    report(Group::Bombs, attack.name, attack.tries, Outcome::Contained, &detail)
                }),
            Err(error) => {
                let detail = format!("its workspace was stopped: {error}");
                report(Group::Bombs, attack.name, attack.tries, Outcome::Contained, &detail)
            }
        };
        for (workspace, whose) in [(scene.attacker, "another workspace"), (scene.bombs, "its own")]
        {
            if let Err(error) = alive(scene.client(), workspace).await {
                found.outcome = Outcome::Escaped;
                found.detail = format!("{whose} does not answer any more: {error}");
            }
        }
        reports.push(found);
    }
    Ok(reports)
}

/// Whether a workspace does what it is told.
async fn alive(client: &Client, workspace: WorkspaceId) -> Result<()> {
    let request = ExecRequest {
        command: vec!["/bin/true".to_owned()],
        timeout: Some(30),
        ..ExecRequest::default()
    };
    let result = client.exec_in_workspace(workspace, &request).await?;
    let well = result.exit == ExecExit::Exited { code: 0 };
    ensure!(well, "a workspace that was attacked does not work any more: {}", ended(&result));
    Ok(())
}

fn show(reports: &[Report], isolation: Isolation, output: &Output) -> Result<()> {
    let look = output.out;
    let mark = |outcome| match outcome {
        Outcome::Blocked => look.good("✓ blocked"),
        Outcome::Contained => look.good("✓ contained"),
        Outcome::Escaped => look.bad("✗ escaped"),
        Outcome::Unlimited => look.warn("! unlimited"),
        Outcome::Skipped => look.warn("! skipped"),
    };
    for group in Group::ALL {
        let mut table = Table::new(&["OUTCOME", "ATTACK", "WHAT IT TRIES", "WHAT WAS SEEN"], 3);
        for report in reports.iter().filter(|report| report.group == group) {
            table.row(vec![
                mark(report.outcome),
                report.name.clone(),
                report.tries.clone(),
                clean_line(&report.detail),
            ]);
        }
        if !table.is_empty() {
            output.line(format!("{}\n{}\n", look.bold(group.title()), table.render(look)))?;
        }
    }
    let count = |outcome| reports.iter().filter(|report| report.outcome == outcome).count();
    let said: Vec<String> = [
        Outcome::Blocked,
        Outcome::Contained,
        Outcome::Escaped,
        Outcome::Unlimited,
        Outcome::Skipped,
    ]
    .into_iter()
    .map(|outcome| (outcome, count(outcome)))
    .filter(|(_, count)| *count > 0)
    .map(|(outcome, count)| format!("{count} {outcome}"))
    .collect();
    let said = format!("{} attacks: {}. Isolation: {isolation}", reports.len(), said.join(", "));
    output.line(match count(Outcome::Escaped) {
        0 => format!("{} {said}", look.good("✓")),
        _ => format!("{} {said}", look.bad("✗")),
    })?;
    Ok(())
}
