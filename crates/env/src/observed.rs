//! What is shown after a reset or a step, as the JSON that is sent.

use std::io::Write as _;

use serde::Serialize;

use crate::environment::Era;
use crate::game::Failed;

/// What a step was worth. It keeps its type on the way to the client.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Reward {
    /// Nothing is said of it.
    #[default]
    None,
    /// True or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number; one that is not finite is null on the wire.
    Number(f64),
}

impl Reward {
    /// As a number, as it is sent over HTTP.
    #[must_use]
    pub fn as_number(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Flag(flag) => Some(f64::from(u8::from(flag))),
            #[expect(clippy::cast_precision_loss, reason = "a reward is no such number")]
            Self::Integer(number) => Some(number as f64),
            Self::Number(number) => Some(number),
        }
    }

    /// The same, always as a number.
    #[must_use]
    pub fn coerced(self) -> Self {
        self.as_number().map_or(Self::None, Self::Number)
    }

    /// What a JSON text says it is.
    ///
    /// # Errors
    /// [`Failed`]: it is neither null, nor true or false, nor a number.
    pub fn parse(text: &str) -> Result<Self, Failed> {
        let wrong = || Failed::new(format!("the reward is {text}, which is no number"));
        match serde_json::from_str(text).map_err(|_no_json| wrong())? {
            serde_json::Value::Null => Ok(Self::None),
            serde_json::Value::Bool(flag) => Ok(Self::Flag(flag)),
            serde_json::Value::Number(number) => Ok(number
                .as_i64()
                .map_or_else(|| Self::Number(number.as_f64().unwrap_or(f64::NAN)), Self::Integer)),
            _ => Err(wrong()),
        }
    }

    /// Writes it as JSON, as Python's clients know it: a whole float has its `.0`.
    pub fn write(self, out: &mut Vec<u8>) {
        let written = match self {
            Self::Flag(flag) => write!(out, "{flag}"),
            Self::Integer(number) => write!(out, "{number}"),
            Self::Number(number) if number.is_finite() => {
                serde_json::to_writer(&mut *out, &number).map_err(Into::into)
            }
            Self::None | Self::Number(_) => write!(out, "null"),
        };
        debug_assert!(written.is_ok(), "writing to memory does not fail");
    }
}

/// What is shown after a reset or a step. One is kept for each session and written anew each time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The fields of the observation, as a JSON object.
    fields: Vec<u8>,
    /// What is told beside it, as a JSON object; empty when there is nothing.
    metadata: Vec<u8>,
    /// What it was worth.
    pub reward: Reward,
    /// The episode is over.
    pub done: bool,
}

impl Observed {
    /// Shows these fields, in this order.
    ///
    /// # Errors
    /// [`Failed`]: they are no JSON object.
    pub fn show(&mut self, fields: &impl Serialize, reward: Reward, done: bool) -> Result<(), Failed> {
        write_object(&mut self.fields, fields)?;
        self.metadata.clear();
        (self.reward, self.done) = (reward, done);
        Ok(())
    }

    /// Tells something beside it.
    ///
    /// # Errors
    /// [`Failed`]: it is no JSON object.
    pub fn tell(&mut self, metadata: &impl Serialize) -> Result<(), Failed> {
        write_object(&mut self.metadata, metadata)
    }

    /// Shows what comes as JSON already: the fields, and what is told beside them, if anything.
    ///
    /// # Errors
    /// [`Failed`]: one of them is no JSON object.
    pub fn from_json(fields: &str, reward: Reward, done: bool, metadata: &str) -> Result<Self, Failed> {
        let is_object = |text: &str| text.starts_with('{') && text.ends_with('}');
        if !is_object(fields) {
            return Err(Failed::new("the observation is no object"));
        }
        let metadata = match metadata {
            "" | "null" | "{}" => "",
            text if is_object(text) => text,
            _ => return Err(Failed::new("the observation's metadata is no object")),
        };
        Ok(Self { fields: fields.into(), metadata: metadata.into(), reward, done })
    }

    /// Bytes of what is shown.
    #[must_use]
    pub fn size(&self) -> usize {
        self.fields.len() + self.metadata.len()
    }

    /// Writes what is sent of it: `"observation":…,"reward":…,"done":…`.
    pub fn write(&self, era: Era, reward: Reward, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"observation\":{");
        let fields = self.fields.get(1..).unwrap_or(b"}");
        if era == Era::Today {
            out.extend_from_slice(b"\"metadata\":");
            out.extend_from_slice(if self.metadata.is_empty() { b"{}" } else { &self.metadata });
            if fields != b"}" {
                out.push(b',');
            }
        }
        out.extend_from_slice(fields);
        out.extend_from_slice(b",\"reward\":");
        reward.write(out);
        out.extend_from_slice(if self.done { b",\"done\":true" } else { b",\"done\":false" });
    }

    /// What is told beside it, as a JSON object.
    #[must_use]
    pub fn metadata(&self) -> Option<&[u8]> {
        (!self.metadata.is_empty()).then_some(self.metadata.as_slice())
    }

    /// The fields, as a JSON object.
    #[must_use]
    pub fn fields(&self) -> &[u8] {
        &self.fields
    }
}

fn write_object(out: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Failed> {
    out.clear();
    serde_json::to_writer(&mut *out, value)
        .map_err(|e| Failed::new(format!("it cannot be told as JSON: {e}")))?;
    if out.first() == Some(&b'{') { Ok(()) } else { Err(Failed::new("it is told as no object")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_written_as_python_writes_them() {
        for (reward, text) in [
            (Reward::Number(1.0), "1.0"),
            (Reward::Number(-0.0), "-0.0"),
            (Reward::Number(0.1 * 3.0), "0.30000000000000004"),
            (Reward::Number(f64::NAN), "null"),
            (Reward::Number(f64::INFINITY), "null"),
            (Reward::Integer(1), "1"),
            (Reward::Flag(true), "true"),
            (Reward::None, "null"),
        ] {
            let mut out = Vec::new();
            reward.write(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            if text != "null" {
                assert_eq!(Reward::parse(text).unwrap(), reward);
            }
        }
        assert!(Reward::parse("\"x\"").is_err());
        assert_eq!(Reward::Flag(true).coerced(), Reward::Number(1.0));
    }

    #[test]
    fn what_is_no_object_is_not_shown() {
        let mut observed = Observed::default();
        assert!(observed.show(&3, Reward::None, false).is_err());
        assert!(Observed::from_json("[]", Reward::None, false, "{}").is_err());
        assert!(Observed::from_json("{}", Reward::None, false, "7").is_err());
        let empty = Observed::from_json("{}", Reward::None, true, "null").unwrap();
        let mut out = Vec::new();
        empty.write(Era::Today, empty.reward, &mut out);
        assert_eq!(out, b"\"observation\":{\"metadata\":{}},\"reward\":null,\"done\":true");
    }
}
