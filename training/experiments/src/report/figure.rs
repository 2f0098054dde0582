//! A section as a figure: test error and cross-entropy, over steps and over seconds.

use super::section::{Row, Section};
use super::statistics::{Point, over_seeds};
use super::text::{grouped, short};
use crate::curve::Evaluation;
use crate::optimizer::OptimizerKind;
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::element::{DashedPathElement, DynElement};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const WIDTH: u32 = 1100;
const TITLE_HEIGHT: u32 = 58;
const PANEL_HEIGHT: u32 = 330;
const LEGEND_LINE: i32 = 22;
/// Of a letter in the legend, on the safe side: the reader's font is not known.
const LETTER_WIDTH: i32 = 7;
const SAMPLE_WIDTH: i32 = 34;
/// Where the legend begins: below the axes.
const LEFT: i32 = 64;

fn color(optimizer: OptimizerKind) -> RGBColor {
    let [red, green, blue] = optimizer.row().color;
    RGBColor(red, green, blue)
}

/// The figure as SVG.
pub fn draw(section: &Section) -> Result<String> {
    let legend = legend(section);
    let legend_height = legend.iter().map(|entry| entry.line + 1).max().unwrap_or(0) * LEGEND_LINE + 12;
    let height = TITLE_HEIGHT + 2 * PANEL_HEIGHT + legend_height as u32;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let (title, below) = root.split_vertically(TITLE_HEIGHT);
        let (panels, strip) = below.split_vertically(2 * PANEL_HEIGHT);
        draw_title(&title, section)?;
        let areas = panels.split_evenly((2, 2));
        let (errors, losses) = ((ERRORS, "test error, % (log scale)"), (LOSSES, "cross-entropy (log scale)"));
        panel(&areas[0], section, errors, X::Steps)?;
        panel(&areas[1], section, errors, X::Seconds)?;
        panel(&areas[2], section, losses, X::Steps)?;
        panel(&areas[3], section, losses, X::Seconds)?;
        for entry in &legend {
            entry.draw(&strip)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn drawing<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("cannot be drawn: {error}")
}

fn draw_title(area: &Area, section: &Section) -> Result<()> {
    let centre = Pos::new(HPos::Center, VPos::Top);
    let middle = WIDTH as i32 / 2;
    let title = format!("{}: {}, {}", section.heading(), section.schedule(), section.seeds());
    let style = ("sans-serif", 19).into_text_style(area).pos(centre);
    area.draw(&Text::new(title, (middle, 10), style)).map_err(drawing)?;
    let subtitle = format!("batch {}, {}", section.record().conditions.batch_size, section.steps());
    let grey = BLACK.mix(0.7);
    let style = ("sans-serif", 13).into_text_style(area).pos(centre).color(&grey);
    area.draw(&Text::new(subtitle, (middle, 36), style)).map_err(drawing)
}

/// What a panel has from left to right.
#[derive(Clone, Copy, PartialEq)]
enum X {
    Steps,
    Seconds,
}

impl X {
    fn of_point(self, point: &Point) -> f64 {
        match self {
            X::Steps => point.step as f64,
            X::Seconds => point.seconds,
        }
    }

    fn of_row(self, row: &Evaluation) -> f64 {
        match self {
            X::Steps => row.step as f64,
            X::Seconds => row.seconds,
        }
    }

    fn label(self) -> &'static str {
        match self {
            X::Steps => "training steps",
            X::Seconds => "seconds of training",
        }
    }
}

/// What is tested, which the authors' logs have, too; and what the training has of it.
#[derive(Clone, Copy)]
struct Quantities {
    test: fn(&Evaluation) -> f64,
    training: Option<fn(&Evaluation) -> f64>,
}

const ERRORS: Quantities = Quantities { test: |row| row.test_error, training: None };
const LOSSES: Quantities = Quantities { test: |row| row.test_loss, training: Some(|row| row.train_loss) };

type Line = Vec<(f64, f64)>;

/// The curves of one row.
struct Curves<'a> {
    row: &'a Row<'a>,
    test: Vec<Point>,
    training: Vec<Point>,
}

fn panel(area: &Area, section: &Section, (quantities, y_label): (Quantities, &str), x: X) -> Result<()> {
    let curves: Vec<Curves> = section
        .rows
        .iter()
        .map(|row| Curves {
            row,
            test: over_seeds(&row.runs, quantities.test),
            training: quantities.training.map(|quantity| over_seeds(&row.runs, quantity)).unwrap_or_default(),
        })
        .collect();
    let authors = |x: X| -> Vec<(OptimizerKind, Line)> {
        let line = |curve: &Vec<Evaluation>| curve.iter().map(|row| (x.of_row(row), (quantities.test)(row))).collect();
        section.authors.iter().map(|(&optimizer, curve)| (optimizer, line(curve))).collect()
    };
    // Both panels of a quantity have the same scale, that of the steps: there the authors' curves and ours belong
    // together, while their machine was another.
    let window = Window { end: end(&curves, x), y: y_range(&curves, &authors(X::Steps)) };
    let end = window.end;

    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(22)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(
            0.0..end,
            (window.y.0..window.y.1).log_scale().with_key_points(ticks(window.y.0, window.y.1)),
        )
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .x_labels(7)
        .x_label_formatter(&|x| if *x >= 1e3 { grouped(x.round() as usize) } else { short(*x) })
        .y_label_formatter(&|y| short(*y))
        .x_desc(x.label())
        .y_desc(y_label)
        .axis_desc_style(("sans-serif", 14))
        .label_style(("sans-serif", 12))
        .draw()
        .map_err(drawing)?;

    if x == X::Steps {
        for step in section.record().conditions.decay_at.into_iter().flatten() {
            let ends = [(step as f64, window.y.0), (step as f64, window.y.1)];
            if step as f64 <= end {
                chart.draw_series(DashedLineSeries::new(ends, 1, 3, GREY.stroke_width(1))).map_err(drawing)?;
            }
        }
    }
    for curves in curves.iter().filter(|curves| curves.row.runs.len() > 1) {
        let edge = |value: fn(&Point) -> f64| {
            curves.test.iter().map(move |point| (x.of_point(point), window.clamp(value(point))))
        };
        let mut outline: Line = edge(|point| point.value.largest).collect();
        outline.extend(edge(|point| point.value.least).rev());
        let band = Polygon::new(outline, color(curves.row.optimizer).mix(0.16));
        chart.draw_series([band]).map_err(drawing)?;
    }
    for curves in &curves {
        let style = color(curves.row.optimizer).mix(0.6).stroke_width(1);
        for piece in window.clip(&line(&curves.training, x)) {
            chart.draw_series(LineSeries::new(piece, style)).map_err(drawing)?;
        }
    }
    for (optimizer, curve) in &authors(x) {
        let style = color(*optimizer).stroke_width(1);
        for piece in window.clip(curve) {
            chart.draw_series(DashedLineSeries::new(piece, 5, 4, style)).map_err(drawing)?;
        }
    }
    let mut below: Vec<Line> = Vec::new();
    for curves in &curves {
        let style = color(curves.row.optimizer).stroke_width(2);
        let line = line(&curves.test, x);
        for piece in window.clip(&line) {
            // What would hide other lines lets them through.
            for (hidden, part) in window.parts(&piece, &below) {
                match hidden {
                    0 => chart.draw_series(LineSeries::new(part, style)).map_err(drawing)?,
                    _ => chart.draw_series(DashedLineSeries::new(part, 10, 10 * hidden, style)).map_err(drawing)?,
                };
            }
        }
        // On some evaluations: they tell rows of one optimizer apart, and a single evaluation draws no line.
        let stride = line.len().div_ceil(12).max(1);
        let visible = line.iter().rev().step_by(stride).filter(|point| window.holds(**point));
        for &point in visible {
            chart.draw_series([marker(point, curves.row)]).map_err(drawing)?;
        }
        below.push(line);
    }
    Ok(())
}

const GREY: RGBColor = RGBColor(130, 130, 130);

fn line(points: &[Point], x: X) -> Line {
    points.iter().map(|point| (x.of_point(point), point.value.mean)).collect()
}

/// The mark of a row among those of its optimizer.
fn marker<'a, C: Clone + 'static>(at: C, row: &Row) -> DynElement<'static, SVGBackend<'a>, C> {
    let style = color(row.optimizer);
    match row.variant % 4 {
        0 => Circle::new(at, 3, style.filled()).into_dyn(),
        1 => TriangleMarker::new(at, 6, style.filled()).into_dyn(),
        2 => Cross::new(at, 4, style.stroke_width(2)).into_dyn(),
        _ => Circle::new(at, 4, style.stroke_width(1)).into_dyn(),
    }
}

/// As far as our runs went; the authors' curves end there, too.
fn end(curves: &[Curves], x: X) -> f64 {
    let points = curves.iter().flat_map(|curves| curves.test.iter().chain(&curves.training));
    let end = points.map(|point| x.of_point(point)).fold(0.0, f64::max);
    if end > 0.0 { end } else { 1.0 }
}

/// The share of the run after which all values are to be seen.
const START: f64 = 0.1;

/// From the least value to the largest but a few of those after the start: what comes before is ten times as large, and
/// the ends are what is compared.
fn y_range(curves: &[Curves], authors: &[(OptimizerKind, Line)]) -> (f64, f64) {
    let end = end(curves, X::Steps);
    // A diverged run is drawn where it is in view.
    let whole = |curves: &&Curves| !curves.row.ended_early();
    let drawn: Vec<&Curves> =
        if curves.iter().any(|c| whole(&c)) { curves.iter().filter(whole).collect() } else { curves.iter().collect() };
    // No scale has ticks for all that a number can be.
    let positive = |value: &f64| (1e-30..1e30).contains(value);
    let values = |from: f64, points: for<'a> fn(&'a Curves) -> &'a Vec<Point>| -> Vec<f64> {
        let ours = drawn.iter().flat_map(|curves| points(curves)).filter(|point| point.step as f64 >= from);
        ours.flat_map(|point| [point.value.least, point.value.largest]).filter(positive).collect()
    };
    let theirs = |from: f64| {
        let points = authors.iter().flat_map(|(_, curve)| curve).filter(move |(x, _)| (from..=end).contains(x));
        points.map(|(_, value)| *value).filter(positive)
    };
    let least = |values: Vec<f64>| values.into_iter().fold(f64::INFINITY, f64::min);
    let tested = least(values(0.0, |curves| &curves.test).into_iter().chain(theirs(0.0)).collect());
    // A training loss may fall to nothing.
    let trained = least(values(0.0, |curves| &curves.training)).max(0.1 * tested);

    let mut late: Vec<f64> = values(START * end, |curves| &curves.test);
    late.extend(theirs(START * end));
    late.extend(values(START * end, |curves| &curves.training));
    late.sort_by(f64::total_cmp);
    let rank = (late.len() * 98).div_ceil(100);
    let largest = late.get(rank.saturating_sub(1)).copied();
    let least = tested.min(trained);
    if !least.is_finite() {
        return (0.1, 100.0);
    }
    let largest = largest.unwrap_or(least).max(1.1 * least);
    // A twentieth of the height on both sides.
    let air = (largest / least).powf(0.05);
    (least / air, largest * air)
}

/// Three to nine round numbers in the range.
fn ticks(least: f64, largest: f64) -> Vec<f64> {
    let sets: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0], &[1.0]];
    let decades = (least.log10().floor() as i32)..=(largest.log10().floor() as i32);
    for set in sets {
        let values = decades.clone().flat_map(|decade| set.iter().map(move |digit| digit * 10f64.powi(decade)));
        let inside: Vec<f64> = values.filter(|value| (least..=largest).contains(value)).collect();
        if (4..=9).contains(&inside.len()) {
            return inside;
        }
    }
    // Of one step, as on an axis that is not logarithmic.
    let step = (largest - least) / 5.0;
    let decade = 10f64.powf(step.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|digit| digit * decade).into_iter().find(|&round| round >= step).unwrap_or(step);
    let first = (least / step).ceil() as i64;
    (first..).map(|number| number as f64 * step).take_while(|&value| value <= largest).collect()
}

/// What a panel shows: x from 0 to `end`, y on a logarithmic scale.
#[derive(Clone, Copy)]
struct Window {
    end: f64,
    y: (f64, f64),
}

impl Window {
    fn clamp(self, y: f64) -> f64 {
        y.clamp(self.y.0, self.y.1)
    }

    fn holds(self, (x, y): (f64, f64)) -> bool {
        (0.0..=self.end).contains(&x) && (self.y.0..=self.y.1).contains(&y)
    }

    /// The pieces of a line that lie inside (plotters would bend what lies outside along the border).
    fn clip(self, line: &[(f64, f64)]) -> Vec<Line> {
        // A zero has no logarithm; it leaves the panel at the bottom.
        let log = |y: f64| y.max(1e-30).ln();
        let inside: Vec<(f64, f64)> = line.iter().copied().filter(|(_, y)| y.is_finite()).collect();
        let mut pieces: Vec<Line> = Vec::new();
        for ends in inside.windows(2) {
            let [(x0, y0), (x1, y1)] = [ends[0], ends[1]].map(|(x, y)| (x, log(y)));
            // Liang and Barsky: the part of the segment from `enter` to `leave` lies on the right side of all borders.
            let (mut enter, mut leave) = (0f64, 1f64);
            for (distance, change) in
                [(x0, x1 - x0), (self.end - x0, x0 - x1), (y0 - log(self.y.0), y1 - y0), (log(self.y.1) - y0, y0 - y1)]
            {
                match change {
                    change if change > 0.0 => enter = enter.max(-distance / change),
                    change if change < 0.0 => leave = leave.min(distance / -change),
                    _ if distance < 0.0 => leave = -1.0,
                    _ => {}
                }
            }
            if enter >= leave {
                continue;
            }
            let at = |t: f64| (x0 + t * (x1 - x0), self.clamp((y0 + t * (y1 - y0)).exp()));
            match pieces.last_mut() {
                Some(piece) if enter == 0.0 && piece.last() == Some(&at(0.0)) => piece.push(at(leave)),
                _ => pieces.push(vec![at(enter), at(leave)]),
            }
        }
        pieces
    }

    /// A line in parts, each with the number of lines `below` that it lies upon from end to end.
    fn parts(self, line: &[(f64, f64)], below: &[Line]) -> Vec<(u32, Line)> {
        let mut parts: Vec<(u32, Line)> = Vec::new();
        for ends in line.windows(2) {
            let hides = |other: &&Line| ends.iter().all(|&end| self.passes(other, end));
            let hidden = below.iter().filter(hides).count() as u32;
            match parts.last_mut() {
                Some((same, part)) if *same == hidden => part.push(ends[1]),
                _ => parts.push((hidden, ends.to_vec())),
            }
        }
        parts
    }

    /// Whether a line passes through a point, but for less than its own width.
    fn passes(self, line: &[(f64, f64)], (x, y): (f64, f64)) -> bool {
        let height = |y: f64| f64::from(PANEL_HEIGHT) * y.max(self.y.0).ln() / (self.y.1 / self.y.0).ln();
        let next = line.partition_point(|&(other, _)| other < x);
        let (Some(&(x1, y1)), Some(&(x0, y0))) = (line.get(next), line.get(next.saturating_sub(1))) else {
            return false;
        };
        let along = if x1 > x0 { (x - x0) / (x1 - x0) } else { 1.0 };
        x0 <= x && (height(y0) + along * (height(y1) - height(y0)) - height(y)).abs() < 2.0
    }
}

/// A sample and its meaning, in the strip below the panels.
struct Entry<'a> {
    sample: Sample<'a>,
    text: String,
    line: i32,
    left: i32,
}

enum Sample<'a> {
    Row(&'a Row<'a>),
    Band,
    Dashed,
    Pale,
    Dotted,
}

/// All rows, and then what kinds of lines there are.
fn legend<'a>(section: &'a Section) -> Vec<Entry<'a>> {
    let rows = section.rows.iter().map(|row| (Sample::Row(row), row.label.clone()));
    let mut kinds = Vec::new();
    if section.rows.iter().any(|row| row.runs.len() > 1) {
        kinds.push((Sample::Band, "mean over the seeds; band: least to largest".to_owned()));
    }
    if !section.authors.is_empty() {
        let schedule = if section.is_comparable() { "" } else { " of the whole schedule" };
        let text = format!("authors' log{schedule} (its seconds: one GPU, tests and pauses included)");
        kinds.push((Sample::Dashed, text));
    }
    kinds.push((Sample::Pale, "cross-entropy in training".to_owned()));
    if section.record().conditions.decay_at.is_some() {
        kinds.push((Sample::Dotted, "the rate falls".to_owned()));
    }
    let width = |text: &str| SAMPLE_WIDTH + LETTER_WIDTH * text.chars().count() as i32 + 16;
    // The rows in columns.
    let column = section.rows.iter().map(|row| width(&row.label)).max().unwrap_or(1);
    let columns = ((WIDTH as i32 - LEFT) / column).max(1) as usize;
    let mut entries: Vec<Entry> = rows
        .enumerate()
        .map(|(index, (sample, text))| {
            let (line, left) = ((index / columns) as i32, LEFT + (index % columns) as i32 * column);
            Entry { sample, text, line, left }
        })
        .collect();
    // The kinds one after the other.
    let (mut line, mut left) = (section.rows.len().div_ceil(columns) as i32, LEFT);
    for (sample, text) in kinds {
        if left > LEFT && left + width(&text) > WIDTH as i32 {
            (line, left) = (line + 1, LEFT);
        }
        let next = left + width(&text);
        entries.push(Entry { sample, text, line, left });
        left = next;
    }
    entries
}

impl Entry<'_> {
    fn draw(&self, area: &Area) -> Result<()> {
        let middle = self.line * LEGEND_LINE + LEGEND_LINE / 2;
        let ends = [(self.left, middle), (self.left + SAMPLE_WIDTH - 8, middle)];
        let solid = |style: ShapeStyle| PathElement::new(ends, style);
        match &self.sample {
            Sample::Row(row) => {
                area.draw(&solid(color(row.optimizer).stroke_width(2))).map_err(drawing)?;
                area.draw(&marker((self.left + SAMPLE_WIDTH / 2 - 4, middle), row)).map_err(drawing)?;
            }
            Sample::Band => {
                let corners = [(self.left, middle - 6), (self.left + SAMPLE_WIDTH - 8, middle + 6)];
                area.draw(&Rectangle::new(corners, BLACK.mix(0.16).filled())).map_err(drawing)?;
                area.draw(&solid(BLACK.stroke_width(2))).map_err(drawing)?;
            }
            Sample::Dashed => area.draw(&DashedPathElement::new(ends, 5, 4, BLACK.stroke_width(1))).map_err(drawing)?,
            Sample::Pale => area.draw(&solid(BLACK.mix(0.6).stroke_width(1))).map_err(drawing)?,
            Sample::Dotted => area.draw(&DashedPathElement::new(ends, 1, 3, GREY.stroke_width(1))).map_err(drawing)?,
        }
        let style = ("sans-serif", 13).into_text_style(area).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(self.text.as_str(), (self.left + SAMPLE_WIDTH, middle), style)).map_err(drawing)
    }
}
