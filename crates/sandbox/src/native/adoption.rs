//! What an earlier server has left on this home.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hothouse_domain::SandboxId;

use super::backend::NativeBackend;
use super::lent::{Lent, SetAside};
use super::running::{Origin, Running};
use super::state::State;
use super::wire::Order;
use crate::endings::Ended;
use crate::terms::Terms;

/// What an earlier backend on this home has left.
#[derive(Debug, Default)]
pub struct Adopted {
    /// They live.
    pub alive: Vec<(Running, Terms)>,
    /// They were handed out, and ended while nobody was there.
    pub dead: Vec<(SandboxId, Terms)>,
    /// They have ended, and are all that has the files of a snapshot; with how that was.
    pub(crate) aside: Vec<(SetAside, Ended)>,
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
        let mut aside = BTreeMap::new();
        for place in inner.directory.all_beside().unwrap_or_default() {
            let state = inner.directory.load_at(&place).ok().filter(|state| self.is_alive(state));
            let layers = state.as_ref().and_then(|state| self.snapshots.lent_layers(state.body.key));
            match (state, layers) {
                (Some(state), Some(layers)) => {
                    aside.insert(state.body.key, self.found_aside(state, place, layers).await);
                }
                _ => self.sweep_beside(&place).await,
            }
        }
        let lent = aside.iter().map(|(key, (_, _, lent))| (*key, Arc::clone(lent))).collect();
        for (key, snapshot, ended) in self.snapshots.resume(lent, |id| self.images().pin(id)) {
            if let Some((body, place, lent)) = aside.remove(&key) {
                adopted.aside.push((SetAside { body, place, lent, snapshot }, ended));
            }
        }
        // What was to be made of them is lost.
        for (_, place, _) in aside.into_values() {
            self.sweep_beside(&place).await;
        }
        inner.sweep_half_made().await;
        adopted
    }

    /// A body whose files are a snapshot's.
    async fn found_aside(
        &self,
        state: State,
        place: PathBuf,
        layers: usize,
    ) -> (Running, PathBuf, Arc<Lent>) {
        let inner = &self.inner;
        let State { terms, created_at, body, image_id, .. } = state;
        let id = terms.spec.id.clone().unwrap_or_else(|| crate::exec_request::fresh("sb"));
        if let Err(reason) = inner.tell(&Order::Adopt { body: body.clone() }).await {
            tracing::error!(%id, %reason, "telling the spawner of a sandbox that has ended");
        }
        let death = inner.remember(&body);
        let pin = image_id.and_then(|id| self.images().pin(&id));
        let lent = Arc::new(Lent::new(body.clone(), layers));
        let (backend, origin) = (Arc::clone(inner), Origin::Adopted);
        (Running { backend, id, body, created_at, origin, death, pin }, place, lent)
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
