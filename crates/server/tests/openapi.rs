//! The checked-in description of the API is the one that the code gives.
#![expect(clippy::tests_outside_test_module, reason = "the whole file is a test")]

use std::path::Path;

use anyhow::{Context, Result, ensure};

#[test]
fn the_checked_in_description_is_current() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../api/openapi.json");
    let current = hothouse_server::openapi_json();
    if std::env::var_os("HOTHOUSE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &current).with_context(|| format!("writing {}", path.display()))?;
    }
    let checked_in = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(
        checked_in == current,
        "api/openapi.json is not what the code gives; \
         HOTHOUSE_BLESS=1 cargo test -p hothouse-server --test openapi writes it"
    );
    Ok(())
}

#[test]
fn every_operation_has_a_summary_a_tag_and_an_id_of_its_own() -> Result<()> {
    let document: serde_json::Value = serde_json::from_str(&hothouse_server::openapi_json())?;
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("methods")? {
            ensure!(operation["summary"].is_string(), "{method} {path} has no summary");
            ensure!(operation["tags"].is_array(), "{method} {path} has no tag");
            let id = operation["operationId"].as_str().with_context(|| format!("{method} {path}: no id"))?;
            ensure!(ids.insert(id.to_owned()), "{id} names two operations");
        }
    }
    Ok(())
}

#[test]
fn every_reference_points_at_something() -> Result<()> {
    let text = hothouse_server::openapi_json();
    let document: serde_json::Value = serde_json::from_str(&text)?;
    let mut count = 0;
    for piece in text.split("\"$ref\": \"#").skip(1) {
        let pointer = piece.split('"').next().unwrap_or_default();
        ensure!(document.pointer(pointer).is_some(), "{pointer} is not in the document");
        count += 1;
    }
    ensure!(count > 20, "only {count} references were looked at");
    Ok(())
}
