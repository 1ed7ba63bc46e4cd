//! Templates and pools as files, so that a server that was killed finds them again.
//!
//! ```text
//! $HOTHOUSE_HOME/fleet/templates/<name>.json      a TemplateInfo
//! $HOTHOUSE_HOME/fleet/pools/<name>.json          a PoolRecord
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use hothouse_domain::{PoolPhase, PoolSpec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{FleetError, FleetStartError};

const SUFFIX: &str = "json";
/// Ends the name of a file that is being written; what a killed process left of one is not read.
const UNFINISHED: &str = "unfinished";

/// What is kept of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolRecord {
    pub(crate) spec: PoolSpec,
    pub(crate) phase: PoolPhase,
}

/// One directory of records, a file each.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    directory: PathBuf,
}

impl Shelf {
    /// The directory of this name in the home, made when absent.
    pub(crate) fn open(home: &Path, name: &str) -> Result<Self, FleetStartError> {
        let directory = home.join("fleet").join(name);
        match fs::create_dir_all(&directory) {
            Ok(()) => Ok(Self { directory }),
            Err(error) => Err(FleetStartError { path: directory, reason: error.to_string() }),
        }
    }

    /// Every record, in the order of the names.
    pub(crate) fn all<T: DeserializeOwned>(&self) -> Result<Vec<T>, FleetStartError> {
        let failed = |path: &Path, reason: String| FleetStartError { path: path.to_owned(), reason };
        let entries = fs::read_dir(&self.directory).map_err(|e| failed(&self.directory, e.to_string()))?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| failed(&self.directory, e.to_string()))?.path();
            if path.extension().is_some_and(|end| end == SUFFIX) {
                paths.push(path);
            }
        }
        paths.sort();
        let read = |path: &PathBuf| {
            let bytes = fs::read(path).map_err(|e| failed(path, e.to_string()))?;
            serde_json::from_slice(&bytes).map_err(|e| failed(path, e.to_string()))
        };
        paths.iter().map(read).collect()
    }

    /// Writes a record; whoever reads the file finds all of it or all of what was there before.
    pub(crate) fn put(&self, name: &str, record: &impl Serialize) -> Result<(), FleetError> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            let unfinished = path.with_extension(UNFINISHED);
            let mut file = fs::File::create(&unfinished)?;
            serde_json::to_writer_pretty(&mut file, record)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(|source| FleetError::Shelf { path: path.clone(), source })
    }

    /// Removes a record; one that is gone already is as good.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FleetError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FleetError::Shelf { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A name has no slash; with a dot in it, only what follows the last one would be replaced by `with_extension`.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.{SUFFIX}"))
    }
}

#[cfg(test)]
mod tests {
    use hothouse_domain::{TemplateInfo, TemplateSpec};

    use super::*;

    fn template(name: &str, version: u64) -> TemplateInfo {
        TemplateInfo { name: name.parse().unwrap(), version, spec: TemplateSpec::default() }
    }

    #[test]
    fn what_is_put_is_found_again_and_what_was_left_half_written_is_not() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(home.path(), "templates").unwrap();
        for record in [template("py.3", 1), template("py.4", 1), template("py.3", 2)] {
            shelf.put(record.name.as_str(), &record).unwrap();
        }
        fs::write(home.path().join("fleet/templates/torn.unfinished"), "{").unwrap();
        let again = Shelf::open(home.path(), "templates").unwrap();
        assert_eq!(again.all::<TemplateInfo>().unwrap(), [template("py.3", 2), template("py.4", 1)]);
        again.remove("py.3").unwrap();
        again.remove("py.3").unwrap();
        assert_eq!(again.all::<TemplateInfo>().unwrap(), [template("py.4", 1)]);
    }

    #[test]
    fn a_broken_record_is_named() {
        let home = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(home.path(), "templates").unwrap();
        fs::write(home.path().join("fleet/templates/bad.json"), "{").unwrap();
        let error = shelf.all::<TemplateInfo>().unwrap_err().to_string();
        assert!(error.contains("bad.json") && error.contains("repair"), "{error}");
    }
}
