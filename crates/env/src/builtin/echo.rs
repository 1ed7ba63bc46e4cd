//! `echo`: says what it is told, and pays for its length.

use serde::{Deserialize, Serialize};

use super::Metadata;
use crate::environment::{About, Environment, Era, Models, Turns};
use crate::game::{Failed, Reset, Rules, Typed};
use crate::model::{Field, Kind, Model};
use crate::observed::{Observed, Reward};

/// What it is.
pub(super) fn environment() -> Environment {
    let message = Field::new("message", Kind::Text, "Message to echo back");
    let echoed = Field::new("echoed_message", Kind::Text, "The echoed message").or("");
    let length = Kind::Integer { least: None, most: None };
    let length = Field::new("message_length", length, "Length of the echoed message").or(0);
    let about = About {
        name: "echo",
        class: "EchoEnvironment",
        description: "Echoes a message; worth a tenth for each of its characters, today at most 1",
        version: "1.0.0",
    };
    let models = Models {
        action: Model::action("EchoAction", "What to echo.", vec![message]),
        observation: Model::observation("EchoObservation", "What was echoed.", vec![echoed, length]),
        state: Model::state("State", "Where the episode is.", Vec::new()),
    };
    Environment::in_memory(about, models, Turns::AtOnce, |era| Box::new(Typed(Echo { era, steps: 0 })))
}

#[derive(Debug, Clone)]
struct Echo {
    era: Era,
    steps: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    message: String,
    #[serde(default, rename = "metadata")]
    _metadata: Metadata,
}

#[derive(Serialize)]
struct Observation<'a> {
    echoed_message: &'a str,
    message_length: usize,
}

#[derive(Serialize)]
struct Told<'a> {
    original_message: &'a str,
    step: u64,
}

impl Rules for Echo {
    type Action = Action;

    fn reset(&mut self, _: &Reset, shown: &mut Observed) -> Result<(), Failed> {
        self.steps = 0;
        let ready = Observation { echoed_message: "Echo environment ready!", message_length: 0 };
        shown.show(&ready, Reward::Number(0.0), false)
    }

    fn step(&mut self, action: Action, shown: &mut Observed) -> Result<(), Failed> {
        let message = action.message.as_str();
        self.steps += 1;
        // In characters, as Python counts them; a float product, as there.
        let message_length = message.chars().count();
        #[expect(clippy::cast_precision_loss, reason = "no message is that long")]
        let reward = message_length as f64 * 0.1;
        let reward = if self.era == Era::Today { reward.min(1.0) } else { reward };
        shown.show(
            &Observation { echoed_message: message, message_length },
            Reward::Number(reward),
            false,
        )?;
        shown.tell(&Told { original_message: message, step: self.steps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_worth_at_most_one_today() {
        let worth = |era| {
            let mut shown = Observed::default();
            let action = Action { message: "Hello, World!".to_owned(), _metadata: Metadata::new() };
            Echo { era, steps: 0 }.step(action, &mut shown).unwrap();
            shown.reward
        };
        assert_eq!(worth(Era::Seed), Reward::Number(1.3));
        assert_eq!(worth(Era::Today), Reward::Number(1.0));
    }
}
