//! The report for a terminal: nothing wider than it, tables included, where it has 80 columns.

use super::page::{Block, TITLE, Table};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets::ASCII_MARKDOWN};

/// The whole report, in lines of so many columns.
pub fn page(blocks: &[Block], width: usize) -> String {
    format!("{TITLE}\n{}\n", "=".repeat(TITLE.len()))
        + &blocks.iter().map(|block| format!("\n{}\n", text(block, width))).collect::<String>()
}

fn text(block: &Block, width: usize) -> String {
    let filled = |text: &str| textwrap::fill(text, width);
    match block {
        Block::Heading(text) => format!("{}\n{}", filled(text), "-".repeat(text.chars().count().min(width))),
        Block::Conditions { title, lines } => filled(&format!("{title}: {}", lines.join(" "))),
        Block::Paragraph(lines) => filled(&lines.join(" ")),
        Block::Figure(figure) => filled(&format!("Figure: {}", figure.file)),
        Block::Table(of) => {
            let caption = of.caption.as_ref().map(|caption| filled(&format!("{}:", caption.replace('\n', " "))));
            caption.map(|caption| caption + "\n\n").unwrap_or_default() + &table(of, width)
        }
        Block::List { caption, items } => {
            let item = |item: &String| textwrap::fill(item, textwrap::Options::new(width).initial_indent("- "));
            filled(&format!("{caption}:")) + "\n" + &items.iter().map(item).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Cells that do not fit are of several lines.
fn table(of: &Table, width: usize) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX)).set_header(&of.header).add_rows(&of.rows);
    // Numbers are not broken within; names are, where nothing else is left.
    for (index, column) in table.column_iter_mut().enumerate().skip(1) {
        let cells = of.rows.iter().chain([&of.header]).filter_map(|row| row.get(index));
        let longest = cells.flat_map(|cell| cell.split(' ')).map(|word| word.chars().count()).max().unwrap_or(0);
        let width = (longest + usize::from(column.padding_width())) as u16;
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_terminal_and_nothing_is_left_out() {
        let header =
            ["optimizer", "seeds", "final test error, %", "authors' log, final and best % (of the whole schedule)"];
        let header = header.map(str::to_owned).to_vec();
        let row = ["svgd-per-example, labels smoothed by 0.1, clipped at 0.5", "12", "13.00 ± 3.61", "8.62, 8.60"];
        let row = row.map(str::to_owned).to_vec();
        let long = "word ".repeat(50);
        let blocks = [
            Block::Heading("MLP on MNIST".to_owned()),
            Block::Conditions { title: "The schedule".to_owned(), lines: vec![long.clone(), long.clone()] },
            Block::Paragraph(vec![long.clone()]),
            Block::Table(Table { caption: Some(long.clone()), header, rows: vec![row] }),
            Block::List { caption: "Runs".to_owned(), items: vec![long.clone()] },
        ];
        for width in [80, 120] {
            let text = page(&blocks, width);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            assert_eq!(text.matches("word").count(), 250, "{text}");
            for part in ["svgd-per-example,", "13.00 ± 3.61", "8.62, 8.60", "clipped at 0.5"] {
                assert!(text.contains(part), "{part}: {text}");
            }
        }
    }
}
