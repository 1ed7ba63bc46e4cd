//! What nothing uses any more is removed.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::time::{Duration, SystemTime};

use hothouse_domain::ImageId;
use hothouse_domain::image::{PruneSpec, Pruned};

use super::error::Fault;
use super::import::survey;
use super::library::{ImageRecord, Library, key};

/// A download that nobody has gone on with for so long is given up.
const STALE: Duration = Duration::from_hours(24);

fn idle_for(library: &Library, record: &ImageRecord) -> Duration {
    let imported = SystemTime::from(record.imported_at);
    let last = library.used_at(&record.id).map_or(imported, |used| used.max(imported));
    // A time in the future is now.
    last.elapsed().unwrap_or_default()
}

/// Removes an image with all its names, unless something uses it.
pub(super) fn remove(library: &Library, id: &ImageId) -> Result<Pruned, Fault> {
    {
        let _lock = library.lock()?;
        if library.written_down().contains(id) || !forget(library, id)? {
            return Err(Fault {
                code: hothouse_domain::ErrorCode::ImageInUse,
                reason: "sandboxes are made from it; delete them first, `hothouse ps` lists them".to_owned(),
            });
        }
    }
    let mut pruned = sweep(library)?;
    pruned.images.push(id.clone());
    Ok(pruned)
}

/// Removes the record of an image; false when somebody has it. Call it with the store locked.
fn forget(library: &Library, id: &ImageId) -> Result<bool, Fault> {
    let Some(seized) = library.seize(id)? else { return Ok(false) };
    for (name, named) in library.names()? {
        if named == *id {
            library.unname(&name)?;
        }
    }
    let path = library.path("images", &format!("{}.json", id.digits()));
    fs::remove_file(&path).map_err(|e| Fault::store(path.display(), &e))?;
    // Nobody looks for it without the record; what stays is replaced when the image comes again.
    drop(fs::remove_file(path.with_extension("config")));
    let pin = library.path("pins", id.digits());
    fs::remove_file(&pin).map_err(|e| Fault::store(pin.display(), &e))?;
    drop(seized);
    Ok(true)
}

/// Removes images that nothing uses.
pub(super) fn prune(library: &Library, spec: PruneSpec) -> Result<Pruned, Fault> {
    let mut gone = Vec::new();
    {
        let _lock = library.lock()?;
        let written_down = library.written_down();
        let names = library.names()?;
        let named: HashSet<&ImageId> =
            names.iter().filter(|(name, _)| name.tag().is_some()).map(|(_, id)| id).collect();
        for id in library.ids()? {
            if written_down.contains(&id) || (named.contains(&id) && !spec.all) {
                continue;
            }
            let Some(record) = library.record(&id)? else { continue };
            let old = idle_for(library, &record) >= Duration::from_secs(spec.unused_for_s);
            if old && forget(library, &id)? {
                gone.push(id);
            }
        }
    }
    let mut pruned = sweep(library)?;
    pruned.images.extend(gone);
    Ok(pruned)
}

/// Removes the images that were used longest ago until the store is within its limit. `keep` is not among them.
pub(super) fn shrink(library: &Library, keep: &ImageId) -> Result<Pruned, Fault> {
    let mut gone = Vec::new();
    {
        let _lock = library.lock()?;
        let written_down = library.written_down();
        let mut records = Vec::new();
        for id in library.ids()? {
            records.extend(library.record(&id)?);
        }
        let mut users: HashMap<String, usize> = HashMap::new();
        let mut bytes = 0;
        for layer in records.iter().flat_map(|record| &record.layers) {
            let users = users.entry(key(&layer.digest).to_owned()).or_default();
            *users += 1;
            if *users == 1 {
                bytes += layer.bytes;
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(idle_for(library, record)));
        for record in records {
            if bytes <= library.limits.max_store_bytes {
                break;
            }
            if record.id == *keep || written_down.contains(&record.id) || !forget(library, &record.id)? {
                continue;
            }
            for layer in &record.layers {
                if let Some(users) = users.get_mut(key(&layer.digest)) {
                    *users -= 1;
                    if *users == 0 {
                        bytes -= layer.bytes;
                    }
                }
            }
            gone.push(record.id);
        }
        if bytes > library.limits.max_store_bytes {
            let (limit, over) = (library.limits.max_store_bytes, bytes);
            let reason =
                format!("the images in use and this one take {over} bytes; the store may have {limit}");
            forget(library, keep)?;
            drop(_lock);
            sweep(library)?;
            return Err(Fault::no_space(format!("{reason}: end some sandboxes or raise --image-space")));
        }
    }
    if gone.is_empty() {
        return Ok(Pruned::default());
    }
    let mut pruned = sweep(library)?;
    pruned.images.extend(gone);
    Ok(pruned)
}

/// Removes layers of no image, what killed imports left, and downloads that nobody goes on with.
pub(super) fn sweep(library: &Library) -> Result<Pruned, Fault> {
    let mut pruned = Pruned::default();
    let trash = {
        let _lock = library.lock()?;
        let imports = survey(library)?;
        let mut used = imports.wants;
        for id in library.ids()? {
            let record = library.record(&id)?;
            used.extend(record.iter().flat_map(|r| &r.layers).map(|layer| key(&layer.digest).to_owned()));
        }
        let mut trash = imports.dead;
        let layers = library.layers();
        let entries = fs::read_dir(&layers).map_err(|e| Fault::store(layers.display(), &e))?;
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let base = name.split('.').next().unwrap_or_default();
            if used.contains(base) {
                continue;
            }
            let path = entry.path();
            if name != base {
                let bytes = fs::read(&path)
                    .ok()
                    .and_then(|text| serde_json::from_slice::<super::library::LayerRecord>(&text).ok())
                    .map_or(0, |record| record.bytes);
                pruned.bytes += bytes;
                fs::remove_file(&path).map_err(|e| Fault::store(path.display(), &e))?;
                continue;
            }
            // Out of the way at once; its files go when the lock is free again.
            let away = library.path("imports", &format!("trash-{}", uuid::Uuid::new_v4().simple()));
            fs::rename(&path, &away).map_err(|e| Fault::store(path.display(), &e))?;
            pruned.layers += 1;
            trash.push(away);
        }
        trash
    };
    for path in trash {
        super::remove::remove_path(&path).map_err(|e| Fault::store(path.display(), &e))?;
    }
    let blobs = library.path("blobs", "");
    for entry in fs::read_dir(&blobs).map_err(|e| Fault::store(blobs.display(), &e))?.flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
        if age.is_ok_and(|age| age.is_ok_and(|age| age > STALE)) {
            // One that is still being written is younger; one that is gone already is what we want.
            drop(fs::remove_file(entry.path()));
        }
    }
    Ok(pruned)
}
