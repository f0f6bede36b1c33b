use std::time::Instant;

use egui::{Modifiers, OpenUrl, ScrollArea};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

use super::*;

fn harness(text: impl Into<String>) -> Harness<'static, (Markdown, String)> {
    let mut harness = Harness::builder().with_size(vec2(500.0, 600.0)).with_max_steps(200).build_ui_state(
        |ui, (markdown, text): &mut (Markdown, String)| {
            ScrollArea::vertical().auto_shrink(false).show(ui, |ui| markdown.show(ui, 1, text));
        },
        (Markdown::default(), text.into()),
    );
    harness.run();
    harness
}

fn sees(harness: &Harness<'static, (Markdown, String)>, text: &str) -> bool {
    harness
        .query_all_by(|node| node.value().or_else(|| node.label()).is_some_and(|t| t.contains(text)))
        .next()
        .is_some()
}

#[test]
fn half_an_answer_is_drawn_at_every_length() {
    let text = "# Two *things*\n\n- [x] done\n- [ ] not\n\n| a | b |\n|---|---|\n| 1 | `2` |\n\n```rust\nfn main() {}\n```\n\n> quote\n\n[link](https://example.org) ![p](https://example.org/p.png) <b>raw</b> **bo";
    let mut harness = harness("");
    for (end, _) in text.char_indices() {
        harness.state_mut().1 = text[..end].into();
        harness.step();
    }
    harness.state_mut().1 = text.into();
    harness.run();
    for part in ["things", "done", "fn main() {}", "quote", "link", "<b>"] {
        assert!(sees(&harness, part), "{part}");
    }
    let whole = harness.state_mut();
    let mut fresh = Answer::default();
    fresh.take(&whole.1);
    let grown = &whole.0.answers[&1];
    let kinds = |answer: &Answer| answer.blocks.iter().map(|(block, ..)| block.clone()).collect::<Vec<_>>();
    assert_eq!(kinds(grown), kinds(&fresh));
}

/// What lies below what is in sight once had no height that is a number.
#[test]
fn a_short_answer_below_the_view_has_a_height() {
    let text = "a\n\n".repeat(SHORT / 3);
    assert!(text.len() <= SHORT);
    let mut heights = Vec::new();
    for above in [0.0, 5000.0] {
        let mut harness = Harness::builder().with_size(vec2(500.0, 600.0)).build_ui_state(
            |ui, (markdown, height): &mut (Markdown, f32)| {
                ScrollArea::vertical().show(ui, |ui| {
                    ui.add_space(above);
                    *height = ui.scope(|ui| markdown.show(ui, 1, &text)).response.rect.height();
                });
            },
            (Markdown::default(), 0.0),
        );
        harness.run();
        heights.push(harness.state().1);
    }
    assert!(heights[0] > 5000.0 && (heights[0] - heights[1]).abs() < 1.0, "{heights:?}");
}

#[test]
fn a_picture_is_its_words_and_its_address_and_nothing_is_fetched() {
    let harness = harness("Look: ![a cat](https://example.org/cat.png) ![b][c]\n\n[c]: file:///etc/passwd");
    assert!(sees(&harness, "a cat") && sees(&harness, "https://example.org/cat.png"));
    assert!(harness.query_all_by_role(egui::Role::Image).next().is_none());
}

#[test]
fn a_link_opens_on_a_click_only_and_a_file_never() {
    for (text, opens) in [("[go](https://example.org/x)", true), ("[go](file:///bin/sh)", false)] {
        let mut harness = harness(text);
        let opened = |harness: &Harness<'static, (Markdown, String)>| -> Vec<OpenUrl> {
            let commands = &harness.output().platform_output.commands;
            commands
                .iter()
                .filter_map(|c| if let OutputCommand::OpenUrl(url) = c { Some(url.clone()) } else { None })
                .collect()
        };
        assert!(opened(&harness).is_empty());
        harness.get_by_label("go").click();
        let mut urls = Vec::new();
        for _ in 0..4 {
            harness.step();
            urls.extend(opened(&harness));
        }
        assert_eq!(!urls.is_empty(), opens, "{text}");
    }
}

#[test]
fn the_address_of_a_link_shows_where_the_pointer_is() {
    let mut harness = harness("[go](https://example.org/x)");
    harness.get_by_label("go").hover();
    for _ in 0..40 {
        harness.step();
    }
    assert!(harness.query_by_label("https://example.org/x").is_some());
}

#[test]
fn code_is_copied_as_it_is() {
    let mut harness = harness("```py\nx = ![1]\n\tprint(x)\n```");
    harness.get_by_label("Copy the code").click();
    let mut copied = Vec::new();
    for _ in 0..4 {
        harness.step();
        for command in &harness.output().platform_output.commands {
            if let OutputCommand::CopyText(text) = command {
                copied.push(text.clone());
            }
        }
    }
    assert_eq!(copied, ["x = ![1]\n\tprint(x)\n"]);
}

/// Milliseconds of the first frame and of the slowest of those that follow.
fn time(text: &str) -> (f64, f64) {
    let mut harness = harness("a");
    let ms = |harness: &mut Harness<'static, (Markdown, String)>| {
        let start = Instant::now();
        harness.step();
        start.elapsed().as_secs_f64() * 1e3
    };
    harness.state_mut().1 = text.into();
    let first = ms(&mut harness);
    harness.hover_at(egui::pos2(200.0, 300.0));
    let mut slowest: f64 = 0.0;
    for _ in 0..20 {
        harness.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: vec2(0.0, -400.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: Modifiers::NONE,
        });
        slowest = slowest.max(ms(&mut harness));
    }
    (first, slowest)
}

#[test]
fn long_and_strange_answers_do_not_freeze() {
    let prose =
        "Some *emphasis*, some `code`, and [a link](https://example.org) in a paragraph of its own.\n\n";
    let code = "fn add(a: u32, b: u32) -> u32 { a + b } // a comment\n";
    let cases = [
        ("200 kB of paragraphs", prose.repeat(2200)),
        ("200 kB of one paragraph", prose.replace('\n', " ").repeat(2200)),
        ("200 kB of code", format!("```rust\n{}", code.repeat(3800))),
        ("200 kB of table", format!("| a | b |\n|---|---|\n{}", "| some | words here |\n".repeat(9000))),
        ("200 kB of list", "- an item of a list\n".repeat(10_000)),
        ("200 kB of code on one line", format!("```js\n{}", "x=1;".repeat(50_000))),
        ("a word of 200 kB", "w".repeat(200_000)),
        ("a word of 10,000", "w".repeat(10_000)),
        ("quotes", ">".repeat(5000)),
        ("brackets", "[".repeat(5000)),
        ("stars", "*".repeat(5000)),
        ("1,400 brackets", "[".repeat(1400)),
        ("1,400 stars", "*".repeat(1400)),
        ("1,400 stars and letters", "*a ".repeat(1400)),
        ("1,400 links", "[a](".repeat(1400)),
        ("1,400 underscores", "_a**b".repeat(700)),
        ("lists in lists", "- ".repeat(5000)),
        ("lists in lists, 8 deep", format!("{}x\n", "- ".repeat(8)).repeat(500)),
        ("indented lists", (0..12).map(|i| "  ".repeat(i) + "- item\n").collect::<String>().repeat(30)),
        (
            "a wide table",
            format!("|{}\n|{}\n|{}\n", " head |".repeat(200), "---|".repeat(200), " cell |".repeat(200)),
        ),
        ("entities", "&amp;".repeat(20_000)),
        ("backticks", "` `` ``` ".repeat(700)),
        ("html", "<div>".repeat(1400)),
    ];
    for (name, text) in cases {
        let (first, slowest) = time(&text);
        println!("{name}: first {first:.1} ms, then at most {slowest:.1} ms");
        assert!(first < 3000.0 && slowest < 1500.0, "{name}: {first} {slowest}");
    }
}

#[test]
fn an_answer_that_comes_in_costs_little_a_frame() {
    let piece = "A sentence of the answer, with **some** words.\n\n```rust\nlet x = 1;\n```\n\n- item\n\n";
    let mut harness = harness(piece.repeat(1500));
    let mut slowest: f64 = 0.0;
    for token in ["More", " of", " it", ".\n\n", "```py\n", "x = 1\n"].iter().cycle().take(60) {
        harness.state_mut().1.push_str(token);
        let start = Instant::now();
        harness.step();
        slowest = slowest.max(start.elapsed().as_secs_f64() * 1e3);
    }
    println!("{} kB: at most {slowest:.1} ms a frame", harness.state().1.len() / 1000);
    assert!(slowest < 1000.0);
}

#[test]
fn scrolling_up_through_a_very_long_answer_does_not_jump() {
    let long = "words that take more than a line of the narrow column they stand in, ".repeat(4);
    let text: String = (0..400)
        .flat_map(|i| [format!("Number {i}."), "\n\n# Head\n\n".into(), long.clone(), "\n\n".into()])
        .collect();
    let (mut list, mut markdown) = (super::super::message_list::MessageList::default(), Markdown::default());
    let mut harness =
        Harness::builder().with_size(vec2(400.0, 600.0)).with_max_steps(30).build_ui(move |ui| {
            list.show(
                ui,
                &[5, 6],
                |_| 700.0,
                None,
                |ui, place| {
                    let id = if place == 0 { 5 } else { 6 };
                    markdown.show(ui, id, if place == 0 { &text } else { "short" });
                },
            );
        });
    harness.run();
    let places = |harness: &Harness<'_>| -> HashMap<String, f32> {
        let labels =
            harness.query_all_by(|node| node.value().is_some_and(|text| text.starts_with("Number ")));
        labels.filter_map(|node| Some((node.accesskit_node().value()?, node.rect().top()))).collect()
    };
    harness.hover_at(egui::pos2(200.0, 300.0));
    let mut common = 0;
    for _ in 0..150 {
        let before = places(&harness);
        harness.event(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: vec2(0.0, 120.0),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: Modifiers::NONE,
        });
        harness.run();
        for (label, now) in places(&harness) {
            if let Some(then) = before.get(&label)
                && (0.0..600.0).contains(then)
                && (0.0..600.0).contains(&now)
            {
                assert!((now - then - 120.0).abs() < 1.1, "{label} moved by {}", now - then);
                common += 1;
            }
        }
    }
    assert!(common > 50, "{common}");
}
