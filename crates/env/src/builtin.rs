//! Environments that come with Hothouse: those that play in memory, and those that need a sandbox.

mod coding;
mod connect4;
mod echo;
mod echo_mcp;
mod grid_world;
mod pong;
mod said;
mod sandboxed;
mod shell;
mod tic_tac_toe;

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use crate::environment::Environment;

pub use coding::{Resets, Transform};
pub use sandboxed::{Sandboxed, SandboxedOptions};

static ALL: LazyLock<Vec<Arc<Environment>>> = LazyLock::new(|| {
    let all = [
        connect4::environment(),
        echo::environment(),
        echo_mcp::environment(),
        grid_world::environment(),
        pong::environment(),
        tic_tac_toe::environment(),
    ];
    all.map(Arc::new).to_vec()
});

/// What an action may carry beside its fields; nobody here reads it.
type Metadata = Map<String, Value>;

/// All that play in memory, by name.
#[must_use]
pub fn all() -> &'static [Arc<Environment>] {
    &ALL
}

/// The one in memory of this name.
#[must_use]
pub fn find(name: &str) -> Option<Arc<Environment>> {
    ALL.iter().find(|environment| environment.name == name).cloned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::environment::{Era, Maker};
    use crate::model::Model;
    use crate::observed::Observed;
    use crate::session::StepError;

    /// Actions of all kinds, right and wrong.
    pub(super) fn actions(model: &Model) -> Vec<String> {
        // What each of them takes, and what it does not: neither may differ between the two ways of reading an action.
        let values = [
            "\"UP\"", "\"x\"", "3", "3.0", "\"3\"", "9", "-1", "99", "true", "null", "[]", "{}", "1.5",
            "1e30",
        ];
        let properties = model.schema()["properties"].clone();
        let names: Vec<String> =
            properties.as_object().unwrap().keys().filter(|n| *n != "metadata").cloned().collect();
        let mut all = vec!["{}".to_owned(), "[]".to_owned(), "7".to_owned(), "{\"metadata\":3}".to_owned()];
        for name in names {
            for value in values {
                all.push(format!("{{\"{name}\":{value}}}"));
                all.push(format!("{{\"{name}\":{value},\"metadata\":{{\"a\":1}}}}"));
                all.push(format!("{{\"{name}\":{value},\"other\":1}}"));
            }
        }
        all
    }

    #[test]
    fn an_action_is_taken_exactly_when_its_model_takes_it() {
        for environment in all() {
            let Maker::Game { action: model, make } = &environment.maker else { panic!("{environment:?}") };
            for action in actions(model) {
                let checked = model.check(serde_json::from_str(&action).unwrap());
                let taken = make(Era::Today).step(&action, model, &mut Observed::default());
                match (checked, taken) {
                    (Ok(_), Ok(())) => {}
                    (Err(wrong), Err(StepError::Invalid(told))) => assert_eq!(wrong, told),
                    (checked, taken) => panic!("{}: {action}: {checked:?} {taken:?}", environment.name),
                }
            }
        }
    }
}
