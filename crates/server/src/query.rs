//! The query of a request: every parameter is taken by name, and what is left over is refused by name.

use std::convert::Infallible;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use hothouse_domain::sandbox::check_path;

use crate::app::App;
use crate::problem::Refusal;

/// At most so many parameters in one query.
const MAX_PARAMETERS: usize = 4096;

/// The parameters of a query that are not taken yet.
#[derive(Debug)]
pub(crate) struct Query {
    left: Vec<(String, String)>,
    /// True when percent-escapes held bytes that are not UTF-8.
    not_text: bool,
    known: Vec<&'static str>,
}

impl Query {
    fn parse(query: &str) -> Self {
        let left: Vec<(String, String)> =
            form_urlencoded::parse(query.as_bytes()).into_owned().take(MAX_PARAMETERS + 1).collect();
        // The parser writes U+FFFD for bytes that are not UTF-8; a path changed like that would name another file.
        let replaced =
            left.iter().any(|(name, value)| name.contains('\u{FFFD}') || value.contains('\u{FFFD}'));
        let not_text =
            replaced && !query.to_ascii_uppercase().contains("%EF%BF%BD") && !query.contains('\u{FFFD}');
        Self { left, not_text, known: Vec::new() }
    }

    /// The value of a parameter; one that is given twice is refused.
    pub(crate) fn take(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        let mut values = self.take_all(name);
        match (values.pop(), values.is_empty()) {
            (value, true) => Ok(value),
            (_, false) => Err(Refusal::field(name, "is given more than once")),
        }
    }

    /// The values of a parameter that may repeat.
    pub(crate) fn take_all(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        self.left.extract_if(.., |(given, _)| given == name).map(|(_, value)| value).collect()
    }

    /// A parameter that reads itself from text.
    pub(crate) fn parsed<T: FromStr<Err: Display>>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error: T::Err| Refusal::field(name, error.to_string()))
    }

    /// A number within a range.
    pub(crate) fn number<T>(
        &mut self,
        name: &'static str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, Refusal>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.take(name)? else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => {
                let given: String = text.chars().take(64).collect();
                let (low, high) = (range.start(), range.end());
                Err(Refusal::field(name, format!("is {given:?}; use a number from {low} to {high}")))
            }
        }
    }

    /// A switch: `true`, `false`, `1`, `0`, or the bare name for true; false when absent.
    pub(crate) fn switch(&mut self, name: &'static str) -> Result<bool, Refusal> {
        match self.take(name)?.as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1" | "") => Ok(true),
            Some(_) => Err(Refusal::field(name, "is neither true nor false")),
        }
    }

    /// An absolute path of the sandbox; it must be given.
    pub(crate) fn path(&mut self, name: &'static str) -> Result<String, Refusal> {
        let Some(path) = self.take(name)? else {
            return Err(Refusal::field(name, format!("is missing; give it as ?{name}=/absolute/path")));
        };
        check_path(name, &path)?;
        Ok(path)
    }

    /// An absolute path that may be missing.
    pub(crate) fn optional_path(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        let Some(path) = self.take(name)? else { return Ok(None) };
        check_path(name, &path)?;
        Ok(Some(path))
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.not_text {
            return Err(Refusal::field("query", "has percent-escapes that are not UTF-8"));
        }
        let Some((name, _)) = self.left.into_iter().next() else { return Ok(()) };
        let name: String = name.chars().take(64).collect();
        let reason = if self.known.is_empty() {
            "is not known here; this route has no query parameters".to_owned()
        } else {
            format!("is not known here; this route takes {}", self.known.join(", "))
        };
        Err(Refusal::field(name, reason))
    }
}

impl FromRequestParts<App> for Query {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _app: &App) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_taken_by_name_and_repeat_only_where_they_may() {
        let mut query = Query::parse("limit=5&label=a%3D1&label=b=2&limit2=1");
        assert_eq!(query.number("limit", 1..=1000).unwrap(), Some(5));
        assert_eq!(query.take_all("label"), ["a=1", "b=2"]);
        let refusal = query.finish().unwrap_err();
        assert_eq!(refusal.0.field.as_deref(), Some("limit2"));
        assert!(refusal.0.detail.contains("takes limit, label"), "{}", refusal.0.detail);
        let refusal = Query::parse("path=/a&path=/b").path("path").unwrap_err();
        assert!(refusal.0.detail.contains("more than once"));
    }

    #[test]
    fn numbers_out_of_range_name_the_range() {
        for text in ["0", "1001", "-1", "x", "", "1.5", "99999999999999999999"] {
            let refusal = Query::parse(&format!("limit={text}")).number("limit", 1..=1000).unwrap_err();
            assert_eq!(refusal.0.field.as_deref(), Some("limit"));
            assert!(refusal.0.detail.contains("1 to 1000"), "{}", refusal.0.detail);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_but_a_replacement_character_is_text() {
        let mut query = Query::parse("path=/%ff");
        query.path("path").unwrap();
        assert!(query.finish().is_err());
        let mut query = Query::parse("path=/%EF%BF%BD");
        query.path("path").unwrap();
        query.finish().unwrap();
    }
}
