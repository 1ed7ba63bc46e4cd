//! Comparing what a program printed with what it must print. Done here, where no solution can reach.

use super::row::Compare;

/// How the two differ, in a line; `None` when they do not.
pub(super) fn difference(how: Compare, expected: &str, found: &[u8]) -> Option<String> {
    match how {
        Compare::Exact => (expected.as_bytes() != found).then(|| {
            let at = expected.bytes().zip(found).take_while(|(a, b)| a == *b).count();
            format!("standard output differs at byte {at}: {} instead of {}", piece(&found[at..]), {
                piece(&expected.as_bytes()[at..])
            })
        }),
        Compare::Lines => differing(expected, &text(found), "line", |all| {
            let mut lines: Vec<&str> = all.lines().map(str::trim_end).collect();
            while lines.last() == Some(&"") {
                lines.pop();
            }
            lines
        }),
        Compare::Words => {
            differing(expected, &text(found), "word", |all| all.split_whitespace().collect::<Vec<_>>())
        }
    }
}

/// Bytes that are not text become U+FFFD, which stands in no expected output unless its author put it there.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn differing(
    expected: &str,
    found: &str,
    unit: &str,
    split: impl for<'a> Fn(&'a str) -> Vec<&'a str>,
) -> Option<String> {
    let (expected, found) = (split(expected), split(found));
    if expected == found {
        return None;
    }
    let at = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let show = |items: &[&str]| items.get(at).map_or("nothing".to_owned(), |item| piece(item.as_bytes()));
    let (wrong, right) = (show(&found), show(&expected));
    Some(format!("standard output differs at {unit} {}: {wrong} instead of {right}", at + 1))
}

fn piece(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let shown: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case(Compare::Exact, "a\n", b"a\n" => None)]
    #[test_case(Compare::Exact, "a\n", b"a" => Some("standard output differs at byte 1: nothing instead of \"\\n\"".into()))]
    #[test_case(Compare::Exact, "abc", b"axc" => Some("standard output differs at byte 1: \"xc\" instead of \"bc\"".into()))]
    #[test_case(Compare::Lines, "a\nb\n", b"a  \nb\n\n" => None; "trailing blanks")]
    #[test_case(Compare::Lines, "a\nb\n", b"a\r\nb" => None; "carriage returns")]
    #[test_case(Compare::Lines, "a\nb\n", b"a\n b\n" => Some("standard output differs at line 2: \" b\" instead of \"b\"".into()); "leading blank")]
    #[test_case(Compare::Lines, "a\n", b"a\nb\n" => Some("standard output differs at line 2: \"b\" instead of nothing".into()); "too much")]
    #[test_case(Compare::Lines, "a\n", b"" => Some("standard output differs at line 1: nothing instead of \"a\"".into()); "nothing")]
    #[test_case(Compare::Words, "1 2\n3", b" 1\n2 3 " => None; "other blanks")]
    #[test_case(Compare::Words, "1 2", b"1 3" => Some("standard output differs at word 2: \"3\" instead of \"2\"".into()); "other word")]
    #[test_case(Compare::Words, "1", b"\xff1" => Some("standard output differs at word 1: \"\u{fffd}1\" instead of \"1\"".into()); "not text")]
    fn outputs(how: Compare, expected: &str, found: &[u8]) -> Option<String> {
        difference(how, expected, found)
    }
}
