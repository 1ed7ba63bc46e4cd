//! Builds the guest, which is embedded into this crate: a static program of its own, with its own profile.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let workspace = manifest.join("../..");
    let guest = manifest.join("../guest");
    println!("cargo::rerun-if-changed={}", guest.join("src").display());
    println!("cargo::rerun-if-changed={}", guest.join("Cargo.toml").display());
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());

    let target = target(&env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets it"));
    // A target directory of its own, since the outer cargo holds the lock of the usual one; beside it, so that all
    // profiles share what the guest depends on. OUT_DIR is <target>/<profile>/build/<package>/out.
    let target_dir =
        out.ancestors().nth(4).expect("OUT_DIR is four levels below the target directory").join("guest");
    let status = Command::new(env::var_os("CARGO").expect("cargo sets it"))
        .current_dir(&workspace)
        .args(["build", "--package", "hothouse-guest", "--features", "program", "--bin", "hothouse-guest"])
        .args(["--profile", "guest", "--target", &target, "--target-dir"])
        .arg(&target_dir)
        // With --target these flags reach the guest alone, not build scripts and macros.
        .env("RUSTFLAGS", "-Ctarget-feature=+crt-static -Crelocation-model=static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .status()
        .expect("cargo runs");
    assert!(status.success(), "building the guest failed: {status}");
    let embedded = out.join("hothouse-guest");
    fs::copy(target_dir.join(target).join("guest").join("hothouse-guest"), &embedded)
        .expect("the guest was built");
    println!("cargo::rustc-env=HOTHOUSE_GUEST={}", embedded.display());
}

/// Musl's, where Rust has it. Before its first instruction of ours a program with glibc asks the processor some eighty times
/// for what it can do; each answer comes from the hypervisor where there is one, and takes ten microseconds: three quarters
/// of a millisecond for every sandbox.
fn target(architecture: &str) -> String {
    let musl = format!("{architecture}-unknown-linux-musl");
    let rustc = env::var_os("RUSTC").expect("cargo sets it");
    let libraries = Command::new(rustc).args(["--print", "target-libdir", "--target", &musl]).output();
    let libraries = libraries.expect("rustc runs").stdout;
    let libraries = PathBuf::from(String::from_utf8_lossy(&libraries).trim());
    if fs::read_dir(&libraries).is_ok_and(|mut found| found.next().is_some()) {
        println!("cargo::rerun-if-changed={}", libraries.display());
        return musl;
    }
    println!(
        "cargo::warning=Rust has no libraries for {musl}, so each sandbox takes most of a millisecond longer on a \
         virtual machine: `rustup target add {musl}`, then `cargo clean -p hothouse-sandbox`"
    );
    format!("{architecture}-unknown-linux-gnu")
}
