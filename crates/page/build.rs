//! Builds the page (`web/`) with npm and Vite, and embeds what comes out.
//!
//! `BOATYARD_PAGE` says what is wanted:
//!
//! | value | means |
//! |---|---|
//! | `auto` | the default of a release build: the page, or the placeholder where npm is missing |
//! | `require` | the page, or no build |
//! | `skip` | the default of any other build: the placeholder; checks need no Node |
//!
//! The outcome is kept in `OUT_DIR` beside a hash of everything that it was made of, so that
//! nothing is done twice. `npm ci` runs only when the lock is another than the one installed. A
//! page that can't be built although npm is there fails a release: an old page is never shipped.
//! Text is stored as Brotli only.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// What the page is made of, below `web/`.
const SOURCES: &[&str] = &[
    "src",
    "public",
    "index.html",
    "package.json",
    "package-lock.json",
    "tools/package.json",
    "tsconfig.json",
    "vite.config.ts",
];

/// The oldest Node that Vite runs on.
const NODE: (u32, u32) = (20, 19);

/// Smaller text does not gain by compression.
const COMPRESS_FROM: usize = 512;

const TEXT: &[&str] = &["html", "js", "css", "svg", "json", "map", "txt", "webmanifest", "wasm"];

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let web = manifest.join("../../web");
    println!("cargo::rerun-if-env-changed=BOATYARD_PAGE");
    println!("cargo::rerun-if-changed=build.rs");
    if let Err(why) = make(&web, &out) {
        panic!("the page could not be built: {why}");
    }
}

fn make(web: &Path, out: &Path) -> Result<(), String> {
    let mode = env::var("BOATYARD_PAGE").unwrap_or_else(|_| {
        let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
        if release { "auto".into() } else { "skip".into() }
    });
    if !matches!(mode.as_str(), "auto" | "require" | "skip") {
        return Err(format!("BOATYARD_PAGE is {mode:?}; it may be auto, require or skip"));
    }
    if mode == "skip" {
        // No watch on web/: a check does not run again because a style changed.
        return embed(
            &out.join("none"),
            out,
            "It was left out of this build (BOATYARD_PAGE=skip).",
        );
    }
    let sources = sources(web).map_err(|e| format!("{}: {e}", web.display()))?;
    match tools() {
        Ok(()) => {}
        Err(why) if mode == "auto" => {
            println!("cargo::warning=the page is not embedded: {why}");
            return embed(
                &out.join("none"),
                out,
                &format!("It was left out of this build: {why}."),
            );
        }
        Err(why) => return Err(why),
    }
    let dist = out.join("dist");
    let stamp = out.join("dist.stamp");
    let hash = hash_of(&sources)?;
    if fs::read_to_string(&stamp).is_ok_and(|kept| kept == hash) && dist.is_dir() {
        return embed(&dist, out, "");
    }
    install(web)?;
    run(
        web,
        &["exec", "--", "vite", "build", "--logLevel", "warn", "--emptyOutDir", "--outDir"],
        &dist,
    )?;
    embed(&dist, out, "")?;
    fs::write(&stamp, hash).map_err(|e| format!("{}: {e}", stamp.display()))
}

/// Every file that the page is made of, in order; cargo watches them.
fn sources(web: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for name in SOURCES {
        let path = web.join(name);
        println!("cargo::rerun-if-changed={}", path.display());
        collect(&path, &mut files)?;
    }
    Ok(files)
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    let mut entries: Vec<_> =
        fs::read_dir(path)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    entries.sort();
    entries.iter().try_for_each(|entry| collect(entry, into))
}

fn hash_of(files: &[PathBuf]) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Whether Node is there, and new enough; why not, in a sentence.
fn tools() -> Result<(), String> {
    let found = Command::new("node").arg("--version").output();
    let text = match found {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        _ => return Err(format!("Node {}.{} or newer with npm is not installed", NODE.0, NODE.1)),
    };
    let mut parts =
        text.trim().trim_start_matches('v').split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version < NODE {
        return Err(format!("Node is {}, {}.{} or newer is needed", text.trim(), NODE.0, NODE.1));
    }
    match Command::new("npm").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(()),
        _ => Err("npm is not installed".into()),
    }
}

/// Installs what the lock names, where that is not what is installed: beside the packages lies a
/// copy of the lock that they were installed by (the Makefile keeps the same rule).
fn install(web: &Path) -> Result<(), String> {
    let lock = web.join("package-lock.json");
    let wanted = fs::read(&lock).map_err(|e| format!("{}: {e}", lock.display()))?;
    let stamp = web.join("node_modules/.lock.stamp");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let quiet = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(web, &quiet, Path::new(""))?;
    fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))
}

fn run(web: &Path, args: &[&str], last: &Path) -> Result<(), String> {
    let mut command = Command::new("npm");
    command.args(args).current_dir(web).env("CI", "1");
    if !last.as_os_str().is_empty() {
        command.arg(last);
    }
    let output = command.output().map_err(|e| format!("npm: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "`npm {}` in web/: {}\n{}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&said)
    ))
}

/// Writes the table of files that the library includes. `why` is for the placeholder, where there
/// are none.
fn embed(dist: &Path, out: &Path, why: &str) -> Result<(), String> {
    let packed = out.join("packed");
    let mut files = Vec::new();
    if dist.is_dir() {
        collect(dist, &mut files).map_err(|e| format!("{}: {e}", dist.display()))?;
    }
    let mut table = format!("pub(crate) const MISSING: &str = {why:?};\n");
    table.push_str("pub(crate) static FILES: &[File] = &[\n");
    for (at, file) in files.iter().enumerate() {
        let name = file.strip_prefix(dist).map_err(|e| e.to_string())?;
        let bytes = fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let text = file.extension().is_some_and(|ext| TEXT.iter().any(|text| ext == *text));
        let compressed = text && bytes.len() >= COMPRESS_FROM;
        fs::create_dir_all(&packed).map_err(|e| e.to_string())?;
        let to = packed.join(at.to_string());
        let stored = if compressed { compress(&bytes).map_err(|e| e.to_string())? } else { bytes };
        fs::write(&to, stored).map_err(|e| format!("{}: {e}", to.display()))?;
        table.push_str(&format!(
            "    File {{ name: {:?}, bytes: include_bytes!({:?}), compressed: {compressed} }},\n",
            name.to_string_lossy(),
            to.to_string_lossy(),
        ));
    }
    table.push_str("];\n");
    let to = out.join("files.rs");
    fs::write(&to, table).map_err(|e| format!("{}: {e}", to.display()))
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    // Quality 9 and a window of 4 MiB: a tenth of a second for the whole page.
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 1 << 16, 9, 22);
    writer.write_all(bytes)?;
    writer.flush()?;
    Ok(writer.into_inner())
}
