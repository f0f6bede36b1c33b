//! The run of a comparison asks the window's engine and its servers, and gets the models it wants one after the other.

use crate::app::backend::Backend;
use crate::app::state::Elsewhere;
use crate::compare::Asker;
use crate::engine::{Answer, Request};
use crate::error::Result;
use crate::remote::Choosing;

/// Whoever answers in this window.
pub struct RunAsker<'a> {
    /// The model of this machine.
    pub backend: &'a mut dyn Backend,
    /// Servers.
    pub elsewhere: &'a Elsewhere,
}

impl Asker for RunAsker<'_> {
    fn ask(&mut self, request: Request) -> Answer {
        // Whoever asks in a chat meanwhile does not wait for the rest of a matrix.
        self.backend.ask(Request { background: true, ..request })
    }

    fn ask_server(
        &mut self,
        base_url: &str,
        model: &str,
        request: Request,
        choosing: Choosing,
    ) -> Result<Answer> {
        self.elsewhere.ask_at(base_url, model, request, choosing)
    }
}
