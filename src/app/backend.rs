//! Room `app`: what the window needs of the engine, as a trait, so that tests can play the engine.

use std::sync::mpsc::Receiver;

use crate::engine::{Answer, Cancel, Engine, Load, LoadRequest, PromptPreview, Request};
use crate::error::Result;
use crate::gpu::{Ceilings, ProfileReport};

/// Takes the window's commands; never blocks.
pub trait Backend {
    /// Loads a model in place of the one there is.
    fn load(&mut self, request: LoadRequest) -> Load;
    /// Asks a question.
    fn ask(&mut self, request: Request) -> Answer;
    /// Makes a request's prompt for reading.
    fn preview(&mut self, request: Request, cancel: Cancel) -> Receiver<Result<PromptPreview>>;
    /// Frees the model.
    fn unload(&mut self);
    /// Has each kernel timed from now on, or no more.
    fn set_profiling(&mut self, on: bool) -> Receiver<Result<()>>;
    /// What has been timed kernel by kernel.
    fn profile(&mut self) -> Receiver<Result<ProfileReport>>;
    /// The device's measured limits; measures them the first time.
    fn ceilings(&mut self) -> Receiver<Result<Ceilings>>;
}

impl Backend for Engine {
    fn load(&mut self, request: LoadRequest) -> Load {
        Engine::load(self, request)
    }

    fn ask(&mut self, request: Request) -> Answer {
        Engine::ask(self, request)
    }

    fn preview(&mut self, request: Request, cancel: Cancel) -> Receiver<Result<PromptPreview>> {
        Engine::preview(self, request, cancel)
    }

    fn unload(&mut self) {
        Engine::unload(self);
    }

    fn set_profiling(&mut self, on: bool) -> Receiver<Result<()>> {
        Engine::set_profiling(self, on)
    }

    fn profile(&mut self) -> Receiver<Result<ProfileReport>> {
        Engine::profile(self)
    }

    fn ceilings(&mut self) -> Receiver<Result<Ceilings>> {
        Engine::ceilings(self)
    }
}
