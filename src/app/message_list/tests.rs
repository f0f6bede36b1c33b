use std::collections::BTreeMap;

use egui::{Event, Modifiers, MouseWheelUnit, Pos2, TouchPhase};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::*;

struct Case {
    list: MessageList,
    keys: Vec<i64>,
    grown: f32,
    wrong: f32,
    scroll_to: Option<ScrollTo<i64>>,
    /// Where each item drawn in the last pass was.
    drawn: BTreeMap<i64, f32>,
    view: Rect,
}

fn height(key: i64) -> f32 {
    20.0 + (key * 37 % 180) as f32
}

impl Case {
    fn harness(count: i64, wrong: f32) -> Harness<'static, Self> {
        let case = Self {
            list: MessageList::default(),
            keys: (0..count).collect(),
            grown: 0.0,
            wrong,
            scroll_to: None,
            drawn: BTreeMap::new(),
            view: Rect::NOTHING,
        };
        let mut harness = Harness::builder().with_size(vec2(400.0, 600.0)).with_max_steps(20).build_ui_state(
            |ui, case: &mut Self| {
                case.drawn.clear();
                let Self { list, keys, grown, wrong, scroll_to, drawn, view } = case;
                *view = ui.available_rect_before_wrap();
                let last = keys.len().saturating_sub(1);
                list.show(
                    ui,
                    keys,
                    |place| height(keys[place]) * *wrong,
                    scroll_to.take(),
                    |ui, place| {
                        if grown.is_nan() {
                            grew_above(ui.ctx(), f32::NAN);
                        }
                        let more = if place == last && grown.is_finite() { *grown } else { 0.0 };
                        let size = vec2(ui.available_width(), height(keys[place]) + more);
                        let (rect, _) = ui.allocate_exact_size(size, egui::Sense::hover());
                        drawn.insert(keys[place], rect.top());
                    },
                );
            },
            case,
        );
        harness.run();
        harness
    }
}

fn wheel(harness: &mut Harness<'static, Case>, points: f32) {
    harness.hover_at(Pos2::new(200.0, 300.0));
    harness.event(Event::MouseWheel {
        unit: MouseWheelUnit::Point,
        delta: vec2(0.0, points),
        phase: TouchPhase::Move,
        source: egui::MouseWheelSource::Unknown,
        modifiers: Modifiers::NONE,
    });
    harness.run();
}

/// Items that were in sight before and are after have all moved by `points`.
fn assert_moved(before: &BTreeMap<i64, f32>, harness: &Harness<'static, Case>, points: f32) {
    let case = harness.state();
    let mut common = 0;
    for (key, y) in before {
        let Some(now) = case.drawn.get(key) else { continue };
        let (top, bottom) = (case.view.top(), case.view.bottom());
        if *y + height(*key) > top && *y < bottom && *now + height(*key) > top && *now < bottom {
            assert!((now - y - points).abs() < 0.3, "item {key} moved by {} in place of {points}", now - y);
            common += 1;
        }
    }
    assert!(common > 0, "nothing stayed in sight");
    // Nothing overlaps, nothing is missing.
    let mut items = case.drawn.iter();
    let (mut key, mut y) = items.next().map(|(key, y)| (*key, *y)).unwrap();
    for (next, next_y) in items {
        assert_eq!(*next, key + 1);
        assert!((y + height(key) - next_y).abs() < 1.1, "between {key} and {next}");
        (key, y) = (*next, *next_y);
    }
}

#[test]
fn of_five_thousand_items_a_few_dozen_are_drawn() {
    let harness = Case::harness(5000, 1.0);
    let case = harness.state();
    assert!((3..60).contains(&case.drawn.len()), "{}", case.drawn.len());
    assert!(case.list.is_at_end());
    assert!((case.drawn[&4999] + height(4999) - case.view.bottom()).abs() < 1.1);
    let mut harness = harness;
    let start = std::time::Instant::now();
    (0..100).for_each(|_| harness.step());
    println!("{:.2} ms a frame", start.elapsed().as_secs_f64() * 10.0);
}

#[test]
fn scrolling_up_shows_every_item_and_nothing_jumps_however_wrong_the_estimates_are() {
    for wrong in [0.33, 1.0, 3.0] {
        let mut harness = Case::harness(5000, wrong);
        for step in 0..60 {
            let points = [35.0, 90.0, 250.0][step % 3];
            let before = harness.state().drawn.clone();
            wheel(&mut harness, points);
            assert_moved(&before, &harness, points);
            assert!(!harness.state().list.is_at_end());
        }
        for _ in 0..30 {
            let before = harness.state().drawn.clone();
            wheel(&mut harness, -50.0);
            assert_moved(&before, &harness, -50.0);
        }
    }
}

#[test]
fn the_list_stays_at_the_end_while_it_grows_and_elsewhere_it_stays_where_it_is() {
    let mut harness = Case::harness(200, 2.0);
    for _ in 0..20 {
        harness.state_mut().grown += 17.0;
        harness.run();
        let case = harness.state();
        assert!((case.drawn[&199] + height(199) + case.grown - case.view.bottom()).abs() < 1.1);
    }
    harness.state_mut().keys.push(200);
    harness.state_mut().grown = 0.0;
    harness.run();
    assert!((harness.state().drawn[&200] + height(200) - harness.state().view.bottom()).abs() < 1.1);

    wheel(&mut harness, 300.0);
    let before = harness.state().drawn.clone();
    harness.state_mut().grown = 500.0;
    harness.state_mut().keys.remove(3);
    harness.run();
    let case = harness.state();
    assert!(!case.list.is_at_end());
    let kept = before.iter().find(|(_, y)| **y > 100.0).unwrap();
    assert!((case.drawn[kept.0] - kept.1).abs() < 0.3);

    harness.get_by_label("To the end").click();
    harness.run();
    assert!(harness.state().list.is_at_end());
    assert!(harness.query_by_label("To the end").is_none());
}

#[test]
fn an_item_can_be_jumped_to_and_items_above_can_come_and_go() {
    for wrong in [0.33, 3.0] {
        let mut harness = Case::harness(5000, wrong);
        harness.state_mut().scroll_to = Some(ScrollTo::Item(2500));
        harness.run();
        let case = harness.state();
        assert!((case.drawn[&2500] - case.view.top()).abs() < 1.1, "{} {wrong}", case.drawn[&2500]);
        let before = harness.state().drawn[&2500];
        harness.state_mut().keys.drain(100..300);
        harness.run();
        assert!((harness.state().drawn[&2500] - before).abs() < 0.3);
        harness.state_mut().scroll_to = Some(ScrollTo::Item(4998));
        harness.run();
        let case = harness.state();
        assert!((case.drawn[&4999] + height(4999) - case.view.bottom()).abs() < 1.1);
    }
}

#[test]
fn a_tall_item_whose_upper_part_grows_keeps_what_is_in_sight() {
    let mut list = MessageList::default();
    let seen = std::rc::Rc::new(std::cell::Cell::new((0.0_f32, 0.0_f32)));
    let drawn = seen.clone();
    let mut harness = Harness::builder().with_size(vec2(400.0, 600.0)).build_ui_state(
        move |ui, upper: &mut f32| {
            list.show(
                ui,
                &[7],
                |_| 100.0,
                None,
                |ui, _| {
                    let (known, _) = drawn.get();
                    ui.allocate_space(vec2(100.0, *upper));
                    if known > 0.0 {
                        grew_above(ui.ctx(), *upper - known);
                    }
                    let (rect, _) = ui.allocate_exact_size(vec2(100.0, 2000.0), egui::Sense::hover());
                    drawn.set((*upper, rect.top()));
                },
            );
        },
        1000.0,
    );
    harness.run();
    harness.key_press(Key::PageUp);
    harness.run();
    let (_, before) = seen.get();
    *harness.state_mut() = 1300.0;
    harness.run();
    let (_, after) = seen.get();
    assert!((before - after).abs() < 1.1, "{before} {after}");
}

#[test]
fn keys_move_by_pages_and_to_both_ends() {
    let mut harness = Case::harness(300, 0.5);
    let before = harness.state().drawn.clone();
    let page = (harness.state().view.height() * PAGE as f32).round_ties_even();
    harness.key_press(Key::PageUp);
    harness.run();
    assert_moved(&before, &harness, page);
    harness.key_press(Key::Home);
    harness.run();
    assert!((harness.state().drawn[&0] - harness.state().view.top()).abs() < 0.3);
    harness.key_press(Key::PageDown);
    harness.run();
    assert!((harness.state().list.offset - f64::from(page)).abs() < 0.1);
    harness.key_press(Key::End);
    harness.run();
    assert!(harness.state().list.is_at_end());
}

#[test]
fn another_width_keeps_the_place() {
    let mut harness = Case::harness(1000, 1.7);
    wheel(&mut harness, 5000.0);
    let first = *harness.state().drawn.iter().find(|(_, y)| **y >= harness.state().view.top()).unwrap().0;
    let y = harness.state().drawn[&first];
    harness.set_size(vec2(300.0, 600.0));
    harness.run();
    let case = harness.state();
    assert!((case.drawn[&first] - y).abs() < height(first), "{} {y}", case.drawn[&first]);
    assert!(case.list.measured.len() < 100);
}

#[test]
fn a_list_shorter_than_the_view_and_an_empty_one_are_at_the_end() {
    for count in [0, 2] {
        let harness = Case::harness(count, 1.0);
        assert!(harness.state().list.is_at_end());
        assert_eq!(harness.state().drawn.len(), usize::try_from(count).unwrap());
    }
}

#[test]
fn a_length_that_is_no_number_is_nothing_and_the_list_goes_on() {
    let mut harness = Case::harness(50, 1.0);
    harness.state_mut().grown = f32::NAN;
    harness.run_steps(3);
    harness.state_mut().grown = 0.0;
    harness.state_mut().scroll_to = Some(ScrollTo::Item(20));
    harness.run();
    let case = harness.state();
    assert!(case.drawn.values().all(|top| top.is_finite()), "{:?}", case.drawn);
    assert!((case.drawn[&20] - case.view.top()).abs() < 1.0, "{:?}", case.drawn);
    assert!(finite(f32::INFINITY, "a test's length").abs() < f32::EPSILON);
}
