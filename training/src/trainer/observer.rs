//! Who looks on while a run is trained.

use experiments::curve::Evaluation;
use experiments::run::Run;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What there is to know of a run when it begins.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Its name, such as svgd-seed0.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The steps that were done before.
    pub done: usize,
    /// Those that it is to have at the end.
    pub planned: usize,
    /// Samples in a step, and what they are called.
    pub batch_size: usize,
    pub samples: &'static str,
}

/// Where a run stands after a step.
#[derive(Debug, Clone, Copy)]
pub struct Stepped {
    pub step: usize,
    /// The median time of one.
    pub per_step: Duration,
    /// Until the end, tests included.
    pub left: Duration,
}

/// What a test found.
#[derive(Debug, Clone, Copy)]
pub struct Tested<'a> {
    pub evaluation: &'a Evaluation,
    pub rate: f64,
    /// Whether its error is the least so far.
    pub is_best: bool,
    pub stepped: Stepped,
}

/// Looks on. Whatever fails here is no reason to stop training: it is the observer's own business.
pub trait Observer {
    fn on_begin(&mut self, _run: &Begun) {}
    /// Now and then, after a step.
    fn on_step(&mut self, _step: &Stepped) {}
    /// Before a test, which takes a while.
    fn on_testing(&mut self) {}
    fn on_test(&mut self, _test: &Tested) {}
    fn on_checkpoint(&mut self, _step: usize, _folder: &Path) {}
    /// A word for the user.
    fn on_message(&mut self, _text: &str) {}
    fn on_end(&mut self, _name: &str, _run: &Run) {}
}

/// Several that look on.
impl Observer for Vec<Box<dyn Observer>> {
    fn on_begin(&mut self, run: &Begun) {
        self.iter_mut().for_each(|observer| observer.on_begin(run));
    }

    fn on_step(&mut self, step: &Stepped) {
        self.iter_mut().for_each(|observer| observer.on_step(step));
    }

    fn on_testing(&mut self) {
        self.iter_mut().for_each(|observer| observer.on_testing());
    }

    fn on_test(&mut self, test: &Tested) {
        self.iter_mut().for_each(|observer| observer.on_test(test));
    }

    fn on_checkpoint(&mut self, step: usize, folder: &Path) {
        self.iter_mut().for_each(|observer| observer.on_checkpoint(step, folder));
    }

    fn on_message(&mut self, text: &str) {
        self.iter_mut().for_each(|observer| observer.on_message(text));
    }

    fn on_end(&mut self, name: &str, run: &Run) {
        self.iter_mut().for_each(|observer| observer.on_end(name, run));
    }
}
