//! What is counted of the machine's memory, taken over whenever somebody asks.

use std::sync::{Mutex, PoisonError};

use hothouse_domain::MemoryStats;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::Name;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: Name,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MemoryMetrics {
    turn: Mutex<()>,
    available: Gauge,
    frozen: Gauge,
    reclaims: Family<KindLabels, Counter>,
    reclaimed: Counter,
    thawed: Counter,
}

impl MemoryMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let available = "Memory of the machine that can be used without swapping";
        registry.register_with_unit("memory_available", available, Unit::Bytes, self.available.clone());
        registry.register("memory_frozen", "Sandboxes that are frozen for their memory", self.frozen.clone());
        let reclaims = "Times that memory was taken back from an idle sandbox, by kind";
        registry.register("memory_reclaims", reclaims, self.reclaims.clone());
        let reclaimed = "Memory that was taken back";
        registry.register_with_unit("memory_reclaimed", reclaimed, Unit::Bytes, self.reclaimed.clone());
        registry.register("memory_thawed", "Sandboxes that a request has thawed", self.thawed.clone());
    }

    pub(super) fn take_over(&self, memory: MemoryStats) {
        let gauge = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge(&self.available, memory.available_bytes.unwrap_or_default());
        gauge(&self.frozen, memory.frozen);
        // One scrape at a time: the difference to what was there before is added once.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |counter: &Counter, value: u64| counter.inc_by(value.saturating_sub(counter.get()));
        for (kind, value) in [("freeze", memory.reclaims), ("end", memory.ended)] {
            count(&self.reclaims.get_or_create(&KindLabels { kind: Name(kind) }), value);
        }
        count(&self.reclaimed, memory.reclaimed_bytes);
        count(&self.thawed, memory.thawed);
    }
}
