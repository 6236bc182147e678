//! The look that all tables share.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle};

/// Tables fit this many columns also where no terminal says its width.
const WIDTH: u16 = 100;

const RULE: LineStyle = LineStyle::none().fill('─').junction('─');
const STYLE: TableStyle = TableStyle::new().top_border(RULE).header_separator(RULE).bottom_border(RULE);

/// An empty table with this header.
pub fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH).set_header(header);
    table
}

/// A bar of `width` cells of which `share` (0 to 1) is filled, to an eighth of a cell.
pub fn bar(share: f64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let filled = "█".repeat(eighths / 8) + EIGHTHS[eighths % 8];
    format!("{filled:<width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_keep_their_width() {
        assert_eq!(bar(0.0, 4), "    ");
        assert_eq!(bar(0.5, 4), "██  ");
        assert_eq!(bar(0.53125, 4), "██▏ ");
        assert_eq!(bar(7.0, 4), "████");
    }
}
