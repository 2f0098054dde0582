//! Files from the network, verified before anything else sees them.

use super::super::files::hexadecimal;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

/// Why a data set is not to be had: no network, or something else at the other end.
pub struct Unavailable(pub String);

/// The value of an environment variable, or what stands for it.
pub fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Downloads a file into `folder`, where it has no name, and returns it at its beginning if it has this MD5.
pub fn download(name: &str, url: &str, md5: &str, folder: &Path) -> Result<Result<File, Unavailable>> {
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .timeout_recv_body(Some(Duration::from_secs(3600)))
        .build()
        .new_agent();
    let mut response = match agent.get(url).call() {
        Ok(response) => response,
        Err(reason) => return Ok(Err(Unavailable(reason.to_string()))),
    };
    let length = response.body().content_length();
    println!("downloading {name} from {url}");
    std::fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;

    let mut file = tempfile::tempfile_in(folder).with_context(|| format!("{}: cannot be written", folder.display()))?;
    let bar = download_bar(name, length);
    let mut reader = bar.wrap_read(response.body_mut().as_reader());
    let (mut digest, mut buffer) = (Md5::new(), vec![0; 1 << 16]);
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(reason) => return Ok(Err(Unavailable(reason.to_string()))),
        };
        digest.update(&buffer[..count]);
        file.write_all(&buffer[..count]).with_context(|| format!("{}: cannot be written", folder.display()))?;
    }
    bar.finish_and_clear();
    let found = hexadecimal(&digest.finalize());
    if found != md5 {
        return Ok(Err(Unavailable(format!("{url}: expected MD5 {md5}, got {found}, so this is another file"))));
    }
    file.rewind()?;
    Ok(Ok(file))
}

/// Syncs the files of a folder and gives it its name: a crash leaves no half a data set behind.
pub fn publish(unpacked: &Path, folder: &Path) -> Result<()> {
    for file in std::fs::read_dir(unpacked).context("the archive has no data")? {
        File::open(file?.path())?.sync_all()?;
    }
    std::fs::rename(unpacked, folder).with_context(|| format!("{}: cannot be made", folder.display()))
}

fn download_bar(name: &str, length: Option<u64>) -> ProgressBar {
    if !io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style.expect("a valid template")).with_prefix(name.to_owned())
}
