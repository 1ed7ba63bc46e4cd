//! `hothouse keys`: works on the file, which servers follow.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use hothouse_domain::{ErrorCode, TenantName};
use hothouse_server::keyring::{KeyEntry, Keyring, KeyringError, Role, TenantLimits};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::table::Table;
use crate::console;
use crate::failure::Failure;
use crate::flags::{AmountFlag, NodeFlags, duration};

/// API keys: who may use a server, and how much
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  hothouse keys create --tenant team-a\n  hothouse keys limit team-a --quota sandboxes=100 --requests 500\n  hothouse serve --listen 0.0.0.0:8700"
)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key and print it; it can be read nowhere later
    Create(CreateArgs),
    /// List keys and tenants
    Ls(LsArgs),
    /// Take a key away; servers that use the file end what it follows
    Revoke(RevokeArgs),
    /// Limit a tenant
    Limit(LimitArgs),
}

#[derive(Debug, clap::Args)]
struct FileFlags {
    /// The file of keys [default: keys.json in the home]
    #[arg(long, value_name = "FILE", env = "HOTHOUSE_KEYS", hide_env_values = true)]
    keys: Option<PathBuf>,
    #[command(flatten)]
    node: NodeFlags,
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Whose sandboxes it makes and sees
    #[arg(long, value_name = "NAME")]
    tenant: TenantName,
    /// What it allows
    #[arg(long, value_name = "ROLE", default_value = "user")]
    role: RoleFlag,
    /// It ends after so long, e.g. 720h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires: Option<f64>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// Print all about it as JSON, the key included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: FileFlags,
}

#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Print all about them as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    file: FileFlags,
}

#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// Which, as `hothouse keys ls` names it
    id: String,
    #[command(flatten)]
    file: FileFlags,
}

#[derive(Debug, clap::Args)]
struct LimitArgs {
    /// Whom
    tenant: TenantName,
    /// At most so much at once, e.g. sandboxes=10, cpus=8, memory_bytes=16G (repeatable); none where none is given
    #[arg(long, value_name = "NAME=AMOUNT")]
    quota: Vec<AmountFlag>,
    /// At most so many requests a second; no limit where it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests: Option<u32>,
    #[command(flatten)]
    file: FileFlags,
}

/// What a key allows.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleFlag {
    /// Everything, with the sandboxes of all tenants
    Admin,
    /// Use sandboxes of the own tenant, and claim from pools
    User,
}

/// A new key as a program reads it.
#[derive(Debug, Serialize)]
struct NewKey {
    key: String,
    #[serde(flatten)]
    entry: KeyEntry,
}

impl KeysArgs {
    /// True when a program reads the output.
    pub(super) fn wants_json(&self) -> bool {
        match &self.what {
            What::Create(args) => args.json,
            What::Ls(args) => args.json,
            What::Revoke(_) | What::Limit(_) => false,
        }
    }
}

impl FileFlags {
    fn path(&self) -> Result<PathBuf, Failure> {
        match &self.keys {
            Some(path) => Ok(path.clone()),
            None => Ok(self.node.home()?.join(DEFAULT_FILE)),
        }
    }
}

/// The file of keys in a home.
pub(super) const DEFAULT_FILE: &str = "keys.json";

/// Does it.
pub(crate) fn run(args: KeysArgs) -> Result<u8, Failure> {
    match args.what {
        What::Create(args) => create(args)?,
        What::Ls(args) => ls(&args)?,
        What::Revoke(RevokeArgs { id, file }) => {
            let path = file.path()?;
            let mut ring = Keyring::load(&path).map_err(|e| failed(&e))?;
            if !ring.revoke(&id) {
                let text = format!("no key {id} in {}", path.display());
                return Err(Failure::new(ErrorCode::NotFound, text).hint("`hothouse keys ls` lists them"));
            }
            ring.save(&path).map_err(|e| failed(&e))?;
            console::line(&id)?;
        }
        What::Limit(LimitArgs { tenant, quota, requests, file }) => {
            let path = file.path()?;
            let mut ring = Keyring::load_or_new(&path).map_err(|e| failed(&e))?;
            let quota = quota.into_iter().map(|limit| (limit.name, limit.amount)).collect();
            ring.tenants.insert(tenant.clone(), TenantLimits { quota, requests_per_s: requests });
            ring.save(&path).map_err(|e| failed(&e))?;
            console::line(tenant.as_str())?;
        }
    }
    Ok(0)
}

fn create(args: CreateArgs) -> Result<(), Failure> {
    let CreateArgs { tenant, role, expires, note, json, file } = args;
    let path = file.path()?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|e| Failure::io(directory.display(), &e))?;
    }
    let mut ring = Keyring::load_or_new(&path).map_err(|e| failed(&e))?;
    let role = match role {
        RoleFlag::Admin => Role::Admin,
        RoleFlag::User => Role::User,
    };
    let expires_at = expires.map(|seconds| {
        let after = SignedDuration::try_from_secs_f64(seconds).ok();
        let end = after.and_then(|after| Timestamp::now().checked_add(after).ok());
        end.ok_or_else(|| Failure::usage("--expires", "is too long"))
    });
    let (key, entry) = ring.create(tenant, role, expires_at.transpose()?, note);
    ring.save(&path).map_err(|e| failed(&e))?;
    if json {
        return console::json(&NewKey { key, entry });
    }
    console::note(&format!(
        "{} for tenant {}, role {}; keep it, it is shown only now:",
        entry.id,
        entry.tenant,
        entry.role.as_str()
    ));
    console::line(&key)
}

fn ls(args: &LsArgs) -> Result<(), Failure> {
    let ring = Keyring::load_or_new(&args.file.path()?).map_err(|e| failed(&e))?;
    if args.json {
        return console::json(&ring);
    }
    let mut table = Table::new(&["KEY", "TENANT", "ROLE", "EXPIRES", "QUOTA", "REQUESTS/S", "NOTE"]);
    for key in &ring.keys {
        let limits = ring.tenants.get(&key.tenant).cloned().unwrap_or_default();
        let quota: Vec<_> = limits.quota.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        table.row(vec![
            key.id.clone(),
            key.tenant.to_string(),
            key.role.as_str().to_owned(),
            key.expires_at.map_or_else(|| "never".to_owned(), |end| end.to_string()),
            quota.join(","),
            limits.requests_per_s.map_or_else(String::new, |rate| rate.to_string()),
            key.note.clone().unwrap_or_default(),
        ]);
    }
    table.print()
}

fn failed(error: &KeyringError) -> Failure {
    Failure::new(ErrorCode::InvalidRequest, error.to_string())
        .hint("name another file with --keys FILE, or repair this one")
}
