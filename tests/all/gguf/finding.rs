//! Finding files of other programs, in folders laid out as theirs.

use std::fs;
use std::path::Path;

use ocelli::model::gguf::find::{Places, find};
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
    assert_eq!(found[0].trouble.as_deref(), Some("its vision file is missing: texts only"));
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
    assert!(found[1].trouble.as_ref().unwrap().contains("Ollama's own layout"), "{:?}", found[1]);

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
