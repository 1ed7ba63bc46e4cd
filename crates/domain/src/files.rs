//! Files in a sandbox.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Invalid;

/// Permission bits, written as `chmod` takes them.
///
/// # Errors
/// [`Invalid`] names the field and what is allowed.
pub fn parse_mode(field: &str, text: &str) -> Result<u32, Invalid> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o7777 => Ok(mode),
        Ok(_) | Err(_) => {
            let given: String = text.chars().take(16).collect();
            Err(Invalid::new(field, format!("is {given:?}; use octal permission bits, 0 to 7777")))
        }
    }
}

/// What a directory entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, socket or device: listed, never opened.
    Other,
}

/// One file, directory or link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FileInfo {
    /// Its absolute path in the sandbox. Bytes that are not UTF-8 are shown as U+FFFD.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Its size in bytes.
    pub size: u64,
    /// Permission bits, e.g. 420 (0o644).
    pub mode: u32,
    /// Owner's number in the sandbox.
    pub uid: u32,
    /// Group's number in the sandbox.
    pub gid: u32,
    /// Last change of its content, seconds since 1970 with fractions.
    pub mtime: f64,
    /// Where a symbolic link points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What a write made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileWritten {
    /// Its absolute path in the sandbox.
    pub path: String,
    /// Bytes written.
    pub size: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
}

/// What an unpacked archive or an applied patch changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesChanged {
    /// Absolute paths, in the order in which they were made or changed; at most the first 1,000.
    pub paths: Vec<String>,
    /// How many there were.
    pub count: u64,
    /// Bytes written.
    pub bytes: u64,
}
