//! What an earlier server has left on this home.

use std::path::Path;
use std::sync::Arc;

use hothouse_domain::SandboxId;

use super::backend::NativeBackend;
use super::running::{Origin, Running};
use super::state::State;
use super::wire::Order;
use crate::terms::Terms;

/// What an earlier backend on this home has left.
#[derive(Debug, Default)]
pub struct Adopted {
    /// They live.
    pub alive: Vec<(Running, Terms)>,
    /// They were handed out, and ended while nobody was there.
    pub dead: Vec<(SandboxId, Terms)>,
}

impl NativeBackend {
    /// Finds the sandboxes that an earlier server left alive, with their terms, and sweeps what is dead.
    pub async fn adopt(&self) -> Adopted {
        let inner = &self.inner;
        let ids = inner.directory.ids().unwrap_or_else(|e| {
            tracing::error!(error = %e, "listing sandboxes to adopt");
            Vec::new()
        });
        let mut adopted = Adopted::default();
        for id in ids {
            let state = match inner.directory.load(&id) {
                Ok(state) if self.is_alive(&state) => state,
                dead => {
                    if let Err(e) = inner.directory.remove(&id) {
                        tracing::error!(%id, error = %e, "removing the directory of a dead sandbox");
                    }
                    // What has no state was never handed out.
                    adopted.dead.extend(dead.ok().map(|state| (id, state.terms)));
                    continue;
                }
            };
            if let Err(reason) = inner.tell(&Order::Adopt { body: state.body.clone() }).await {
                tracing::error!(%id, %reason, "telling the spawner of an adopted sandbox");
            }
            let death = inner.remember(&state.body);
            let (backend, origin) = (Arc::clone(inner), Origin::Adopted);
            let State { terms, created_at, body, image_id, .. } = state;
            let pin = image_id.and_then(|id| self.images().pin(&id));
            adopted.alive.push((Running { backend, id, body, created_at, origin, death, pin }, terms));
        }
        for place in inner.directory.all_beside().unwrap_or_default() {
            self.sweep_beside(&place).await;
        }
        inner.sweep_half_made().await;
        adopted
    }

    /// Ends a body that was about to take a sandbox's place, or had lost it, when the last node was killed.
    async fn sweep_beside(&self, place: &Path) {
        if let Ok(state) = self.inner.directory.load_at(place)
            && self.is_alive(&state)
            && let Err(reason) =
                self.inner.ask(|ticket| Order::Destroy { ticket, body: state.body }, None).await
        {
            tracing::error!(path = %place.display(), reason, "ending a body that has no place");
        }
        if let Err(error) = self.inner.directory.remove_at(place) {
            tracing::error!(path = %place.display(), %error, "removing the directory of a body that has no place");
        }
    }
}
