//! Room `compare`: a cell as a request.

use super::file::{Fields, Scalar};
use super::pictures::PictureFiles;
use crate::chat::message::{Message, Part, Role};
use crate::engine::{ModelInfo, Request};
use crate::error::{Error, Result};
use crate::model::config::GenerationDefaults;
use crate::model::preprocessor::TokenRange;
use crate::model::sampler::Sampling;
use crate::remote::Choosing;

/// Pixels of a picture's side, at most.
const MAX_SIDE: u64 = 16_384;

/// The request of a cell, for the model `info`.
///
/// # Errors
/// A picture is not there, or a setting is out of its range.
pub fn request(fields: &Fields, pictures: &PictureFiles, info: &ModelInfo) -> Result<Request> {
    let mut request = messages(fields, pictures)?;
    request.sampling = sampling(fields, &info.defaults);
    request.sampling.check()?;
    if let Some(size) = &fields.picture_size {
        request.image_tokens = Some(image_tokens(size, info.preprocessors.image.factor())?);
    }
    request.reproducible = true;
    Ok(request)
}

/// The request of a cell for a server, and how tokens are to be chosen there.
///
/// # Errors
/// As [`request`]; or the cell wants what servers do not do.
pub fn server_request(fields: &Fields, pictures: &PictureFiles) -> Result<(Request, Choosing)> {
    let refused = |what: &str| {
        Err(Error::new("asking the server", format!("{what} is not possible with servers"))
            .help(format!("leave {what} out of this column")))
    };
    if fields.picture_size.is_some() {
        return refused("picture_size");
    }
    if fields.reference.is_some() {
        return refused("reference");
    }
    Ok((messages(fields, pictures)?, choosing(fields)))
}

fn messages(fields: &Fields, pictures: &PictureFiles) -> Result<Request> {
    let mut messages = Vec::new();
    if let Some(system) = fields.system.as_ref().filter(|text| !text.is_empty()) {
        messages.push(Message::text(Role::System, system.clone()));
    }
    let message = |role, names: &[String], text: &str| -> Result<Message> {
        let mut parts: Vec<Part> =
            names.iter().map(|name| pictures.source(name).map(Part::Image)).collect::<Result<_>>()?;
        if !text.is_empty() || parts.is_empty() {
            parts.push(Part::Text(text.to_owned()));
        }
        Ok(Message::new(role, parts))
    };
    for turn in fields.before.iter().flatten() {
        messages.push(message(turn.role, &turn.pictures, &turn.text)?);
    }
    let names = fields.pictures.as_deref().unwrap_or_default();
    messages.push(message(Role::User, names, fields.prompt.as_deref().unwrap_or_default())?);
    let mut request = Request::new(messages);
    request.max_tokens = fields.max_tokens;
    request.stop = fields.stop.clone().unwrap_or_default();
    request.answer_start = fields.answer_start.clone().filter(|text| !text.is_empty());
    Ok(request)
}

/// The settings given.
fn choosing(fields: &Fields) -> Choosing {
    Choosing {
        temperature: fields.temperature,
        top_p: fields.top_p,
        top_k: fields.top_k,
        min_p: fields.min_p,
        presence_penalty: fields.presence_penalty,
        repetition_penalty: fields.repetition_penalty,
        seed: fields.seed,
    }
}

/// The settings given over the model's own.
fn sampling(fields: &Fields, defaults: &GenerationDefaults) -> Sampling {
    choosing(fields).over(Sampling::of_model(defaults))
}

/// Pixels of a picture's area, from a side or `WIDTHxHEIGHT`.
///
/// # Errors
/// It is neither.
pub fn area_pixels(size: &Scalar) -> Result<u64> {
    let side = |text: &str| text.trim().parse::<u64>().ok().filter(|n| (1..=MAX_SIDE).contains(n));
    let text = size.to_string();
    let area = match text.split_once(['x', 'X', '×']) {
        Some((width, height)) => side(width).zip(side(height)).map(|(w, h)| w * h),
        None => side(&text).map(|n| n * n),
    };
    area.ok_or_else(|| {
        Error::new("reading picture_size", format!("{text:?} is no size"))
            .quoting()
            .help(format!("write a side, like 448, or WIDTHxHEIGHT; {MAX_SIDE} at most"))
    })
}

/// The image tokens of a picture of that area, where a token is `factor` pixels wide and high.
///
/// # Errors
/// As [`area_pixels`].
pub fn image_tokens(size: &Scalar, factor: u32) -> Result<TokenRange> {
    let token = u64::from(factor).pow(2).max(1);
    let tokens = u32::try_from((area_pixels(size)? + token / 2) / token).unwrap_or(u32::MAX).max(1);
    Ok(TokenRange { min_tokens: tokens, max_tokens: tokens })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_side_or_width_and_height_and_becomes_image_tokens() {
        let tokens =
            |text: &str| image_tokens(&Scalar::from(text.to_owned()), 32).map(|range| range.max_tokens);
        assert_eq!(tokens("448").unwrap(), 196);
        assert_eq!(tokens("448x224").unwrap(), 98);
        assert_eq!(tokens("640 × 480").unwrap(), 300);
        assert_eq!(tokens("8").unwrap(), 1);
        for bad in ["", "0", "-3", "1.5", "x", "448x", "99999", "big"] {
            assert!(tokens(bad).unwrap_err().to_string().contains("is no size"), "{bad}");
        }
    }

    #[test]
    fn settings_that_are_not_given_are_the_models_own() {
        let defaults =
            GenerationDefaults { do_sample: true, temperature: 0.7, ..GenerationDefaults::default() };
        let fields = Fields { top_p: Some(0.5), seed: Some(3), ..Fields::default() };
        let s = sampling(&fields, &defaults);
        assert!((s.temperature - 0.7).abs() < 1e-6 && (s.top_p - 0.5).abs() < 1e-6 && s.seed == 3);
        let greedy = sampling(&Fields { temperature: Some(0.0), ..fields }, &defaults);
        assert!(greedy.temperature.abs() < 1e-9);
    }
}
