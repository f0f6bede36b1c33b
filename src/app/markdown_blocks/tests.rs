use super::*;

fn kinds(text: &str) -> Vec<Kind> {
    blocks(text, 0).into_iter().map(|block| block.kind).collect()
}

fn markdown(text: &str) -> String {
    let [Kind::Markdown(text)] = &kinds(text)[..] else { panic!("{:?}", kinds(text)) };
    text.clone()
}

#[test]
fn paragraphs_lists_and_code_are_blocks() {
    let text = "One\ntwo\n\n1. a\n\n   b\n\n2. c\n\n```rust\nfn a() {}\n\nfn b() {}\n```\nafter";
    let all = blocks(text, 0);
    assert_eq!(all.len(), 4);
    assert_eq!(&text[all[1].range.clone()], "1. a\n\n   b\n\n2. c\n\n");
    assert_eq!(all[2].kind, Kind::Code("rust".into(), "fn a() {}\n\nfn b() {}\n".into()));
    assert_eq!(&text[all[3].range.clone()], "after");
}

#[test]
fn a_fence_that_is_still_open_is_code() {
    for text in ["```", "```py", "```py\n", "```py\nx = 1", "~~~~\na\n~~~\nb"] {
        assert!(matches!(&kinds(text)[..], [Kind::Code(..)]), "{text}");
    }
    assert_eq!(kinds("```py\nx = 1"), [Kind::Code("py".into(), "x = 1".into())]);
}

#[test]
fn code_in_a_list_is_a_block_too_and_the_list_goes_on() {
    let text = "1. a\n\n   ```py\n   x\n     y\n   ```\n   more\n\n2. b\n\nafter";
    let all = blocks(text, 0);
    let indents: Vec<usize> = all.iter().map(|block| block.indent).collect();
    assert_eq!(indents, [0, 3, 3, 0, 0]);
    assert_eq!(all[1].kind, Kind::Code("py".into(), "x\n  y\n".into()));
    assert_eq!(all[2].kind, Kind::Markdown("more\n\n".into()));
    assert_eq!(all[3].kind, Kind::Markdown("2. b\n\n".into()));
    let clean: Vec<bool> = all.iter().map(|block| block.clean).collect();
    assert_eq!(clean, [true, false, false, false, true]);
}

#[test]
fn pictures_become_text_and_code_stays() {
    assert_eq!(markdown("a ![b](http://c/d.png) e"), "a !\\[b](http://c/d.png) e");
    assert_eq!(markdown("`vec![1]` and ``a ` ![b](c)`` ![d](e)"), "`vec![1]` and ``a ` ![b](c)`` !\\[d](e)");
    assert_eq!(markdown("\\![a](b)"), "\\![a](b)");
    assert_eq!(markdown("` ![a](b)"), "` !\\[a](b)");
    assert_eq!(markdown("[![a](b)](c)"), "[!\\[a](b)](c)");
    let quote = "> a\n```\nvec![1]\n```\n";
    assert!(matches!(&kinds(quote)[..], [_, Kind::Code(_, code)] if code == "vec![1]\n"));
}

#[test]
fn long_tables_are_cut_and_keep_their_head() {
    let mut text = String::from("| a | b |\n|---|---|\n");
    (0..200).for_each(|i| text.push_str(&format!("| {i} | x |\n")));
    let all = kinds(&text);
    assert_eq!(all.len(), 4);
    for kind in &all {
        let Kind::Markdown(part) = kind else { panic!() };
        assert!(part.starts_with("| a | b |\n|---|---|\n| "));
    }
}

#[test]
fn too_deep_and_too_much_is_plain() {
    for text in [">".repeat(5000), "[".repeat(5000), "*".repeat(5000), "- ".repeat(5000), "![".repeat(5000)] {
        assert!(kinds(&text).iter().all(|kind| *kind == Kind::Plain), "{}", &text[..10]);
    }
    let nested: String = (0..60).map(|i| "  ".repeat(i) + "- item\n").collect();
    assert_eq!(kinds(&nested), [Kind::Plain]);
    assert!(matches!(&kinds("> a\n> > b\n> > - c\n>   - d")[..], [Kind::Markdown(_)]));
}

#[test]
fn large_text_is_cut_and_nothing_is_lost() {
    for text in ["word ".repeat(40_000), "ä".repeat(100_000), "a line\n".repeat(30_000)] {
        let all = blocks(&text, 0);
        assert!(all.iter().all(|block| block.range.len() <= LARGE * 2));
        assert_eq!(all.iter().map(|block| &text[block.range.clone()]).collect::<String>(), text);
    }
}

#[test]
fn names_of_links_are_known_in_all_blocks() {
    let all = kinds("See [here][a].\n\nMore\n\n[a]: https://example.org");
    assert_eq!(all[0], Kind::Markdown("See [here][a].\n\n\n\n[a]: https://example.org\n".into()));
    assert_eq!(all[1], Kind::Markdown("More\n\n".into()));
}

proptest::proptest! {
    #[test]
    fn blocks_follow_one_another(text in "[a`~*>|\\-\\n !\\[\\]()1.]{0,300}", other in "\\PC{0,200}") {
        for text in [&text, &other] {
            let all = blocks(text, 0);
            let mut at = all.first().map_or(0, |block| block.range.start);
            for block in &all {
                proptest::prop_assert_eq!(block.range.start, at);
                at = block.range.end;
                proptest::prop_assert!(text.get(block.range.clone()).is_some());
            }
            // What comes later changes only the last block.
            if let Some(at) = all.iter().rposition(|block| block.clean) {
                proptest::prop_assert_eq!(&blocks(text, all[at].range.start)[..], &all[at..]);
            }
        }
    }
}
