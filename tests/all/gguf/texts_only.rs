//! A text file without its vision file; and the command line on GGUF files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ocelli::engine::{AnswerEvent, Engine, LoadEvent, LoadRequest, ModelInfo, Request};
use ocelli::model::loaded::LoadOptions;
use ocelli::model::recipe::Recipe;
use ocelli::model::source::{ModelSource, Wanted};

use super::pair;
use crate::commands::Place;
use crate::support::*;

fn start(folder: &Path, text_only: bool) -> (Engine, ModelInfo) {
    let engine = Engine::start(gpu(), Arc::new(|| ())).unwrap();
    let options = LoadOptions { context: 512, text_only, ..LoadOptions::default() };
    let load = engine.load(LoadRequest { folder: folder.to_owned(), recipe: None, options });
    match load.events.iter().last().unwrap() {
        LoadEvent::Loaded(info) => (engine, *info),
        other => panic!("{other:?}"),
    }
}

fn ask(engine: &Engine, case: &str, tokens: usize) -> Result<Vec<u32>, String> {
    let case = Case::read("mono", case);
    let asked = Request { max_tokens: Some(tokens), ignore_end: true, ..request(&case) };
    match engine.ask(asked).events.iter().last().unwrap() {
        AnswerEvent::Finished(summary) => Ok(summary.ids),
        AnswerEvent::Failed(error) => Err(error.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_text_file_alone_is_an_error_until_texts_only_are_asked_for() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("mono.gguf");
    std::fs::copy(pair("mono-F32").0, &path).unwrap();
    let resolve = |wanted: Wanted| {
        let cache = temporary.path().join("cache");
        ModelSource::resolve_in(&cache, &path, wanted, &mut |_| (), &AtomicBool::new(false))
    };
    let error = resolve(Wanted::default()).unwrap_err().to_string();
    assert!(error.contains("its vision file is missing") && error.contains("same folder"), "{error}");
    assert!(error.contains("--text-only") && !error.contains('\n'), "{error}");
    // Another model's vision file is none.
    std::fs::copy(pair("ladder-F16").1, temporary.path().join("mmproj-other.gguf")).unwrap();
    assert_eq!(resolve(Wanted::default()).unwrap_err().to_string(), error);

    let source = resolve(Wanted { recipe: Some(Recipe::F32), text_only: true }).unwrap();
    assert!(!source.model.has_vision());
    assert!(source.notes.iter().any(|note| note.contains("texts only")), "{:?}", source.notes);
    let (engine, info) = start(source.model.folder(), false);
    assert!(!info.takes_pictures && !info.takes_clips);
    let wanted = Case::read("mono", "text").greedy(Recipe::F32);
    assert_eq!(ask(&engine, "text", wanted.len()), Ok(wanted));
    for case in ["square", "video"] {
        let error = ask(&engine, case, 4).unwrap_err();
        assert!(error.contains("loaded for texts only") && !error.contains('\n'), "{error}");
    }
    assert!(
        resolve(Wanted { recipe: Some(Recipe::F32), text_only: true }).unwrap().notes.is_empty(),
        "cached"
    );
}

#[test]
fn a_whole_model_loaded_for_texts_only_takes_less_memory_and_no_pictures() {
    let folder = converted("mono", Recipe::F32).folder().to_owned();
    let (engine, info) = start(&folder, true);
    let (_, whole) = start(&folder, false);
    assert!(whole.takes_pictures && whole.takes_clips && !info.takes_pictures);
    assert!(info.memory.weights_bytes < whole.memory.weights_bytes);
    let wanted = Case::read("mono", "text").greedy(Recipe::F32);
    assert_eq!(ask(&engine, "text", wanted.len()), Ok(wanted));
    assert!(ask(&engine, "square", 4).unwrap_err().contains("loaded for texts only"));
}

#[test]
fn the_command_line_takes_a_gguf_file_its_folder_and_its_conversion() {
    let place = Place::new();
    let (text, vision) = pair("mono-F32");
    std::fs::create_dir(place.path("files")).unwrap();
    std::fs::copy(&text, place.path("files/mono.gguf")).unwrap();
    let picture = fixtures().join("pictures/tiny.png");
    let generate = |model: &str, more: &[&str]| {
        let mut line =
            vec!["generate", "--model", model, "--greedy", "--max-tokens", "6", "--context", "512"];
        line.extend(more);
        place.run(&line)
    };
    let refused = generate("files/mono.gguf", &["Hello"]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.stderr.contains("vision file is missing"), "{}", refused.stderr);
    let texts = generate("files/mono.gguf", &["--text-only", "Hello"]);
    assert_eq!(texts.status, Some(0), "{}", texts.stderr);
    let seeing = ["--image", picture.to_str().unwrap(), "Hello"];
    let refused = generate("files/mono.gguf", &[&["--text-only"], seeing.as_slice()].concat());
    assert!(refused.stderr.contains("loaded for texts only"), "{}", refused.stderr);

    std::fs::copy(vision, place.path("files/mmproj-mono.gguf")).unwrap();
    place.fine(&["convert", "files/mono.gguf", "made"]);
    let hub = fixtures().join("mono/model");
    let wanted = generate(hub.to_str().unwrap(), &seeing);
    assert_eq!(wanted.status, Some(0), "{}", wanted.stderr);
    for model in ["files/mono.gguf", "files", "made"] {
        let run = generate(model, &seeing);
        assert_eq!(run.status, Some(0), "{model}: {}", run.stderr);
        assert_eq!(run.stdout, wanted.stdout, "{model}");
    }
    let run = generate("files/mmproj-mono.gguf", &["Hello"]);
    assert!(run.stderr.contains("this is a model's vision file"), "{}", run.stderr);
    std::fs::copy(&text, place.path("files/other.gguf")).unwrap();
    let run = generate("files", &["Hello"]);
    assert!(
        run.stderr.contains("mono.gguf, other.gguf") && run.stderr.contains("name one"),
        "{}",
        run.stderr
    );
}
