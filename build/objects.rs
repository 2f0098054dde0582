//! Compiles what has changed since the last build, and no more: cargo runs a build script again for any change below cpp/,
//! and cc compiles all that it is given.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The objects of `sources`, and of the files that `build` has already (those of cxx_build), compiled as it is set into `folder`. One of
/// the last build serves again if its command was the same, and none of the files that it was made of, libtorch's headers
/// included, has changed since.
pub fn objects(build: &cc::Build, sources: &[&str], folder: &Path) -> Result<Vec<PathBuf>, cc::Error> {
    let mut build = build.clone();
    build.out_dir(folder).flag("-MD"); // beside each object, the files that it was made of
    // Not the command as it is run, whose environment is that of cargo: another target folder is no other object.
    let compiler = build.get_compiler();
    let command = format!("{:?} {:?}", compiler.path(), compiler.args());
    let fixed: Vec<_> = build.get_files().map(Path::to_owned).collect();
    let (mut objects, mut stale) = (Vec::new(), Vec::new());
    for source in sources.iter().map(PathBuf::from) {
        match made(&source, folder, &command) {
            Some(object) => objects.push(object),
            None => stale.push(source),
        }
    }
    let fixed_objects: Option<Vec<_>> = fixed.iter().map(|source| made(source, folder, &command)).collect();
    match fixed_objects {
        Some(made) if stale.is_empty() => objects.extend(made),
        _ => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let compiled = build.files(&stale).try_compile_intermediates()?;
            for (source, object) in fixed.iter().chain(&stale).zip(&compiled) {
                let text = format!("{now}\n{}\n{command}", object.display());
                std::fs::write(record(source, folder), text).expect("the folder of the objects can be written");
            }
            objects.extend(compiled);
        }
    }
    Ok(objects)
}

/// Where it is kept when, as what and how a source was compiled.
fn record(source: &Path, folder: &Path) -> PathBuf {
    folder.join(format!("{}.made", source.display().to_string().replace('/', "-")))
}

/// The object of a source, if it is what compiling it now would make.
fn made(source: &Path, folder: &Path, command: &str) -> Option<PathBuf> {
    let record = std::fs::read_to_string(record(source, folder)).ok()?;
    let [time, object, with] = record.splitn(3, '\n').collect::<Vec<_>>().try_into().ok()?;
    let time: u128 = time.parse().ok()?;
    let unchanged = |path: &str| {
        let changed = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
        (changed.duration_since(UNIX_EPOCH).ok()?.as_nanos() < time).then_some(())
    };
    let parts = std::fs::read_to_string(Path::new(object).with_extension("d")).ok()?;
    // make's syntax: `object: part part \`, where a space in a name is led by a backslash.
    let (_, parts) = parts.split_once(": ")?;
    let parts = parts.replace("\\\n", " ").replace("\\ ", "\0");
    parts.split_whitespace().try_for_each(|part| unchanged(&part.replace('\0', " ")))?;
    (with == command && Path::new(object).is_file()).then(|| object.into())
}
