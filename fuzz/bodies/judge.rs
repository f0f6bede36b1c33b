//! Assertions: patterns, JSON schemas, boxes; and what differs between two answers.

use std::time::Duration;

use ocelli::compare::judge::{Assertion, Difference, Rating, Subject};
use ocelli::engine::StopReason;

use super::{choice, halves, read};

/// The first byte says whether the rest is an assertion in JSON with an answer behind a zero byte, two answers, or a rating.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 3) else { return };
    match door {
        0 => {
            let (table, answer) = halves(rest);
            let Ok(serde_json::Value::Object(table)) = serde_json::from_slice(table) else { return };
            let Some(assertion) = read(Assertion::from_table(table.clone())) else { return };
            let text = String::from_utf8_lossy(answer);
            let verdict = assertion.check(&Subject { text: &text, tokens: Some(7), reason: StopReason::End });
            assert!(!verdict.why.is_empty());
            assert_eq!(assertion.table(), &table);
        }
        1 => {
            let (old, new) = halves(rest);
            let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
            let difference = Difference::within(&old, &new, Duration::from_millis(20));
            assert!((0.0..=1.0).contains(&difference.similarity));
            let said = |other| difference.pieces.iter().filter(move |piece| piece.change != other);
            use ocelli::compare::judge::Change::{Added, Removed};
            assert_eq!(said(Added).map(|piece| piece.text.as_str()).collect::<String>(), old);
            assert_eq!(said(Removed).map(|piece| piece.text.as_str()).collect::<String>(), new);
        }
        _ => drop(serde_json::from_slice::<Rating>(rest)),
    }
}
