//! The report as one HTML page that needs no other file: figures are in it, and it asks nothing of the network.

use super::page::{Block, Figure, TITLE, Table};

/// Colours are the reader's, light or dark; figures have a white ground of their own.
const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; line-height: 1.5; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0.5rem 0; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid GrayText; text-align: right; }
th:first-child { text-align: left; }
thead th { vertical-align: bottom; }
tbody th { font-weight: normal; }
td, tbody th { white-space: nowrap; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; }
";

/// The whole report.
pub fn page(blocks: &[Block]) -> String {
    let title = escaped(TITLE);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{}</main>\n</body>\n</html>\n",
        blocks.iter().map(element).collect::<String>()
    )
}

fn element(block: &Block) -> String {
    match block {
        Block::Heading(text) => format!("<h2>{}</h2>\n", escaped(text)),
        Block::Conditions { title, lines: text } => {
            format!("<p><strong>{}</strong>: {}</p>\n", escaped(title), lines(text))
        }
        Block::Paragraph(text) => format!("<p>{}</p>\n", lines(text)),
        Block::Figure(of) => figure(of),
        Block::Table(of) => table(of),
        Block::List { caption, items } => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escaped(item))).collect();
            format!("<p>{}:</p>\n<ul>\n{items}</ul>\n", escaped(caption))
        }
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br>\n")
}

fn figure(figure: &Figure) -> String {
    // In HTML the namespace goes without saying.
    let svg = figure.svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    let label = format!("<svg role=\"img\" aria-label=\"{}\"", escaped(&figure.description));
    let svg = svg.replacen("<svg", &label, 1);
    format!("<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", escaped(&figure.heading))
}

fn table(table: &Table) -> String {
    let caption =
        table.caption.as_ref().map(|text| format!("<caption>{}</caption>\n", escaped(text))).unwrap_or_default();
    let header: String = table.header.iter().map(|cell| format!("<th scope=\"col\">{}</th>", escaped(cell))).collect();
    let row = |cells: &Vec<String>| {
        let cells = cells.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("<th scope=\"row\">{}</th>", escaped(cell)),
            _ => format!("<td>{}</td>", escaped(cell)),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows.iter().map(row).collect();
    format!(
        "<div class=\"wide\">\n<table>\n{caption}<thead>\n<tr>{header}</tr>\n</thead>\n<tbody>\n{rows}</tbody>\n\
         </table>\n</div>\n"
    )
}

/// As text or in quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_wherever_they_stand() {
        let name = "a<b> & \"c\" 'd'".to_owned();
        let table = |caption: Option<String>| {
            Block::Table(Table { caption, header: vec![name.clone()], rows: vec![vec![name.clone(), name.clone()]] })
        };
        let figure = Figure {
            file: "a.svg".to_owned(),
            svg: "<svg width=\"1\"></svg>".to_owned(),
            heading: name.clone(),
            description: name.clone(),
        };
        let blocks = [
            Block::Heading(name.clone()),
            Block::Conditions { title: name.clone(), lines: vec![name.clone()] },
            Block::Paragraph(vec![name.clone()]),
            Block::Figure(figure),
            table(None),
            table(Some(name.clone())),
            Block::List { caption: name.clone(), items: vec![name.clone()] },
        ];
        let html = page(&blocks);
        assert_eq!(html.matches("a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;").count(), 15, "{html}");
        assert!(!html.contains("<b>") && !html.contains("& "), "{html}");
    }
}
