//! API keys and tenants, as a file.
//!
//! ```text
//! {"keys": [{"id", "hash", "tenant", "role", "created_at", "expires_at"?, "note"?}],
//!  "tenants": {NAME: {"quota": {"sandboxes": 10, "cpus": 4}, "requests_per_s": 100}}}
//! ```
//!
//! A key is 244 random bits, so its SHA-256 alone tells nothing of it; the key itself is shown once and kept nowhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use hothouse_domain::TenantName;
use hothouse_domain::capacity::{Amounts, check_amounts};
use hothouse_domain::id::check_name;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Begins every key, so that one is found by whoever searches for leaked ones.
const PREFIX: &str = "hh_";

/// What the holder of a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything, with the sandboxes of all tenants.
    Admin,
    /// Use sandboxes of the own tenant, and claim from pools.
    User,
}

impl Role {
    /// The role as it stands in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEntry {
    /// Names it in listings and logs.
    pub id: String,
    /// SHA-256 of the key, in hexadecimal.
    pub hash: String,
    /// Whose it is.
    pub tenant: TenantName,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What it is for, for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a tenant may have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantLimits {
    /// Amounts at most, by name: `sandboxes`, `cpus`, `memory_bytes`, `pids`, or what the node was started with.
    #[serde(skip_serializing_if = "Amounts::is_empty")]
    pub quota: Amounts,
    /// Requests a second; so many may also come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<u32>,
}

/// All keys and tenants.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keyring {
    /// The keys.
    pub keys: Vec<KeyEntry>,
    /// Tenants that are limited.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<TenantName, TenantLimits>,
}

/// Why the file of keys is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct KeyringError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl Keyring {
    /// Reads the file.
    ///
    /// # Errors
    /// [`KeyringError`]: it cannot be read, or breaks a rule.
    pub fn load(path: &Path) -> Result<Self, KeyringError> {
        let failed = |reason: String| KeyringError { path: path.to_owned(), reason };
        let text = fs::read(path).map_err(|e| failed(e.to_string()))?;
        let ring: Self = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
        ring.check().map_err(failed)?;
        Ok(ring)
    }

    /// As [`load`](Self::load); nothing where there is no file.
    ///
    /// # Errors
    /// As there.
    pub fn load_or_new(path: &Path) -> Result<Self, KeyringError> {
        if path.exists() { Self::load(path) } else { Ok(Self::default()) }
    }

    fn check(&self) -> Result<(), String> {
        for key in &self.keys {
            check_name(&key.id).map_err(|e| format!("key id {:?} {e}", key.id))?;
            if key.hash.len() != 64 || !key.hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format!("the hash of key {} is not a SHA-256 in lowercase hexadecimal", key.id));
            }
            if self.keys.iter().filter(|other| other.id == key.id).count() > 1 {
                return Err(format!("there are two keys {}", key.id));
            }
        }
        for (tenant, limits) in &self.tenants {
            check_amounts("quota", &limits.quota).map_err(|e| format!("tenant {tenant}: {e}"))?;
            if limits.requests_per_s == Some(0) {
                return Err(format!("tenant {tenant}: requests_per_s is 0; leave it out for no limit"));
            }
        }
        Ok(())
    }

    /// Writes the file, readable for its owner alone; whoever reads it finds the old one or the new one.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn save(&self, path: &Path) -> Result<(), KeyringError> {
        let failed = |reason: String| KeyringError { path: path.to_owned(), reason };
        self.check().map_err(failed)?;
        let write = || -> io::Result<()> {
            let unfinished = path.with_extension("unfinished");
            let mut file = fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&unfinished, path)
        };
        write().map_err(|e| failed(e.to_string()))
    }

    /// Makes a key and returns it with its entry: it can be read nowhere later.
    pub fn create(
        &mut self,
        tenant: TenantName,
        role: Role,
        expires_at: Option<Timestamp>,
        note: Option<String>,
    ) -> (String, KeyEntry) {
        let key = format!("{PREFIX}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let id = format!("key-{}", &Uuid::new_v4().simple().to_string()[..12]);
        let created_at = Timestamp::now();
        let entry = KeyEntry { id, hash: hash(&key), tenant, role, created_at, expires_at, note };
        self.keys.push(entry.clone());
        (key, entry)
    }

    /// Takes a key out; false when there is none with this id.
    pub fn revoke(&mut self, id: &str) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.id != id);
        self.keys.len() < before
    }
}

/// What is kept of a key.
#[must_use]
pub fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_kept_as_a_hash_in_a_file_of_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let mut ring = Keyring::load_or_new(&path).unwrap();
        let (key, entry) = ring.create("a".parse().unwrap(), Role::User, None, Some("ci".to_owned()));
        let quota = Amounts::from([("sandboxes".to_owned(), 3.0)]);
        ring.tenants.insert("a".parse().unwrap(), TenantLimits { quota, requests_per_s: Some(5) });
        ring.save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(key.starts_with(PREFIX) && !text.contains(&key) && text.contains(&hash(&key)));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = Keyring::load(&path).unwrap();
        assert_eq!(again, ring);
        assert!(again.revoke(&entry.id) && !again.revoke(&entry.id));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        for (text, expected) in [
            ("{", "EOF"),
            (r#"{"keys": [], "more": 1}"#, "more"),
            (r#"{"tenants": {"a": {"quota": {"sandboxes": -1}}}}"#, "tenant a: quota.sandboxes"),
            (r#"{"tenants": {"a": {"requests_per_s": 0}}}"#, "leave it out"),
            (
                r#"{"keys": [{"id": "k", "hash": "x", "tenant": "a", "role": "user", "created_at": "2026-01-01T00:00:00Z"}]}"#,
                "hash of key k",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = Keyring::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("keys.json"), "{error}");
        }
    }
}
