//! Values as people write them: sizes, times, variables, labels.

use std::collections::BTreeMap;
use std::str::FromStr;

use hothouse_domain::id::check_name;

const SIZE_FORMS: &str = "use a number with an optional unit K, M, G or T, e.g. 512M or 1.5G";

/// Bytes from `512M`, `1.5G`, `1048576`, `64KiB`; units are powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(SIZE_FORMS.to_owned()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(|| "is too large; at most 16T".to_owned());
    }
    let number: f64 = number.parse().map_err(|_| SIZE_FORMS.to_owned())?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two up to 2^40 is exact")]
    let bytes = number * (1_u64 << shift) as f64;
    if !(0.0..=1e15).contains(&bytes) {
        return Err("is too large; at most 16T".to_owned());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked against the range above"
    )]
    Ok(bytes.round() as u64)
}

/// Seconds from `10`, `10s`, `500ms`, `1m30s`.
pub(crate) fn duration(text: &str) -> Result<f64, String> {
    const FORMS: &str = "use seconds or a number with a unit, e.g. 10, 0.5, 500ms, 2m, 1h30m";
    if let Ok(seconds) = text.parse::<f64>() {
        return if seconds.is_finite() && seconds >= 0.0 { Ok(seconds) } else { Err(FORMS.to_owned()) };
    }
    humantime::parse_duration(text).map(|d| d.as_secs_f64()).map_err(|_| FORMS.to_owned())
}

/// `K=V`, or `K` for the value that the variable has here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EnvFlag {
    name: String,
    value: Option<String>,
}

impl FromStr for EnvFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, std::env::var(text).ok()),
        };
        if name.is_empty() {
            return Err("has no name; use NAME=VALUE, or NAME to pass the variable on".to_owned());
        }
        Ok(Self { name: name.to_owned(), value })
    }
}

impl EnvFlag {
    /// All of them as a map; a later one wins, and one to pass on that is not set here is left out.
    pub(crate) fn map(flags: Vec<Self>) -> BTreeMap<String, String> {
        flags.into_iter().filter_map(|flag| Some((flag.name, flag.value?))).collect()
    }
}

/// `K=V`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelFlag {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for LabelFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("has no '='; use NAME=VALUE")?;
        check_name(name).map_err(|e| format!("name {e}"))?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// `NAME=AMOUNT`, e.g. `gpus=2` or `memory_bytes=16G`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AmountFlag {
    pub(crate) name: String,
    pub(crate) amount: f64,
}

impl FromStr for AmountFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "use NAME=AMOUNT, e.g. gpus=2, cpus=7.5 or memory_bytes=16G";
        let (name, amount) = text.split_once('=').ok_or(FORMS)?;
        check_name(name).map_err(|e| format!("name {e}"))?;
        #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^52")]
        let number = amount.parse::<f64>().or_else(|_| size(amount).map(|bytes| bytes as f64));
        let amount = number.map_err(|_| FORMS)?;
        let amounts = [(name.to_owned(), amount)].into();
        hothouse_domain::capacity::check_amounts("", &amounts).map_err(|invalid| invalid.reason)?;
        Ok(Self { name: name.to_owned(), amount })
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("0" => Ok(0))]
    #[test_case("1048576" => Ok(1 << 20))]
    #[test_case("512M" => Ok(512 << 20))]
    #[test_case("512m" => Ok(512 << 20))]
    #[test_case("512MiB" => Ok(512 << 20))]
    #[test_case("64 KiB" => Ok(64 << 10); "space before the unit")]
    #[test_case("1.5G" => Ok(3 << 29))]
    #[test_case("2T" => Ok(2 << 40))]
    #[test_case("12Q" => Err(SIZE_FORMS.to_owned()))]
    #[test_case("" => Err(SIZE_FORMS.to_owned()); "empty")]
    #[test_case("M" => Err(SIZE_FORMS.to_owned()); "only a unit")]
    #[test_case("-5M" => Err(SIZE_FORMS.to_owned()); "negative")]
    #[test_case("1..5G" => Err(SIZE_FORMS.to_owned()); "two points")]
    #[test_case("99999999999T" => Err("is too large; at most 16T".to_owned()))]
    #[test_case("999999999.5T" => Err("is too large; at most 16T".to_owned()))]
    fn sizes(text: &str) -> Result<u64, String> {
        size(text)
    }

    #[test_case("10", Some(10.0))]
    #[test_case("0.5", Some(0.5))]
    #[test_case("500ms", Some(0.5))]
    #[test_case("1m30s", Some(90.0))]
    #[test_case("-1", None)]
    #[test_case("inf", None)]
    #[test_case("soon", None)]
    fn durations(text: &str, expected: Option<f64>) {
        assert_eq!(duration(text).ok(), expected);
    }

    #[test]
    fn a_later_variable_wins_and_an_unset_one_is_left_out() {
        let flags = ["A=1", "A=2=3", "HOTHOUSE_TEST_SURELY_UNSET", "EMPTY="];
        let map = EnvFlag::map(flags.iter().map(|f| f.parse().unwrap()).collect());
        assert_eq!(map, [("A".into(), "2=3".into()), ("EMPTY".into(), String::new())].into());
    }
}
