use proptest::prelude::*;

use super::*;

/// Pieces as text: `[-removed-]`, `{+added+}`.
fn drawn(difference: &Difference) -> String {
    difference
        .pieces
        .iter()
        .map(|piece| match piece.change {
            Change::Same => piece.text.clone(),
            Change::Removed => format!("[-{}-]", piece.text),
            Change::Added => format!("{{+{}+}}", piece.text),
        })
        .collect()
}

fn side(difference: &Difference, left_out: Change) -> String {
    difference
        .pieces
        .iter()
        .filter(|piece| piece.change != left_out)
        .map(|piece| piece.text.as_str())
        .collect()
}

#[test]
fn words_that_differ_are_cut_out_and_the_rest_stays() {
    for (old, new, expected) in [
        ("The red cat sits.", "The blue cat sits.", "The [-red-]{+blue+} cat sits."),
        ("A cat.", "A cat, and a dog.", "A cat{+, and a dog+}."),
        ("one two three", "one three", "one[- two-] three"),
        ("can't stop", "can't go", "can't [-stop-]{+go+}"),
        ("", "new", "{+new+}"),
        ("old", "", "[-old-]"),
        ("", "", ""),
        ("a b c d", "x y z", "[-a b c d-]{+x y z+}"),
    ] {
        assert_eq!(drawn(&Difference::between(old, new)), expected);
    }
}

#[test]
fn chinese_and_japanese_differ_by_characters() {
    let chinese = Difference::between("图片里有一只白猫。", "图片里有一只黑猫。");
    assert_eq!(drawn(&chinese), "图片里有一只[-白-]{+黑+}猫。");
    assert_eq!((chinese.removed_words, chinese.added_words), (1, 1));
    let japanese = Difference::between("これは猫です", "これは犬です");
    assert_eq!(drawn(&japanese), "これは[-猫-]{+犬+}です");
    // No character is cut in the middle.
    assert_eq!(drawn(&Difference::between("e\u{301} 👨‍👩‍👧", "e 👨‍👩‍👧")), "[-e\u{301}-]{+e+} 👨‍👩‍👧");
}

#[test]
fn white_space_that_differs_is_told_apart_from_words() {
    let difference = Difference::between("a  b\nc", "a b c ");
    assert!(difference.is_blank() && !difference.is_none());
    assert_eq!((difference.removed_words, difference.added_words), (0, 0));
    assert!((difference.similarity - 1.0).abs() < 1e-12);
    assert_eq!(drawn(&difference), "a[-  -]{+ +}b[-\n-]{+ +}c{+ +}");
    assert!(difference.pieces.iter().all(|piece| piece.blank == (piece.change != Change::Same)));
    let words = Difference::between("a b", "a c");
    assert!(!words.is_blank() && !words.is_none());
    let same = Difference::between(" a b ", " a b ");
    assert!(same.is_none() && !same.is_blank());
    assert_eq!(same.pieces.len(), 1);
}

#[test]
fn similarity_is_the_share_of_words_in_both() {
    // 2 × 3 of 4 + 4 words.
    assert!((Difference::between("a b c d", "a x c d").similarity - 0.75).abs() < 1e-12);
    assert!(Difference::between("a b c", "x y").similarity < 1e-12);
    assert!((Difference::between("", " ").similarity - 1.0).abs() < 1e-12);
}

#[test]
fn long_texts_with_nothing_in_common_are_compared_in_bounded_time() {
    // The same words in two orders: the worst there is for a search of the shortest difference.
    let text = |step: u64| {
        let mut state = 1_u64;
        let mut text = String::new();
        for _ in 0..600_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
            text.push_str(&format!("{} ", state >> 54));
        }
        text
    };
    let (old, new) = (text(1), text(3));
    let start = Instant::now();
    let difference = Difference::within(&old, &new, Duration::from_millis(50));
    // Cutting and drawing are beside the limit: 0.3 s here. Without one it takes more than 10 s.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(side(&difference, Change::Added), old);
    assert_eq!(side(&difference, Change::Removed), new);
}

proptest! {
    #[test]
    fn pieces_make_both_texts_again(old in "[ab漢字 \\n.é]{0,40}|\\PC{0,40}", new in "[ab漢字 \\n.é]{0,40}|\\PC{0,40}") {
        let difference = Difference::between(&old, &new);
        prop_assert_eq!(side(&difference, Change::Added), old.clone());
        prop_assert_eq!(side(&difference, Change::Removed), new.clone());
        prop_assert!((0.0..=1.0).contains(&difference.similarity));
        prop_assert_eq!(difference.is_none(), old == new);
        let back = Difference::between(&new, &old);
        prop_assert_eq!(back.is_blank(), difference.is_blank());
        for piece in &difference.pieces {
            prop_assert!(!piece.text.is_empty());
            prop_assert_eq!(piece.blank, piece.text.chars().all(char::is_whitespace));
        }
        for pair in difference.pieces.windows(2) {
            let joined = pair[0].change == pair[1].change && (pair[0].change == Change::Same || pair[0].blank == pair[1].blank);
            prop_assert!(!joined, "{:?}", pair);
        }
    }
}
