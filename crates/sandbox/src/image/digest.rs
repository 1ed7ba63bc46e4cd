//! SHA-256 of what flows by.

use std::io::{self, Read};

use hothouse_domain::ImageId;
use sha2::{Digest as _, Sha256};

use super::error::Fault;

/// Hashes bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Hasher {
    hash: Sha256,
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    pub(super) fn finish(self) -> ImageId {
        let digits: String = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        ImageId::from_digits(&digits).expect("a SHA-256 has 64 digits")
    }
}

/// The digest of these bytes.
pub(super) fn of(bytes: &[u8]) -> ImageId {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

/// A whole digest as images name it.
pub(super) fn parse(text: &str) -> Result<ImageId, Fault> {
    let id = ImageId::try_from(text.to_owned()).ok().filter(ImageId::is_whole);
    let short: String = text.chars().take(80).collect();
    id.ok_or_else(|| Fault::invalid(format!("{short:?} is not a digest that can be checked; only sha256 is")))
}

/// Hashes what is read through it.
#[derive(Debug)]
pub(super) struct HashingReader<R> {
    inner: R,
    pub(super) hasher: Hasher,
}

impl<R> HashingReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default() }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_digest() {
        assert_eq!(of(b"").digits(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        let mut reader = HashingReader::new(&b"abc"[..]);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        assert_eq!(reader.hasher.finish(), of(b"abc"));
        assert!(parse("sha256:00").is_err());
        assert!(parse("sha512:00").is_err());
    }
}
