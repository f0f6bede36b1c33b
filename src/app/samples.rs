//! Room `app`: the sample pictures that an empty chat offers, and the questions that go with them.

use std::sync::Arc;

use egui::{Context, TextureHandle, TextureOptions};

use super::pictures::small;
use crate::compare::samples::picture;
use crate::error::{Error, Result};
use crate::model::picture::Picture;

/// The list: file, title and questions of each.
const LIST: &str = include_str!("../../assets/pictures/samples.json");

/// A sample picture.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Sample {
    /// The picture's file.
    pub file: String,
    /// What to call it.
    pub title: String,
    /// What may be asked of it.
    pub questions: Vec<String>,
}

impl Sample {
    /// All of them, in order.
    ///
    /// # Errors
    /// The list in the program is no such list.
    pub fn all() -> Result<Vec<Self>> {
        serde_json::from_str(LIST).map_err(|e| Error::new("reading the list of sample pictures", e))
    }

    /// The picture's file, whole.
    ///
    /// # Errors
    /// The list names a file that is not in the program.
    pub fn bytes(&self) -> Result<&'static [u8]> {
        let found = picture(&self.file);
        found.ok_or_else(|| Error::new("reading a sample picture", "it is not in the program").at(&self.file))
    }
}

/// A sample with its small picture on the screen.
pub(super) struct Shown {
    pub sample: Sample,
    pub texture: TextureHandle,
}

/// Makes the small pictures. A sample that cannot be shown is left out: the window is of use without.
pub(super) fn load(ctx: &Context) -> Vec<Shown> {
    let samples = Sample::all().unwrap_or_else(|e| {
        tracing::warn!("{e}");
        Vec::new()
    });
    let shown = |sample: Sample| -> Result<Shown> {
        let picture = Picture::from_bytes(sample.bytes()?, &sample.file)?;
        let texture = ctx.load_texture(&sample.title, small(&picture)?, TextureOptions::LINEAR);
        Ok(Shown { sample, texture })
    };
    let mut all = Vec::new();
    for sample in samples {
        match shown(sample) {
            Ok(shown) => all.push(shown),
            Err(e) => tracing::warn!("{e}"),
        }
    }
    all
}

/// The file of a sample, to be read like any other picture.
pub(super) fn file(sample: &Sample) -> Result<(String, Arc<[u8]>)> {
    Ok((sample.file.clone(), Arc::from(sample.bytes()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples::PICTURES;

    #[test]
    fn every_sample_has_a_picture_a_title_and_questions_and_no_picture_is_left_over() {
        let samples = Sample::all().unwrap();
        let mut named: Vec<&str> = samples.iter().map(|s| s.file.as_str()).collect();
        let mut here: Vec<&str> = PICTURES.iter().map(|(name, _)| *name).collect();
        named.sort_unstable();
        here.sort_unstable();
        assert_eq!(named, here);
        for sample in &samples {
            let picture = Picture::from_bytes(sample.bytes().unwrap(), &sample.file).unwrap();
            assert!(picture.width() >= 96 && picture.height() >= 96, "{}", sample.file);
            assert!(!sample.title.is_empty() && !sample.questions.is_empty(), "{}", sample.file);
            assert!(sample.questions.iter().all(|question| !question.trim().is_empty()), "{}", sample.file);
        }
    }
}
