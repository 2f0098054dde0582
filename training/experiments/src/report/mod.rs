//! The report of training runs: Markdown, and a figure for every experiment.

pub mod confusion;
mod figure;
mod markdown;
mod page;
mod reference;
mod section;
mod statistics;
pub mod text;

use crate::files::write_atomically;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use page::{Block, Figure};
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the report in its folder.
pub const REPORT_FILE: &str = "report.md";

/// The report as Markdown. Where there is an `out`, report.md and the figures are written there. `reference` has the authors'
/// curves.
pub fn write(runs: &[Run], reference: Option<&Path>, out: Option<&Path>) -> Result<String> {
    ensure!(!runs.is_empty(), "expected runs to report, got none");
    let sections = section::sections(runs, reference)?;
    let mut blocks = Vec::new();
    let mut heading = String::new();
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for section in &sections {
        if heading != section.heading() {
            heading = section.heading();
            blocks.push(Block::Heading(heading.clone()));
        }
        // Unlike schedules and data have a figure each: EXPERIMENT.svg, EXPERIMENT-2.svg.
        let name = section.experiment.name;
        let number = numbers.entry(name).and_modify(|number| *number += 1).or_insert(1);
        let file = if *number == 1 { format!("{name}.svg") } else { format!("{name}-{number}.svg") };
        let figure = match out {
            Some(_) => Some(Figure {
                svg: figure::draw(section).with_context(|| file.clone())?,
                file,
                heading: section.heading(),
            }),
            None => None,
        };
        blocks.extend(page::section(section, figure));
    }
    let markdown = markdown::page(&blocks);
    // Nothing is written before all is known to be well.
    if let Some(out) = out {
        std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
        for block in &blocks {
            if let Block::Figure(figure) = block {
                write_atomically(&out.join(&figure.file), figure.svg.as_bytes())?;
            }
        }
        write_atomically(&out.join(REPORT_FILE), markdown.as_bytes())?;
    }
    Ok(markdown)
}
