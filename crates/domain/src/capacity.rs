//! What a node has to give: amounts by name.

use std::collections::BTreeMap;

use crate::id::check_name;
use crate::problem::Invalid;
use crate::sandbox::SandboxSpec;

/// Sandboxes at once.
pub const SANDBOXES: &str = "sandboxes";
/// The sum of `resources.cpus`, in cores.
pub const CPUS: &str = "cpus";
/// The sum of `resources.memory_bytes`.
pub const MEMORY_BYTES: &str = "memory_bytes";
/// The sum of `resources.pids`.
pub const PIDS: &str = "pids";

/// The largest amount.
pub const MAX_AMOUNT: f64 = 1e15;
/// Kinds of things that one sandbox may need at most.
pub const MAX_NEEDS: usize = 16;

/// Amounts by name, e.g. `gpus` → 2.
pub type Amounts = BTreeMap<String, f64>;

/// Checks names and amounts.
///
/// # Errors
/// [`Invalid`] names the first that breaks a rule, as `field.NAME`.
pub fn check_amounts(field: &str, amounts: &Amounts) -> Result<(), Invalid> {
    for (name, amount) in amounts {
        let short: String = name.chars().take(64).collect();
        let field = format!("{field}.{short}");
        check_name(name).map_err(|error| Invalid::new(&field, error.to_string()))?;
        if !(amount.is_finite() && (0.0..=MAX_AMOUNT).contains(amount)) {
            return Err(Invalid::new(field, format!("is {amount}; use 0 to {MAX_AMOUNT}")));
        }
    }
    Ok(())
}

/// Checks what a sandbox needs beside its resources.
///
/// # Errors
/// [`Invalid`] names the first that breaks a rule.
pub fn check_needs(needs: &Amounts) -> Result<(), Invalid> {
    if needs.len() > MAX_NEEDS {
        return Err(Invalid::new("needs", format!("has {} entries; at most {MAX_NEEDS}", needs.len())));
    }
    for name in [SANDBOXES, CPUS, MEMORY_BYTES, PIDS] {
        if needs.contains_key(name) {
            return Err(Invalid::new(format!("needs.{name}"), "is counted from `resources`; set it there"));
        }
    }
    check_amounts("needs", needs)
}

/// All that a sandbox takes of a node, with the field that asks for each.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "at most 2^44, where every number is exact")]
pub fn demand(spec: &SandboxSpec) -> Vec<(String, f64)> {
    let resources = &spec.resources;
    let mut demand = vec![
        (SANDBOXES.to_owned(), 1.0),
        (CPUS.to_owned(), resources.cpus),
        (MEMORY_BYTES.to_owned(), resources.memory_bytes as f64),
        (PIDS.to_owned(), f64::from(resources.pids)),
    ];
    demand.extend(spec.needs.iter().map(|(name, amount)| (name.clone(), *amount)));
    demand
}

/// The field of a request that asks for this.
#[must_use]
pub fn field_of(name: &str) -> String {
    match name {
        SANDBOXES => "count".to_owned(),
        CPUS | MEMORY_BYTES | PIDS => format!("resources.{name}"),
        other => format!("needs.{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_endless_and_strange_amounts_are_refused() {
        let refused = |name: &str, amount: f64| {
            check_needs(&Amounts::from([(name.to_owned(), amount)])).unwrap_err().field
        };
        assert_eq!(refused("gpus", -1.0), "needs.gpus");
        assert_eq!(refused("gpus", f64::NAN), "needs.gpus");
        assert_eq!(refused("gpus", f64::INFINITY), "needs.gpus");
        assert_eq!(refused("a b", 1.0), "needs.a b");
        assert_eq!(refused("cpus", 1.0), "needs.cpus");
        assert!(check_needs(&Amounts::from([("gpus".to_owned(), 0.5)])).is_ok());
    }
}
