//! How fast it goes, and how long it will take.

use std::time::{Duration, Instant};

/// Measurements whose median is taken.
const KEPT: usize = 256;

/// The times of steps and tests of this process: what a run took before it was gone on with says nothing of now.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    steps_since: usize,
    /// Seconds of one step each, the oldest overwritten first.
    steps: Vec<f64>,
    measured: usize,
    test: Option<f64>,
}

impl Pace {
    pub fn new() -> Self {
        Self { since: Instant::now(), steps_since: 0, steps: Vec::new(), measured: 0, test: None }
    }

    /// A step was asked for, which a device may not have done yet.
    pub fn stepped(&mut self) {
        self.steps_since += 1;
    }

    /// All steps so far are done: returns the seconds since this was last said.
    pub fn looked(&mut self) -> f64 {
        let seconds = self.since.elapsed().as_secs_f64();
        if self.steps_since > 0 {
            let each = seconds / self.steps_since as f64;
            match self.steps.len() {
                KEPT => self.steps[self.measured % KEPT] = each,
                _ => self.steps.push(each),
            }
            self.measured += 1;
        }
        self.restart();
        seconds
    }

    /// A test began at this time and is over.
    pub fn tested(&mut self, began: Instant) {
        self.test = Some(began.elapsed().as_secs_f64());
    }

    /// What was between steps is not theirs.
    pub fn restart(&mut self) {
        (self.since, self.steps_since) = (Instant::now(), 0);
    }

    /// The median time of a step.
    pub fn per_step(&self) -> Option<Duration> {
        let mut sorted = self.steps.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).map(|&seconds| Duration::from_secs_f64(seconds))
    }

    /// Until the end, with so many steps and tests to come.
    pub fn left(&self, steps: usize, tests: usize) -> Duration {
        let step = self.per_step().unwrap_or_default().as_secs_f64();
        Duration::from_secs_f64(step * steps as f64 + self.test.unwrap_or(0.0) * tests as f64)
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_median_step_and_of_the_tests() {
        let mut pace = Pace { steps: vec![0.5, 9.0, 1.0], test: Some(4.0), ..Pace::new() };
        assert_eq!(pace.per_step(), Some(Duration::from_secs(1)));
        assert_eq!(pace.left(10, 2), Duration::from_secs(18));
        pace.steps.clear();
        assert_eq!((pace.per_step(), pace.left(10, 0)), (None, Duration::ZERO));
        // Nothing was asked for since: no measurement.
        pace.looked();
        assert!(pace.steps.is_empty());
        // The oldest goes.
        for _ in 0..KEPT + 3 {
            pace.stepped();
            pace.looked();
        }
        assert_eq!((pace.steps.len(), pace.measured), (KEPT, KEPT + 3));
    }
}
