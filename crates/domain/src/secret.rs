//! Values that are shown to nobody.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Invalid;
use crate::sandbox::{MAX_ENV_VALUE, check_env};

/// The most secrets of a sandbox.
pub const MAX_SECRETS: usize = 64;

/// A secret's value. It is written where it has to be kept or sent, and shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Secret(String);

impl Secret {
    /// What every listing shows.
    pub const MASK: &'static str = "***";

    /// A secret with this value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value, for the process that asks for it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The same with its value hidden.
    #[must_use]
    pub fn masked() -> Self {
        Self(Self::MASK.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::MASK)
    }
}

/// Checks names and sizes of secrets; no message holds a value.
///
/// # Errors
/// [`Invalid`] names the secret.
pub fn check_secrets(secrets: &BTreeMap<String, Secret>) -> Result<(), Invalid> {
    if secrets.len() > MAX_SECRETS {
        return Err(Invalid::new("secrets", format!("has {} entries; at most {MAX_SECRETS}", secrets.len())));
    }
    for (name, secret) in secrets {
        let one = BTreeMap::from([(name.clone(), secret.0.clone())]);
        check_env(&one)
            .map_err(|invalid| Invalid::new(invalid.field.replacen("env", "secrets", 1), invalid.reason))?;
        debug_assert!(secret.0.len() <= MAX_ENV_VALUE, "checked above");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secrets = BTreeMap::from([("TOKEN".to_owned(), Secret::new("s3cr3t\0".to_owned()))]);
        assert!(!format!("{secrets:?}").contains("s3cr3t"));
        let invalid = check_secrets(&secrets).unwrap_err();
        assert_eq!(invalid.field, "secrets.TOKEN");
        assert!(!invalid.to_string().contains("s3cr3t"));
    }
}
