//! The report as Markdown, whose tables are tables as text, too.

use super::page::{Block, TITLE};
use super::text::table;

/// The whole report.
pub fn page(blocks: &[Block]) -> String {
    format!("# {TITLE}\n") + &blocks.iter().map(|block| format!("\n{}", text(block))).collect::<String>()
}

fn text(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("## {text}\n"),
        Block::Conditions { title, lines } => format!("**{title}**: {}\n", lines.join("\n")),
        Block::Paragraph(lines) => lines.join("\n") + "\n",
        Block::Figure(figure) => format!("![{}]({})\n", figure.heading, figure.file),
        Block::Table(of) => {
            let caption = of.caption.as_ref().map(|caption| format!("{caption}:\n\n")).unwrap_or_default();
            caption + &table(&of.header, &of.rows)
        }
        Block::List { caption, items } => {
            format!("{caption}:\n\n{}", items.iter().map(|item| format!("- {item}\n")).collect::<String>())
        }
    }
}
