//! Runs put together: sections of one schedule on one data set, and in them rows of runs that differ in the seed alone.

use super::reference::{self, published_data};
use super::text::{grouped, short};
use crate::curve::Evaluation;
use crate::experiment::{self, BatchNorm, Experiment};
use crate::optimizer::OptimizerKind;
use crate::recipe::Recipe;
use crate::record::{Conditions, Record};
use crate::run::Run;
use anyhow::{Result, ensure};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Runs of one model on one data set by one schedule: a table and a figure.
pub struct Section<'a> {
    pub experiment: &'static Experiment,
    pub rows: Vec<Row<'a>>,
    /// The authors' curves, of the optimizers that are in the rows. Empty where the data are not the authors'.
    pub authors: BTreeMap<OptimizerKind, Vec<Evaluation>>,
}

/// Runs of one optimizer under the same conditions, a seed each. Only these are averaged.
pub struct Row<'a> {
    pub optimizer: OptimizerKind,
    /// The optimizer, and what tells the row from others of the section.
    pub label: String,
    /// The number of the row among those of its optimizer.
    pub variant: usize,
    pub runs: Vec<&'a Run>,
}

impl Row<'_> {
    /// What holds for all runs of the row.
    pub fn record(&self) -> &Record {
        &self.runs[0].record
    }

    pub fn ended_early(&self) -> bool {
        self.record().cut_short().is_some()
    }
}

/// The sections of the report: by experiment, the paper's data and longest schedule first.
pub fn sections<'a>(runs: &'a [Run], authors: Option<&Path>) -> Result<Vec<Section<'a>>> {
    let mut groups: Vec<(&'static Experiment, Vec<&Run>)> = Vec::new();
    for run in runs {
        let experiment = run.record.experiment()?;
        match groups.iter_mut().find(|(_, others)| is_same_section(&others[0].record, &run.record)) {
            Some((_, others)) => others.push(run),
            None => groups.push((experiment, vec![run])),
        }
    }
    groups.sort_by(|(left, lefts), (right, rights)| order(left, &lefts[0].record, right, &rights[0].record));
    let sections = groups
        .into_iter()
        .map(|(experiment, runs)| {
            let mut section = Section { experiment, rows: rows(experiment, runs), authors: BTreeMap::new() };
            if let Some(folder) = authors.filter(|_| section.is_on_the_papers_data()) {
                for optimizer in section.optimizers() {
                    if let Some(curve) = reference::load(folder, experiment, optimizer)? {
                        section.authors.insert(optimizer, curve);
                    }
                }
            }
            Ok(section)
        })
        .collect::<Result<Vec<Section>>>()?;
    if let Some(folder) = authors {
        let logged =
            |section: &Section| section.optimizers().into_iter().any(|o| section.experiment.log_file(o).is_some());
        let asked = sections.iter().any(|section| section.is_on_the_papers_data() && logged(section));
        let found = sections.iter().any(|section| !section.authors.is_empty());
        ensure!(
            found || !asked,
            "{}: expected the authors' curves of these runs, found none of them",
            folder.display()
        );
    }
    Ok(sections)
}

fn is_same_section(left: &Record, right: &Record) -> bool {
    let text = |record: &Record| {
        let Conditions { experiment, model, data, .. } = &record.conditions;
        [experiment, model, &data.name].map(String::clone)
    };
    let sizes = |record: &Record| {
        let Conditions { data, batch_size, planned_steps, .. } = &record.conditions;
        [data.training, data.test, *batch_size, *planned_steps]
    };
    text(left) == text(right)
        && sizes(left) == sizes(right)
        && left.conditions.decay_at == right.conditions.decay_at
        && left.conditions.recipe.cosine == right.conditions.recipe.cosine
        && left.conditions.budget == right.conditions.budget
}

fn order(left: &Experiment, left_record: &Record, right: &Experiment, right_record: &Record) -> Ordering {
    let place = |experiment: &Experiment| experiment::ALL.iter().position(|other| other.name == experiment.name);
    let foreign = |experiment: &Experiment, record: &Record| record.conditions.data.name != published_data(experiment);
    let share = |record: &Record| record.conditions.budget.unwrap_or(0.0);
    place(left)
        .cmp(&place(right))
        .then(foreign(left, left_record).cmp(&foreign(right, right_record)))
        .then(left_record.conditions.data.name.cmp(&right_record.conditions.data.name))
        .then(share(right_record).total_cmp(&share(left_record)))
        .then(right_record.conditions.planned_steps.cmp(&left_record.conditions.planned_steps))
        .then(left_record.conditions.batch_size.cmp(&right_record.conditions.batch_size))
}

fn rows<'a>(experiment: &Experiment, runs: Vec<&'a Run>) -> Vec<Row<'a>> {
    let mut groups: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|group| group[0].record.is_like(&run.record)) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    let traits: Vec<_> = groups.iter().map(|group| traits(experiment, &group[0].record)).collect();
    let optimizers: Vec<_> = groups.iter().map(|group| group[0].record.conditions.optimizer).collect();
    let mut rows: Vec<Row> = Vec::new();
    for (number, mut runs) in groups.into_iter().enumerate() {
        runs.sort_by_key(|run| run.record.seed);
        let optimizer = optimizers[number];
        let mut label = optimizer.name().to_owned();
        for (index, own) in traits[number].iter().enumerate() {
            // What the optimizer settles is told where the optimizer alone does not tell it.
            let others = (0..traits.len()).filter(|&other| !own.of_optimizer || optimizers[other] == optimizer);
            let differs = others.into_iter().any(|other| traits[other][index].text != own.text);
            if (differs || own.unusual) && !own.text.is_empty() {
                label += &format!(", {}", own.text);
            }
        }
        rows.push(Row { optimizer, label, variant: 0, runs });
    }
    // Whole runs first.
    rows.sort_by(|left, right| {
        let key = |row: &Row| (row.optimizer, row.ended_early());
        key(left).cmp(&key(right)).then_with(|| left.label.cmp(&right.label))
    });
    let mut variants = BTreeMap::new();
    for row in &mut rows {
        let next = variants.entry(row.optimizer).or_insert(0);
        row.variant = *next;
        *next += 1;
    }
    rows
}

/// A condition that runs of one section may differ in.
struct Trait {
    text: String,
    /// It goes with the optimizer: rows of other optimizers have others, and nobody wonders.
    of_optimizer: bool,
    /// It is told even where it is the same everywhere.
    unusual: bool,
}

fn traits(experiment: &Experiment, record: &Record) -> Vec<Trait> {
    let Record { conditions, machine, progress, .. } = record;
    let Recipe { momentum, betas, .. } = conditions.recipe;
    let of_all = |text: String| Trait { text, of_optimizer: false, unusual: false };
    // Nothing is said of what is not in use.
    let used = |is: bool, what: &str| of_all(if is { what.to_owned() } else { String::new() });
    let of_optimizer = |text: String, unusual| Trait { text, of_optimizer: true, unusual };
    let scale = conditions.scale.map(|scale| format!("scale {scale}")).unwrap_or_default();
    vec![
        of_all(machine.device.clone()),
        of_all(threads(record)),
        used(conditions.batch_norm == Some(BatchNorm::Batch), "batch norm by test batches"),
        used(conditions.batch_norm == Some(BatchNorm::Running), "batch norm by moving means"),
        used(conditions.amp, "AMP"),
        used(conditions.loss_scale != 1.0, &format!("loss scale {}", conditions.loss_scale)),
        used(machine.cuda_graph, "CUDA graph"),
        of_optimizer(rates(record), has_other_rates(experiment, record)),
        of_optimizer(scale, conditions.scale.is_some_and(|scale| scale != experiment.scale)),
        of_optimizer(penalty("L1", conditions.l1), conditions.l1 != experiment.l1),
        of_optimizer(
            penalty("weight decay", conditions.weight_decay),
            conditions.weight_decay != experiment.weight_decay,
        ),
        of_optimizer(momentum.map(|momentum| format!("momentum {momentum}")).unwrap_or_default(), momentum.is_some()),
        of_optimizer(
            betas.map(|[first, second]| format!("betas {first}, {second}")).unwrap_or_default(),
            betas.is_some(),
        ),
        used(true, &warmup(record)),
        used(true, &label_smoothing(record)),
        used(true, &clipping(record)),
        used(true, &early_stopping(record)),
        of_all(format!("{} parameters", conditions.parameters)),
        of_all(match progress.eval_every {
            0 => "tests at steps of its own".to_owned(),
            every => format!("tests every {every} steps"),
        }),
        of_all(format!("tch-svgd {}", machine.crate_version)),
        of_all(format!("libtorch {}", machine.libtorch_version)),
        of_optimizer(record.cut_short().unwrap_or_default(), record.cut_short().is_some()),
    ]
}

fn warmup(record: &Record) -> String {
    match record.conditions.recipe.warmup {
        0 => String::new(),
        steps => format!("{} steps of warm-up", grouped(steps)),
    }
}

fn label_smoothing(record: &Record) -> String {
    match record.conditions.recipe.label_smoothing {
        0.0 => String::new(),
        share => format!("labels smoothed by {share}"),
    }
}

fn clipping(record: &Record) -> String {
    record.conditions.recipe.clip_norm.map(|norm| format!("clipped at {norm}")).unwrap_or_default()
}

fn early_stopping(record: &Record) -> String {
    let told = |tests| match tests {
        1 => "early stopping after a test that is no better".to_owned(),
        tests => format!("early stopping after {tests} tests without a better one"),
    };
    record.conditions.recipe.patience.map(told).unwrap_or_default()
}

fn penalty(name: &str, factor: f64) -> String {
    if factor == 0.0 { String::new() } else { format!("{name} {factor:e}") }
}

fn threads(record: &Record) -> String {
    let threads = record.machine.threads;
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// The rates that were in use.
fn rates(record: &Record) -> String {
    let Conditions { decay_at, rates, .. } = &record.conditions;
    match decay_at {
        Some(_) => format!("rates {}", rates.map(short).join(", ")),
        None => format!("rate {}", short(rates[0])),
    }
}

fn has_other_rates(experiment: &Experiment, record: &Record) -> bool {
    let own = experiment.rates(record.conditions.optimizer);
    // They may have been computed: a tenth of something.
    let is_other = |(left, right): (f64, f64)| (left - right).abs() > 1e-9 * right.abs();
    let phases = if record.conditions.decay_at.is_some() { 3 } else { 1 };
    record.conditions.rates.into_iter().zip(own).take(phases).any(is_other)
}

impl Section<'_> {
    /// What holds for all runs of the section: the model, the data, the schedule.
    pub fn record(&self) -> &Record {
        self.rows[0].record()
    }

    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.rows.iter().flat_map(|row| row.runs.iter().copied())
    }

    pub fn optimizers(&self) -> BTreeSet<OptimizerKind> {
        self.rows.iter().map(|row| row.optimizer).collect()
    }

    pub fn heading(&self) -> String {
        format!("{} on {}", self.record().conditions.model, self.record().conditions.data.name)
    }

    /// Whether the paper trained on the same data.
    pub fn is_on_the_papers_data(&self) -> bool {
        self.record().conditions.data.name == published_data(self.experiment)
    }

    /// Whether the paper has a table of errors on the same data.
    pub fn has_published_errors(&self) -> bool {
        self.experiment.paper_errors.is_some() && self.is_on_the_papers_data()
    }

    /// The paper's error of an optimizer, where it has one on the same data.
    pub fn paper_error(&self, optimizer: OptimizerKind) -> Option<f64> {
        self.experiment.paper_error(optimizer).filter(|_| self.is_on_the_papers_data())
    }

    /// Whether the paper's numbers are of the same data, the same batches and as many steps.
    pub fn is_comparable(&self) -> bool {
        self.is_on_the_papers_data()
            && self.record().conditions.budget == Some(1.0)
            && self.record().conditions.batch_size == self.experiment.batch_size
    }

    /// The schedule in the fewest words.
    pub fn schedule(&self) -> String {
        match self.record().conditions.budget {
            Some(1.0) => "the paper's schedule".to_owned(),
            Some(share) => {
                let per_cent = short(100.0 * share);
                format!("the paper's schedule at {per_cent} % of its steps (budget {})", short(share))
            }
            None => "not the paper's schedule".to_owned(),
        }
    }

    /// How many steps, and where the rate falls.
    pub fn steps(&self) -> String {
        let steps = format!("{} steps", grouped(self.record().conditions.planned_steps));
        match self.record().conditions.decay_at {
            Some([first, second]) => {
                format!("{steps}, lower rates from {} and {}", grouped(first), grouped(second))
            }
            None if self.record().conditions.recipe.cosine => format!("{steps}, the rate falling along a cosine"),
            None => format!("{steps} at a constant rate"),
        }
    }

    /// "3 seeds", or "1 to 3 seeds" where the rows differ.
    pub fn seeds(&self) -> String {
        let counts = || self.rows.iter().filter(|row| !row.ended_early()).map(|row| row.runs.len());
        let counts: Vec<usize> = if counts().next().is_some() {
            counts().collect()
        } else {
            self.rows.iter().map(|row| row.runs.len()).collect()
        };
        let (least, most) = (counts.iter().min().unwrap_or(&0), counts.iter().max().unwrap_or(&0));
        match (least, most) {
            (1, 1) => "1 seed".to_owned(),
            (least, most) if least == most => format!("{most} seeds"),
            _ => format!("{least} to {most} seeds"),
        }
    }

    /// Whose schedule and whose data.
    pub fn title(&self) -> String {
        let capital = |text: String| text[..1].to_uppercase() + &text[1..];
        let foreign = if self.is_on_the_papers_data() { "" } else { ", not the paper's data" };
        capital(self.schedule()) + foreign
    }

    /// One line for all conditions that the rows share, after the title.
    pub fn conditions(&self) -> String {
        let Conditions { data, batch_size, .. } = &self.record().conditions;
        let paper_batch = self.experiment.batch_size;
        let batch = match *batch_size {
            size if size == paper_batch => format!("batch {size}"),
            size => format!("batch {size} (the paper's: {paper_batch})"),
        };
        let all = |text: fn(&Record) -> String| {
            let texts: BTreeSet<String> = self.runs().map(|run| text(&run.record)).collect();
            texts.into_iter().collect::<Vec<_>>().join(" or ")
        };
        let seeds: BTreeSet<u64> = self.runs().map(|run| run.record.seed).collect();
        let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
        let held_out = match data.validation {
            0 => String::new(),
            samples => format!(" ({} more for validation)", grouped(samples)),
        };
        let mut parts = vec![
            self.steps(),
            batch,
            format!("{} training{held_out} and {} test {}", grouped(data.training), grouped(data.test), data.samples),
            format!("seed{} {}", if seeds.len() == 1 { "" } else { "s" }, seeds.join(", ")),
            format!("device {}", all(|record| record.machine.device.clone())),
            all(threads),
        ];
        let optional = [
            all(|record| if record.conditions.amp { "AMP" } else { "" }.to_owned()),
            all(|record| {
                if record.conditions.loss_scale == 1.0 {
                    String::new()
                } else {
                    format!("loss scale {}", record.conditions.loss_scale)
                }
            }),
            all(|record| if record.machine.cuda_graph { "CUDA graph" } else { "" }.to_owned()),
            all(warmup),
            all(label_smoothing),
            all(clipping),
            all(early_stopping),
        ];
        // Where the rows differ, their labels say it.
        let differs = |text: &String| text.contains(" or ");
        parts.extend(optional.into_iter().filter(|text| !text.is_empty() && !differs(text)));
        let instructions: BTreeSet<&str> =
            self.runs().filter_map(|run| run.record.machine.instructions.as_deref()).collect();
        parts.extend((!instructions.is_empty()).then(|| instructions.into_iter().collect::<Vec<_>>().join(" or ")));
        parts.push(format!("libtorch {}", all(|record| record.machine.libtorch_version.clone())));
        parts.push(format!("tch-svgd {}", all(|record| record.machine.crate_version.clone())));
        parts.join("; ") + "."
    }

    /// The rates of every optimizer, and whose they are.
    pub fn rates(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        for row in &self.rows {
            let record = row.record();
            let scale = record.conditions.scale.map(|scale| format!(", scale {scale}")).unwrap_or_default();
            let mut text =
                format!("{} {}{scale}", row.optimizer.name(), rates(record).split_once(' ').unwrap_or_default().1);
            let settings_differ = record.conditions.scale.is_some_and(|scale| scale != self.experiment.scale);
            if has_other_rates(self.experiment, record) || settings_differ {
                text += " (not the paper's)";
            } else if self.experiment.paper_errors.is_some() && self.experiment.paper_error(row.optimizer).is_none() {
                let of_svgd = row.optimizer.is_virtual()
                    && self.experiment.rates(row.optimizer) == self.experiment.rates(OptimizerKind::Svgd);
                text += if of_svgd { " (the paper's of svgd)" } else { " (ours: the paper has none)" };
            }
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        format!("Rates: {}.", texts.join("; "))
    }
}
