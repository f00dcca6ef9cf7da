//! Builds `boatyard-runner` statically and leaves it in `OUT_DIR/boatyard-runner`, from where
//! `src/native/runner.rs` embeds it.
//!
//! The runner runs in any root file system and from a memory file, so it may need no interpreter
//! and no library: gnu target, `+crt-static`. Cargo can't express that a binary for other flags is
//! needed by a library, hence a second cargo with a target folder of its own,
//! `<target>/runner`. A debug build of Boatyard gets a runner without link-time optimisation, which
//! links in a fraction of the time.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest as _, Sha256};

/// What the runner is made of, besides its own crate.
const CRATES: [&str; 5] = ["runner", "sandbox", "agent", "link", "model"];

/// Variables of the outer cargo that would change what the inner one builds. Those that remain
/// matter: `CARGO_MAKEFLAGS` shares the job server, `CARGO_HOME` the registry.
const FOREIGN: [&str; 12] = [
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

fn main() {
    if let Err(problem) = build() {
        println!("cargo::error={problem}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let crate_dir = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let workspace = crate_dir
        .parent()
        .and_then(Path::parent)
        .ok_or("the runtime crate is not where it should be: <workspace>/crates/runtime")?;
    for name in CRATES {
        for part in ["src", "Cargo.toml"] {
            println!(
                "cargo::rerun-if-changed={}",
                workspace.join("crates").join(name).join(part).display()
            );
        }
    }
    for part in ["Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let triple = var("TARGET")?;
    let triple = triple.to_string_lossy();
    if !triple.ends_with("-linux-gnu") {
        return Err(format!(
            "the native runtime is for Linux with the GNU C library, not {triple}"
        ));
    }
    let out = PathBuf::from(var("OUT_DIR")?);
    let target = target_dir(&out)?.join("runner");

    let mut cargo = Command::new(var("CARGO")?);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        // Settings of a profile by the environment are meant for the outer build, as are the
        // descriptions of this package that cargo hands to a build script.
        let foreign = FOREIGN.contains(&text.as_ref())
            || text.starts_with("CARGO_PROFILE_")
            || text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_CFG_")
            || text.starts_with("CARGO_FEATURE_");
        if foreign {
            cargo.env_remove(&name);
        }
    }
    cargo
        .current_dir(workspace)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .args(["build", "--locked", "--quiet", "--package", "boatyard-runner"])
        .args(["--profile", "runner", "--target", &triple, "--target-dir"])
        .arg(&target);
    if var("PROFILE")? == "debug" {
        cargo
            .env("CARGO_PROFILE_RUNNER_LTO", "off")
            .env("CARGO_PROFILE_RUNNER_CODEGEN_UNITS", "16");
    }
    let status = cargo.status().map_err(|error| format!("cargo could not be started: {error}"))?;
    if !status.success() {
        return Err(format!(
            "boatyard-runner, which Boatyard embeds, did not build ({status}); \
             see above, or run: cargo build --package boatyard-runner"
        ));
    }

    let built = target.join(&*triple).join("runner/boatyard-runner");
    let image = fs::read(&built).map_err(|error| format!("{}: {error}", built.display()))?;
    require_static(&image)?;
    // Computed here, so that no start of Boatyard pays for it.
    let hash = Sha256::digest(&image);
    let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    println!("cargo::rustc-env=BOATYARD_RUNNER_HASH={hash}");
    let place = out.join("boatyard-runner");
    fs::write(&place, &image).map_err(|error| format!("{}: {error}", place.display()))
}

/// The folder that holds `debug` or `release`: `OUT_DIR` is `<target>[/<triple>]/<profile>/build/
/// boatyard-runtime-<hash>/out`. Cargo marks it with a `CACHEDIR.TAG`.
fn target_dir(out: &Path) -> Result<PathBuf, String> {
    let build = out
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "build"))
        .ok_or_else(|| format!("{} has no `build` above it", out.display()))?;
    build
        .ancestors()
        .skip(1)
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .or_else(|| build.ancestors().nth(2))
        .map(Path::to_path_buf)
        .ok_or_else(|| format!("{} is not below a target folder", out.display()))
}

/// Fails unless the program starts without an interpreter: it would not start inside a sandbox.
fn require_static(image: &[u8]) -> Result<(), String> {
    const PT_INTERP: u32 = 3;
    let cut = || "boatyard-runner is not a whole ELF program".to_owned();
    let bytes = |at: usize, n: usize| image.get(at..at + n).ok_or_else(cut);
    if bytes(0, 5)? != b"\x7fELF\x02" {
        return Err("boatyard-runner is not a 64-bit ELF program".into());
    }
    let u16_at = |at| Ok::<_, String>(u16::from_le_bytes([bytes(at, 2)?[0], bytes(at, 2)?[1]]));
    let mut table = [0; 8];
    table.copy_from_slice(bytes(0x20, 8)?);
    let table = usize::try_from(u64::from_le_bytes(table)).map_err(|_| cut())?;
    let (size, count) = (usize::from(u16_at(0x36)?), usize::from(u16_at(0x38)?));
    for i in 0..count {
        let mut kind = [0; 4];
        kind.copy_from_slice(bytes(table + i * size, 4)?);
        if u32::from_le_bytes(kind) == PT_INTERP {
            return Err("boatyard-runner came out dynamically linked; it must be static".into());
        }
    }
    Ok(())
}

fn var(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set; build with cargo"))
}
