//! Why an image cannot be had.

use std::io;

use hothouse_domain::{ErrorCode, Problem};

/// Why an image cannot be had, read, kept or removed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("image {image}: {reason}")]
pub struct ImageError {
    /// Which.
    pub image: String,
    /// The kind of failure.
    pub code: ErrorCode,
    /// What is wrong and what to do.
    pub reason: String,
}

/// A failure that does not know yet which image it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl Fault {
    /// The image is wrong.
    pub(super) fn invalid(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::ImageInvalid, reason: reason.into() }
    }

    /// Whoever has the image does not give it.
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::ImageUnavailable, reason: reason.into() }
    }

    /// The image is larger than a limit.
    pub(super) fn too_large(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::TooLarge, reason: reason.into() }
    }

    /// There is no such image.
    pub(super) fn missing(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::ImageNotFound, reason: reason.into() }
    }

    /// No room for it.
    pub(super) fn no_space(reason: impl Into<String>) -> Self {
        Self { code: ErrorCode::NoSpace, reason: reason.into() }
    }

    /// This machine failed at something: a full disk is told from the rest.
    pub(super) fn io(what: impl std::fmt::Display, error: &io::Error) -> Self {
        let text = error.to_string();
        let words = text.rsplit_once(" (os error ").map_or(text.as_str(), |(words, _)| words);
        let reason = format!("{what}: {words}");
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::no_space(format!("{reason}; free some with `hothouse image prune --all`"))
            }
            _ => Self { code: ErrorCode::ImageInvalid, reason },
        }
    }

    /// The store itself failed at something.
    pub(super) fn store(what: impl std::fmt::Display, error: &io::Error) -> Self {
        let fault = Self::io(what, error);
        let code = if fault.code == ErrorCode::NoSpace { fault.code } else { ErrorCode::Internal };
        Self { code, ..fault }
    }

    /// Says which image it is about.
    pub(super) fn of(self, image: impl std::fmt::Display) -> ImageError {
        ImageError { image: image.to_string(), code: self.code, reason: self.reason }
    }

    /// Says where in the image it is.
    pub(super) fn within(self, part: impl std::fmt::Display) -> Self {
        Self { reason: format!("{part}: {}", self.reason), ..self }
    }
}

impl ImageError {
    /// The problem document for a caller outside.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem::new(self.code, self.to_string())
    }
}
