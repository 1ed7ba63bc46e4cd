//! Values on their way to and from the harness: the encoding of `harness.py`.

use std::fmt::Write as _;

/// Writes what the harness' `decode` reads.
#[derive(Debug, Default)]
pub(crate) struct Writer(String);

impl Writer {
    /// A map of so many entries; each is a key and a value, written next.
    pub(crate) fn map(&mut self, entries: usize) -> &mut Self {
        self.head('m', entries)
    }

    /// A list of texts.
    pub(crate) fn texts<'a>(&mut self, items: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.head('l', items.len());
        for item in items {
            self.text(item);
        }
        self
    }

    /// A text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.head('s', text.len());
        self.0.push_str(text);
        self
    }

    /// A text or nothing.
    pub(crate) fn maybe(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => {
                self.0.push('n');
                self
            }
        }
    }

    /// A whole number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        // Writing to a string does not fail.
        _ = write!(self.0, "i{number:x};");
        self
    }

    fn head(&mut self, tag: char, count: usize) -> &mut Self {
        // Writing to a string does not fail.
        _ = write!(self.0, "{tag}{count}:");
        self
    }

    /// The value in a frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        frame(self.0.as_bytes())
    }
}

/// Bytes behind their length.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:08x}", bytes.len()).into_bytes();
    framed.extend_from_slice(bytes);
    framed
}

/// Reads a frame with a list of texts, which is what the harness reports.
pub(crate) fn read_texts(framed: &[u8]) -> Option<Vec<String>> {
    let (length, body) = framed.split_at_checked(8)?;
    let length = usize::from_str_radix(str::from_utf8(length).ok()?, 16).ok()?;
    let (count, mut rest) = read_head(body.get(..length)?, b'l')?;
    let mut texts = Vec::new();
    for _ in 0..count {
        let (length, after) = read_head(rest, b's')?;
        let (text, after) = after.split_at_checked(length)?;
        texts.push(str::from_utf8(text).ok()?.to_owned());
        rest = after;
    }
    Some(texts)
}

fn read_head(bytes: &[u8], tag: u8) -> Option<(usize, &[u8])> {
    let bytes = bytes.strip_prefix(&[tag])?;
    let end = bytes.iter().take(20).position(|&b| b == b':')?;
    let count = str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    Some((count, &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_the_harness_reads_it() {
        let mut writer = Writer::default();
        writer.map(3).text("é").maybe(None).text("n").number(255).text("l").texts(["a", ""].into_iter());
        assert_eq!(writer.frame(), "0000001fm3:s2:éns1:niff;s1:ll2:s1:as0:".as_bytes());
    }

    #[test]
    fn a_report_is_read_back_and_a_torn_one_is_none() {
        let mut writer = Writer::default();
        let framed = writer.texts(["why", "", "ünï"].into_iter()).frame();
        assert_eq!(read_texts(&framed).unwrap(), ["why", "", "ünï"]);
        for cut in 0..framed.len() {
            assert_eq!(read_texts(&framed[..cut]), None, "cut at {cut}");
        }
        assert_eq!(read_texts(b"00000003l9:"), None);
        assert_eq!(read_texts(b"ffffffffl0:"), None);
    }
}
