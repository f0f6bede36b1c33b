//! Room `app`: what files are to the window, by what they are called: those that were dropped onto it, and those the
//! program was started with.

use std::path::{Path, PathBuf};

use super::dialogs::Chosen;
use crate::error::{Error, Result};
use crate::model::clip::sort_frames;

/// Endings of picture files.
pub(super) const PICTURES: [&str; 9] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "apng"];
/// Endings of conversations as JSON. The first one is ours alone, so that a system can open such a file with this program.
pub(super) const CHATS: [&str; 2] = ["ocelli-chat", "json"];
/// Endings of comparisons; the same of the first one.
pub(super) const COMPARISONS: [&str; 2] = ["ocelli-compare", "toml"];

/// Frames of one clip, at most: each is kept with the message.
const MOST_FRAMES: usize = 512;

fn ends_with_one_of(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    endings.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// What is to be done with each of these files and folders. What is no model, chat or comparison is taken for a picture: reading it
/// says what is wrong with it.
pub(super) fn sort(paths: Vec<PathBuf>) -> Vec<Chosen> {
    let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
    let mut chosen = Vec::new();
    for folder in folders {
        // One that is of no use must not cost the others.
        chosen.push(if is_model(&folder) {
            Chosen::Model(folder)
        } else {
            frames_of(&folder).unwrap_or_else(Chosen::Nothing)
        });
    }
    let (models, files): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| ends_with_one_of(path, &["gguf"]));
    // A text file that came together with its vision file is the one to open.
    let is_text = |path: &&PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(crate::hub::names::is_text_gguf)
    };
    chosen.extend(models.iter().find(is_text).or(models.first()).cloned().map(Chosen::Model));
    let (chats, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| ends_with_one_of(path, &CHATS));
    chosen.extend(chats.into_iter().map(Chosen::Import));
    let (comparisons, pictures): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|path| ends_with_one_of(path, &COMPARISONS));
    chosen.extend(comparisons.into_iter().map(Chosen::Comparison));
    if !pictures.is_empty() {
        chosen.push(Chosen::Pictures(pictures));
    }
    chosen
}

/// Is it a model's folder? Otherwise its pictures are the frames of a clip.
fn is_model(folder: &Path) -> bool {
    folder.join("config.json").exists()
        || folder.join("ocelli.json").exists()
        || !crate::hub::names::text_ggufs(folder).is_empty()
}

/// The pictures of a folder, by name (numbers in names count as numbers).
pub(super) fn frames_of(folder: &Path) -> Result<Chosen> {
    const DOING: &str = "reading a folder of frames";
    let entries = std::fs::read_dir(folder).map_err(|e| Error::new(DOING, e).at_path(folder))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| ends_with_one_of(path, &PICTURES))
        .collect();
    sort_frames(&mut files);
    match files.len() {
        0 | 1 => Err(Error::new(DOING, "it has fewer than two pictures").at_path(folder)),
        n if n > MOST_FRAMES => {
            Err(Error::new(DOING, format!("it has {n} pictures, more than {MOST_FRAMES}"))
                .at_path(folder)
                .help("choose a folder with fewer"))
        }
        _ => {
            let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
            Ok(Chosen::Frames(name.replace('/', "_"), files))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["f10.png", "f9.png", "f1.PNG", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let Chosen::Frames(_, files) = frames_of(folder.path()).unwrap() else { panic!("no frames") };
        let names: Vec<_> =
            files.iter().map(|f| f.file_name().unwrap().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["f1.PNG", "f9.png", "f10.png"]);
        std::fs::remove_file(folder.path().join("f9.png")).unwrap();
        std::fs::remove_file(folder.path().join("f10.png")).unwrap();
        assert!(frames_of(folder.path()).unwrap_err().to_string().contains("fewer than two"));
    }

    #[test]
    fn files_are_what_they_are_called() {
        let files = ["a.PNG", "b.ocelli-chat", "c.json", "d.ocelli-compare", "e.toml", "f.gguf", "g.txt"];
        let path = |name: &str| PathBuf::from("/no/such").join(name);
        let sorted = sort(files.map(path).into());
        let expected = [
            Chosen::Model(path("f.gguf")),
            Chosen::Import(path("b.ocelli-chat")),
            Chosen::Import(path("c.json")),
            Chosen::Comparison(path("d.ocelli-compare")),
            Chosen::Comparison(path("e.toml")),
            Chosen::Pictures(vec![path("a.PNG"), path("g.txt")]),
        ];
        assert_eq!(sorted, expected);
    }
}
