//! Finding files of other programs, in folders laid out as theirs.

use std::fs;
use std::path::Path;

use ocelli::error::ErrorKind;
use ocelli::model::gguf::find::{Places, Trouble, find};
use ocelli::model::source::{ModelSource, Wanted};
use serde_json::json;

use super::file::File;
use super::pair;

fn put(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

#[test]
fn models_of_lm_studio_and_llama_cpp_are_found_with_their_vision_files() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let (text, vision) = pair("mono-Q8_0");
    put(&text, &at("lm/owner/One-GGUF/One-Q8_0.gguf"));
    put(&vision, &at("lm/owner/One-GGUF/mmproj-One-F16.gguf"));
    put(&text, &at("lm/owner/Alone-GGUF/Alone-Q8_0.gguf"));
    // llama.cpp keeps everything in one folder.
    for name in ["owner_Instruct-GGUF", "owner_Thinking-GGUF"] {
        put(&text, &at(&format!("cache/{name}_model-Q8_0.gguf")));
        put(&vision, &at(&format!("cache/{name}_mmproj-Q8_0.gguf")));
    }
    let mut other = File::read(&text);
    other.set_text("general.architecture", "llama");
    other.write(&at("cache/other.gguf"));
    fs::write(at("cache/broken.gguf"), b"GGUF\x03\0\0\0").unwrap();
    fs::write(at("cache/text.gguf"), b"not at all").unwrap();

    let places = Places { folders: vec![at("lm"), at("cache"), at("none")], ollama: vec![at("none")] };
    let found = find(&places);
    let names: Vec<&str> = found.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(
        names,
        ["Alone-Q8_0", "One-Q8_0", "owner_Instruct-GGUF_model-Q8_0", "owner_Thinking-GGUF_model-Q8_0"]
    );
    assert_eq!(found[0].trouble, Some(Trouble::VisionMissing));
    assert_eq!(found[1].vision.as_deref(), Some(at("lm/owner/One-GGUF/mmproj-One-F16.gguf").as_path()));
    assert_eq!(found[2].vision.as_deref(), Some(at("cache/owner_Instruct-GGUF_mmproj-Q8_0.gguf").as_path()));
    assert_eq!(found[3].vision.as_deref(), Some(at("cache/owner_Thinking-GGUF_mmproj-Q8_0.gguf").as_path()));
    for model in &found[1..] {
        assert_eq!((model.quantisation.as_str(), &model.trouble), ("Q8_0", &None));
        let bytes = fs::metadata(&text).unwrap().len() + fs::metadata(&vision).unwrap().len();
        assert_eq!(model.bytes, bytes);
    }
}

#[test]
fn models_of_ollama_are_found_by_their_manifests_and_open_as_blobs() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("models");
    let (text, vision) = pair("mono-Q8_0");
    let hash = |letter: &str| letter.repeat(64);
    let blob = |letter: &str| folder.join(format!("blobs/sha256-{}", hash(letter)));
    put(&text, &blob("a"));
    put(&vision, &blob("b"));
    // Ollama's own conversion: the tower is in the text file.
    let mut inside = File::read(&text);
    inside
        .tensors
        .push(File::read(&vision).tensors.iter().find(|t| t.name.starts_with("v.blk")).unwrap().clone());
    inside.write(&blob("c"));
    let manifest = |name: &str, layers: &[(&str, String)]| {
        let layers: Vec<_> = layers
            .iter()
            .map(|(kind, hash)| json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": format!("sha256:{hash}")}))
            .collect();
        let path = folder.join("manifests").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, json!({"schemaVersion": 2, "layers": layers}).to_string()).unwrap();
    };
    manifest(
        "hf.co/owner/mono-GGUF/Q8_0",
        &[("model", hash("a")), ("projector", hash("b")), ("params", hash("d"))],
    );
    manifest("registry.ollama.ai/library/qwen3-vl/2b", &[("model", hash("c"))]);
    manifest("registry.ollama.ai/library/gone/latest", &[("model", hash("e"))]);
    manifest("registry.ollama.ai/library/outside/latest", &[("model", "../../x".into())]);
    fs::write(folder.join("manifests/nonsense"), "{").unwrap();

    let found = find(&Places { folders: Vec::new(), ollama: vec![folder.clone()] });
    let names: Vec<&str> = found.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["owner/mono-GGUF:Q8_0", "qwen3-vl:2b"]);
    assert_eq!((&found[0].text, found[0].vision.as_ref()), (&blob("a"), Some(&blob("b"))));
    assert!(found[0].trouble.is_none());
    assert_eq!(found[1].trouble, Some(Trouble::VisionInside));

    let resolve = |path: &Path, text_only: bool| {
        let wanted = Wanted { recipe: None, text_only };
        ModelSource::resolve_in(
            &temporary.path().join("cache"),
            path,
            wanted,
            &mut |_| (),
            &std::sync::atomic::AtomicBool::new(false),
        )
    };
    let source = resolve(&found[0].text, false).unwrap();
    assert!(source.model.has_vision());
    assert_eq!(source.name, "owner/mono-GGUF:Q8_0");
    let error = resolve(&found[1].text, false).unwrap_err().to_string();
    assert!(error.contains("Ollama's own layout") && !error.contains('\n'), "{error}");
    assert!(!resolve(&found[1].text, true).unwrap().model.has_vision());
}

/// Opens what is at `path`, as the program does.
fn resolved(path: &Path, text_only: bool) -> ocelli::error::Result<ModelSource> {
    let cache = path.parent().unwrap().join("cache");
    let wanted = Wanted { recipe: None, text_only };
    ModelSource::resolve_in(&cache, path, wanted, &mut |_| (), &std::sync::atomic::AtomicBool::new(false))
}

/// The vision file of a model of the same width that is no Qwen3-VL.
fn foreign_vision() -> File {
    let mut file = File::read(&pair("mono-Q8_0").1);
    file.set_text("clip.projector_type", "qwen2.5vl_merger");
    file
}

#[test]
fn another_models_vision_file_of_the_same_width_is_none() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    put(&pair("mono-Q8_0").0, &at("qwen3-Q8_0.gguf"));
    // More alike by name than the right one.
    foreign_vision().write(&at("mmproj-qwen2.5-vl-3b-f16.gguf"));
    let error = resolved(&at("qwen3-Q8_0.gguf"), false).unwrap_err();
    assert_eq!(error.get_kind(), ErrorKind::NoVision, "{error}");
    assert!(error.to_string().contains("its vision file is missing"), "{error}");
    assert!(!resolved(&at("qwen3-Q8_0.gguf"), true).unwrap().model.has_vision());
    put(&pair("mono-Q8_0").1, &at("mmproj-F16.gguf"));
    let found = find(&Places { folders: vec![temporary.path().to_owned()], ollama: Vec::new() });
    assert_eq!(found[0].vision.as_deref(), Some(at("mmproj-F16.gguf").as_path()));
    assert!(resolved(&at("qwen3-Q8_0.gguf"), false).unwrap().model.has_vision());
}

#[test]
fn a_vision_file_of_no_use_is_left_out_where_texts_will_do_and_taken_once_it_is_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("models");
    let blob = |letter: &str| folder.join(format!("blobs/sha256-{}", letter.repeat(64)));
    put(&pair("mono-Q8_0").0, &blob("a"));
    let layers: Vec<_> = [("model", "a"), ("projector", "b")]
        .map(|(kind, letter)| {
            let digest = format!("sha256:{}", letter.repeat(64));
            json!({"mediaType": format!("application/vnd.ollama.image.{kind}"), "digest": digest})
        })
        .to_vec();
    fs::create_dir_all(folder.join("manifests/h/o/n")).unwrap();
    fs::write(folder.join("manifests/h/o/n/t"), json!({"layers": layers}).to_string()).unwrap();
    let states: [&dyn Fn(); 3] = [&|| (), &|| fs::write(blob("b"), b"GGUF\x03\0\0\0").unwrap(), &|| {
        foreign_vision().write(&blob("b"));
    }];
    for (n, state) in states.iter().enumerate() {
        state();
        let error = resolved(&blob("a"), false).unwrap_err();
        assert_eq!(error.get_kind(), ErrorKind::NoVision, "{n}: {error}");
        let places = Places { folders: Vec::new(), ollama: vec![folder.clone()] };
        assert!(matches!(find(&places)[0].trouble, Some(Trouble::Vision(_))), "{n}");
        let source = resolved(&blob("a"), true).unwrap();
        assert!(!source.model.has_vision(), "{n}");
        let said = source.notes.iter().any(|note| note.starts_with("the vision file is left out: "));
        // From the cache the second and third time: nothing differs without a vision file.
        assert_eq!(said, n == 0, "{n}: {:?}", source.notes);
    }
    put(&pair("mono-Q8_0").1, &blob("b"));
    for text_only in [true, false] {
        assert!(resolved(&blob("a"), text_only).unwrap().model.has_vision());
    }
}

#[test]
fn files_of_equal_name_size_and_time_are_told_apart_by_what_is_in_them() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("mono.gguf");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let weights = |change: &dyn Fn(&mut File)| {
        let mut file = File::read(&pair("mono-Q8_0").0);
        change(&mut file);
        file.write(&path);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let source = resolved(&path, true).unwrap();
        (source.model.folder().to_owned(), source.model.generation().temperature.to_bits())
    };
    let one = weights(&|_| ());
    assert_eq!(weights(&|_| ()), one, "cached");
    // A fine-tune: the embedding, which comes first, is the same.
    let tuned = weights(&|file| file.tensor("blk.1.attn_q.weight").data[2] ^= 1);
    assert_ne!(tuned.0, one.0);
    // The same weights, and other metadata.
    let warm = |n: f32| move |f: &mut File| f.set("general.sampling.temp", 6, n.to_le_bytes().to_vec());
    let (cold, warm) = (weights(&warm(0.25)), weights(&warm(0.5)));
    assert!(cold.0 != warm.0 && cold.1 != warm.1, "{cold:?} {warm:?}");
}
