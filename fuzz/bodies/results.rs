//! Files of results of comparisons.

use std::collections::HashMap;
use std::fs;

use ocelli::compare::{Comparison, Journal, Plan, read_results, report};

use super::{Folder, read};

const COMPARISON: &str = "[shared]\nprompt = \"{{a}}\"\n[[columns]]\nname = \"A\"\n[[columns]]\nname = \"B\"\n[variables]\na = [1, 2]";

/// The bytes of a file.
pub fn run(data: &[u8]) {
    let folder = Folder::new();
    let path = folder.put("a.results.jsonl", data);
    let kept = read(read_results(&path));
    let opened = read(Journal::open(&path));
    assert_eq!(kept.is_some(), opened.is_some());
    let (Some(kept), Some((_, mut again))) = (kept, opened) else {
        assert_eq!(fs::read(&path).expect("readable"), data, "what is refused is left alone");
        return;
    };
    let plan = Plan::new(Comparison::parse(COMPARISON).expect("sound"), folder.path()).expect("sound");
    let mut cells: Vec<_> = kept.cells.values().cloned().collect();
    cells.sort_by(|a, b| a.key.cmp(&b.key));
    read(report::csv_rated(&cells, &kept.ratings));
    read(report::html(&plan, &cells, &HashMap::new()));
    let _ = again.take_answered(&plan);
}
