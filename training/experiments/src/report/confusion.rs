//! Which classes are taken for which: a table as CSV, and a figure.

use crate::files::write_atomically;
use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

const CELL: i32 = 44;
const LEFT: i32 = 110;
const TOP: i32 = 130;
/// Classes whose cells have room for a number.
const NUMBERED: usize = 20;

/// Writes confusion.csv and confusion.svg: how often a sample of the class of a row was taken for that of a column.
pub fn write(folder: &Path, names: &[String], counts: &[Vec<i64>], model: &str) -> Result<()> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(std::iter::once("class").chain(names.iter().map(String::as_str)))?;
    for (name, row) in names.iter().zip(counts) {
        csv.write_record(std::iter::once(name.clone()).chain(row.iter().map(i64::to_string)))?;
    }
    let csv = csv.into_inner().context("confusion.csv")?;
    write_atomically(&folder.join("confusion.csv"), &csv)?;
    let svg = draw(names, counts, model).map_err(|error| anyhow!("confusion.svg: {error}"))?;
    write_atomically(&folder.join("confusion.svg"), svg.as_bytes())
}

fn draw(names: &[String], counts: &[Vec<i64>], model: &str) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let cell = if names.len() > NUMBERED { CELL / 4 } else { CELL };
    let side = cell * names.len() as i32;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, ((LEFT + side + 20) as u32, (TOP + side + 20) as u32))
            .into_drawing_area();
        root.fill(&WHITE)?;
        let centred =
            |size: i32| ("sans-serif", size).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Center));
        let title = format!("{model}: a row's class, taken for a column's");
        root.draw(&Text::new(title, (10, 12), ("sans-serif", 16)))?;
        for (row, values) in counts.iter().enumerate() {
            let all = values.iter().sum::<i64>().max(1) as f64;
            for (column, &count) in values.iter().enumerate() {
                let (x, y) = (LEFT + cell * column as i32, TOP + cell * row as i32);
                let share = count as f64 / all;
                // Right answers in blue, wrong ones in red, the darker the more.
                let shade = |least: f64| (255.0 - (255.0 - least) * share.sqrt()) as u8;
                let color = match row == column {
                    true => RGBColor(shade(0.0), shade(114.0), shade(178.0)),
                    false => RGBColor(shade(213.0), shade(94.0), shade(0.0)),
                };
                root.draw(&Rectangle::new([(x, y), (x + cell, y + cell)], color.filled()))?;
                if names.len() <= NUMBERED && count > 0 {
                    let text = if row == column && share > 0.5 { &WHITE } else { &BLACK };
                    let style = centred(12).color(text);
                    root.draw(&Text::new(count.to_string(), (x + cell / 2, y + cell / 2), style))?;
                }
            }
        }
        if names.len() <= NUMBERED {
            for (place, name) in names.iter().enumerate() {
                let middle = cell * place as i32 + cell / 2;
                let right = ("sans-serif", 13).into_font().color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center));
                root.draw(&Text::new(name.clone(), (LEFT - 6, TOP + middle), right))?;
                let upright = ("sans-serif", 13).into_font().transform(FontTransform::Rotate270);
                let upright = upright.color(&BLACK).pos(Pos::new(HPos::Left, VPos::Center));
                root.draw(&Text::new(name.clone(), (LEFT + middle, TOP - 6), upright))?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}
