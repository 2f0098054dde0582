//! The report of training runs: for a terminal, as Markdown and HTML, a figure for every experiment, and the numbers for programs.

pub mod confusion;
mod figure;
mod html;
mod markdown;
mod numbers;
mod page;
mod reference;
mod runs;
mod section;
mod statistics;
mod terminal;
pub mod text;

use crate::files::{remove_abandoned, write_atomically};
use crate::optimizer::OptimizerKind;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use numbers::Numbers;
use page::{Block, Figure};
use section::Section;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use terminal_size::{Width, terminal_size};

/// What a report is to have besides the runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The folder of the authors' curves.
    pub reference: Option<&'a Path>,
    /// The optimizer that others are compared with; where there is none, the first of each table.
    pub baseline: Option<OptimizerKind>,
    /// Where report.md, report.html, report.json, report.csv and the figures are written.
    pub out: Option<&'a Path>,
}

/// A report that has been put together.
pub struct Report(Vec<Block>);

/// The columns of a terminal that does not tell how many it has.
const COLUMNS: usize = 80;
/// Narrower tables are not read.
const FEWEST_COLUMNS: usize = 40;

impl Report {
    /// For standard output: on a terminal in lines that fit, else Markdown.
    pub fn shown(&self) -> String {
        if !std::io::stdout().is_terminal() {
            return markdown::page(&self.0);
        }
        let columns = terminal_size().map_or(COLUMNS, |(Width(columns), _)| usize::from(columns).max(FEWEST_COLUMNS));
        terminal::page(&self.0, columns)
    }
}

/// Puts a report together, and writes it where the options say so.
pub fn write(runs: &[Run], options: &Options) -> Result<Report> {
    ensure!(!runs.is_empty(), "expected runs to report, got none");
    let sections = section::sections(runs, options.reference)?;
    if let Some(baseline) = options.baseline {
        ensure_runs_of(baseline, &sections)?;
    }
    let (mut blocks, mut experiments) = (Vec::new(), Vec::new());
    let mut heading = String::new();
    let mut figures: BTreeMap<&str, usize> = BTreeMap::new();
    for section in &sections {
        if heading != section.heading() {
            heading = section.heading();
            blocks.push(Block::Heading(heading.clone()));
        }
        // Unlike schedules and data have a figure each: EXPERIMENT.svg, EXPERIMENT-2.svg.
        let name = section.experiment.name;
        let number = figures.entry(name).and_modify(|number| *number += 1).or_insert(1);
        let file = if *number == 1 { format!("{name}.svg") } else { format!("{name}-{number}.svg") };
        let numbers = Numbers::of(section, options.baseline, options.out.is_some().then(|| file.clone()));
        let figure = match options.out {
            Some(_) => {
                let svg = figure::draw(section).with_context(|| file.clone())?;
                Some(Figure { file, svg, heading: section.heading(), description: page::description(section) })
            }
            None => None,
        };
        blocks.extend(page::section(section, &numbers, figure));
        experiments.push(numbers);
    }
    // Nothing is written before all is known to be well.
    if let Some(out) = options.out {
        let csv = runs::csv(&sections)?;
        let json = serde_json::to_vec_pretty(&numbers::Report { format: numbers::FORMAT, experiments })?;
        std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
        let figures = blocks.iter().filter_map(|block| match block {
            Block::Figure(figure) => Some((figure.file.as_str(), figure.svg.as_bytes())),
            _ => None,
        });
        for (file, contents) in figures.chain([
            ("report.csv", csv.as_slice()),
            ("report.html", html::page(&blocks).as_bytes()),
            ("report.json", json.as_slice()),
            ("report.md", markdown::page(&blocks).as_bytes()),
        ]) {
            write_atomically(&out.join(file), contents)?;
        }
        remove_abandoned(out);
    }
    Ok(Report(blocks))
}

/// A baseline that nothing can be compared with is a mistake, and no reason to compare with another.
fn ensure_runs_of(baseline: OptimizerKind, sections: &[Section]) -> Result<()> {
    let whole = sections.iter().flat_map(|section| &section.rows).filter(|row| !row.ended_early());
    let optimizers: BTreeSet<OptimizerKind> = whole.map(|row| row.optimizer).collect();
    ensure!(
        optimizers.contains(&baseline),
        "expected a baseline with runs that came to their ends, which are here {}, got {}",
        optimizers.iter().map(|optimizer| optimizer.name()).collect::<Vec<_>>().join(", "),
        baseline.name()
    );
    Ok(())
}
