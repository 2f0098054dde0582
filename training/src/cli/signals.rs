//! Signals: one to stop, again to stop at once, one for a checkpoint.

use crate::trainer::Wishes;
use anyhow::{Context, Result};
use experiments::screen::warn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::time::{Duration, Instant};

/// After this time a second signal is another wish.
#[cfg(unix)]
const MEANT: Duration = Duration::from_millis(500);

#[cfg(unix)]
const STOPPING: &str = "stopping after this step, a checkpoint and one more test (press Ctrl-C again to stop at once)";

/// What a program ends with that was interrupted.
pub const INTERRUPTED: u8 = 130;

/// Wishes for a checkpoint, which SIGUSR1 makes: from the beginning, since where nobody listens it ends a program.
pub fn wishes() -> Result<Arc<Wishes>> {
    let wishes = Arc::new(Wishes::default());
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGUSR1, SIGXFSZ};
        use signal_hook::flag::register;
        register(SIGUSR1, wishes.checkpoint.clone()).context("no handler for SIGUSR1")?;
        // A file that may not grow (`ulimit -f`) is an error of the write then, as a full disk is, and no end without a word.
        register(SIGXFSZ, Arc::new(AtomicBool::new(false))).context("no handler for SIGXFSZ")?;
    }
    Ok(wishes)
}

/// Wishes to stop, which SIGINT, SIGTERM and SIGHUP make, once there is something to be lost. One that came in ignored, as
/// SIGHUP does by `nohup`, stays so. One that `tells` says that it has heard.
#[cfg(unix)]
pub fn listen(wishes: &Arc<Wishes>, tells: bool) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let ignored = ignored();
    let heard = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
    let mut signals = signal_hook::iterator::Signals::new(heard).context("no handler for signals")?;
    let told = wishes.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for _ in &mut signals {
            if told.trained.load(Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            if let Some(first) = first {
                // A terminal that is closed sends its signal twice, at once; later the user means it.
                if first.elapsed() >= MEANT {
                    std::process::exit(i32::from(INTERRUPTED));
                }
            } else {
                first = Some(Instant::now());
                told.stop.store(true, Ordering::Relaxed);
                if tells {
                    warn(STOPPING);
                }
            }
        }
    })?;
    Ok(())
}

/// The signals that are ignored, a bit each: Linux tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(not(unix))]
pub fn listen(_wishes: &Arc<Wishes>, _tells: bool) -> Result<()> {
    Ok(())
}
