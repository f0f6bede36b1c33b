use egui::{ColorImage, Event, MouseWheelUnit, TextureOptions, TouchPhase};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

use super::*;
use crate::chat::grounding::Place;

#[derive(Default)]
struct Case {
    viewer: Viewer,
    texture: Option<TextureHandle>,
    action: Option<ViewerAction>,
}

fn harness() -> Harness<'static, Case> {
    let found = vec![Found {
        place: Place::Box([100.0, 100.0, 500.0, 500.0]),
        label: "cat".into(),
        picture: None,
        range: 0..0,
    }];
    let mut harness = Harness::builder().with_size(vec2(1000.0, 700.0)).build_ui_state(
        move |ui, case: &mut Case| {
            let texture = case.texture.get_or_insert_with(|| {
                let image = ColorImage::filled([40, 30], Color32::DARK_GREEN);
                ui.ctx().load_texture("picture", image, TextureOptions::NEAREST)
            });
            let shown = Shown {
                original: Some(texture),
                seen: Some(texture),
                size_px: (4000, 3000),
                grid: Some([1, 30, 40]),
                merge: 2,
                found: &found,
                facts: "4000×3000 · 30×40 patches",
                name: "cat.png",
            };
            case.action = case.viewer.show(ui, &shown).or(case.action);
        },
        Case::default(),
    );
    harness.run();
    harness
}

/// The zoom that the picture says it has, in percent.
fn zoom(harness: &Harness<'static, Case>) -> f32 {
    let node = harness.get_by_label_contains("Picture cat.png");
    let label = node.accesskit_node().label().unwrap();
    label.rsplit_once(", ").unwrap().1.trim_end_matches(" %").parse().unwrap()
}

#[test]
fn keys_and_buttons_zoom() {
    let mut harness = harness();
    let fit = zoom(&harness);
    assert!((10.0..25.0).contains(&fit), "{fit}");
    harness.get_by_label("100 %").click();
    harness.run();
    assert!((zoom(&harness) - 100.0).abs() < 0.1);
    harness.key_press(Key::Plus);
    harness.run();
    assert!((zoom(&harness) - 125.0).abs() < 0.6);
    harness.key_press(Key::Minus);
    harness.run();
    assert!((zoom(&harness) - 100.0).abs() < 0.6);
    harness.get_by_label("Fit").click();
    harness.run();
    assert!((zoom(&harness) - fit).abs() < 0.1);
    harness.get_by_label("Zoom in (+)").click();
    harness.run();
    assert!(zoom(&harness) > fit);
    for _ in 0..60 {
        harness.key_press(Key::Plus);
    }
    harness.run();
    assert!((zoom(&harness) - LARGEST * 100.0).abs() < 1.0);
}

#[test]
fn the_wheel_zooms_where_the_pointer_is_and_dragging_moves() {
    let mut harness = harness();
    harness.key_press(Key::Num1);
    harness.run();
    harness.hover_at(pos2(200.0, 300.0));
    harness.run();
    let before = harness.state().viewer.middle;
    harness.event(Event::MouseWheel {
        unit: MouseWheelUnit::Point,
        delta: vec2(0.0, 250.0),
        phase: TouchPhase::Move,
        source: egui::MouseWheelSource::Unknown,
        modifiers: Modifiers::NONE,
    });
    harness.run();
    assert!((zoom(&harness) - 200.0).abs() < 8.0, "{}", zoom(&harness));
    let after = harness.state().viewer.middle;
    assert!(after.x < before.x, "the middle moves towards the pointer");
    harness.drag_at(pos2(200.0, 300.0));
    harness.run();
    harness.hover_at(pos2(260.0, 300.0));
    harness.run();
    harness.drop_at(pos2(260.0, 300.0));
    harness.run();
    let dragged = harness.state().viewer.middle;
    assert!(((after.x - dragged.x) * 8000.0 - 60.0).abs() < 8.0, "{after} {dragged}");
    harness.key_press(Key::ArrowRight);
    harness.run();
    assert!(harness.state().viewer.middle.x > dragged.x);
    for _ in 0..300 {
        harness.key_press(Key::ArrowLeft);
    }
    harness.run();
    assert!(harness.state().viewer.middle.x > 0.0);
}

#[test]
fn it_closes_and_passes_on_what_is_asked() {
    for (label, expected) in [
        ("Close (Esc)", ViewerAction::Close),
        ("Save with boxes…", ViewerAction::ExportPicture),
        ("Copy coordinates", ViewerAction::CopyCoordinates),
    ] {
        let mut harness = harness();
        harness.get_by_label(label).click();
        harness.run();
        assert_eq!(harness.state().action, Some(expected));
    }
    let mut harness = harness();
    harness.key_press(Key::Escape);
    harness.run();
    assert_eq!(harness.state().action, Some(ViewerAction::Close));
}

#[test]
fn grids_and_both_pictures_can_be_chosen_and_everything_has_a_name() {
    let mut harness = harness();
    for label in ["Patches", "Tokens", "As the model saw it"] {
        harness.get_by_label(label).click();
        harness.run();
    }
    let viewer = &harness.state().viewer;
    assert!(viewer.patches && viewer.tokens && viewer.as_seen);
    harness.get_by_label("Boxes and points").click();
    harness.run();
    assert!(!harness.state().viewer.found);
    assert_eq!(harness.unnamed_widgets(), Vec::<String>::new());
}

#[test]
fn a_fine_grid_fades() {
    assert!(grid_strength(vec2(3.9, 20.0)) <= 0.0);
    assert!((0.1..0.9).contains(&grid_strength(vec2(8.0, 20.0))));
    assert!(grid_strength(vec2(20.0, 12.0)) >= 1.0);
}

#[test]
fn a_picture_that_is_not_there_yet_and_no_space_do_no_harm() {
    for size in [vec2(500.0, 300.0), vec2(20.0, 20.0)] {
        let mut viewer = Viewer::default();
        let mut harness = Harness::builder().with_size(size).build_ui(move |ui| {
            let shown = Shown {
                original: None,
                seen: None,
                size_px: (0, 0),
                grid: Some([1, 0, 0]),
                merge: 0,
                found: &[],
                facts: "",
                name: "a name that is longer than the space there is for it",
            };
            viewer.show(ui, &shown);
        });
        harness.run();
    }
}
