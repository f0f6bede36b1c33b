//! Reports, looked at as text.

use std::path::Path;

use super::*;
use crate::compare::file::Comparison;
use crate::compare::judge::Verdict;
use crate::compare::result::{Begin, Checked};

const TWO: &str = "title = \"Two & <more>\"\n[shared]\nprompt = \"Where is {{thing}}?\"\npictures = [\"sample:shapes.png\"]\n\
                   [[columns]]\nname = \"small\"\npicture_size = 96\n[[columns]]\nname = \"large\"\npicture_size = 384\n\
                   [variables]\nthing = [\"the star\", \"<b>中文</b>\"]\n";

fn plan(text: &str) -> Plan {
    Plan::new(Comparison::parse(text).unwrap(), Path::new("")).unwrap()
}

fn cell(plan: &Plan, number: usize, answer: &str) -> CellResult {
    let cell = plan.cell(number).unwrap();
    CellResult {
        key: cell.key,
        row: cell.place.row,
        repeat: cell.place.repeat,
        column: plan.columns[cell.place.column].name.clone(),
        values: cell.values,
        prompt: cell.fields.prompt.unwrap(),
        pictures: cell.fields.pictures.unwrap_or_default(),
        answer: answer.to_owned(),
        ..CellResult::default()
    }
}

fn page(plan: &Plan, results: &[CellResult]) -> String {
    html(plan, results, &HashMap::new()).unwrap()
}

#[test]
fn what_models_and_files_say_stays_text() {
    let plan = plan(TWO);
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)> & \"quotes\" </style></svg>";
    let mut first = cell(&plan, 0, evil);
    first.error = Some(evil.to_owned());
    let mut second = cell(&plan, 1, evil);
    second.verdicts =
        vec![Checked { number: 0, what: evil.into(), verdict: Verdict { passed: false, why: evil.into() } }];
    let rating = Rating { note: evil.into(), ..Rating::default() };
    let ratings = HashMap::from([(second.key.clone(), rating)]);
    let ran = Ran { begin: Begin { adapter: evil.into(), ..Begin::default() }, at: Some(0) };
    let text =
        html_of_runs(&plan, &[first, second, cell(&plan, 2, "{{ 7 * 7 }}")], &ratings, &[ran]).unwrap();
    assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<b>"), "{text}");
    assert!(text.contains("&lt;script&gt;alert(1)&lt;") && text.contains("{{ 7 * 7 }}"));
    assert!(text.contains("<title>Two &amp; &lt;more&gt;</title>") && text.contains("&lt;b&gt;中文"));
    assert_eq!(text.matches("</style>").count(), 1);
}

#[test]
fn a_report_fetches_nothing_and_has_each_picture_once() {
    let plan = plan(TWO);
    let results: Vec<CellResult> = (0..4).map(|n| cell(&plan, n, "here")).collect();
    let text = page(&plan, &results);
    for fetches in ["http://", "https://", "src=", "url(", "@import", "<script", "<link", "<iframe"] {
        assert!(!text.contains(fetches), "{fetches}");
    }
    assert_eq!(text.matches("data:image/").count(), 1, "one picture in two rows and two columns");
    assert_eq!(text.matches("<use href=\"#p0\"/>").count(), 2, "once in each row");
    assert!(text.contains("default-src 'none'") && text.contains("<html lang=\"en\">"));
}

#[test]
fn words_that_differ_from_the_first_column_are_marked() {
    let plan = plan(TWO);
    let results = [
        cell(&plan, 0, "The star is left of the circle."),
        cell(&plan, 1, "The star is right of the circle."),
        cell(&plan, 2, "same"),
        cell(&plan, 3, "same"),
    ];
    let text = page(&plan, &results);
    assert!(text.contains("The star is <del>left</del><ins>right</ins> of the circle."), "{text}");
    assert!(text.contains("the same as <span class=\"chip k0 d0\">1</span>"));
    assert_eq!(text.matches("<section class=\"row differing\"").count(), 1);
    let far = [cell(&plan, 0, "The star is left of it."), cell(&plan, 1, "二つの赤い丸")];
    let text = page(&plan, &far);
    assert!(text.contains("hardly a word in common with") && text.contains(">二つの赤い丸<"));
}

#[test]
fn boxes_are_drawn_on_the_rows_picture_in_the_columns_colours() {
    let plan = plan(TWO);
    let boxed = |x| format!("[{{\"bbox_2d\": [{x}, 250, 500, 750], \"label\": \"a <star>\"}}]");
    let text = page(&plan, &[cell(&plan, 0, &boxed(0)), cell(&plan, 1, &boxed(250))]);
    assert_eq!(text.matches("<g class=\"mark").count(), 2);
    assert!(text.contains("<g class=\"mark k0 d0\"><title>column 1: a &lt;star&gt;</title>"), "{text}");
    assert!(text.contains("<g class=\"mark k1 d0\">") && text.contains("column 2 marks a &lt;star&gt;"));
    // 320 wide, so a quarter is 80.
    assert!(text.contains("<rect class=\"line\" x=\"80.0\""), "{text}");
}

#[test]
fn errors_missing_cells_and_missing_pictures_are_said_in_their_places() {
    let plan = plan(&TWO.replace("sample:shapes.png", "gone.png"));
    let about = |error: &str| CellResult {
        column: "small".into(),
        pictures: vec!["gone.png".into()],
        error: Some(error.into()),
        ..CellResult::default()
    };
    let known = CellResult { prompt: "Where?".into(), ..about("reading the picture gone.png: no such file") };
    let text = page(&plan, &[known]);
    assert!(text.contains("<strong>No answer:</strong> reading the picture gone.png"), "{text}");
    assert!(text.contains("No picture: reading the picture gone.png"), "{text}");
    assert!(text.contains("Did not run."));
    let laid_out = CellResult { prompt: "Where?".into(), ..about("gone") };
    let text =
        page(&plan, &[laid_out, CellResult { pictures: vec![], column: "large".into(), ..about("gone") }]);
    assert!(text.contains("Prompt: </span>Where?") && text.contains("2 of 4 cells; 2 did not run"), "{text}");
    let text = page(&plan, &[about("gone")]);
    assert!(text.contains("1 of 4 cells; 3 did not run") && text.contains("1 without an answer"));
}

#[test]
fn ratings_are_told_with_how_sure_they_are() {
    let plan = plan(TWO);
    let results: Vec<CellResult> = (0..4).map(|n| cell(&plan, n, "x")).collect();
    let stars = |stars| Rating { stars: Some(stars), note: "fine".into(), ..Rating::default() };
    let ratings =
        results.iter().zip([5, 2, 4, 1]).map(|(result, n)| (result.key.clone(), stars(n))).collect();
    let text = html(&plan, &results, &ratings).unwrap();
    assert!(text.contains("<td>2–0–0</td><td>100 % (34–100 %)</td>") && text.contains("p = 0.50"), "{text}");
    assert!(text.contains("★★★★★") && text.contains("★☆☆☆☆") && text.contains(">fine<"));
}

#[test]
fn a_hundred_thousand_cells_make_a_report_that_a_browser_opens() {
    let values = (0..50_000).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let text =
        format!("[shared]\nprompt = \"{{{{a}}}}\"\n[[columns]]\n[[columns]]\n[variables]\na = [{values}]\n");
    let plan = plan(&text);
    let mut results: Vec<CellResult> = (0..plan.len())
        .map(|n| {
            let place = plan.place(n);
            let column = plan.columns[place.column].name.clone();
            CellResult {
                row: place.row,
                column,
                answer: "the same words ".repeat(8),
                ..CellResult::default()
            }
        })
        .collect();
    results[80_001].answer = "other words".into();
    results[99_998].error = Some("gone".into());
    let text = page(&plan, &results);
    assert!(text.len() < 16 << 20, "{} MiB", text.len() >> 20);
    assert_eq!(text.matches("<section class=\"row").count(), 2000);
    assert!(
        text.contains(
            "2,000 of 50,000 rows are shown: 1 of 1 row that failed, 1 of 1 row whose answers differ"
        )
    );
    assert!(text.contains(">Row 40001<") && text.contains(">Row 50000<") && text.contains(">Row 1998<"));
}
