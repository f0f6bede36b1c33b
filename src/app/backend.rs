//! Room `app`: what the window needs of the engine, as a trait, so that tests can play the engine.

use crate::engine::{Answer, Engine, Load, LoadRequest, Request};

/// Takes the window's commands; never blocks.
pub trait Backend {
    /// Loads a model in place of the one there is.
    fn load(&mut self, request: LoadRequest) -> Load;
    /// Asks a question.
    fn ask(&mut self, request: Request) -> Answer;
    /// Frees the model.
    fn unload(&mut self);
}

impl Backend for Engine {
    fn load(&mut self, request: LoadRequest) -> Load {
        Engine::load(self, request)
    }

    fn ask(&mut self, request: Request) -> Answer {
        Engine::ask(self, request)
    }

    fn unload(&mut self) {
        Engine::unload(self);
    }
}
