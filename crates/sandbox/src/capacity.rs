//! Who has taken how much of a node, and of a tenant's quota. Pure.

use std::collections::{BTreeMap, HashMap};

use hothouse_domain::capacity::{Amounts, SANDBOXES, field_of};
use hothouse_domain::{Invalid, TenantName};

use crate::error::SandboxError;

/// Amounts are counted in millionths, so that what was taken and given back adds up to nothing.
const UNIT: f64 = 1e6;
type Micro = u128;

/// What one sandbox takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Demand {
    pub(crate) tenant: Option<TenantName>,
    pub(crate) amounts: Vec<(String, f64)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    node: Limits,
    taken: Taken,
    quotas: HashMap<TenantName, Limits>,
    tenants: HashMap<TenantName, Taken>,
}

type Limits = BTreeMap<String, Micro>;
type Taken = BTreeMap<String, Micro>;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "validated: 0 to 10^15")]
fn micro(amount: f64) -> Micro {
    (amount * UNIT).round() as Micro
}

#[expect(clippy::cast_precision_loss, reason = "shown to a person")]
fn shown(amount: Micro) -> f64 {
    amount as f64 / UNIT
}

fn limits(amounts: &Amounts) -> Limits {
    amounts.iter().map(|(name, amount)| (name.clone(), micro(*amount))).collect()
}

impl Ledger {
    /// Nothing is taken of this yet. What has no entry is not limited, but must have one to be needed by name.
    pub(crate) fn new(capacity: &Amounts) -> Self {
        Self { node: limits(capacity), ..Self::default() }
    }

    pub(crate) fn set_quotas(&mut self, quotas: &HashMap<TenantName, Amounts>) {
        self.quotas = quotas.iter().map(|(tenant, amounts)| (tenant.clone(), limits(amounts))).collect();
    }

    /// Takes all of it or, where something is short, nothing.
    pub(crate) fn take(&mut self, demands: &[Demand]) -> Result<(), SandboxError> {
        for demand in demands {
            for (name, _) in demand.amounts.iter().filter(|(name, _)| field_of(name).starts_with("needs.")) {
                if !self.node.contains_key(name) {
                    return Err(unknown(name, &self.node));
                }
            }
        }
        let mut node = Taken::new();
        let mut tenants: HashMap<&TenantName, Taken> = HashMap::new();
        for demand in demands {
            add(&mut node, &demand.amounts);
            if let Some(tenant) = &demand.tenant {
                add(tenants.entry(tenant).or_default(), &demand.amounts);
            }
        }
        fits(&self.node, &self.taken, &node, None)?;
        let nothing = Taken::new();
        for (tenant, wanted) in &tenants {
            if let Some(quota) = self.quotas.get(*tenant) {
                fits(quota, self.tenants.get(*tenant).unwrap_or(&nothing), wanted, Some(tenant))?;
            }
        }
        self.note(demands);
        Ok(())
    }

    /// Counts what is there already, over the limits too.
    pub(crate) fn note(&mut self, demands: &[Demand]) {
        for demand in demands {
            add(&mut self.taken, &demand.amounts);
            if let Some(tenant) = &demand.tenant {
                add(self.tenants.entry(tenant.clone()).or_default(), &demand.amounts);
            }
        }
    }

    /// Gives back what was taken.
    pub(crate) fn give_back(&mut self, demand: &Demand) {
        remove(&mut self.taken, &demand.amounts);
        if let Some(tenant) = &demand.tenant
            && let Some(taken) = self.tenants.get_mut(tenant)
        {
            remove(taken, &demand.amounts);
            if taken.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }

    /// What there is and what is taken of it, by name; no limit where there is `None`.
    pub(crate) fn usage(&self) -> BTreeMap<String, (f64, Option<f64>)> {
        let names = self.node.keys().chain(self.taken.keys());
        names
            .map(|name| {
                let taken = self.taken.get(name).copied().unwrap_or_default();
                (name.clone(), (shown(taken), self.node.get(name).copied().map(shown)))
            })
            .collect()
    }
}

fn add(taken: &mut Taken, amounts: &[(String, f64)]) {
    for (name, amount) in amounts {
        match taken.get_mut(name) {
            Some(sum) => *sum += micro(*amount),
            None => drop(taken.insert(name.clone(), micro(*amount))),
        }
    }
}

fn remove(taken: &mut Taken, amounts: &[(String, f64)]) {
    for (name, amount) in amounts {
        if let Some(sum) = taken.get_mut(name) {
            *sum = sum.saturating_sub(micro(*amount));
        }
    }
    taken.retain(|_, sum| *sum > 0);
}

/// Checks that what is wanted fits beside what is taken.
fn fits(
    limits: &Limits,
    taken: &Taken,
    wanted: &Taken,
    tenant: Option<&TenantName>,
) -> Result<(), SandboxError> {
    for (name, limit) in limits {
        let Some(wanted) = wanted.get(name).copied().filter(|wanted| *wanted > 0) else { continue };
        let taken = taken.get(name).copied().unwrap_or_default();
        if wanted > *limit {
            return Err(never(name, wanted, *limit, tenant));
        }
        if taken.saturating_add(wanted) > *limit {
            let (name, limit, taken, wanted) = (name.clone(), shown(*limit), shown(taken), shown(wanted));
            return Err(match tenant {
                None => SandboxError::NodeFull { name, limit, taken, wanted },
                Some(tenant) => {
                    SandboxError::QuotaUsedUp { tenant: tenant.clone(), name, limit, taken, wanted }
                }
            });
        }
    }
    Ok(())
}

fn unknown(name: &str, known: &Limits) -> SandboxError {
    let names: Vec<&str> =
        known.keys().map(String::as_str).filter(|name| field_of(name).starts_with("needs.")).collect();
    let reason = if names.is_empty() {
        "is nothing that this node has; start it with --capacity NAME=AMOUNT".to_owned()
    } else {
        format!("is nothing that this node has; it has {}", names.join(", "))
    };
    Invalid::new(field_of(name), reason).into()
}

/// No wait would help.
fn never(name: &str, wanted: Micro, limit: Micro, tenant: Option<&TenantName>) -> SandboxError {
    let whose = match tenant {
        None if name == SANDBOXES => "this node has room for".to_owned(),
        None => "this node has".to_owned(),
        Some(tenant) => format!("the quota of tenant {tenant} is"),
    };
    Invalid::new(field_of(name), format!("is {} in all; {whose} {}", shown(wanted), shown(limit))).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amounts(all: &[(&str, f64)]) -> Amounts {
        all.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
    }

    fn demand(tenant: Option<&str>, all: &[(&str, f64)]) -> Demand {
        Demand {
            tenant: tenant.map(|name| name.parse().unwrap()),
            amounts: amounts(all).into_iter().collect(),
        }
    }

    fn refused(result: Result<(), SandboxError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_is_short_what_can_never_be_and_what_is_unknown_are_told_apart() {
        let mut ledger = Ledger::new(&amounts(&[("sandboxes", 4.0), ("gpus", 2.0)]));
        let gpu = |n: f64| demand(None, &[("sandboxes", 1.0), ("gpus", n)]);
        ledger.take(&[gpu(1.5)]).unwrap();
        assert!(
            matches!(ledger.take(&[gpu(1.0)]), Err(SandboxError::NodeFull { name, .. }) if name == "gpus")
        );
        assert!(refused(ledger.take(&[gpu(3.0)])).contains("needs.gpus is 3 in all; this node has 2"));
        let tpu = demand(None, &[("tpus", 1.0)]);
        assert!(
            refused(ledger.take(&[tpu])).contains("needs.tpus is nothing that this node has; it has gpus")
        );
        assert!(
            matches!(ledger.take(&[gpu(0.2), gpu(0.4)]), Err(SandboxError::NodeFull { .. })),
            "all or nothing"
        );
        ledger.take(&[gpu(0.2), gpu(0.3)]).unwrap();
        ledger.take(&[demand(None, &[("sandboxes", 1.0), ("cpus", 400.0)])]).unwrap();
        assert_eq!(ledger.usage()["cpus"], (400.0, None), "counted, though not limited");
    }

    #[test]
    fn a_tenant_has_a_quota_within_the_node() {
        let mut ledger = Ledger::new(&amounts(&[("sandboxes", 4.0)]));
        ledger.set_quotas(&HashMap::from([("a".parse().unwrap(), amounts(&[("sandboxes", 2.0)]))]));
        let of = |tenant| demand(tenant, &[("sandboxes", 1.0)]);
        ledger.take(&[of(Some("a")), of(Some("a"))]).unwrap();
        assert!(matches!(ledger.take(&[of(Some("a"))]), Err(SandboxError::QuotaUsedUp { .. })));
        ledger.take(&[of(Some("b")), of(None)]).unwrap();
        assert!(matches!(ledger.take(&[of(Some("b"))]), Err(SandboxError::NodeFull { .. })));
        ledger.give_back(&of(Some("a")));
        ledger.take(&[of(Some("a"))]).unwrap();
    }

    proptest! {
        #[test]
        fn it_is_never_over_its_limits_and_adds_up_to_nothing(
            steps in prop::collection::vec((0_usize..3, 0.0_f64..3.0, 0.0_f64..3.0, any::<bool>()), 0..200),
        ) {
            let mut ledger = Ledger::new(&amounts(&[("gpus", 7.3), ("cpus", 9.1)]));
            let quota = amounts(&[("gpus", 3.7)]);
            ledger.set_quotas(&HashMap::from([("t1".parse().unwrap(), quota)]));
            let mut held: Vec<Demand> = Vec::new();
            for (tenant, gpus, cpus, give) in steps {
                if give && !held.is_empty() {
                    let demand = held.swap_remove(0);
                    ledger.give_back(&demand);
                    continue;
                }
                let tenant = ["t1", "t2"].get(tenant).copied();
                let demand = demand(tenant, &[("gpus", gpus), ("cpus", cpus)]);
                if ledger.take(std::slice::from_ref(&demand)).is_ok() {
                    held.push(demand);
                }
                let sum = |name: &str| -> Micro {
                    held.iter().flat_map(|d| &d.amounts).filter(|(n, _)| n == name).map(|(_, a)| micro(*a)).sum()
                };
                prop_assert!(sum("gpus") <= micro(7.3) && sum("cpus") <= micro(9.1));
                let of_t1: Micro = held
                    .iter()
                    .filter(|d| d.tenant.as_ref().is_some_and(|t| t.as_str() == "t1"))
                    .flat_map(|d| &d.amounts)
                    .filter(|(name, _)| name == "gpus")
                    .map(|(_, amount)| micro(*amount))
                    .sum();
                prop_assert!(of_t1 <= micro(3.7));
            }
            for demand in held {
                ledger.give_back(&demand);
            }
            prop_assert!(ledger.taken.is_empty() && ledger.tenants.is_empty());
        }
    }
}
