//! Room `compare`: the boxes of an answer against the box that is wanted.

use super::words::{counted, quoted, quoted_all};
use crate::chat::grounding::{Found, Place, find};

/// Does a box of the answer, with this label if one is wanted, cover the wanted one well enough? The best box counts.
pub(super) fn check(answer: &str, wanted: [f64; 4], min_iou: f64, label: Option<&str>) -> (bool, String) {
    let mut found = find(answer);
    found.retain(|found| matches!(found.place, Place::Box(_)));
    if found.is_empty() {
        return (false, "the answer has no box".to_owned());
    }
    let all = found.len();
    let labels: Vec<String> = distinct(&found);
    if let Some(label) = label {
        found.retain(|found| same_label(&found.label, label));
    }
    let best = found.iter().map(|found| found.place.overlap(Place::Box(wanted))).reduce(f64::max);
    let named = label.map(|label| format!(" labelled {}", quoted(label))).unwrap_or_default();
    match best {
        None => {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            let there = if labels.is_empty() {
                "without labels".to_owned()
            } else {
                format!("labelled {}", quoted_all(&labels))
            };
            let boxes = if all == 1 { "1 box".to_owned() } else { format!("{all} boxes") };
            (false, format!("the answer has no box{named}, but {boxes} {there}"))
        }
        Some(best) if best >= min_iou => {
            (true, format!("IoU {} of the best box{named}, {min_iou} wanted", told(best, min_iou)))
        }
        Some(best) => {
            let of = if found.len() > 1 {
                format!(" of {}", counted(found.len(), "candidate"))
            } else {
                String::new()
            };
            (false, format!("IoU {} of the best box{named}{of}, {min_iou} wanted", told(best, min_iou)))
        }
    }
}

/// A share in two digits, or in as many as it takes to tell it from the one that is wanted.
fn told(share: f64, wanted: f64) -> String {
    let short = format!("{share:.2}");
    let reads_as_enough = short.parse::<f64>().is_ok_and(|read| read >= wanted);
    if reads_as_enough == (share >= wanted) { short } else { share.to_string() }
}

fn same_label(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// The labels of boxes, each once, in the answer's order; few are enough for a sentence.
fn distinct(found: &[Found]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    found
        .iter()
        .map(|found| found.label.trim())
        .filter(|label| !label.is_empty() && seen.insert(*label))
        .map(str::to_owned)
        .collect()
}
