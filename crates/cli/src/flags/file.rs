//! Files that are put into a sandbox before the command runs.

use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `LOCAL[:PATH]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileFlag {
    /// A file or directory here.
    pub(crate) local: PathBuf,
    /// Where it goes: absolute or relative to the working directory; its own name there when absent.
    path: Option<String>,
}

impl FromStr for FileFlag {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // A name that exists as it stands wins, so that names with colons can be given.
        let (local, path) = match text.rsplit_once(':') {
            Some((local, path)) if !Path::new(text).exists() => (local, Some(path.to_owned())),
            Some(_) | None => (text, None),
        };
        if local.is_empty() {
            return Err("names no local file; use LOCAL or LOCAL:PATH".to_owned());
        }
        if path.as_deref() == Some("") {
            return Err("has no path after ':'; use LOCAL or LOCAL:PATH".to_owned());
        }
        Ok(Self { local: PathBuf::from(local), path })
    }
}

impl FileFlag {
    /// The absolute path in the sandbox, given the working directory there.
    pub(crate) fn target(&self, workdir: &str) -> Result<String, String> {
        let base = workdir.trim_end_matches('/');
        let full = match &self.path {
            Some(path) if path.starts_with('/') => path.clone(),
            Some(path) => format!("{base}/{path}"),
            None => format!("{base}/"),
        };
        if !full.ends_with('/') {
            return Ok(full);
        }
        let real = std::path::absolute(&self.local).map_err(|e| e.to_string())?;
        let name = real.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| "has no usable name; give the path too: LOCAL:PATH".to_owned())?;
        Ok(format!("{full}{name}"))
    }
}

#[cfg(test)]
mod tests {
    use test_case::test_case;

    use super::*;

    #[test_case("a.py" => "/w/a.py")]
    #[test_case("x/a.py:b.py" => "/w/b.py")]
    #[test_case("x/a.py:/opt/b.py" => "/opt/b.py")]
    #[test_case("x/a.py:lib/" => "/w/lib/a.py")]
    #[test_case("x/a.py:/opt/" => "/opt/a.py")]
    #[test_case("./x/" => "/w/x")]
    fn targets(text: &str) -> String {
        text.parse::<FileFlag>().unwrap().target("/w").unwrap()
    }

    #[test_case(""; "empty")]
    #[test_case(":/a"; "no local")]
    #[test_case("a.py:"; "no path")]
    fn refused(text: &str) {
        text.parse::<FileFlag>().unwrap_err();
    }
}
