//! A signal, by number or by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

/// The largest signal number of Linux.
const MAX_SIGNAL: i64 = 64;

/// Names and numbers on Linux (the same on x86-64 and arm64).
const NAMES: &[(&str, i32)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// A signal, 1 to 64. Read from a number or a name (`15`, `"TERM"`, `"SIGTERM"`), written as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Signal(i32);

/// A text or number that is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is {0}; use a number from 1 to 64 or a name such as \"TERM\"")]
pub struct InvalidSignal(String);

impl Signal {
    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for Signal {
    type Error = InvalidSignal;
    fn try_from(number: i64) -> Result<Self, InvalidSignal> {
        match i32::try_from(number) {
            Ok(signal) if (1..=MAX_SIGNAL).contains(&number) => Ok(Self(signal)),
            Ok(_) | Err(_) => Err(InvalidSignal(number.to_string())),
        }
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;
    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        if let Ok(number) = text.parse::<i64>() {
            return Self::try_from(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let found = NAMES.iter().find(|(known, _)| *known == name);
        let refusal = || InvalidSignal(format!("{:?}", text.chars().take(32).collect::<String>()));
        found.map(|&(_, number)| Self(number)).ok_or_else(refusal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Signal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a signal: a number from 1 to 64 or a name such as \"TERM\"")
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Signal, E> {
                Signal::try_from(number).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Signal, E> {
                let number =
                    i64::try_from(number).map_err(|_| E::custom(InvalidSignal(number.to_string())))?;
                Signal::try_from(number).map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Signal, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl PartialSchema for Signal {
    fn schema() -> RefOr<Schema> {
        let number =
            ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MAX_SIGNAL));
        let name = ObjectBuilder::new().schema_type(Type::String).examples(["TERM"]);
        OneOfBuilder::new()
            .item(number)
            .item(name)
            .description(Some("A signal: 1 to 64, or a name such as `TERM` or `SIGTERM`."))
            .into()
    }
}

impl ToSchema for Signal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_read() {
        for text in ["15", "\"TERM\"", "\"SIGTERM\"", "\"sigterm\"", "\"15\""] {
            let signal: Signal = serde_json::from_str(text).unwrap();
            assert_eq!(signal.number(), 15, "{text}");
        }
        assert_eq!(Signal::try_from(15).unwrap().to_string(), "SIGTERM");
        assert_eq!(Signal::try_from(40).unwrap().to_string(), "signal 40");
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in ["0", "65", "-9", "9999999999999999999", "\"SIGNOPE\"", "\"\"", "1.5", "null", "true"] {
            assert!(serde_json::from_str::<Signal>(text).is_err(), "{text}");
        }
    }
}
