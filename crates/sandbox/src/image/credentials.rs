//! Who we are to a registry: as `docker login` and `podman login` have left it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hothouse_domain::Secret;
use hothouse_domain::image::RegistryCredentials;
use serde::Deserialize;

/// A name under which Docker keeps its own registry.
const DOCKER_KEY: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: BTreeMap<String, AuthEntry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
}

/// Files that may have a login, the most specific first.
fn files() -> Vec<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let named = var("REGISTRY_AUTH_FILE");
    let docker = var("DOCKER_CONFIG").map(|dir| dir.join("config.json"));
    let runtime = var("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let home = var("HOME").map(|home| home.join(".docker/config.json"));
    [named, docker, runtime, home].into_iter().flatten().collect()
}

/// The login for a registry, if this machine has one.
pub(super) fn find(host: &str) -> Option<RegistryCredentials> {
    files().into_iter().find_map(|path| {
        let text = std::fs::read(&path).ok()?;
        match serde_json::from_slice(&text) {
            Ok(file) => in_file(&file, host),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "logins of registries cannot be read");
                None
            }
        }
    })
}

fn in_file(file: &AuthFile, host: &str) -> Option<RegistryCredentials> {
    let own = [host.to_owned(), format!("https://{host}"), format!("http://{host}")];
    let docker = (host == hothouse_domain::image_name::DEFAULT_REGISTRY).then(|| DOCKER_KEY.to_owned());
    let entry = own.iter().chain(&docker).find_map(|key| file.auths.get(key))?;
    let plain = STANDARD.decode(entry.auth.trim()).ok()?;
    let (username, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    let password = Secret::new(password.trim_end_matches('\0').to_owned());
    Some(RegistryCredentials { username: username.to_owned(), password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found_by_host() {
        let text = r#"{"auths":{"localhost:5000":{"auth":"dTpwOnc="},"https://index.docker.io/v1/":{"auth":"YTpi"},
            "ghcr.io":{}},"credsStore":"x"}"#;
        let file: AuthFile = serde_json::from_str(text).unwrap();
        let local = in_file(&file, "localhost:5000").unwrap();
        assert_eq!((local.username.as_str(), local.password.reveal()), ("u", "p:w"));
        assert_eq!(in_file(&file, "docker.io").unwrap().username, "a");
        assert_eq!(in_file(&file, "ghcr.io"), None);
        assert_eq!(in_file(&file, "quay.io"), None);
    }
}
