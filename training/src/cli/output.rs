//! A run as the user sees it.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

use crate::trainer::observer::{Begun, Observer, Stepped, Tested};
use experiments::run::Run;
use experiments::screen::say;

/// A duration in as many units as say something.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// A run on the screen: a bar on a terminal, and a line for each test.
pub fn screen() -> Box<dyn Observer> {
    let bar = std::io::stdout().is_terminal().then(|| {
        // What does not fit into the line is left out.
        let style = "{prefix} {bar:20} {pos}/{len} steps, {elapsed} gone, {wide_msg}";
        ProgressBar::no_length().with_style(ProgressStyle::with_template(style).expect("a valid template"))
    });
    Box::new(Screen { bar, begun: None })
}

struct Screen {
    bar: Option<ProgressBar>,
    begun: Option<Begun>,
}

impl Screen {
    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }
}

impl Observer for Screen {
    fn on_begin(&mut self, run: &Begun) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(run.name.clone());
            bar.set_length(run.planned as u64);
            bar.reset();
            bar.set_position(run.done as u64);
            bar.enable_steady_tick(Duration::from_millis(500));
        } else {
            self.line(&format!("{}: {} steps of {} {}", run.name, run.planned - run.done, run.batch_size, run.samples));
        }
        self.begun = Some(run.clone());
    }

    fn on_step(&mut self, step: &Stepped) {
        if let Some(bar) = &self.bar {
            bar.set_position(step.step as u64);
            bar.set_message(format!("{} left", duration(step.left)));
        }
    }

    fn on_testing(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_message("testing");
        }
    }

    fn on_test(&mut self, test: &Tested) {
        let Some(Begun { name, planned, batch_size, samples, .. }) = &self.begun else { return };
        let Tested { evaluation, rate, is_best, stepped } = test;
        let per_second = *batch_size as f64 / stepped.per_step.as_secs_f64().max(1e-9);
        let best = if *is_best { " (best)" } else { "" };
        let validation = match (evaluation.validation_loss, evaluation.validation_error) {
            (Some(loss), Some(error)) => format!("validation loss {loss:.4}, validation error {error:.2} %{best}, "),
            _ => String::new(),
        };
        let best = if validation.is_empty() { best } else { "" };
        self.line(&format!(
            "{name}: step {}/{planned}, loss {:.4}, {validation}test loss {:.4}, test error {:.2} %{best}, rate {}, \
             {per_second:.0} {samples}/s, {} left",
            evaluation.step,
            evaluation.train_loss,
            evaluation.test_loss,
            evaluation.test_error,
            experiments::report::text::short(*rate),
            duration(stepped.left)
        ));
    }

    fn on_message(&mut self, text: &str) {
        self.line(text);
    }

    fn on_end(&mut self, name: &str, run: &Run) {
        if let Some(bar) = &self.bar {
            bar.disable_steady_tick();
            bar.finish_and_clear();
        }
        let error = run.curve.last().map_or("-".to_owned(), |row| format!("{:.2} %", row.test_error));
        let note = run.record.cut_short().map(|note| format!(" ({note})")).unwrap_or_default();
        self.line(&format!("{name}: {} steps, test error {error}{note}", run.record.progress.steps));
    }
}
