//! What goes wrong, as callers see it: a stable code, a sentence, and the field it is about.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ending::Ending;

/// A value that breaks a rule: which field, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {reason}")]
pub struct Invalid {
    /// Dotted path of the field in the request, e.g. `resources.cpus`.
    pub field: String,
    /// A lowercase fragment that follows the field's name: what is wrong and what is allowed.
    pub reason: String,
}

impl Invalid {
    /// Names a field and what is wrong with it.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Stable error codes. A code never changes its meaning; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request breaks a rule; `field` names where.
    InvalidRequest,
    /// The request comes from where it may not come from, e.g. from a web page of another site.
    Forbidden,
    /// The request has no key, or one that is not good here.
    Unauthorized,
    /// The key was taken away while the request was answered.
    KeyRevoked,
    /// The tenant sends more requests than it may.
    RateLimited,
    /// No such route or object.
    NotFound,
    /// The method is not allowed on this route.
    MethodNotAllowed,
    /// No sandbox has this id.
    SandboxNotFound,
    /// The sandbox is no more; `ending` says who ended it, when and why.
    SandboxEnded,
    /// A sandbox with this id exists already.
    SandboxExists,
    /// The sandbox's guest is gone; the sandbox can only be deleted.
    SandboxDead,
    /// The sandbox is frozen; thaw it first.
    SandboxFrozen,
    /// No exec has this id, or it is older than the journal.
    ExecNotFound,
    /// The exec id was used before with another body.
    ExecConflict,
    /// The exec has ended, so it takes no input or signals.
    ExecFinished,
    /// No shell session has this id.
    ShellNotFound,
    /// A shell session with this id exists already.
    ShellExists,
    /// The shell session runs another command.
    ShellBusy,
    /// No context has this id.
    ContextNotFound,
    /// A context with this id exists already.
    ContextExists,
    /// The context runs other code.
    ContextBusy,
    /// The context's interpreter is gone; reset it, or delete it.
    ContextEnded,
    /// Nothing listens in the sandbox where the request leads, or it takes no connections.
    NotListening,
    /// What listens in the sandbox broke the connection off, or answered with something that is no answer.
    ConnectionBroken,
    /// No template has this name.
    TemplateNotFound,
    /// A pool makes sandboxes of the template.
    TemplateInUse,
    /// No pool has this name.
    PoolNotFound,
    /// A pool with this name exists already.
    PoolExists,
    /// Sandboxes of the pool are claimed.
    PoolInUse,
    /// The pool is draining and gives no sandboxes.
    PoolDraining,
    /// No such file in the sandbox.
    FileNotFound,
    /// The file system in the sandbox refused, e.g. not a directory, is a directory, not empty, permission.
    FileRefused,
    /// The sandbox's disk limit (bytes or files) or the room for images is used up.
    NoSpace,
    /// The patch does not fit the files; nothing was changed.
    PatchRejected,
    /// The body, file or line is larger than the limit.
    TooLarge,
    /// Too many sessions, streams or requests at once.
    LimitExceeded,
    /// The node has too little left of something; try again later, or wait with `wait_s`.
    CapacityExceeded,
    /// The tenant has used up its quota of something.
    QuotaExceeded,
    /// The idempotency key was used before for another request.
    IdempotencyConflict,
    /// No group has this id.
    GroupNotFound,
    /// A group with this id exists already.
    GroupExists,
    /// No snapshot has this id.
    SnapshotNotFound,
    /// A snapshot with this id exists already.
    SnapshotExists,
    /// Sandboxes are made of the snapshot.
    SnapshotInUse,
    /// The sandbox was set back to an earlier state while the request was under way.
    SandboxRestored,
    /// The image is not known, not readable or not safe.
    ImageInvalid,
    /// No image of the store has this name or id.
    ImageNotFound,
    /// Sandboxes are made from the image.
    ImageInUse,
    /// The registry or the daemon cannot be reached, or does not give the image.
    ImageUnavailable,
    /// A command of the template's setup failed.
    SetupFailed,
    /// The backend cannot make the sandbox.
    CreateFailed,
    /// This machine or backend cannot do it.
    Unsupported,
    /// The request took longer than allowed; its effect is unknown.
    TimedOut,
    /// The server is going down.
    ShuttingDown,
    /// A bug in Hothouse.
    Internal,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::InvalidRequest => 400,
            Self::Unauthorized | Self::KeyRevoked => 401,
            Self::Forbidden => 403,
            Self::NotFound
            | Self::SandboxNotFound
            | Self::ExecNotFound
            | Self::ShellNotFound
            | Self::ContextNotFound
            | Self::TemplateNotFound
            | Self::PoolNotFound
            | Self::GroupNotFound
            | Self::SnapshotNotFound
            | Self::ImageNotFound
            | Self::FileNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::SandboxExists
            | Self::SnapshotExists
            | Self::SnapshotInUse
            | Self::SandboxRestored
            | Self::SandboxFrozen
            | Self::ExecConflict
            | Self::ExecFinished
            | Self::ShellExists
            | Self::ShellBusy
            | Self::ContextExists
            | Self::ContextBusy
            | Self::TemplateInUse
            | Self::PoolExists
            | Self::PoolInUse
            | Self::PoolDraining
            | Self::GroupExists
            | Self::ImageInUse
            | Self::IdempotencyConflict
            | Self::FileRefused
            | Self::PatchRejected => 409,
            Self::SandboxDead | Self::SandboxEnded | Self::ContextEnded => 410,
            Self::TooLarge => 413,
            Self::ImageInvalid => 422,
            Self::RateLimited | Self::LimitExceeded | Self::CapacityExceeded | Self::QuotaExceeded => 429,
            Self::SetupFailed | Self::CreateFailed | Self::Internal => 500,
            Self::Unsupported => 501,
            Self::ImageUnavailable | Self::NotListening | Self::ConnectionBroken => 502,
            Self::ShuttingDown => 503,
            Self::TimedOut => 504,
            Self::NoSpace => 507,
        }
    }

    /// The code as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Forbidden => "forbidden",
            Self::Unauthorized => "unauthorized",
            Self::KeyRevoked => "key_revoked",
            Self::RateLimited => "rate_limited",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::SandboxNotFound => "sandbox_not_found",
            Self::SandboxEnded => "sandbox_ended",
            Self::SandboxExists => "sandbox_exists",
            Self::SandboxDead => "sandbox_dead",
            Self::SandboxFrozen => "sandbox_frozen",
            Self::ExecNotFound => "exec_not_found",
            Self::ExecConflict => "exec_conflict",
            Self::ExecFinished => "exec_finished",
            Self::ShellNotFound => "shell_not_found",
            Self::ShellExists => "shell_exists",
            Self::ShellBusy => "shell_busy",
            Self::ContextNotFound => "context_not_found",
            Self::ContextExists => "context_exists",
            Self::ContextBusy => "context_busy",
            Self::ContextEnded => "context_ended",
            Self::NotListening => "not_listening",
            Self::ConnectionBroken => "connection_broken",
            Self::TemplateNotFound => "template_not_found",
            Self::TemplateInUse => "template_in_use",
            Self::PoolNotFound => "pool_not_found",
            Self::PoolExists => "pool_exists",
            Self::PoolInUse => "pool_in_use",
            Self::PoolDraining => "pool_draining",
            Self::FileNotFound => "file_not_found",
            Self::FileRefused => "file_refused",
            Self::NoSpace => "no_space",
            Self::PatchRejected => "patch_rejected",
            Self::TooLarge => "too_large",
            Self::LimitExceeded => "limit_exceeded",
            Self::CapacityExceeded => "capacity_exceeded",
            Self::QuotaExceeded => "quota_exceeded",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::GroupNotFound => "group_not_found",
            Self::GroupExists => "group_exists",
            Self::SnapshotNotFound => "snapshot_not_found",
            Self::SnapshotExists => "snapshot_exists",
            Self::SnapshotInUse => "snapshot_in_use",
            Self::SandboxRestored => "sandbox_restored",
            Self::ImageInvalid => "image_invalid",
            Self::ImageNotFound => "image_not_found",
            Self::ImageInUse => "image_in_use",
            Self::ImageUnavailable => "image_unavailable",
            Self::SetupFailed => "setup_failed",
            Self::CreateFailed => "create_failed",
            Self::Unsupported => "unsupported",
            Self::TimedOut => "timed_out",
            Self::ShuttingDown => "shutting_down",
            Self::Internal => "internal",
        }
    }
}

/// An RFC 9457 problem document: the body of every error response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `about:blank#<code>`; identifies the kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for a person.
    pub detail: String,
    /// What happened, for a program.
    pub code: ErrorCode,
    /// The request field that it is about, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// How the sandbox ended that it is about, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
}

impl Problem {
    /// A problem of this code with a sentence for a person.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("about:blank#{}", code.as_str()),
            title: code.as_str().replace('_', " "),
            status: code.http_status(),
            detail: detail.into(),
            code,
            field: None,
            ending: None,
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self {
            field: Some(invalid.field.clone()),
            ..Self::new(ErrorCode::InvalidRequest, invalid.to_string())
        }
    }
}
