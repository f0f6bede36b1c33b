//! Whatever is wrong with what comes from outside, the program ends with status 1 and one line that names the
//! thing and says what to do: no panic, no word on standard output, nothing half-written. Here through the binary;
//! `checkpoints` asks the library about many more kinds of damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ocelli::model::recipe::Recipe;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::commands::{Place, Run, argument, model};
use crate::support::*;

const WEIGHTS: &str = "model.safetensors";
const Q_PROJ: &str = "model.language_model.layers.1.self_attn.q_proj.weight";
const FINAL_NORM: &str = "model.language_model.norm.weight";

/// How lines begin that may come before the error.
const PROGRESS: [&str; 10] = [
    "converting ",
    "verifying ",
    "loading",
    "memory: ",
    "model (",
    "picture ",
    "measuring ",
    "warming up",
    "mono (",
    "seed ",
];

/// Runs the program, which must refuse with all of `wanted` in what it says and leave the place as it was.
#[track_caller]
fn refused(place: &Place, arguments: &[&str], wanted: &[&str]) {
    let before = place.files();
    let run = place.run(arguments);
    assert_says(&run, wanted);
    assert!(place.files() == before, "something is left behind: {:?}", place.files().keys());
}

#[track_caller]
fn assert_says(run: &Run, wanted: &[&str]) {
    let said = &run.stderr;
    assert_eq!(run.status, Some(1), "{said}");
    assert!(run.stdout.is_empty(), "{}", run.text());
    assert!(!said.contains("panicked"), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let (error, progress) = lines.split_last().expect("something is said");
    assert!(error.starts_with("ocelli: "), "{said}");
    for line in progress {
        assert!(PROGRESS.iter().any(|word| line.starts_with(word)), "{line:?} is no progress, in {said}");
    }
    for part in wanted {
        assert!(error.contains(part), "{error}\nshould contain: {part}");
    }
    assert!(error.ends_with(')') && error.contains(" ("), "with advice: {error}");
}

/// A copy of a fixture's checkpoint.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn edit_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut value);
    fs::write(path, value.to_string()).unwrap();
}

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn edit_tensors(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Tensors = file
        .iter()
        .map(|(name, t)| (name.to_owned(), (t.dtype(), t.shape().to_vec(), t.data().to_vec())))
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Damages a copy of `mono`; asking it must fail and leave nothing in the cache.
#[track_caller]
fn checkpoint_refused(wanted: &[&str], damage: impl FnOnce(&Path)) {
    let place = Place::new();
    copy(&fixtures().join("mono/model"), &place.path("hub"));
    damage(&place.path("hub"));
    refused(&place, &["generate", "--model", "hub", "--recipe", "f32", "hi"], wanted);
}

#[test]
fn folders_that_hold_no_model() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    fs::write(place.path("file"), "x").unwrap();
    for command in ["generate", "bench", "trace"] {
        let more: &[&str] = match command {
            "generate" => &["hi"],
            "bench" => &[],
            _ => &["--messages", "messages.json", "--out", "out"],
        };
        fs::write(place.path("messages.json"), r#"[{"role": "user", "content": "hi"}]"#).unwrap();
        let run = |folder: &str, wanted: &[&str]| {
            refused(&place, &[&[command, "--model", folder], more].concat(), wanted);
        };
        run("nowhere", &["nowhere", "there is no such folder", "give the folder"]);
        run("file", &["file", "this is a file"]);
        run("empty", &["empty", "config.json"]);
    }
    refused(&place, &["convert", "nowhere", "out"], &["nowhere", "there is no such folder"]);
    refused(&place, &["convert", "empty", "out"], &["empty", "config.json"]);
    // A variable that is set to nothing is none.
    let run = Run::of(place.command(&["generate", "--max-tokens", "1", "hi"]).env("OCELLI_MODEL", ""));
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("no --model and no OCELLI_MODEL: this is Ocelli demo"), "{}", run.stderr);
}

#[test]
fn damaged_weights() {
    let file = |hub: &Path| hub.join(WEIGHTS);
    checkpoint_refused(&[WEIGHTS, "truncated"], |hub| {
        let length = fs::metadata(file(hub)).unwrap().len();
        fs::File::options().write(true).open(file(hub)).unwrap().set_len(length - 1000).unwrap();
    });
    checkpoint_refused(&[WEIGHTS, "header of 1152921504606846976 bytes"], |hub| {
        let mut bytes = fs::read(file(hub)).unwrap();
        bytes[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
        fs::write(file(hub), bytes).unwrap();
    });
    checkpoint_refused(&[WEIGHTS, Q_PROJ, "too large to be right"], |hub| {
        let header =
            json!({Q_PROJ: {"dtype": "BF16", "shape": [1_u64 << 32, 1_u64 << 32], "data_offsets": [0, 8]}})
                .to_string();
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 8]].concat();
        fs::write(file(hub), bytes).unwrap();
    });
    checkpoint_refused(&[FINAL_NORM, "[8, 8]", "[64]"], |hub| {
        edit_tensors(&file(hub), |t| t.get_mut(FINAL_NORM).unwrap().1 = vec![8, 8]);
    });
    checkpoint_refused(&[Q_PROJ, "is missing"], |hub| {
        edit_tensors(&file(hub), |t| drop(t.remove(Q_PROJ)));
    });
    checkpoint_refused(&["element type Q4_Z is not known", WEIGHTS], |hub| {
        let mut bytes = fs::read(file(hub)).unwrap();
        let at = bytes.windows(6).position(|w| w == b"\"BF16\"").unwrap();
        bytes[at..at + 6].copy_from_slice(b"\"Q4_Z\"");
        fs::write(file(hub), bytes).unwrap();
    });
    checkpoint_refused(&[FINAL_NORM, "NaN", "column 3"], |hub| {
        edit_tensors(&file(hub), |t| {
            t.get_mut(FINAL_NORM).unwrap().2[6..8].copy_from_slice(&0x7fc0_u16.to_le_bytes());
        });
    });
}

#[test]
fn a_configuration_that_contradicts_the_weights_or_is_another_models() {
    let config = |wanted: &[&str], change: fn(&mut Value)| {
        checkpoint_refused(wanted, |hub| edit_json(&hub.join("config.json"), change));
    };
    config(&["layers.2.", "missing"], |c| c["text_config"]["num_hidden_layers"] = 3.into());
    config(&["layers.1.", "num_hidden_layers in config.json is 1"], |c| {
        c["text_config"]["num_hidden_layers"] = 1.into();
    });
    config(&["blocks.1.", "depth in config.json is 1"], |c| c["vision_config"]["depth"] = 1.into());
    config(&["deepstack_merger_list.0", "deepstack_visual_indexes"], |c| {
        c["vision_config"]["deepstack_visual_indexes"] = json!([]);
    });
    config(&["config.json", "hidden_size 96"], |c| c["text_config"]["hidden_size"] = 96.into());
    config(&["[704, 64]", "[736, 64]"], |c| c["text_config"]["vocab_size"] = 736.into());
    config(&["[128, 64]", "[256, 64]", "do not belong together"], |c| {
        c["text_config"]["num_key_value_heads"] = 4.into();
    });
    config(&["config.json", "vocab_size"], |c| c["text_config"]["vocab_size"] = (1_u64 << 40).into());
    config(&["config.json", "hidden_size"], |c| c["text_config"]["hidden_size"] = json!("many"));
    config(&["config.json", "num_attention_heads"], |c| c["text_config"]["num_attention_heads"] = 0.into());
    config(&["qwen3_vl_moe", "mixture-of-experts"], |c| c["model_type"] = "qwen3_vl_moe".into());
    config(&["qwen2_5_vl is not supported"], |c| c["model_type"] = "qwen2_5_vl".into());
    config(&["llama is not supported"], |c| c["model_type"] = "llama".into());
    checkpoint_refused(&["generation_config.json", "top_p 7"], |hub| {
        edit_json(&hub.join("generation_config.json"), |c| c["top_p"] = 7.into());
    });
    checkpoint_refused(&["config.json", "not valid JSON"], |hub| {
        fs::write(hub.join("config.json"), "{\"model_type\": ").unwrap();
    });
}

#[test]
fn tokenizers_and_templates_that_do_not_belong_to_the_model() {
    let tokenizer = |wanted: &[&str], change: fn(&mut Value)| {
        checkpoint_refused(wanted, |hub| edit_json(&hub.join("tokenizer.json"), change));
    };
    // 704 rows.
    tokenizer(&["tokenizer.json", "ids up to 704", "704 rows"], |t| {
        t["model"]["vocab"]["zzzz"] = 704.into();
    });
    tokenizer(&["tokenizer.json", "<|image_pad|>", "668"], |t| {
        t["added_tokens"].as_array_mut().unwrap().retain(|added| added["content"] != "<|image_pad|>");
    });
    tokenizer(&["tokenizer.json"], |t| t["added_tokens"] = json!([]));
    checkpoint_refused(&["tokenizer.json is missing"], |hub| {
        fs::remove_file(hub.join("tokenizer.json")).unwrap();
    });
    checkpoint_refused(&["tokenizer.json", "not a tokenizer"], |hub| {
        fs::write(hub.join("tokenizer.json"), "[1, 2").unwrap();
    });

    // These are not looked at when weights are converted, so the whole conversion is in the cache then.
    for (name, text, wanted) in [
        ("preprocessor_config.json", None, "preprocessor_config.json"),
        ("preprocessor_config.json", Some("{}"), "preprocessor_config.json"),
        (
            "preprocessor_config.json",
            Some(r#"{"size": {"longest_edge": 90000, "shortest_edge": 65536}, "temporal_patch_size": 3}"#),
            "temporal_patch_size is 3",
        ),
        ("chat_template.json", None, "template"),
        ("chat_template.json", Some(r#"{"chat_template": "{% for"}"#), "template"),
        ("chat_template.json", Some(r#"{"chat_template": 5}"#), "template"),
        (
            "chat_template.json",
            Some(r#"{"chat_template": "{{ raise_exception('no') }}"}"#),
            "change their roles",
        ),
        (
            "chat_template.json",
            Some(
                r#"{"chat_template": "{% for i in range(9999) %}{% for i in range(9999) %}{% endfor %}{% endfor %}"}"#,
            ),
            "too long",
        ),
    ] {
        let place = Place::new();
        copy(Path::new(&model("mono", Recipe::Int8Hu)), &place.path("model"));
        let path = place.path("model").join(name);
        // As long as it was, or it would not be looked into.
        let length = fs::metadata(&path).unwrap().len() as usize;
        match text {
            Some(text) => fs::write(path, format!("{text:length$}")).unwrap(),
            None => {
                fs::remove_file(&path).unwrap();
                edit_json(&place.path("model").join("ocelli.json"), |manifest| {
                    manifest["files"].as_array_mut().unwrap().retain(|file| file["name"] != name);
                });
            }
        }
        refused(&place, &["generate", "--model", "model", "hi"], &[wanted]);
    }
}

#[test]
fn a_converted_model_with_a_nan_for_a_scale() {
    let place = Place::new();
    copy(Path::new(&model("mono", Recipe::Int8Hu)), &place.path("model"));
    let (path, scale) =
        (place.path("model").join("model-00001-of-00001.safetensors"), format!("{Q_PROJ}_scale"));
    let mut bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let at = file.tensor(&scale).unwrap().data().as_ptr() as usize - bytes.as_ptr() as usize;
    bytes[at + 2..at + 4].copy_from_slice(&0x7e00_u16.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let wanted = [&scale, "NaN", "row 0, column 1", "convert the checkpoint again"];
    refused(&place, &["generate", "--model", "model", "hi"], &wanted);
    refused(&place, &["bench", "--model", "model"], &wanted);
    refused(
        &place,
        &["generate", "--model", "model", "--recipe", "int8lin", "hi"],
        &["model", "int8hu", "int8lin"],
    );
    let name = scale.strip_suffix("_scale").unwrap();
    refused(
        &place,
        &["generate", "--model", "model", "--recipe", "f16", "hi"],
        &[name, "model", "NaN", "row 0"],
    );
    refused(&place, &["convert", "model", "again"], &["model", "converted already"]);
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

/// A grey PNG that says it has this size and holds `data`, uncompressed.
fn png(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [kind, data].concat();
        file.extend_from_slice(&(data.len() as u32).to_be_bytes());
        file.extend_from_slice(&body);
        file.extend_from_slice(&crc32(&body).to_be_bytes());
    };
    chunk(b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat());
    let mut zlib = vec![0x78, 0x01];
    let blocks: Vec<&[u8]> = data.chunks(0xffff).collect();
    for (index, block) in blocks.iter().enumerate() {
        let length = block.len() as u16;
        zlib.push(u8::from(index + 1 == blocks.len()));
        zlib.extend_from_slice(&length.to_le_bytes());
        zlib.extend_from_slice(&(!length).to_le_bytes());
        zlib.extend_from_slice(block);
    }
    zlib.extend_from_slice(&adler32(data).to_be_bytes());
    chunk(b"IDAT", &zlib);
    chunk(b"IEND", &[]);
    file
}

#[test]
fn pictures_that_are_none() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let write = |name: &str, bytes: &[u8]| fs::write(place.path(name), bytes).unwrap();
    let image = |name: &str, wanted: &[&str]| {
        let arguments = ["generate", "--model", &model, "--image", name, "What is it?"];
        refused(&place, &arguments, &[&["message 0"], wanted].concat());
    };
    fs::create_dir(place.path("folder")).unwrap();
    write("nothing.png", b"");
    write("text.png", b"Dear diary, today I saw a picture.\n");
    // One row of 100001 bytes, a filter and the pixels: a sound file.
    write("thread.png", &png(100_000, 1, &[0; 100_001]));
    write("bomb.png", &png(60_000, 60_000, &[0; 64]));
    write("huge.png", &png(u32::MAX, u32::MAX, &[0; 64]));
    write("none.png", &png(0, 0, &[]));
    let whole = fs::read(fixtures().join("pictures/tiny.png")).unwrap();
    write("half.png", &whole[..whole.len() / 2]);
    let mut damaged = whole.clone();
    for byte in &mut damaged[60..200] {
        *byte ^= 0x55;
    }
    write("damaged.png", &damaged);
    write("film.mp4", b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41");

    image("absent.png", &["absent.png", "No such file", "check the path"]);
    image("folder", &["folder", "it is not a file"]);
    image("nothing.png", &["nothing.png", "the file is empty"]);
    image("text.png", &["text.png", "it is not a picture", "PNG, JPEG"]);
    image("thread.png", &["100000x1", "200 times", "crop"]);
    image("bomb.png", &["bomb.png", "60000x60000", "megapixels", "make it smaller"]);
    image("huge.png", &["huge.png"]);
    image("none.png", &["none.png"]);
    image("half.png", &["half.png", "the file", "again"]);
    image("damaged.png", &["damaged.png", "the file is damaged"]);
    image("film.mp4", &["film.mp4", "video file", "frames"]);

    // The same through the other doors.
    let clip = |name: &str, wanted: &[&str]| {
        refused(&place, &["generate", "--model", &model, "--video", name, "What?"], wanted);
    };
    clip("absent.gif", &["absent.gif", "No such file"]);
    clip("folder", &["it has no frames"]);
    clip("text.png", &["text.png", "it is not a picture"]);
    let still = fixtures().join("pictures/tiny.png");
    clip(argument(&still), &["tiny.png", "not an animation", "send a single picture as a picture"]);
    fs::create_dir(place.path("frames")).unwrap();
    fs::copy(&still, place.path("frames/1.png")).unwrap();
    clip("frames", &["1.png", "1 frame", "single frame as a picture"]);
    fs::copy(fixtures().join("pictures/small.png"), place.path("frames/2.png")).unwrap();
    clip("frames", &["2.png", "one size"]);
    let animation = fixtures().join("pictures/animated.gif");
    for rate in ["0", "-2", "nan"] {
        let arguments =
            ["generate", "--model", &model, "--video", argument(&animation), "--fps", rate, "What?"];
        refused(&place, &arguments, &["frames per second", "above 0"]);
    }
}

#[test]
fn more_than_the_context_holds() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let ask = |more: &[&str], wanted: &[&str]| {
        refused(&place, &[&["generate", "--model", &model], more].concat(), wanted);
    };
    let long = "word ".repeat(300);
    ask(&["--context", "64", &long], &["the prompt has ", "the context holds 64", "larger --context"]);
    let square = fixtures().join("pictures/square.png");
    let picture = ["--image", argument(&square)];
    ask(
        &[&["--context", "64"], &picture[..], &["What?"]].concat(),
        &["the prompt has 2", "fewer image tokens"],
    );
    // 262144 is the model's own.
    ask(&["--context", "2000000", "hi"], &["2000000", "262144", "--context"]);
    for absurd in ["0", "99999999999", "18446744073709551615"] {
        ask(&["--context", absurd, "hi"], &["reading --context", absurd, "8192"]);
    }
    let trace = ["trace", "--model", &model, "--messages", "messages.json", "--out", "out"];
    fs::write(place.path("messages.json"), json!([{"role": "user", "content": "hi"}]).to_string()).unwrap();
    for tokens in ["8190", "18446744073709551615"] {
        refused(&place, &[&trace[..], &["--tokens", tokens]].concat(), &[tokens, "8192", "larger --context"]);
    }
    for prompt in ["9000", "18446744073709551615"] {
        let arguments = ["bench", "--model", &model, "--prompt-tokens", prompt, "--batch", "8"];
        refused(&place, &arguments, &["8 sessions", "larger --context"]);
    }
    let arguments = ["bench", "--model", &model, "--image-size", "1000000x1000000"];
    refused(&place, &arguments, &["1000000x1000000", "image tokens"]);

    // A model with a context that no device holds in a binding: 32 million tokens of 512 bytes a layer.
    let place = Place::new();
    copy(&fixtures().join("mono/model"), &place.path("hub"));
    edit_json(&place.path("hub/config.json"), |c| {
        c["text_config"]["max_position_embeddings"] = (1 << 25).into();
    });
    let run = place.run(&["generate", "--model", "hub", "--recipe", "f32", "--context", "33554432", "hi"]);
    assert_says(&run, &["KV cache", "33554432 tokens", "a context of 131072 tokens fits"]);
    let more = ["--image-tokens", "4000000-4000000", "--image", argument(&square), "What?"];
    ask(&more, &["message 0", "pixels would become", "other limits for the image tokens"]);
}

#[test]
fn arguments_that_make_no_sense() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let ask = |more: &[&str], wanted: &[&str]| {
        refused(&place, &[&["generate", "--model", &model], more].concat(), wanted);
    };
    ask(&[], &["there is no question", "PROMPT"]);
    ask(&["--adapter", "no such card", "hi"], &["no such card", "ocelli devices"]);
    for (flag, values, name) in [
        ("--temperature", ["-1", "nan"], "temperature"),
        ("--top-p", ["0", "1.5"], "top-p"),
        ("--min-p", ["-0.1", "2"], "min-p"),
        ("--presence-penalty", ["-1000", "inf"], "presence penalty"),
        ("--repetition-penalty", ["0", "-1"], "repetition penalty"),
    ] {
        for value in values {
            ask(&[flag, value, "hi"], &[name, "must be"]);
        }
    }
    ask(&["--max-tokens", "0", "hi"], &["--max-tokens", "1 or more"]);
    let bench = |more: &[&str], wanted: &[&str]| {
        refused(&place, &[&["bench", "--model", &model], more].concat(), wanted);
    };
    bench(&["--batch", "9"], &["--batch", "1 to 8"]);
    bench(&["--new-tokens", "0"], &["--new-tokens"]);
    bench(&["--image-size", "large"], &["--image-size", "'large'", "448x448"]);
    bench(&["--adapter", "99"], &["99", "ocelli devices"]);
}

#[test]
fn words_that_are_no_command() {
    let place = Place::new();
    for (arguments, wanted) in [
        (&["frobnicate"][..], &["'frobnicate'", "`ocelli --help`"][..]),
        (&["no-such-picture.png"], &["'no-such-picture.png'", "file or folder"]),
        (&["--frobnicate"], &["'--frobnicate'", "`ocelli --help`"]),
        (
            &["generate", "--modle", "m", "hi"],
            &["'--modle'", "tip: ", "'--model'", "`ocelli generate --help`"],
        ),
        (&["generate", "--top-k", "-3", "hi"], &["'-3'", "--top-k"]),
        (&["generate", "--recipe", "int9", "hi"], &["'int9'", "--recipe", "int8hu"]),
        (&["generate", "--kv", "int4", "hi"], &["'int4'", "--kv", "choose f16, int8 or f32"]),
        (&["bench", "--kv", "8"], &["'8'", "--kv", "choose f16, int8 or f32"]),
        (&["generate", "--image-tokens", "10-3", "hi"], &["'10-3'", "256-1024"]),
        (&["generate", "--greedy", "--top-p", "0.5", "hi"], &["'--greedy'", "'--top-p"]),
        (&["generate", "--context", "many", "hi"], &["'many'", "--context"]),
        (&["convert", "only one"], &["<DST>", "`ocelli convert --help`"]),
        (&["convert", "a", "b", "--recipe", "int4"], &["'int4'", "int8hu, int8lin, f16 or f32"]),
        (&["synth", "there"], &["--preset", "`ocelli synth --help`"]),
        (&["synth", "--preset", "70b", "there"], &["'70b'", "2b, 4b, 8b or tiny"]),
        (&["synth", "--preset", "tiny", "--seed", "-1", "there"], &["-1"]),
        (&["bench", "--batch", "all"], &["'all'", "--batch"]),
        (&["trace", "--messages", "m.json"], &["--out", "`ocelli trace --help`"]),
    ] {
        refused(&place, arguments, wanted);
    }
}

#[test]
fn messages_that_are_none() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let file = place.path("messages.json");
    let refused_file = |name: &str, wanted: &[&str]| {
        let arguments = ["generate", "--model", &model, "--messages", name];
        refused(&place, &arguments, &[&[name], wanted].concat());
    };
    refused_file("absent.json", &["No such file"]);
    fs::create_dir(place.path("folder")).unwrap();
    refused_file("folder", &["directory"]);
    let messages = |text: &str, wanted: &[&str]| {
        fs::write(&file, text).unwrap();
        refused_file("messages.json", wanted);
    };
    messages("", &["not JSON"]);
    messages("Hello?", &["not JSON", "line 1 column 1"]);
    messages(&"[".repeat(100_000), &["not JSON"]);
    messages("[]", &["0 messages"]);
    messages("7", &["a number, not a list of messages"]);
    messages(r#"{"chat": []}"#, &["`messages`"]);
    messages(r#"[{"role": "user", "content": "a"}, "b"]"#, &["message 1", "text, not an object"]);
    messages(
        r#"[{"role": "user", "content": "a"}, {"role": "user"}]"#,
        &["message 1", "`content` is missing"],
    );
    messages(r#"[{"content": "a"}]"#, &["message 0", "`role` is missing"]);
    messages(r#"[{"role": "king", "content": "a"}]"#, &["message 0", "king", "system, user, assistant"]);
    messages(r#"[{"role": "user", "content": 5}]"#, &["content in message 0", "a number"]);
    let user = |part: &str, wanted: &[&str]| {
        messages(
            &format!(
                r#"[{{"role": "system", "content": "s"}}, {{"role": "user", "content": [{{"type": "text", "text": "a"}}, {part}]}}]"#
            ),
            &[&["message 1"], wanted].concat(),
        );
    };
    user(r#"{"type": "image"}"#, &["content 1", "`image` is missing"]);
    user(r#"{"type": "sound", "sound": "a.wav"}"#, &["content 1", "sound", "text, image, video"]);
    user(r#"{"type": "image", "image": ["a.png"]}"#, &["content 1", "a list"]);
    let url = "https://example.org/a.png";
    user(
        &format!(r#"{{"type": "image_url", "image_url": {{"url": "{url}"}}}}"#),
        &[url, "network", "download it"],
    );
    user(r#"{"type": "image", "image": "data:image/png;base64,@@@"}"#, &["content 1", "base64"]);
    // A data URL in order whose bytes are no picture: known only when it is decoded.
    let text = r#"[{"role": "user", "content": [{"image": "data:image/png;base64,aGVsbG8="}]}]"#;
    fs::write(&file, text).unwrap();
    let arguments = ["generate", "--model", &model, "--messages", "messages.json"];
    refused(&place, &arguments, &["data URL (image/png)", "message 0", "not a picture"]);
    user(r#"{"type": "image", "image": "gone.png"}"#, &["gone.png", "No such file"]);
    user(r#"{"type": "video", "video": ["gone.png", 3]}"#, &["frame 1", "a number"]);
    user(r#"{"type": "video", "video": ["gone.png", "gone too.png"]}"#, &["gone.png", "No such file"]);
    user(r#"{"type": "video", "video": "a.gif", "fps": -1}"#, &["fps in content 1", "a number above 0"]);
    fs::write(&file, b"[{\"role\": \"user\", \"content\": \"\xff\xfe\"}]").unwrap();
    refused_file("messages.json", &["UTF-8"]);
}

#[test]
fn places_where_nothing_can_be_written() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    fs::write(place.path("file"), "mine").unwrap();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/precious"), "mine").unwrap();
    fs::write(place.path("messages.json"), json!([{"role": "user", "content": "hi"}]).to_string()).unwrap();
    let trace = |out: &str, wanted: &[&str]| {
        let arguments = ["trace", "--model", &model, "--messages", "messages.json", "--out", out];
        refused(&place, &arguments, &[&[out, "--out"], wanted].concat());
    };
    trace("file", &[]);
    trace("file/out", &[]);
    // What fails later takes the folder away again.
    let arguments = ["trace", "--model", "nowhere", "--messages", "messages.json", "--out", "new/out"];
    refused(&place, &arguments, &["nowhere"]);
    assert!(!place.path("new/out").exists());

    let hub = fixtures().join("mono/model");
    for command in [&["convert", argument(&hub)][..], &["synth", "--preset", "tiny"]] {
        let to = |out: &str, wanted: &[&str]| refused(&place, &[command, &[out]].concat(), wanted);
        to("full", &["full", "exists already", "another name"]);
        to("file", &["file"]);
        to("file/out", &["file", "choose another folder"]);
        to(".", &["."]);
        to("/", &["/"]);
    }
    let run =
        Run::of(place.command(&["generate", "--model", argument(&hub), "hi"]).env("OCELLI_CACHE", "file"));
    assert_says(&run, &["file", "choose another folder"]);
    if cfg!(target_os = "linux") {
        // Not even root writes here.
        trace("/proc/out", &["/proc/out"]);
        refused(&place, &["convert", argument(&hub), "/proc/out"], &["/proc"]);
    }
}
