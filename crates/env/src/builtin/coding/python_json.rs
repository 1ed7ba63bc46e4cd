//! JSON as Python's `json.dumps` writes it.

use std::fmt::Write as _;

use hothouse_domain::{Json, JsonObject};

/// A value as `json.dumps` writes it.
pub(super) fn dumps(value: &Json) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Json, out: &mut String) {
    // Writing to memory does not fail.
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(flag) => _ = write!(out, "{flag}"),
        Json::Whole(number) => _ = write!(out, "{number}"),
        Json::Negative(number) => _ = write!(out, "{number}"),
        Json::Number(number) => write_float(*number, out),
        Json::Text(text) => write_text(text, out),
        Json::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write(item, out);
            }
            out.push(']');
        }
        Json::Object(JsonObject(fields)) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_text(name, out);
                out.push_str(": ");
                write(value, out);
            }
            out.push('}');
        }
    }
}

/// The shortest digits that are this number, with an exponent where Python has one.
fn write_float(number: f64, out: &mut String) {
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        out.push_str(&plain);
        if !plain.contains('.') {
            out.push_str(".0");
        }
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        _ = write!(out, "{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            ' '..='~' => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("16", "16")]
    #[test_case("-3", "-3")]
    #[test_case("[1,[],{},null,true]", "[1, [], {}, null, true]")]
    #[test_case(r#"{"b":1,"a":[2.0,"x"]}"#, r#"{"b": 1, "a": [2.0, "x"]}"#; "in its order")]
    #[test_case("\"h\u{e9}\u{1f40d}\"", r#""h\u00e9\ud83d\udc0d""#; "no ASCII")]
    #[test_case(r#""\u0000\u001f\u007f\b\f\n\r\t\"\\/""#, r#""\u0000\u001f\u007f\b\f\n\r\t\"\\/""#; "escapes")]
    #[test_case("1.0", "1.0")]
    #[test_case("-0.0", "-0.0")]
    #[test_case("0.1", "0.1")]
    #[test_case("0.30000000000000004", "0.30000000000000004")]
    #[test_case("1e-4", "0.0001")]
    #[test_case("1e-5", "1e-05")]
    #[test_case("1.5e-7", "1.5e-07")]
    #[test_case("1e15", "1000000000000000.0")]
    #[test_case("1e16", "1e+16")]
    #[test_case("123456789012345680.0", "1.2345678901234568e+17")]
    #[test_case("1e300", "1e+300")]
    #[test_case("5e-324", "5e-324")]
    fn it_is_what_python_writes(read: &str, written: &str) {
        assert_eq!(dumps(&serde_json::from_str(read).unwrap()), written);
    }
}
