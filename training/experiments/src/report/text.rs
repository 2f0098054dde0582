//! Numbers and tables as text.

/// 1234567 as 1,234,567.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Six significant digits at most, and no zeros at the end: of 100.0 * 0.0312 the 3.12.
pub fn short(number: f64) -> String {
    if number == 0.0 || !number.is_finite() {
        return number.to_string();
    }
    let decimals = (5.0 - number.abs().log10().floor()).clamp(0.0, 300.0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// As many decimals as say something of a duration.
pub fn duration(seconds: f64) -> String {
    match seconds {
        seconds if !seconds.is_finite() => "-".to_owned(),
        seconds if seconds < 10.0 => format!("{seconds:.1} s"),
        seconds => format!("{} s", grouped(seconds.round() as usize)),
    }
}

/// A table in Markdown with columns of one width: names to the left, numbers to the right.
pub fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let length = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            let cells = rows.iter().map(|row| &row[column]).chain([&header[column]]);
            cells.map(length).max().unwrap_or(0).max(3)
        })
        .collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule = widths.iter().enumerate().map(|(column, &width)| match column {
        0 => "-".repeat(width + 2),
        _ => "-".repeat(width + 1) + ":",
    });
    let rule = format!("|{}|\n", rule.collect::<Vec<_>>().join("|"));
    line(header) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}
