//! The subcommands, run as a user runs them: what comes on standard output, what in files, and that flags do what
//! they say. What they refuse is in `bad_input`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ocelli::model::recipe::Recipe;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::*;

/// A folder to run the program in, with a cache of its own.
pub struct Place(TempDir);

/// What a run left behind.
pub struct Run {
    /// `None`: a signal ended it.
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("ocelli-test-").tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program with arguments, neither the user's settings nor their cache at hand.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ocelli"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command.env("OCELLI_CACHE", self.path("cache")).env("RUST_BACKTRACE", "0");
        for name in ["OCELLI_MODEL", "OCELLI_ADAPTER", "OCELLI_LOG"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }

    /// Runs it, which must go well.
    #[track_caller]
    pub fn fine(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.status, Some(0), "{arguments:?}: {}", run.stderr);
        run
    }

    /// All files in it by their path, the cache's too.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(self.0.path()).unwrap().to_string_lossy().into_owned();
                    files.insert(name, fs::read(path).unwrap());
                }
            }
        }
        files
    }
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let mut stderr = String::from_utf8(output.stderr).unwrap();
        if output.status.code().is_none() {
            stderr += &format!("ended by {}\n", output.status);
        }
        Self { status: output.status.code(), stdout: output.stdout, stderr }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The one JSON value on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(self.text().ends_with('\n') && self.text().lines().count() == 1, "one line: {}", self.text());
        serde_json::from_str(self.text()).unwrap()
    }
}

/// The folder of a fixture's conversion, as an argument.
pub fn model(checkpoint: &str, recipe: Recipe) -> String {
    converted(checkpoint, recipe).folder().to_str().unwrap().to_owned()
}

fn hub(checkpoint: &str) -> String {
    fixtures().join(checkpoint).join("model").to_str().unwrap().to_owned()
}

fn picture(name: &str) -> String {
    fixtures().join("pictures").join(name).to_str().unwrap().to_owned()
}

/// The oracle's greedy tokens up to where an answer ends.
fn answer(checkpoint: &str, case: &Case, recipe: Recipe) -> Vec<u32> {
    let end = front_end(checkpoint).special.eos;
    case.greedy(recipe).into_iter().take_while(|id| !end.contains(id)).collect()
}

#[test]
fn flags_and_messages_lead_to_the_answers_of_the_oracle() {
    let place = Place::new();
    let model = model("mono", Recipe::F32);
    let greedy = |more: &[&str]| {
        let always = ["generate", "--model", &model, "--greedy", "--max-tokens", "24", "--json"];
        place.fine(&[&always, more].concat()).json()
    };
    let tiny = Case::read("mono", "tiny");
    let question = tiny.json["messages"][0]["content"][1]["text"].as_str().unwrap();
    let told = greedy(&["--image", &picture("tiny.png"), question]);
    assert_eq!(numbers(&told["ids"]), answer("mono", &tiny, Recipe::F32));
    assert_eq!(told["prompt_text"], tiny.json["prompt_text"]);
    assert_eq!(told["prompt_tokens"], tiny.ids().len());
    assert_eq!(told["pictures"][0]["grid_thw"], tiny.json["image_grid_thw"][0]);
    assert_eq!((&told["recipe"], &told["stop_reason"]), (&json!("f32"), &json!("max_tokens")));
    assert_eq!(told["tokens"].as_array().unwrap().len(), 24);
    for (token, want) in
        told["tokens"].as_array().unwrap().iter().zip(tiny.json["top5_logprobs"].as_array().unwrap())
    {
        assert_eq!((&token["id"], &token["rank"]), (&want[0][0], &json!(0)));
        assert!((token["logprob"].as_f64().unwrap() - want[0][1].as_f64().unwrap()).abs() < 1e-3);
    }

    let unicode = Case::read("mono", "unicode_system");
    let system = unicode.json["messages"][0]["content"].as_str().unwrap();
    let question = unicode.json["messages"][1]["content"][0]["text"].as_str().unwrap();
    let told = greedy(&["--system", system, question]);
    assert_eq!(told["prompt_text"], unicode.json["prompt_text"]);
    assert_eq!(numbers(&told["ids"]), answer("mono", &unicode, Recipe::F32));

    // Relative paths in the file start where the program was started.
    let two = Case::read("mono", "two_pictures");
    let file = place.path("messages.json");
    fs::write(&file, json!({"messages": two.json["messages"]}).to_string()).unwrap();
    let arguments = ["generate", "--model", &model, "--greedy", "--max-tokens", "24", "--json", "--messages"];
    let run = Run::of(place.command(&arguments).arg(&file).current_dir(fixtures()));
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.json()["prompt_text"], two.json["prompt_text"]);
    assert_eq!(numbers(&run.json()["ids"]), answer("mono", &two, Recipe::F32));
    assert_eq!(place.files().len(), 1, "a converted model needs no cache");
}

#[test]
fn the_answer_is_all_that_goes_to_standard_output_and_stop_cuts_it() {
    let place = Place::new();
    let model = model("ladder", Recipe::F32);
    let tiny = Case::read("ladder", "tiny");
    let question = tiny.json["messages"][0]["content"][1]["text"].as_str().unwrap();
    let image = picture("tiny.png");
    let ask = |more: &[&str]| {
        let always = ["generate", "--model", &model, "--image", &image, "--greedy", "--max-tokens", "24"];
        place.fine(&[&always, more, &[question]].concat())
    };
    let told = ask(&["--json"]).json();
    assert_eq!(numbers(&told["ids"]), answer("ladder", &tiny, Recipe::F32));
    let whole = told["text"].as_str().unwrap();
    let run = ask(&[]);
    assert_eq!(run.text(), format!("{whole}\n"));
    for word in ["memory: ", "loaded in", "picture 1: seen at ", "prompt tokens", "it reached --max-tokens"] {
        assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    }

    // A stop string of several characters from the middle, which begins inside one token and ends inside another.
    let letters: Vec<(usize, char)> = whole.char_indices().collect();
    let middle = letters.len() / 2;
    let stop = &whole[letters[middle].0..letters[middle + 5].0];
    let before = &whole[..whole.find(stop).unwrap()];
    let run = ask(&["--stop", "no such text", "--stop", stop]);
    assert_eq!(run.text(), format!("{before}\n"), "stop at {stop:?}");
    assert!(run.stderr.contains("a stop string ended it"), "{}", run.stderr);
    let told = ask(&["--json", "--stop", stop]).json();
    assert_eq!((&told["text"], &told["stop_reason"]), (&json!(before), &json!("stop_string")));
    assert!(told["ids"].as_array().unwrap().len() < 24);
}

#[test]
fn a_seed_makes_an_answer_repeatable() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let ask = |more: &[&str]| {
        let always = ["generate", "--model", &model, "--temperature", "1.5", "--top-p", "1", "--top-k", "0"];
        place.fine(&[&always, more, &["--max-tokens", "24", "Tell me a short story"]].concat())
    };
    let drawn = ask(&[]);
    let seed = drawn.stderr.lines().find_map(|line| line.strip_prefix("seed ")).unwrap();
    assert_eq!(ask(&["--seed", seed]).stdout, drawn.stdout);
    let other = (seed.parse::<u64>().unwrap() + 1).to_string();
    assert_ne!(ask(&["--seed", &other]).stdout, drawn.stdout);
    // The model's own settings sample too; nothing is left to chance with a seed.
    let told = place
        .fine(&["generate", "--model", &model, "--seed", "5", "--max-tokens", "4", "--json", "Tell me"])
        .json();
    let sampling = &told["sampling"];
    assert_eq!((&sampling["seed"], &sampling["top_k"]), (&json!(5), &json!(20)));
    assert!((sampling["temperature"].as_f64().unwrap() - 0.7).abs() < 1e-6, "{sampling}");
}

#[test]
fn trace_writes_every_stage_under_its_name() {
    let place = Place::new();
    let case = Case::read("mono", "mixed");
    fs::write(place.path("messages.json"), json!(case.json["messages"]).to_string()).unwrap();
    let (model, messages, out) =
        (model("mono", Recipe::F32), place.path("messages.json"), place.path("deep/out"));
    let run = Run::of(
        place
            .command(&["trace", "--model", &model, "--tokens", "24", "--messages"])
            .arg(messages)
            .arg("--out")
            .arg(&out)
            .current_dir(fixtures()),
    );
    assert_eq!((run.status, run.text()), (Some(0), ""), "{}", run.stderr);
    let mut written: Vec<String> =
        fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    written.sort();
    assert_eq!(written, ["trace.json", "trace.safetensors"]);

    let json: Value = serde_json::from_slice(&fs::read(out.join("trace.json")).unwrap()).unwrap();
    let keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "prompt_text",
        "input_ids",
        "image_grid_thw",
        "video_grid_thw",
        "rope_delta",
        "greedy",
        "top5_logprobs",
    ];
    assert_eq!(keys, wanted);
    for key in &wanted[..6] {
        assert_eq!(json[key], case.json[key], "{key}");
    }
    let tops = |of: &Value| -> Vec<(u64, f64)> {
        let pair = |p: &Value| (p[0].as_u64().unwrap(), p[1].as_f64().unwrap());
        of.as_array().unwrap().iter().flat_map(|step| step.as_array().unwrap().iter().map(pair)).collect()
    };
    let (ours, theirs) = (tops(&json["top5_logprobs"]), tops(&case.json["top5_logprobs"]));
    assert_eq!(ours.len(), 24 * 5);
    for ((id, logprob), (want_id, want)) in ours.into_iter().zip(theirs) {
        assert!(id == want_id && (logprob - want).abs() < 1e-3, "{id} {logprob} {want_id} {want}");
    }

    let bytes = fs::read(out.join("trace.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    // 2 layers of 64, one DeepStack level, 704 rows; the picture has 14x20 patches, the clip two of 8x10.
    let (prompt, image, video) = (case.ids().len(), 14 * 20, 2 * 8 * 10);
    let wanted: BTreeMap<&str, (Dtype, Vec<usize>)> = [
        ("position_ids", (Dtype::I64, vec![3, prompt])),
        ("pixel_values", (Dtype::F32, vec![image, 1536])),
        ("image_embeds", (Dtype::F32, vec![image / 4, 64])),
        ("image_deepstack_0", (Dtype::F32, vec![image / 4, 64])),
        ("pixel_values_videos", (Dtype::F32, vec![video, 1536])),
        ("video_embeds", (Dtype::F32, vec![video / 4, 64])),
        ("video_deepstack_0", (Dtype::F32, vec![video / 4, 64])),
        ("layer_inputs_last", (Dtype::F32, vec![2, 64])),
        ("layer_outputs_last", (Dtype::F32, vec![2, 64])),
        ("final_norm_last", (Dtype::F32, vec![64])),
        ("logits", (Dtype::F32, vec![704])),
    ]
    .into();
    let found: BTreeMap<&str, (Dtype, Vec<usize>)> =
        tensors.iter().map(|(name, t)| (name, (t.dtype(), t.shape().to_vec()))).collect();
    assert_eq!(found, wanted);

    let positions: Vec<u32> = tensors
        .tensor("position_ids")
        .unwrap()
        .data()
        .chunks_exact(8)
        .map(|b| u32::try_from(i64::from_le_bytes(b.try_into().unwrap())).unwrap())
        .collect();
    let theirs: Vec<u32> = (0..3).flat_map(|axis| numbers(&case.json["position_ids"][axis])).collect();
    assert_eq!(positions, theirs);
    for pixels in ["pixel_values", "pixel_values_videos"] {
        let digest = Sha256::digest(tensors.tensor(pixels).unwrap().data());
        let hex: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(json!(hex), case.json[format!("{pixels}_sha256")], "{pixels}");
    }
    let values = |name: &str| -> Vec<f32> {
        let data = tensors.tensor(name).unwrap().data();
        data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    for prefix in ["image_", "video_"] {
        let rows = case.indices(&format!("{prefix}rows")).unwrap();
        for name in ["embeds", "deepstack_0"].map(|name| format!("{prefix}{name}")) {
            let ours = values(&name);
            let ours: Vec<f32> = rows.iter().flat_map(|&r| ours[r * 64..(r + 1) * 64].to_vec()).collect();
            assert!(distance(&ours, &case.tensor(&name).unwrap()).max <= 1e-3, "{name}");
        }
    }
    for name in ["layer_inputs_last", "layer_outputs_last", "final_norm_last", "logits"] {
        let apart = distance(&values(name), &case.tensor(name).unwrap());
        assert!(apart.max <= 1e-3, "{name}: {apart:?}");
    }
}

#[test]
fn bench_and_synth_do_what_they_say() {
    let place = Place::new();
    for (seed, folder) in [("3", "one"), ("3", "same"), ("4", "other")] {
        let run = place.fine(&["synth", "--preset", "tiny", "--seed", seed, folder]);
        assert!(run.stdout.is_empty() && run.stderr.contains("means nothing"), "{}", run.stderr);
    }
    let all = place.files();
    let of = |folder: &str| -> BTreeMap<&str, &Vec<u8>> {
        all.iter().filter_map(|(name, bytes)| Some((name.strip_prefix(folder)?, bytes))).collect()
    };
    let (one, same, other) = (of("one/"), of("same/"), of("other/"));
    assert!(one.contains_key("model.safetensors") && one.contains_key("config.json"));
    assert!(one == same, "the same seed gives the same bytes");
    assert_ne!(one["model.safetensors"], other["model.safetensors"], "another seed gives others");
    assert!(one.keys().eq(other.keys()) && one["config.json"] == other["config.json"]);

    let small = ["bench", "--model", "one", "--prompt-tokens", "16", "--new-tokens", "8", "--context", "256"];
    let run = place.fine(&[&small[..], &["--batch", "2", "--image-size", "96x64", "--json"]].concat());
    let report = run.json();
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} in {report}"));
    for key in ["adapter", "driver", "model", "recipe"] {
        assert!(report[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {report}");
    }
    assert_eq!((&report["model"], &report["recipe"]), (&json!("one"), &json!("int8hu")));
    assert_eq!((&report["batch"], &report["image_tokens"]), (&json!(2), &json!(6)));
    for key in [
        "load_s",
        "vision_ms",
        "prefill_tok_s",
        "decode_tok_s",
        "ttft_ms",
        "bytes_per_token",
        "decode_gb_s",
        "copy_gb_s",
        "bandwidth_share",
        "gpu_mb",
    ] {
        assert!(number(key) > 0.0 && number(key).is_finite(), "{key} in {report}");
    }
    assert!(report["peak_rss_mb"].as_f64().is_some_and(|mb| mb > 1.0) || !cfg!(target_os = "linux"));
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b;
    assert!(close(number("bandwidth_share"), number("decode_gb_s") / number("copy_gb_s")), "{report}");
    let read = number("bytes_per_token") * number("decode_tok_s") / 2.0 / 1e9;
    assert!(close(number("decode_gb_s"), read), "a step reads the weights once for both sessions: {report}");
    assert!(number("ttft_ms") > number("vision_ms"), "{report}");

    for key in ["decode_bare_tok_s", "prefill_bare_tok_s", "vision_bare_ms", "vision_share"] {
        assert!(number(key) > 0.0 && number(key).is_finite(), "{key} in {report}");
    }
    let share = number("decode_tok_s") / number("decode_bare_tok_s");
    assert!(close(number("decode_share"), share), "{report}");

    // The first run measured the kernels and kept its choice; the second finds it; a damaged file counts as none.
    let kept = place.path("cache").join("tuning.json");
    let choice: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let tuning = choice.as_object().unwrap().values().next().unwrap();
    assert_eq!((tuning, choice.as_object().unwrap().len()), (&report["tuning"], 1));
    assert!(run.stderr.contains("which kernels are the fastest"), "{}", run.stderr);

    let run = place.fine(&[&small[..], &["--image-size", "0x0", "--profile"]].concat());
    assert!(!run.stderr.contains("which kernels are the fastest"), "{}", run.stderr);
    for kernel in ["decode: ", "sampling        sample", "step state      begin_step"] {
        assert!(run.text().contains(kernel), "{kernel}: {}", run.text());
    }
    fs::write(&kept, "{").unwrap();
    let run =
        place.fine(&[&small[..], &["--image-size", "0x0", "--sweep", "--longest", "1", "--json"]].concat());
    assert!(run.stderr.contains("which kernels are the fastest"), "{}", run.stderr);
    let points = run.json();
    let of = |axis: &str| -> Vec<u64> {
        let all = points.as_array().unwrap().iter().filter(|point| point["axis"] == axis);
        all.inspect(|point| assert!(point["tok_s"].as_f64().unwrap() > 0.0, "{point}"))
            .map(|point| point["value"].as_u64().unwrap())
            .collect()
    };
    assert_eq!((of("context"), of("batch"), of("prompt")), (vec![128], vec![1], vec![16, 64]));
    assert!(of("picture").first() == Some(&224), "{points}");
    let run = place.fine(&[&small[..], &["--image-size", "0x0", "--tune"]].concat());
    assert!(run.stderr.contains("which kernels are the fastest"), "{}", run.stderr);
    let again: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    assert!(again.as_object().unwrap().keys().eq(choice.as_object().unwrap().keys()), "{again}");

    let run = place.fine(&[&small[..], &["--image-size", "0x0"]].concat());
    for line in ["adapter ", "model      one int8hu", "vision     none", "decode ", "batch 1", "bandwidth "] {
        assert!(run.text().contains(line), "{line}: {}", run.text());
    }
}

#[test]
fn a_model_with_less_context_than_is_usual_runs_without_being_told_so() {
    let place = Place::new();
    place.fine(&["synth", "--preset", "tiny", "model"]);
    let file = place.path("model/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["text_config"]["max_position_embeddings"] = 512.into();
    fs::write(&file, config.to_string()).unwrap();
    let run = place.fine(&["generate", "--model", "model", "--greedy", "--max-tokens", "2", "Hello"]);
    assert!(run.stderr.contains("a context of 512 tokens"), "{}", run.stderr);
    place.fine(&[
        "bench",
        "--model",
        "model",
        "--prompt-tokens",
        "8",
        "--new-tokens",
        "2",
        "--image-size",
        "0x0",
    ]);
    let run = place.run(&["generate", "--model", "model", "--context", "513", "Hello"]);
    assert!(run.status == Some(1) && run.stderr.contains("the model allows 1 to 512"), "{}", run.stderr);
}

#[test]
fn a_converted_model_answers_as_its_checkpoint_does() {
    let place = Place::new();
    let source = hub("plain");
    let run = place.fine(&["convert", &source, "made/model", "--recipe", "int8lin"]);
    assert!(run.stdout.is_empty() && run.stderr.contains("recipe int8lin"), "{}", run.stderr);
    let case = Case::read("plain", "tiny");
    let question = case.json["messages"][0]["content"][1]["text"].as_str().unwrap();
    let image = picture("tiny.png");
    let ask = |model: &[&str]| {
        let always = ["--image", &image, "--greedy", "--max-tokens", "24", "--json", question];
        place.fine(&[&["generate", "--model"], model, &always].concat()).json()
    };
    let direct = ask(&["made/model"]);
    // Named as the checkpoint, it is converted into the cache once.
    let cached = ask(&[&source, "--recipe", "int8lin"]);
    assert_eq!((&direct["ids"], &direct["text"]), (&cached["ids"], &cached["text"]));
    assert_eq!((&direct["recipe"], &cached["recipe"]), (&json!("int8lin"), &json!("int8lin")));
    assert_eq!(numbers(&direct["ids"]), answer("plain", &case, Recipe::Int8Lin));
    let files = place.files();
    let bytes = |folder: &str| -> Vec<&Vec<u8>> {
        files.iter().filter(|(name, _)| name.starts_with(folder)).map(|(_, bytes)| bytes).collect()
    };
    assert_eq!(
        bytes("made/model/"),
        bytes("cache/converted/"),
        "both conversions are the same, byte for byte"
    );
}

#[test]
fn devices_are_listed_for_people_and_for_programs() {
    let place = Place::new();
    let list = place.fine(&["devices", "--json"]).json();
    let first = &list.as_array().unwrap()[0];
    assert_eq!((&first["index"], &first["name"]), (&json!(0), &json!(gpu().summary().name)));
    assert!(first["max_binding_bytes"].as_u64().unwrap() >= 1 << 20, "{first}");
    assert!(["backend", "kind", "driver"].iter().all(|key| first[key].is_string()), "{first}");
    let text = place.fine(&["devices"]);
    assert!(text.text().starts_with("0  ") && text.text().contains("largest binding"), "{}", text.text());
}

#[test]
fn help_names_every_flag() {
    let place = Place::new();
    let sampling =
        "--greedy --temperature --top-p --top-k --min-p --presence-penalty --repetition-penalty --seed";
    let loading = "--model --recipe --kv --context --adapter";
    for (command, flags) in [
        ("", "generate batch convert bench profile trace devices synth --help --version"),
        (
            "generate",
            &format!(
                "{sampling} {loading} --image --video --fps --system --messages --max-tokens --stop --json <PROMPT>|[PROMPT]"
            ),
        ),
        ("batch", &format!("{sampling} {loading} --out --max-tokens <QUESTIONS>")),
        ("convert", "<SRC> <DST> --recipe int8hu int8lin f16 f32"),
        ("bench", &format!("{loading} --prompt-tokens --new-tokens --batch --image-size --json")),
        (
            "profile",
            &format!("{loading} --prompt-tokens --new-tokens --batch --image-size --by --sort --svg --json"),
        ),
        ("trace", &format!("{loading} --messages --tokens --out --chunk")),
        ("devices", "--json"),
        ("synth", "--preset 2b 4b 8b tiny --seed <DST>"),
    ] {
        let arguments: Vec<&str> = [command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        let run = place.fine(&arguments);
        assert!(run.stderr.is_empty(), "{command}: {}", run.stderr);
        for flag in flags.split(' ') {
            assert!(
                flag.split('|').any(|flag| run.text().contains(flag)),
                "{command} --help tells of {flag}"
            );
        }
    }
    let version = place.fine(&["--version"]);
    assert_eq!(version.text(), concat!("ocelli ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn the_licences_of_everything_in_the_program_are_printed() {
    let place = Place::new();
    let run = place.fine(&["licences"]);
    assert!(run.text().starts_with(concat!("Ocelli ", env!("CARGO_PKG_VERSION"), "\n")));
    assert!(run.text().contains("\n  wgpu 30.") && run.text().contains("Apache License"));
    assert!(run.stderr.is_empty(), "{}", run.stderr);
    assert_eq!(place.fine(&["licenses"]).stdout, run.stdout);
}

/// What nobody reads must not end the work: `ocelli generate … 2>/dev/full`, `… | head -c 1`.
#[cfg(target_os = "linux")]
#[test]
fn a_closed_or_full_output_is_no_panic() {
    let place = Place::new();
    let model = model("mono", Recipe::Int8Hu);
    let arguments = ["generate", "--model", &model, "--greedy", "--max-tokens", "4", "Tell me"];
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    let wanted = place.fine(&arguments).stdout;
    let run = place.command(&arguments).stderr(full()).stdout(Stdio::piped()).spawn().unwrap();
    let output = run.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(0), wanted));

    let run = place.command(&arguments).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let output = run.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().last().unwrap().starts_with("ocelli: writing to standard output: "), "{said}");
    assert!(!said.contains("panicked"), "{said}");

    let mut run = place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(run.stdout.take());
    assert_eq!(run.wait().unwrap().code(), Some(0), "a reader that went away is no error");
}

/// A path as an argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().unwrap()
}
