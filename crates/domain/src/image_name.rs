//! What images are called: names as registries know them, and ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::problem::Invalid;

/// The registry of names that have none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// The longest name without tag and digest, in bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;
const FORMS: &str = "use [HOST/]NAME[:TAG][@sha256:HEX], e.g. debian:12 or ghcr.io/org/app@sha256:…";

/// `[HOST/]NAME[:TAG][@DIGEST]` with everything filled in: `debian` is `docker.io/library/debian:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName {
    host: String,
    repository: String,
    /// Absent only where there is a digest.
    tag: Option<String>,
    digest: Option<ImageId>,
}

/// `sha256:` and 64 hexadecimal digits; in questions the first 8 or more will do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageId(String);

impl ImageId {
    /// From its digits.
    ///
    /// # Errors
    /// A fragment that says what is wrong.
    pub fn from_digits(digits: &str) -> Result<Self, String> {
        let fits = (8..=64).contains(&digits.len());
        if fits && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(Self(format!("sha256:{digits}")));
        }
        Err("is no id; use sha256: and 8 to 64 of its digits in lower case".to_owned())
    }

    /// Its digits.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True unless only its first digits are given.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.digits().len() == 64
    }

    /// The first digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.digits()[..self.digits().len().min(12)]
    }
}

impl TryFrom<String> for ImageId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix("sha256:").ok_or("is no digest; use sha256:HEX")?;
        Self::from_digits(digits)
    }
}

impl From<ImageId> for String {
    fn from(id: ImageId) -> Self {
        id.0
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialSchema for ImageId {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^sha256:[0-9a-f]{8,64}$"));
        text.description(Some("`sha256:` and hexadecimal digits.")).build().into()
    }
}

impl ToSchema for ImageId {}

impl ImageName {
    /// Reads a name and fills in what it leaves out.
    ///
    /// # Errors
    /// A fragment that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let short: String = text.chars().take(64).collect();
        let bad = |why: &str| format!("{short:?} is no name of an image: {why}; {FORMS}");
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = ImageId::try_from(digest.to_owned()).ok().filter(ImageId::is_whole);
                (rest, Some(digest.ok_or_else(|| bad("the digest is not sha256: and 64 digits"))?))
            }
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let name_at = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[name_at..].split_once(':') {
            Some((last, tag)) => (&rest[..name_at + last.len()], Some(tag)),
            None => (rest, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(bad("the tag has to be 1 to 128 of letters, digits, '_', '.', '-'"));
        }
        if name.len() > MAX_NAME {
            return Err(bad("it is longer than 255 bytes"));
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("library/{name}")),
        };
        if !path.split('/').all(is_component) {
            return Err(bad(
                "its parts are lower-case letters and digits, with '.', '_' or '-' between them",
            ));
        }
        // One name for one registry.
        let host = if host == "index.docker.io" { DEFAULT_REGISTRY } else { host };
        let repository =
            if host == DEFAULT_REGISTRY && !path.contains('/') { format!("library/{path}") } else { path };
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }

    /// The registry, with its port where one is named.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What the registry calls it.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, unless there is a digest alone.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that its manifest must have.
    #[must_use]
    pub fn digest(&self) -> Option<&ImageId> {
        self.digest.as_ref()
    }

    /// The same repository by a digest alone.
    #[must_use]
    pub fn at(&self, digest: ImageId) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The name without its digest: what an image is called in the store. `None` where there is a digest alone.
    #[must_use]
    pub fn tagged(&self) -> Option<Self> {
        self.tag.as_ref().map(|_| Self { digest: None, ..self.clone() })
    }

    /// As people write it: without what is filled in.
    #[must_use]
    pub fn familiar(&self) -> String {
        let whole = self.to_string();
        let rest = whole.strip_prefix("docker.io/").unwrap_or(&whole);
        let short = rest.strip_prefix("library/").unwrap_or(rest);
        // `docker.io/localhost/app` would become another name.
        if Self::parse(short).as_ref() == Ok(self) { short.to_owned() } else { whole }
    }
}

fn is_host(text: &str) -> bool {
    let named = text == "localhost" || text.contains(['.', ':']);
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']');
    named && text.bytes().all(good) && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
}

fn is_tag(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=MAX_TAG).contains(&text.len()) && text.bytes().all(good) && !text.starts_with(['.', '-'])
}

fn is_component(text: &str) -> bool {
    let alone = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let good = |b: u8| alone(b) || matches!(b, b'.' | b'_' | b'-');
    let bytes = text.as_bytes();
    let ends = bytes.first().copied().is_some_and(alone) && bytes.last().copied().is_some_and(alone);
    ends && bytes.iter().copied().all(good) && !text.contains("..")
}

impl TryFrom<String> for ImageName {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text).map_err(|reason| Invalid::new("name", reason))
    }
}

impl FromStr for ImageName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::try_from(text.to_owned())
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl PartialSchema for ImageName {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(512));
        text.description(Some("`[HOST/]NAME[:TAG][@sha256:HEX]`.")).build().into()
    }
}

impl ToSchema for ImageName {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use test_case::test_case;

    use super::*;
    use crate::ImageRef;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test_case("debian" => "docker.io/library/debian:latest")]
    #[test_case("debian:12" => "docker.io/library/debian:12")]
    #[test_case("org/app" => "docker.io/org/app:latest")]
    #[test_case("docker.io/debian" => "docker.io/library/debian:latest")]
    #[test_case("ghcr.io/a/b/c:v1" => "ghcr.io/a/b/c:v1")]
    #[test_case("localhost/app" => "localhost/app:latest")]
    #[test_case("localhost:5000/app:1" => "localhost:5000/app:1")]
    #[test_case("127.0.0.1:5000/app" => "127.0.0.1:5000/app:latest")]
    #[test_case("a__b-c.d" => "docker.io/library/a__b-c.d:latest")]
    fn names_are_filled_in(text: &str) -> String {
        ImageName::parse(text).unwrap().to_string()
    }

    #[test]
    fn a_digest_needs_no_tag_and_may_have_one() {
        let alone = ImageName::parse(&format!("a@sha256:{HEX}")).unwrap();
        assert_eq!((alone.tag(), alone.tagged()), (None, None));
        let both = ImageName::parse(&format!("a:1@sha256:{HEX}")).unwrap();
        assert_eq!(both.digest().unwrap().digits(), HEX);
        assert_eq!(both.tagged().unwrap().to_string(), "docker.io/library/a:1");
        assert_eq!(both.familiar(), format!("a:1@sha256:{HEX}"));
    }

    #[test_case(""; "empty")]
    #[test_case("Debian"; "upper case")]
    #[test_case("a//b"; "empty part")]
    #[test_case("../a"; "dots")]
    #[test_case("a/../b"; "dots inside")]
    #[test_case("a:"; "empty tag")]
    #[test_case("a:-x"; "tag with a dash first")]
    #[test_case("a@sha256:12"; "short digest")]
    #[test_case("a@md5:00"; "other digest")]
    #[test_case("-a"; "dash first")]
    #[test_case("a b"; "space")]
    #[test_case("a\0b"; "nul")]
    fn what_is_no_name_is_refused(text: &str) {
        assert!(ImageName::parse(text).unwrap_err().contains("no name of an image"));
    }

    #[test_case("host" => "host")]
    #[test_case("dir:/srv/root" => "dir:/srv/root")]
    #[test_case("oci:/srv/layout" => "oci:/srv/layout")]
    #[test_case("oci:/srv/layout:v1" => "oci:/srv/layout:v1")]
    #[test_case("oci-archive:/a.tar:x" => "oci-archive:/a.tar:x")]
    #[test_case("docker-archive:/a.tar:app:1" => "docker-archive:/a.tar:app:1")]
    #[test_case("tarball:/a.tar" => "tarball:/a.tar")]
    #[test_case("docker://debian:12" => "docker://docker.io/library/debian:12")]
    #[test_case("docker-daemon:debian" => "docker-daemon:debian:latest")]
    #[test_case("debian" => "debian:latest")]
    #[test_case("sha256:0123456789" => "sha256:0123456789")]
    fn references(text: &str) -> String {
        text.parse::<ImageRef>().unwrap().to_string()
    }

    #[test_case("oci:relative")]
    #[test_case("dir:relative")]
    #[test_case("tarball:/a:b")]
    #[test_case("sha256:xyz")]
    #[test_case("https://host/a")]
    #[test_case("snapshot:../s1")]
    #[test_case("docker://"; "nothing after the transport")]
    fn what_is_no_reference_is_refused(text: &str) {
        assert_eq!(text.parse::<ImageRef>().unwrap_err().field, "image");
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_refused(text in "\\PC{0,80}") {
            if let Ok(name) = ImageName::parse(&text) {
                prop_assert_eq!(&ImageName::parse(&name.to_string()).unwrap(), &name);
                prop_assert_eq!(&ImageName::parse(&name.familiar()).unwrap(), &name);
            }
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(&image.to_string().parse::<ImageRef>().unwrap(), &image);
            }
        }

        #[test]
        fn names_as_people_write_them_come_back(text in "([a-z]{1,4}(\\.io|:50)?/)?[a-z]{1,5}(/[a-z0-9]{1,3}){0,2}(:[a-z0-9.]{1,4})?") {
            if let Ok(name) = ImageName::parse(&text) {
                prop_assert_eq!(&ImageName::parse(&name.familiar()).unwrap(), &name);
            }
        }
    }
}
