//! Why a request is not done.

use std::io;

use crate::message::{GuestErrorCode, Reply};

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of failure.
    pub code: GuestErrorCode,
    /// A lowercase fragment with the path or id.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(code: GuestErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// A request that breaks a rule.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(GuestErrorCode::Invalid, message)
    }

    /// An exec that the journal does not have.
    #[must_use]
    pub fn no_exec(exec_id: &str) -> Self {
        Self::new(GuestErrorCode::ExecNotFound, format!("exec {exec_id}: not in the journal"))
    }

    /// An exec that has ended.
    #[must_use]
    pub fn exec_finished(exec_id: &str) -> Self {
        Self::new(GuestErrorCode::ExecFinished, format!("exec {exec_id}: has ended"))
    }

    /// What the kernel said about a path.
    #[must_use]
    pub fn file(path: &str, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let code = match error.raw_os_error() {
            Some(libc::ENOENT) => GuestErrorCode::FileNotFound,
            Some(libc::ENOSPC | libc::EDQUOT) => GuestErrorCode::NoSpace,
            _ => GuestErrorCode::FileRefused,
        };
        Self::new(code, format!("{path}: {}", reason(&error)))
    }

    /// As the reply that ends a stream.
    #[must_use]
    pub fn reply(self) -> Reply {
        Reply::Error { code: self.code, message: self.message }
    }
}

/// The kernel's answer as a lowercase fragment.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let Some(errno) = error.raw_os_error() else { return error.to_string() };
    let known = match errno {
        libc::EACCES => "permission denied",
        libc::EBUSY => "busy",
        libc::EDQUOT => "the disk quota is used up",
        libc::EEXIST => "exists already",
        libc::EFBIG => "too large for this sandbox",
        libc::EINVAL => "not possible here",
        libc::EISDIR => "is a directory",
        libc::ELOOP => "too many symbolic links",
        libc::EMFILE | libc::ENFILE => "too many open files",
        libc::ENAMETOOLONG => "the name is too long",
        libc::ENOENT => "no such file or directory",
        libc::ENOSPC => "no space left",
        libc::ENOTDIR => "not a directory",
        libc::ENOTEMPTY => "directory is not empty",
        libc::EPERM => "not permitted",
        libc::EROFS => "read-only file system",
        libc::ETXTBSY => "the program is running",
        libc::EXDEV => "on another file system",
        _ => {
            let text = error.to_string().to_lowercase();
            return text.split(" (os error").next().unwrap_or_default().to_owned();
        }
    };
    known.to_owned()
}
