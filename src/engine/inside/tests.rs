use super::*;

/// Two layers of two heads over nine tokens; a picture of 1x2 at 2 and a clip of two frames of 2x1 at 4 and 7.
/// Token j of row r has weight (r + 1) (j + 1), not normalised, so that each mean is known.
fn inside() -> Inside {
    let place = |index, frames: &[usize], rows, cols| PicturePlace {
        index,
        is_clip: index > 0,
        resized: (32 * cols as u32, 32 * rows as u32),
        frames: frames.to_vec(),
        rows,
        cols,
    };
    Inside {
        token: 0,
        chosen: (7, "a".into()),
        layers: 2,
        heads: 2,
        prompt_tokens: 9,
        reused_tokens: 0,
        tokens: (0..9).map(|id| (id, id.to_string())).collect(),
        pictures: vec![place(0, &[2], 1, 2), place(1, &[4, 7], 2, 1)],
        attention: (1..=4).flat_map(|row| (1..=9).map(move |j| (row * j) as f32)).collect(),
        lens: Vec::new(),
    }
}

#[test]
fn attention_is_averaged_over_the_layers_and_heads_that_are_selected() {
    let inside = inside();
    // The weight of token 0 is the mean of the rows' numbers.
    let mean = |selection: &Selection| inside.weights(selection)[..1].to_vec();
    assert_eq!(inside.weights(&Selection::ALL), (1..=9).map(|j| 2.5 * j as f32).collect::<Vec<_>>());
    assert_eq!(mean(&Selection::new(None, None)), [2.5]);
    assert_eq!(mean(&Selection::new(Some(0), None)), [1.5]);
    assert_eq!(mean(&Selection::new(Some(1), Some(0))), [3.0]);
    assert_eq!(mean(&Selection::new(None, Some(1))), [3.0]);
    assert_eq!(mean(&Selection { layers: 1..9, heads: 0..2 }), [3.5], "what there is not is left out");
    assert_eq!(inside.weights(&Selection::new(Some(2), None)), [0.0; 9], "nothing is selected");
    assert_eq!(mean(&Selection::new(Some(usize::MAX), None)), [0.0]);
}

#[test]
fn heat_maps_lie_on_the_grid_of_tokens_frame_by_frame() {
    let inside = inside();
    let first = Selection::new(Some(0), Some(0));
    let map = inside.heat_map(0, &first).expect("a picture");
    assert_eq!((map.frames, map.rows, map.cols), (1, 1, 2));
    assert_eq!(map.weights, [3.0, 4.0]);
    assert_eq!((map.share(), map.highest()), (7.0, 4.0));
    let map = inside.heat_map(1, &first).expect("a clip");
    assert_eq!((map.frames, map.rows, map.cols), (2, 2, 1));
    assert_eq!((map.frame(0), map.frame(1), map.frame(2)), (&[5.0, 6.0][..], &[8.0, 9.0][..], &[][..]));
    assert!(inside.heat_map(2, &first).is_none());
    assert!(Inside::heat_map_of(&inside.pictures[1], &[1.0; 8]).is_none(), "weights of another sequence");
    let pictures: Vec<usize> = (0..9).filter(|&token| inside.is_picture(token)).collect();
    assert_eq!(pictures, [2, 3, 4, 5, 7, 8]);
}

#[test]
fn a_step_must_be_one_of_the_answers_in_the_models_own_tokens() {
    let step = |token, ids: &[u32]| Step { answer: ids.into(), token };
    step(1, &[3, 4]).check(5, false).expect("the last");
    let error = step(2, &[3, 4]).check(5, false).expect_err("beyond").to_string();
    assert!(error.contains("token 2") && error.contains("the answer has 2"), "{error}");
    assert!(step(0, &[]).check(5, false).is_err());
    assert!(step(0, &[3, 5]).check(5, false).expect_err("no such id").to_string().contains("token 5"));
    assert!(step(0, &[3]).check(5, true).is_err(), "two wishes at once");
    assert_eq!((step(1, &[3, 4]).before(), step(1, &[3, 4]).chosen()), (&[3][..], Some(4)));
}
