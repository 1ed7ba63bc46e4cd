//! Who may do what: keys as they are now, looked up for each request.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{HeaderMap, Method, header};
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota};
use hothouse_domain::{ErrorCode, ImageRef, PullPolicy, SandboxSpec, TenantName};
use hothouse_sandbox::{Claimant, Node};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::keyring::{KeyEntry, Keyring, KeyringError, Role, hash};
use crate::problem::Refusal;

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What anybody may ask for.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/"];

/// Who sends a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// `None` where nobody is asked who they are.
    pub(crate) tenant: Option<TenantName>,
    role: Role,
    /// Cancelled when the key is no longer good.
    pub(crate) revoked: CancellationToken,
}

impl Caller {
    /// Whoever reaches a server without keys.
    pub(crate) fn anybody() -> Self {
        Self { tenant: None, role: Role::Admin, revoked: CancellationToken::new() }
    }

    /// The tenant whose sandboxes are all that this caller knows of; `None` for one who knows of all.
    pub(crate) fn scope(&self) -> Option<&TenantName> {
        match self.role {
            Role::Admin => None,
            Role::User => self.tenant.as_ref(),
        }
    }

    /// True when this caller may know of what is this claimant's. What waits in a pool is nobody's yet.
    pub(crate) fn knows(&self, claimant: &Claimant) -> bool {
        self.scope().is_none() || claimant.tenant.as_ref() == self.scope()
    }

    /// Whether this caller may have a sandbox of this image and these layers: files of the node and what a registry has
    /// are for those who may use the node for anything.
    pub(crate) fn check_image(&self, spec: &mut SandboxSpec) -> Result<(), Refusal> {
        if self.scope().is_none() {
            return Ok(());
        }
        if let Some(layer) = spec.layers.first() {
            let detail = format!("layer {layer} is a directory of the node, which takes role admin");
            return Err(Refusal::new(ErrorCode::Forbidden, detail).about("layers"));
        }
        let image = &spec.image;
        match image {
            // A snapshot is looked for among the caller's own.
            ImageRef::Host | ImageRef::Stored(_) | ImageRef::Id(_) | ImageRef::Snapshot(_) => Ok(()),
            ImageRef::Registry(_) => {
                spec.pull = PullPolicy::Never;
                Ok(())
            }
            ImageRef::Directory(_) | ImageRef::Daemon(_) | ImageRef::File(_) => {
                let detail = format!(
                    "image {image} is a file of the node, which takes role admin; use one of the store"
                );
                Err(Refusal::new(ErrorCode::Forbidden, detail).about("image"))
            }
        }
    }

    /// Who this is, in the record of what it ends.
    pub(crate) fn name(&self) -> String {
        self.tenant.as_ref().map_or_else(|| "client".to_owned(), ToString::to_string)
    }
}

/// The keys that are good now; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Auth {
    live: Arc<RwLock<Live>>,
    path: Arc<PathBuf>,
}

#[derive(Debug, Default)]
struct Live {
    by_hash: HashMap<String, (KeyEntry, Caller)>,
    limiters: HashMap<TenantName, (u32, Arc<DefaultDirectRateLimiter>)>,
    stamp: Option<Stamp>,
}

/// Tells whether a file is another one than before.
type Stamp = (u64, i64, i64, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

impl Auth {
    /// Reads the keys.
    ///
    /// # Errors
    /// [`KeyringError`]: the file is of no use.
    pub(crate) fn open(path: &Path, node: &Node) -> Result<Self, KeyringError> {
        let auth = Self { live: Arc::default(), path: Arc::new(path.to_owned()) };
        auth.load(node)?;
        Ok(auth)
    }

    fn load(&self, node: &Node) -> Result<(), KeyringError> {
        // Looked at before: a change while it is read is seen the next time.
        let stamp = stamp(&self.path);
        let ring = Keyring::load(&self.path)?;
        node.set_quotas(
            &ring.tenants.iter().map(|(name, limits)| (name.clone(), limits.quota.clone())).collect(),
        );
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.stamp = stamp;
        live.take_over(ring);
        Ok(())
    }

    /// Follows the file until it is told to stop. A file that is of no use changes nothing.
    pub(crate) async fn follow(self, node: Node, until: CancellationToken) {
        loop {
            tokio::select! {
                () = until.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let known = {
                let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
                live.expire(Timestamp::now());
                live.stamp
            };
            if stamp(&self.path) != known {
                match self.load(&node) {
                    Ok(()) => tracing::info!(path = %self.path.display(), "keys were read again"),
                    Err(error) => tracing::error!(%error, "keys stay as they were"),
                }
            }
        }
    }

    /// Who sends this request, if it may be sent.
    pub(crate) fn admit(&self, method: &Method, route: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        if OPEN.contains(&route) {
            return Ok(Caller::anybody());
        }
        let key = bearer(headers)?;
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let (entry, caller) = live.by_hash.get(&hash(key)).ok_or_else(|| {
            unauthorized(
                "the key is not known here, was revoked or has expired; ask an administrator for one",
            )
        })?;
        if let Some((_, limiter)) = live.limiters.get(&entry.tenant)
            && let Err(until) = limiter.check()
        {
            let wait = until.wait_time_from(DefaultClock::default().now());
            let detail = format!("tenant {} sends more requests than it may; slow down", entry.tenant);
            return Err(Refusal::new(ErrorCode::RateLimited, detail).retry_after(wait));
        }
        if needs_admin(method, route) && entry.role != Role::Admin {
            let detail = format!("key {} has role {}; this takes role admin", entry.id, entry.role.as_str());
            return Err(Refusal::new(ErrorCode::Forbidden, detail));
        }
        Ok(caller.clone())
    }
}

impl Live {
    fn take_over(&mut self, ring: Keyring) {
        let mut before = std::mem::take(&mut self.by_hash);
        for entry in ring.keys {
            let kept = before.remove(&entry.hash).filter(|(old, _)| *old == entry);
            let (_, caller) = kept.unwrap_or_else(|| {
                let (tenant, role) = (Some(entry.tenant.clone()), entry.role);
                (entry.clone(), Caller { tenant, role, revoked: CancellationToken::new() })
            });
            self.by_hash.insert(entry.hash.clone(), (entry, caller));
        }
        for (entry, caller) in before.into_values() {
            tracing::info!(key = entry.id, "a key was revoked");
            caller.revoked.cancel();
        }
        let mut limiters = HashMap::new();
        for (tenant, limits) in ring.tenants {
            let Some(rate) = limits.requests_per_s.and_then(NonZeroU32::new) else { continue };
            let kept = self.limiters.remove(&tenant).filter(|(old, _)| *old == rate.get());
            let limiter = kept.map_or_else(
                || Arc::new(DefaultDirectRateLimiter::direct(Quota::per_second(rate))),
                |(_, limiter)| limiter,
            );
            limiters.insert(tenant, (rate.get(), limiter));
        }
        self.limiters = limiters;
        self.expire(Timestamp::now());
    }

    fn expire(&mut self, now: Timestamp) {
        self.by_hash.retain(|_, (entry, caller)| {
            let good = entry.expires_at.is_none_or(|end| now < end);
            if !good {
                tracing::info!(key = entry.id, "a key has expired");
                caller.revoked.cancel();
            }
            good
        });
    }
}

/// What changes what all tenants share, or shows it.
fn needs_admin(method: &Method, route: &str) -> bool {
    if route == "/metrics" {
        return true;
    }
    let shared = ["/v1/templates", "/v1/pools", "/v1/images"].iter().any(|prefix| route.starts_with(prefix));
    shared && *method != Method::GET && !route.ends_with("/claim")
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let how = "send a key: Authorization: Bearer KEY";
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Err(unauthorized(&format!("the request has no key; {how}")));
    };
    let text = value.to_str().unwrap_or_default();
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim()),
        Some(_) | None => Err(unauthorized(&format!("Authorization is of another kind; {how}"))),
    }
}

fn unauthorized(detail: &str) -> Refusal {
    Refusal::new(ErrorCode::Unauthorized, detail)
}

/// What the holder of a key is told that was taken away while a request was answered.
pub(crate) fn revoked() -> Refusal {
    Refusal::new(
        ErrorCode::KeyRevoked,
        "the key was revoked or has expired meanwhile; what was begun goes on",
    )
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("GET", "/v1/sandboxes", false)]
    #[test_case("POST", "/v1/sandboxes", false)]
    #[test_case("GET", "/v1/pools", false)]
    #[test_case("POST", "/v1/pools", true)]
    #[test_case("POST", "/v1/pools/{pool_name}/claim", false)]
    #[test_case("PUT", "/v1/pools/{pool_name}/size", true)]
    #[test_case("PUT", "/v1/templates/{template_name}", true)]
    #[test_case("GET", "/v1/images/{image}", false)]
    #[test_case("POST", "/v1/images/pull", true)]
    #[test_case("DELETE", "/v1/images/{image}", true)]
    #[test_case("GET", "/metrics", true)]
    fn roles(method: &str, route: &str, admin: bool) {
        assert_eq!(needs_admin(&method.parse().unwrap(), route), admin);
    }
}
