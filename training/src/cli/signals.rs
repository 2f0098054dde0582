//! Signals: one to stop, again to stop at once, one for a checkpoint.

use crate::screen::warn;
use crate::trainer::Wishes;
use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// After this time a second signal is another wish.
#[cfg(unix)]
const MEANT: Duration = Duration::from_millis(500);

/// What a program ends with that was interrupted.
pub const INTERRUPTED: u8 = 130;

/// Wishes that SIGINT, SIGTERM and SIGHUP make to stop, and SIGUSR1 makes to have a checkpoint. One that came in ignored, as
/// SIGHUP does by `nohup`, stays so.
#[cfg(unix)]
pub fn listen() -> Result<Arc<Wishes>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
    let wishes = Arc::new(Wishes::default());
    let ignored = ignored();
    let heard = [SIGINT, SIGTERM, SIGHUP, SIGUSR1].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(heard).context("no handler for signals")?;
    let told = wishes.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for signal in &mut signals {
            if signal == SIGUSR1 {
                told.checkpoint.store(true, Ordering::Relaxed);
            } else if let Some(first) = first {
                // A terminal that is closed sends its signal twice, at once; later the user means it.
                if first.elapsed() >= MEANT {
                    std::process::exit(i32::from(INTERRUPTED));
                }
            } else {
                first = Some(Instant::now());
                told.stop.store(true, Ordering::Relaxed);
                warn("stopping after this step, a checkpoint and one more test (press Ctrl-C again to stop at once)");
            }
        }
    })?;
    Ok(wishes)
}

/// The signals that are ignored, a bit each: Linux tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
pub fn listen() -> Result<Arc<Wishes>> {
    Ok(Arc::new(Wishes::default()))
}
