//! The report of training runs: Markdown, and a figure for every experiment.

pub mod confusion;
mod figure;
mod reference;
mod section;
mod statistics;
mod table;
pub mod text;

use crate::files::write_atomically;
use crate::run::Run;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the report in its folder.
pub const REPORT_FILE: &str = "report.md";

/// The report as Markdown. Where there is an `out`, report.md and the figures are written there. `reference` has the authors'
/// curves.
pub fn write(runs: &[Run], reference: Option<&Path>, out: Option<&Path>) -> Result<String> {
    ensure!(!runs.is_empty(), "expected runs to report, got none");
    let sections = section::sections(runs, reference)?;
    if let Some(out) = out {
        std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
    }
    let mut markdown = String::from("# Training runs\n");
    let mut heading = String::new();
    let mut figures: BTreeMap<&str, usize> = BTreeMap::new();
    for section in &sections {
        if heading != section.heading() {
            heading = section.heading();
            markdown += &format!("\n## {heading}\n");
        }
        // Unlike schedules and data have a figure each: EXPERIMENT.svg, EXPERIMENT-2.svg.
        let name = section.experiment.name;
        let number = figures.entry(name).and_modify(|number| *number += 1).or_insert(1);
        let figure = if *number == 1 { format!("{name}.svg") } else { format!("{name}-{number}.svg") };
        if let Some(out) = out {
            let drawn = figure::draw(section).with_context(|| figure.clone())?;
            write_atomically(&out.join(&figure), drawn.as_bytes())?;
        }
        markdown += &format!("\n{}", table::section(section, out.is_some().then_some(figure.as_str())));
    }
    if let Some(out) = out {
        write_atomically(&out.join(REPORT_FILE), markdown.as_bytes())?;
    }
    Ok(markdown)
}
