//! Comparison files, their values, and the cells that they make.

use ocelli::compare::{Comparison, Plan, parse_csv};

use super::{Folder, choice, halves, read};

/// Cells that are made of a comparison.
const CELLS: usize = 20;

/// The first byte says whether the rest is a file of values, or a comparison with a file of values, `v.csv`, behind a zero byte.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 2) else { return };
    if door == 0 {
        let Ok(text) = std::str::from_utf8(rest) else { return };
        if let Some((names, rows)) = read(parse_csv(text)) {
            assert!(rows.iter().all(|row| row.len() == names.len()));
        }
        return;
    }
    let (text, values) = halves(rest);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Some(comparison) = read(Comparison::parse(text)) else { return };
    // What cannot be written, numbers above 2^63, is no comparison to be compared.
    if let Ok(printed) = comparison.print() {
        let again = Comparison::parse(&printed).expect("what was printed can be read");
        assert_eq!(again.print().expect("printable"), printed);
    }
    // Paths of its own would be looked for on this disk.
    if text.contains('/') {
        return;
    }
    let folder = Folder::new();
    folder.put("v.csv", values);
    let Some(plan) = read(Plan::new(comparison, folder.path())) else { return };
    for number in (0..plan.len()).take(CELLS).chain(plan.len().checked_sub(1)) {
        assert_eq!(plan.number(plan.place(number)), number);
        if let Some(cell) = read(plan.cell(number)) {
            assert_eq!(cell.key.len(), 32);
        }
        let _ = plan.row_label(plan.place(number).row);
    }
}
