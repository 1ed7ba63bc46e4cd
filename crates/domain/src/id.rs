//! Names from outside: checked once, here, and safe to join into a path ever after.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The longest id or name, in bytes.
pub const MAX_ID_LEN: usize = 128;

/// Why a string is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The empty string.
    #[error("is empty; use 1 to {MAX_ID_LEN} characters")]
    Empty,
    /// More than [`MAX_ID_LEN`] bytes.
    #[error("has {0} bytes; at most {MAX_ID_LEN} are allowed")]
    TooLong(usize),
    /// A character outside `[A-Za-z0-9_.-]`, or a first one outside `[A-Za-z0-9]`.
    #[error(
        "has {found:?} at byte {at}; allowed are letters, digits, '_', '.', '-', and a letter or digit first"
    )]
    Character {
        /// Byte offset of the character.
        at: usize,
        /// The character.
        found: char,
    },
}

/// Checks a name against `[A-Za-z0-9][A-Za-z0-9_.-]{0,127}`.
///
/// # Errors
/// [`InvalidId`] says what is wrong and where.
pub fn check_name(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > MAX_ID_LEN {
        return Err(InvalidId::TooLong(text.len()));
    }
    let legal = |at: usize, c: char| c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '_' | '.' | '-'));
    match text.char_indices().find(|&(at, c)| !legal(at, c)) {
        Some((at, found)) => Err(InvalidId::Character { at, found }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String);
                text.pattern(Some("^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")).build().into()
            }
        }

        impl ToSchema for $name {}

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                check_name(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Names one sandbox on a node. Time-ordered when Hothouse makes it, so that sorting by id sorts by age.
    SandboxId
);
id!(
    /// Names one exec in a sandbox. A client that chooses it can repeat the request safely.
    ExecId
);
id!(
    /// Names one live shell session in a sandbox.
    ShellId
);
id!(
    /// Names one live interpreter in a sandbox.
    ContextId
);
id!(
    /// Names a template.
    TemplateName
);
id!(
    /// Names a pool.
    PoolName
);
id!(
    /// Names who keeps sandboxes by being heard of: a trainer, a job, a notebook.
    OwnerName
);
id!(
    /// Names sandboxes that were made together.
    GroupId
);
id!(
    /// Names the frozen files of a sandbox.
    SnapshotId
);
id!(
    /// Names whom API keys, sandboxes and quotas belong to.
    TenantName
);
