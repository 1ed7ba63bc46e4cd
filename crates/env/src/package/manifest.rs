//! `openenv.yaml`: what a package says of itself.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file.
const FILE: &str = "openenv.yaml";
/// What is served when nothing else is named.
const DEFAULT_APP: &str = "server.app:app";

/// Why a package is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It has none.
    #[error("{} has no openenv.yaml; `hothouse env init NAME` makes a package", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// What.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// It says nothing that is understood.
    #[error("{}: {reason}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// What plays an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// Our worker.
    Hothouse,
    /// Its own server, an ASGI application.
    Asgi,
}

/// What a package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// How it is called.
    pub name: String,
    /// Changes with its rules.
    pub version: Option<String>,
    /// One sentence.
    pub description: Option<String>,
    /// `package.module:name` of what plays.
    pub app: String,
    /// What plays it.
    pub runtime: Runtime,
}

#[derive(Deserialize)]
struct Fields {
    name: String,
    #[serde(default)]
    version: Option<Text>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    app: Option<String>,
    #[serde(default)]
    runtime: Option<String>,
}

/// A text that YAML may take for a number, as in `version: 1.0`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Number(f64),
}

#[derive(Deserialize)]
struct Pyproject {
    #[serde(default)]
    project: Project,
}

#[derive(Default, Deserialize)]
struct Project {
    #[serde(default)]
    dependencies: Vec<String>,
}

fn read(path: &Path) -> Result<Option<String>, ManifestError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ManifestError::Read { path: path.to_owned(), source }),
    }
}

impl Manifest {
    /// Reads that of a package.
    ///
    /// # Errors
    /// [`ManifestError`]: it has none, or none that is understood.
    pub fn read(directory: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(FILE);
        let text = read(&path)?.ok_or_else(|| ManifestError::Missing(directory.to_owned()))?;
        Self::parse(&text).map_err(|reason| ManifestError::Wrong { path, reason })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let fields: Fields = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if fields.name.is_empty() || fields.name.len() > 63 || !fields.name.chars().all(is_name) {
            return Err(format!("name is {:?}; use letters, digits, - and _", fields.name));
        }
        let app = fields.app.unwrap_or_else(|| DEFAULT_APP.to_owned());
        if app.split_once(':').is_none_or(|(module, name)| module.is_empty() || name.is_empty()) {
            return Err(format!("app is {app:?}; use package.module:name, e.g. {DEFAULT_APP}"));
        }
        let runtime = match fields.runtime.as_deref() {
            Some("hothouse") => Runtime::Hothouse,
            None | Some("fastapi" | "asgi" | "uvicorn") => Runtime::Asgi,
            Some(other) => return Err(format!("runtime is {other:?}; there are hothouse and fastapi")),
        };
        let version = fields.version.map(|version| match version {
            Text::Text(text) => text,
            Text::Number(number) => format!("{number:?}"),
        });
        Ok(Self { name: fields.name, version, description: fields.description, app, runtime })
    }

    /// What the package requires: of `requirements.txt` and of `pyproject.toml`. Packages write into the former what their
    /// image adds to one that has what the latter says, so neither alone is enough.
    ///
    /// # Errors
    /// [`ManifestError`]: that cannot be read.
    pub fn requirements(&self, directory: &Path) -> Result<Vec<String>, ManifestError> {
        let mut all = Vec::new();
        for file in ["requirements.txt", "server/requirements.txt"] {
            if let Some(text) = read(&directory.join(file))? {
                all.extend(lines(&text));
            }
        }
        let path = directory.join("pyproject.toml");
        if let Some(text) = read(&path)? {
            let pyproject: Pyproject = toml::from_str(&text)
                .map_err(|error| ManifestError::Wrong { path, reason: error.to_string() })?;
            all.extend(pyproject.project.dependencies);
        }
        let mut seen = HashSet::new();
        all.retain(|requirement| seen.insert(requirement.clone()));
        Ok(all)
    }
}

/// Requirements without comments.
fn lines(text: &str) -> Vec<String> {
    let without = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
    text.lines().map(without).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openenvs_own_files_are_understood() {
        let text =
            "spec_version: 1\nname: my_env\ntype: space\nruntime: fastapi\napp: server.app:app\nport: 8000\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(
            (manifest.name.as_str(), manifest.app.as_str(), manifest.runtime),
            ("my_env", "server.app:app", Runtime::Asgi)
        );
        let old = "name: echo_env\nversion: 1.0\ndescription: Echoes\naction: EchoAction\nobservation: EchoObservation\n";
        let manifest = Manifest::parse(old).unwrap();
        assert_eq!((manifest.version.as_deref(), manifest.app.as_str()), (Some("1.0"), DEFAULT_APP));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("version: 1", "name"),
            ("name: a/b", "a/b"),
            ("name: ok\napp: server", "app"),
            ("name: ok\nruntime: java", "java"),
            ("[", ""),
        ] {
            let reason = Manifest::parse(text).unwrap_err();
            assert!(reason.contains(named), "{text:?}: {reason}");
        }
    }

    #[test]
    fn requirements_are_those_of_all_files_once_each() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("server")).unwrap();
        fs::write(directory.path().join("server/requirements.txt"), "numpy\ngymnasium>=0.29 # walks\n")
            .unwrap();
        let pyproject = "[project]\nname = \"x\"\ndependencies = [\"openenv>=0.2\", \"numpy\"]\n";
        fs::write(directory.path().join("pyproject.toml"), pyproject).unwrap();
        let manifest = Manifest::parse("name: x").unwrap();
        assert_eq!(
            manifest.requirements(directory.path()).unwrap(),
            ["numpy", "gymnasium>=0.29", "openenv>=0.2"]
        );
    }

    #[test]
    fn requirements_have_no_comments() {
        assert_eq!(lines("# all\nnumpy>=1 # arrays\n\n  chess\n"), ["numpy>=1", "chess"]);
    }
}
