//! Leases: how long a sandbox stays when nobody deletes it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::exec::check_seconds;
use crate::id::OwnerName;
use crate::problem::Invalid;

/// The longest lease of any kind, in seconds: a year.
pub const MAX_LEASE_S: f64 = 31_536_000.0;
/// The shortest.
pub const MIN_LEASE_S: f64 = 0.1;

/// When a sandbox ends without being deleted. What is absent never ends it. Unknown fields are refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lease {
    /// Seconds after it was made, or claimed from its pool. 0.1 to 31,536,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<f64>,
    /// Seconds without a request to it; a command that runs in it, in a terminal too, is use. 0.1 to 31,536,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_s: Option<f64>,
    /// Whose it is: every use of any sandbox of an owner, and `POST /v1/owners/{owner}/renew`, renews all of them. Needs
    /// `owner_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Seconds without word of its owner. 0.1 to 31,536,000. Needs `owner`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_s: Option<f64>,
    /// What may be done to it while it is idle and the machine is short of memory; `freeze` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<Reclaim>,
}

/// What may be done to an idle sandbox whose memory the machine needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reclaim {
    /// Nothing.
    Never,
    /// It is frozen and the kernel takes back what it can of its memory; the next request thaws it.
    #[default]
    Freeze,
    /// It is ended where that is not enough.
    End,
}

impl Lease {
    /// Checks the rules.
    ///
    /// # Errors
    /// [`Invalid`] names the field and what is allowed.
    pub fn validate(&self) -> Result<(), Invalid> {
        check_seconds("lease.lifetime_s", self.lifetime_s, MIN_LEASE_S, MAX_LEASE_S)?;
        check_seconds("lease.idle_s", self.idle_s, MIN_LEASE_S, MAX_LEASE_S)?;
        check_seconds("lease.owner_s", self.owner_s, MIN_LEASE_S, MAX_LEASE_S)?;
        match (&self.owner, self.owner_s) {
            (Some(_), None) => {
                Err(Invalid::new("lease.owner_s", "is absent; say how long the sandbox outlives its owner"))
            }
            (None, Some(_)) => Err(Invalid::new("lease.owner", "is absent; say whose lease it is")),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }

    /// This lease where it says something, `other` where it does not.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let (owner, owner_s) = match self.owner {
            Some(_) => (self.owner, self.owner_s),
            None => (other.owner.clone(), self.owner_s.or(other.owner_s)),
        };
        Self {
            lifetime_s: self.lifetime_s.or(other.lifetime_s),
            idle_s: self.idle_s.or(other.idle_s),
            owner,
            owner_s,
            reclaim: self.reclaim.or(other.reclaim),
        }
    }

    /// True when nothing but a delete ends it.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(owner: &str, owner_s: f64) -> Lease {
        Lease { owner: Some(owner.parse().unwrap()), owner_s: Some(owner_s), ..Lease::default() }
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (lease, field) in [
            (Lease { lifetime_s: Some(0.0), ..Lease::default() }, "lease.lifetime_s"),
            (Lease { idle_s: Some(f64::NAN), ..Lease::default() }, "lease.idle_s"),
            (Lease { idle_s: Some(-1.0), ..Lease::default() }, "lease.idle_s"),
            (Lease { owner_s: Some(1.0), ..Lease::default() }, "lease.owner"),
            (Lease { owner: Some("a".parse().unwrap()), ..Lease::default() }, "lease.owner_s"),
            (owned("a", 1e9), "lease.owner_s"),
        ] {
            assert_eq!(lease.validate().unwrap_err().field, field);
        }
    }

    #[test]
    fn a_claim_says_more_than_a_template() {
        let template = Lease { lifetime_s: Some(60.0), idle_s: Some(5.0), ..owned("template", 3.0) };
        let reclaim = Some(Reclaim::End);
        let claim = Lease { idle_s: Some(9.0), reclaim, ..owned("claim", 4.0) };
        let both = claim.or(&template);
        assert_eq!(both, Lease { lifetime_s: Some(60.0), idle_s: Some(9.0), reclaim, ..owned("claim", 4.0) });
        assert_eq!(Lease::default().or(&template), template);
        both.validate().unwrap();
    }
}
