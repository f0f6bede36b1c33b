//! Memory and time are bounded for every reader, whatever it is given: a hundred megabytes of brackets, of small values, headers
//! that claim what no disk holds, templates and patterns that never end, databases with programs in them. Each reader gets the large
//! files in a process of its own, which tells the most memory it ever had.

mod databases;
mod headers;
mod templates;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocelli::chat::history::History;
use ocelli::chat::openai::parse_conversation;
use ocelli::chat::template::ChatTemplate;
use ocelli::chat::transfer::import;
use ocelli::compare::{Comparison, Journal, Plan, read_results};
use ocelli::error::Result;
use ocelli::hub::library::Library;
use ocelli::hub::wanted_files;
use ocelli::model::checkpoint::{Checkpoint, TensorFiles};
use ocelli::model::config::{GenerationDefaults, ModelConfig};
use ocelli::model::converted::ConvertedModel;
use ocelli::model::preprocessor::Preprocessors;
use ocelli::model::tokenizer::Tokenizer;
use ocelli::remote::{hear, hear_models};

use crate::support::fixtures;

/// Bytes of the large files.
const LARGE: usize = 100 << 20;
/// No reader takes so long, on a machine that is busy with the other tests.
const LONGEST: Duration = Duration::from_mins(1);
/// Kibibytes that a process of a reader may have at once; the most any has are three quarters of it.
const MOST_MEMORY: u64 = 900 << 10;

/// Reads what lies at `name` of a folder.
type Reader = fn(&Path) -> Result<()>;

/// Every reader of JSON, TOML or another text that people or programs write, the file it reads, and how.
const READERS: [(&str, &str, Reader); 18] = [
    ("config", "config.json", |folder| ModelConfig::read(folder).map(drop)),
    ("generation", "generation_config.json", |folder| GenerationDefaults::read(folder).map(drop)),
    ("preprocessor", "preprocessor_config.json", |folder| Preprocessors::from_folder(folder).map(drop)),
    ("processor", "processor_config.json", |folder| Preprocessors::from_folder(folder).map(drop)),
    ("tokenizer", "tokenizer.json", |folder| Tokenizer::from_folder(folder).map(drop)),
    ("template", "chat_template.json", |folder| ChatTemplate::from_folder(folder).map(drop)),
    ("template source", "chat_template.jinja", |folder| ChatTemplate::from_folder(folder).map(drop)),
    ("token settings", "tokenizer_config.json", |folder| ChatTemplate::from_folder(folder).map(drop)),
    ("shards", "model.safetensors.index.json", |folder| {
        fs::copy(fixtures().join("mono/model/config.json"), folder.join("config.json")).unwrap();
        Checkpoint::open(folder).map(drop)
    }),
    ("weights", "model.safetensors", |folder| {
        TensorFiles::open(folder, &["model.safetensors".into()]).map(drop)
    }),
    ("manifest", "ocelli.json", |folder| ConvertedModel::open(folder).map(drop)),
    ("messages", "messages.json", |folder| {
        parse_conversation(&fs::read_to_string(folder.join("messages.json")).unwrap(), folder).map(drop)
    }),
    ("import", "chats.json", |folder| {
        import(&mut History::in_memory()?, &folder.join("chats.json")).map(drop)
    }),
    ("comparison", "a.toml", |folder| Comparison::read(&folder.join("a.toml")).map(drop)),
    ("values", "v.csv", |folder| {
        let text = "[shared]\nprompt = \"x\"\n[[columns]]\n[matrix]\ncsv = \"v.csv\"";
        Plan::new(Comparison::parse(text)?, folder).map(drop)
    }),
    ("results", "a.jsonl", |folder| {
        let path = folder.join("a.jsonl");
        Journal::open(&path).map(drop).and_then(|()| read_results(&path).map(drop))
    }),
    ("names", "models.json", |folder| {
        let library = Library {
            names: Some(folder.join("models.json")),
            hub_cache: folder.join("hub"),
            cache: folder.join("cache"),
        };
        library.list().map(drop)
    }),
    ("gguf", "a.gguf", |folder| ocelli::model::gguf::read_whole(&folder.join("a.gguf"), None)),
];

/// Texts that come over a network, and how much of them is ever kept.
const ANSWERS: [(&str, usize, Reader); 3] = [
    ("hub", 16 << 20, |path| wanted_files(&fs::read_to_string(path).unwrap(), None).map(drop)),
    ("server", 4 << 20, |path| {
        hear(&[b"data: ", fs::read(path).unwrap().as_slice(), b"\n\n"].concat(), 1 << 14).map(drop)
    }),
    ("models", 8 << 20, |path| {
        hear_models(&fs::read(path).unwrap())
            .map(drop)
            .ok_or_else(|| ocelli::error::Error::new("listing", "this is no list of models"))
    }),
];

/// Run in a process of its own by [`read_apart`].
#[test]
#[ignore = "the other tests run it"]
fn one_reader() {
    let (Ok(name), Ok(path)) = (std::env::var("OCELLI_TEST_READER"), std::env::var("OCELLI_TEST_PATH"))
    else {
        return;
    };
    let readers = READERS.iter().map(|(name, _, read)| (name, read));
    let answers = ANSWERS.iter().map(|(name, _, read)| (name, read));
    let (_, read) = readers.chain(answers).find(|(known, _)| **known == name).unwrap();
    let began = Instant::now();
    let said = read(Path::new(&path)).expect_err("nothing of it makes sense").to_string();
    println!("said: {said}");
    println!("took: {}", began.elapsed().as_millis());
}

/// Has a process of its own read something that must be refused; gives what it says.
fn read_apart(name: &str, path: &Path) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bounds::one_reader", "--ignored", "--nocapture", "--test-threads=1"])
        .env("OCELLI_TEST_READER", name)
        .env("OCELLI_TEST_PATH", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (began, mut peak) = (Instant::now(), 0);
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_of(child.id()));
        if began.elapsed() > LONGEST || peak > MOST_MEMORY {
            child.kill().unwrap();
            panic!("{name} after {:?} with {peak} KiB", began.elapsed());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{name}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let said = text.lines().find_map(|line| line.split_once("said: ")).unwrap().1;
    assert!(said.len() < 8000 && said.contains(": "), "{name}: {said}");
    said.to_owned()
}

/// The most memory that a process has had, in KiB; 0 where the system does not tell.
fn peak_of(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// A file of `bytes`, one line with one thing again and again behind a beginning.
fn fill(path: &Path, beginning: &[u8], again: &str, bytes: usize) {
    let mut text = beginning.to_vec();
    text.extend(again.as_bytes().iter().cycle().take(bytes - beginning.len() - 1));
    text.push(b'\n');
    fs::write(path, text).unwrap();
}

/// Has these readers read that; gives what each says.
fn refused(beginning: &[u8], again: &str, bytes: usize, names: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fill(&large, beginning, again, bytes);
    let readers = READERS.iter().filter(|(name, ..)| names.contains(name));
    let said = readers.map(|(name, file, _)| {
        let place = folder.path().join(name);
        fs::create_dir(&place).unwrap();
        // The list of files of results is opened for writing.
        fs::hard_link(&large, place.join(file)).unwrap();
        let said = read_apart(name, &place);
        assert_eq!(fs::metadata(&large).unwrap().len(), bytes as u64, "{name} has changed it");
        said
    });
    let said: Vec<String> = said.collect();
    assert_eq!(said.len(), names.len());
    said
}

#[test]
fn a_hundred_megabytes_of_brackets() {
    let all = READERS.map(|(name, ..)| name);
    refused(b"", "[", LARGE, &all);
    refused(b"", "{\"a\":", LARGE, &["tokenizer", "messages", "import"]);
    let length = (LARGE as u64 - 8).to_le_bytes();
    refused(&[&length, b"{\"a\":".as_slice()].concat(), "[", LARGE, &["weights"]);
    refused(b"GGUF\x03\0\0\0", "\x01\0\0\0\0\0\0\0", LARGE, &["gguf"]);
}

#[test]
fn a_hundred_megabytes_of_small_values() {
    let length = 100_000_000_u64.to_le_bytes();
    let tensor = "{\"dtype\":\"I8\",\"data_offsets\":[0,1],\"shape\":[";
    for (beginning, again, names, wanted) in [
        (b"[".as_slice(), "[],", &["messages", "import"][..], "more than 2000000 values"),
        (b"{\"messages\":[", "{},", &["messages"], "more than 2000000 values"),
        (b"{\"messages\":[", "{},", &["import"], "more than 10000000 values"),
        (
            b"{\"format\":\"ocelli-conversations\",\"version\":1,\"conversations\":[",
            "{},",
            &["import"],
            "more than 1",
        ),
        (b"{\"decoder\":[", "{},", &["tokenizer"], "more than 3000000 values"),
        (
            &[&length, b"{\"a\":".as_slice(), tensor.as_bytes()].concat(),
            "0,",
            &["weights"],
            "more than 16 axes",
        ),
    ] {
        for said in refused(beginning, again, LARGE, names) {
            assert!(said.contains(wanted), "{said}");
        }
    }
    // As many tensors as the header has room for.
    let folder = tempfile::tempdir().unwrap();
    let mut header = String::from("{");
    while header.len() < 20 << 20 {
        let n = header.len();
        header += &format!("\"{n:x}\":{{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}},");
    }
    header += "\"last\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}";
    let file = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs::write(folder.path().join("model.safetensors"), file).unwrap();
    assert!(read_apart("weights", folder.path()).contains("more than 65536 tensors"));
}

#[test]
fn as_many_small_values_as_each_reader_takes() {
    let below = |megabytes: usize| (megabytes << 20) - 9;
    refused(b"{\"size\":[", "{},", below(1), &["preprocessor", "processor"]);
    refused(b"{\"chat_template\":[", "{},", below(4), &["template", "token settings", "names"]);
    refused(b"{\"weight_map\":[", "{},", below(16), &["config", "generation", "shards", "manifest"]);
    refused(b"a = [", "[],", below(4), &["comparison"]);
    refused(b"a\n", "b,,,,,,,,\"\n\",", below(60), &["values"]);
    refused(b"", ",", below(60), &["values"]);
    refused(b"{\"kind\":\"cell\",\"pictures\":[", "[],", below(60), &["results"]);
}

#[test]
fn what_comes_over_a_network() {
    let folder = tempfile::tempdir().unwrap();
    for (beginning, again) in [
        (b"".as_slice(), "["),
        (b"[", "[],"),
        (b"{\"choices\":[", "{},"),
        (b"{\"siblings\":[", "{\"rfilename\":\"\"},"),
        (b"{\"data\":{\"a\":[", "{},"),
    ] {
        for (name, bytes, _) in ANSWERS {
            let path = folder.path().join("answer");
            fill(&path, beginning, again, bytes - 9);
            read_apart(name, &path);
        }
    }
}

/// Pipes to which nobody writes, and a device that never ends, in a file's place.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // What a person names by hand may be a pipe.
    for (name, file, _) in READERS.iter().filter(|(name, ..)| !["messages", "comparison"].contains(name)) {
        for target in [Path::new("/dev/zero"), &pipe] {
            let place = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(target, place.path().join(file)).unwrap();
            let said = read_apart(name, place.path());
            assert!(
                ["not a file", "no file", "no ocelli.json"].iter().any(|words| said.contains(words)),
                "{name}: {said}"
            );
        }
    }
}
