//! Files from the network: gone on with after a break, verified before anything else sees them, by one program at a time.

use anyhow::{Context, Result, anyhow, bail};
use experiments::files::hexadecimal;
use experiments::screen::{say, warn};
use indicatif::{ProgressBar, ProgressStyle};
use md5::{Digest, Md5};
use std::cell::RefCell;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// What the names of files and folders begin with that are not whole yet.
const PART: &str = ".part-";
const UNPACKING: &str = ".unpacking-";
const LOCK: &str = ".downloading.lock";

/// A download that can be gone on with.
#[derive(Debug)]
pub struct Broken(String);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of an environment variable, or what stands for it.
pub fn variable(name: &str, default: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty()).unwrap_or_else(|| default.to_owned())
}

/// A checksum as people give it: in capitals, or with a file's name behind it as md5sum prints it.
pub fn checksum(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_lowercase()
}

/// The folder of all data while this program alone downloads into it. What a killed one was unpacking is removed.
pub struct Downloads<'a> {
    folder: &'a Path,
    /// What was fetched, to be kept until it is unpacked.
    fetched: RefCell<Vec<PathBuf>>,
    _lock: File,
}

impl<'a> Downloads<'a> {
    /// Waits while another program has it.
    pub fn into_folder(folder: &'a Path) -> Result<Self> {
        let context = || format!("{}: cannot be written", folder.display());
        std::fs::create_dir_all(folder).with_context(context)?;
        let lock = File::create(folder.join(LOCK)).with_context(context)?;
        if let Err(TryLockError::WouldBlock) = lock.try_lock() {
            say(&format!("another program is downloading into {}: waiting for it", folder.display()));
            lock.lock().with_context(context)?;
        }
        for entry in std::fs::read_dir(folder).with_context(context)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(UNPACKING) {
                std::fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
            }
        }
        Ok(Self { folder, fetched: RefCell::default(), _lock: lock })
    }

    /// A file, at its beginning. What came of it before a break is not fetched again. Where there is an MD5, it has this.
    pub fn fetch(&self, name: &str, url: &str, md5: Option<&str>) -> Result<File> {
        // What came from another address is another file.
        let address = &hexadecimal(&Md5::digest(url))[..8];
        let path = self.folder.join(format!("{PART}{address}-{name}"));
        self.fetched.borrow_mut().push(path.clone());
        let cannot_write = || format!("{}: cannot be written", path.display());
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(&path).with_context(cannot_write)?;
        let have = file.metadata().with_context(cannot_write)?.len();
        say(&format!("downloading {name} from {url}{}", if have > 0 { ", where it was broken off" } else { "" }));
        receive(url, have, &mut file).map_err(|error| {
            let text = "cannot be downloaded; where there is no network, give the folder of the data with --data";
            error.context(Broken(format!("{url}: {text}")))
        })?;
        if let Some(expected) = md5 {
            let found = digest(&mut file)?;
            if found != checksum(expected) {
                self.forget();
                bail!(
                    "{url}: expected the MD5 {}, got {found}: this is another file, or a damaged one; check the address",
                    checksum(expected)
                );
            }
        }
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// A folder to unpack into, which a killed program's successor removes.
    pub fn unpacking(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::Builder::new().prefix(UNPACKING).tempdir_in(self.folder)?)
    }

    /// Removes what was fetched, which is no longer wanted, or nothing to go on from.
    pub fn forget(&self) {
        for path in self.fetched.borrow_mut().drain(..) {
            std::fs::remove_file(path).ok();
        }
    }

    /// Syncs the files of an unpacked folder and gives it its name: a crash leaves no half a data set behind. What was
    /// fetched for it goes.
    pub fn publish(&self, unpacked: &Path, folder: &Path) -> Result<()> {
        for file in std::fs::read_dir(unpacked).context("the archive has no data")? {
            File::open(file?.path())?.sync_all()?;
        }
        std::fs::rename(unpacked, folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        self.forget();
        Ok(())
    }
}

fn digest(file: &mut File) -> Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let (mut digest, mut buffer) = (Md5::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// Appends what the file lacks.
fn receive(url: &str, have: u64, file: &mut File) -> Result<()> {
    let silence = Duration::from_secs(variable("DOWNLOAD_SILENCE", "60").parse().unwrap_or(60));
    // No limit for the whole: a slow line is none that is down.
    let agent = ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(Duration::from_secs(30)))
        .build()
        .new_agent();
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        // Nothing is left to send: it was whole.
        Err(ureq::Error::StatusCode(416)) if have > 0 => return Ok(()),
        Err(reason) => return Err(reason.into()),
    };
    let goes_on = response.status().as_u16() == 206;
    if have > 0 && !goes_on {
        file.set_len(0)?;
    }
    let length = response.body().content_length();
    let bar = download_bar(length);
    // A thread of its own, since a read that nobody answers does not return.
    let (sender, receiver) = sync_channel::<io::Result<Vec<u8>>>(8);
    std::thread::spawn(move || {
        let mut reader = response.into_body().into_reader();
        loop {
            let mut buffer = vec![0; 1 << 16];
            let sent = match reader.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    buffer.truncate(count);
                    sender.send(Ok(buffer))
                }
                Err(error) => {
                    sender.send(Err(error)).ok();
                    return;
                }
            };
            if sent.is_err() {
                return;
            }
        }
    });
    let mut received = 0;
    loop {
        match receiver.recv_timeout(silence) {
            Ok(Ok(bytes)) => {
                file.write_all(&bytes)?;
                received += bytes.len() as u64;
                bar.inc(bytes.len() as u64);
            }
            Ok(Err(error)) => return Err(anyhow!(error).context("the connection broke; run this again to go on")),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                bail!("nothing came for {} s; run this again to go on", silence.as_secs())
            }
        }
    }
    bar.finish_and_clear();
    if let Some(length) = length
        && received < length
    {
        warn(&format!("{url}: ended after {received} of {length} bytes"));
        bail!("it ended early; run this again to go on");
    }
    file.sync_all()?;
    Ok(())
}

fn download_bar(length: Option<u64>) -> ProgressBar {
    if !io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left");
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style.expect("a valid template"))
}
