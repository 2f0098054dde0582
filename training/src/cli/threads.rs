//! How many threads, and how they wait.

use crate::models::Model;
use std::num::NonZeroU16;

/// The threads that were asked for, or as many as serve the model: one where its steps are too short to share, else those of
/// the machine less one for the batches, where it has more than two; or the share of one of several runs at once.
pub fn choose<M: Model>(wanted: Option<NonZeroU16>, at_once: usize) -> i32 {
    let available = available();
    match wanted {
        Some(wanted) => i32::from(wanted.get()),
        None if M::SHORT_STEPS => 1,
        None if at_once > 1 => (available / at_once).max(1) as i32,
        None if available > 2 => available as i32 - 1,
        None => available as i32,
    }
}

/// The cores that the process may use.
pub fn available() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get())
}

/// Starts the program again with threads that sleep while they wait, unless the user has chosen how they wait.
///
/// OpenMP's threads turn round a flag by default. Beside other work that costs a multiple of the time: 300 steps of the MLP
/// with two threads, beside two busy processes on two cores, took 11.4 s, and 1.6 s when they slept (one thread: 0.4 s). The
/// library reads its setting when it is loaded, before `main`.
pub fn wait_passively() {
    const POLICY: &str = "OMP_WAIT_POLICY";
    #[cfg(unix)]
    if std::env::var_os(POLICY).is_none()
        && let Ok(program) = std::env::current_exe()
    {
        use std::os::unix::process::CommandExt;
        let mut again = std::process::Command::new(program);
        if let Some(name) = std::env::args_os().next() {
            again.arg0(name);
        }
        // It does not come back, unless it fails: then this goes on as it is.
        let _ = again.args(std::env::args_os().skip(1)).env(POLICY, "PASSIVE").exec();
    }
}
