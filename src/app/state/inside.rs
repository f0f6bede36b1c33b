//! Looks into a token of an answer: what its step attended to, and what each layer would have said.

use std::sync::Arc;
use std::sync::mpsc::TryRecvError;

use super::answers::Intent;
use super::{State, engine_gone};
use crate::app::backend::Backend;
use crate::chat::tree::MessageId;
use crate::engine::{Answer, AnswerEvent, Inside, Request, Step};
use crate::error::{Error, ErrorKind, Result};

const DOING: &str = "looking inside an answer";

/// A look at a token.
#[derive(Debug)]
pub struct Looking {
    /// Its answer.
    pub answer: MessageId,
    /// Its place in the answer, over all pieces.
    pub token: usize,
    /// The message and the place in it of each picture and clip of the prompt.
    pub pictures: Vec<(MessageId, usize)>,
    /// How it goes.
    pub outcome: Outcome,
}

/// How a look goes.
#[derive(Debug)]
pub enum Outcome {
    /// The step is being run again.
    Running(Answer),
    /// It is there.
    There(Arc<Inside>),
    /// It is not, and why.
    Failed(Error),
}

impl State {
    /// Is a look under way?
    #[must_use]
    pub fn is_looking(&self) -> bool {
        matches!(&self.looking, Some(Looking { outcome: Outcome::Running(_), .. }))
    }

    /// Looks into a token of an answer of the conversation on the screen; the look before it is over.
    pub fn look_inside(&mut self, answer: MessageId, token: usize, backend: &mut dyn Backend) {
        self.stop_looking();
        let (outcome, pictures) = match self.inside_request(answer, token) {
            Ok((request, pictures)) => (Outcome::Running(backend.ask(request)), pictures),
            Err(error) => (Outcome::Failed(error), Vec::new()),
        };
        self.looking = Some(Looking { answer, token, pictures, outcome });
    }

    /// Is done with looking.
    pub fn stop_looking(&mut self) {
        if let Some(Looking { outcome: Outcome::Running(answer), .. }) = self.looking.take() {
            answer.cancel.cancel();
        }
    }

    fn inside_request(
        &mut self,
        answer: MessageId,
        token: usize,
    ) -> Result<(Request, Vec<(MessageId, usize)>)> {
        let gone = || Error::new(DOING, "the answer is gone").help("ask again");
        let (name, context) =
            self.model_info().map(|info| (info.name.clone(), info.context)).ok_or_else(|| {
                Error::new(DOING, "there is no model").help("open the model that gave the answer")
            })?;
        let pieces = self.costs_of(answer);
        if pieces.is_empty() {
            return Err(Error::new(DOING, "nothing is known of its tokens").help("ask again"));
        }
        if pieces.iter().any(|costs| costs.adapter.is_empty() || costs.model != name) {
            let why = "the answer is of another model";
            return Err(Error::new(DOING, why).help("open the model that gave it"));
        }
        let ids: Vec<u32> =
            pieces.iter().flat_map(|costs| costs.tokens.iter().map(|token| token.id)).collect();
        let start_bytes = pieces.first().map_or(0, |costs| costs.start_bytes as usize);
        let entry = self.chat.tree.get(answer).ok_or_else(gone)?;
        let question = entry.parent.ok_or_else(gone)?;
        let start = entry.text.get(..start_bytes).unwrap_or_default().to_owned();
        let reading = || Error::new(DOING, "its pictures are still being read").help("try again in a moment");
        let (mut request, pictures) =
            self.request(self.chat.id, Intent::Answer(question), None)?.ok_or_else(reading)?;
        if ids.len() > context {
            return Err(Error::new(DOING, "it is longer than the context"));
        }
        request.answer_start = Some(start).filter(|start| !start.is_empty());
        request.inside = Some(Step { answer: ids.into(), token });
        Ok((request, pictures))
    }

    pub(super) fn poll_looking(&mut self) {
        let Some(Looking { outcome, .. }) = &mut self.looking else { return };
        let Outcome::Running(answer) = outcome else { return };
        loop {
            let event = match answer.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => AnswerEvent::Failed(engine_gone(DOING)),
            };
            *outcome = match event {
                AnswerEvent::Inside(inside) => Outcome::There(inside),
                AnswerEvent::Failed(error) => Outcome::Failed(error),
                AnswerEvent::Finished(_) => Outcome::Failed(Error::cancelled(DOING)),
                _ => continue,
            };
            break;
        }
        if let Outcome::Failed(error) = outcome
            && error.get_kind() == ErrorKind::DeviceLost
        {
            let error = error.clone();
            self.lose_device(&error);
        }
    }
}
