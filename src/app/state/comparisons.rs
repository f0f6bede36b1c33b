//! Comparisons: begun from a chat or a file, run beside the chats on the same engine, and back into a chat.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{ModelState, State};
use crate::app::backend::Backend;
use crate::app::chat::{AnswerDetails, units};
use crate::app::comparing::{Comparing, RunAsker};
use crate::chat::message::Role;
use crate::chat::tree::{Attachment, AttachmentKind, MessageId, MessageState};
use crate::compare::{CellResult, Comparison, Fields, MEMORY, Target, Turn, image_tokens};
use crate::error::{Error, Result};
use crate::model::converted::hex;

impl State {
    /// Takes in what has come of a comparison and has its run go on.
    pub(super) fn poll_comparison(&mut self, backend: &mut dyn Backend) {
        let Some(mut comparing) = self.comparing.take() else { return };
        for told in comparing.take_events() {
            match told {
                Ok(told) => self.comparison_news.push(told),
                Err(error) => self.report(&error),
            }
        }
        if !matches!(self.model, ModelState::Ready(_)) {
            comparing.model_gone();
        }
        self.bring_model(&mut comparing, backend);
        let mut asker = RunAsker { backend, elsewhere: &self.elsewhere };
        if let Err(error) = comparing.poll_run(&mut asker) {
            comparing.stop();
            self.lose_device(&error);
        }
        self.comparing = Some(comparing);
    }

    /// Loads the model that the run wants next, once no chat is being answered by the one there is.
    fn bring_model(&mut self, comparing: &mut Comparing, backend: &mut dyn Backend) {
        let Some(target) = comparing.wanted_model().cloned() else { return };
        let Target::Model(name, _) = &target else { return };
        let doing = "running the comparison";
        let place = match name.as_deref().map(|name| comparing.model_place(name)).transpose() {
            Ok(place) => place.or_else(|| self.last_folder.clone()),
            Err(error) => return comparing.model_failed(&error),
        };
        let is_it = place.is_none() || place == self.last_folder;
        match &self.model {
            ModelState::Loading(_) => {}
            ModelState::Ready(info)
                if is_it && target.recipe().is_none_or(|recipe| recipe == info.recipe) =>
            {
                comparing.model_ready((**info).clone());
            }
            _ if comparing.has_asked_for(&target) => {
                comparing.model_failed(&Error::new(doing, "its model could not be loaded"));
            }
            ModelState::None if place.is_none() => {
                comparing.model_failed(&Error::new(doing, "no model is loaded").help("open a model first"));
            }
            // Loading another one would end the answers of chats.
            _ if !self.answering.is_empty() => {}
            _ => {
                comparing.asks_for(target.clone());
                if let Some(place) = place {
                    self.open_model_as(&place, target.recipe(), false, backend);
                }
            }
        }
    }

    /// Begins a comparison of what is asked at a message: a question, or the answer to one.
    ///
    /// # Errors
    /// There is no question, a clip is in the way, or a picture is not in memory yet.
    pub fn compare_from(&mut self, id: MessageId, folder: Option<&Path>) -> Result<()> {
        let doing = "comparing from here";
        let mut path = self.chat.tree.path_to(id);
        let is_answer =
            |id: &MessageId| self.chat.tree.get(*id).is_some_and(|entry| entry.role == Role::Assistant);
        while path.last().is_some_and(is_answer) {
            path.pop();
        }
        let mut memory = HashMap::new();
        let mut turns = Vec::new();
        for entry in path.iter().filter_map(|id| self.chat.tree.get(*id)) {
            let mut pictures = Vec::new();
            for unit in units(&entry.attachments) {
                let [Attachment { kind: AttachmentKind::Image, name, hash }] = unit else {
                    return Err(Error::new(doing, "comparisons cannot take clips yet")
                        .help("compare from a question without one"));
                };
                let Some(file) = self.files.get(hash) else {
                    return Err(Error::new(doing, "a picture is still being read")
                        .at(name)
                        .help("try again"));
                };
                let called = format!("{MEMORY}{}", hex(hash));
                memory.insert(called.clone(), (name.clone(), Arc::clone(&file.bytes)));
                pictures.push(called);
            }
            turns.push(Turn { role: entry.role, pictures, text: entry.text.clone() });
        }
        let Some(question) = turns.pop().filter(|turn| turn.role == Role::User) else {
            return Err(Error::new(doing, "there is no question").help("choose a message with one before it"));
        };
        let settings = &self.chat.settings;
        let sampling = settings.own_sampling.then_some(settings.sampling).filter(|_| !settings.greedy);
        let shared = Fields {
            prompt: Some(question.text),
            pictures: (!question.pictures.is_empty()).then_some(question.pictures),
            before: (!turns.is_empty()).then_some(turns),
            system: Some(settings.system_prompt.clone()).filter(|text| !text.trim().is_empty()),
            temperature: if settings.greedy { Some(0.0) } else { sampling.map(|s| s.temperature) },
            top_p: sampling.map(|s| s.top_p),
            top_k: sampling.map(|s| s.top_k),
            max_tokens: Some(settings.token_limit().unwrap_or(512)),
            ..Fields::default()
        };
        let title = self.listed(self.chat.id).map(|c| c.title.clone()).unwrap_or_default();
        let columns = vec![Fields::default(); 2];
        let comparison = Comparison { title, shared, columns, ..Comparison::default() };
        let new = || Box::new(Comparing::of(Comparison::default(), folder));
        let comparing = self.comparing.get_or_insert_with(new);
        comparing.replace(comparison, None);
        comparing.memory = memory;
        self.shows_comparison = true;
        Ok(())
    }

    /// Makes a chat of a cell: its turns, its question, its answer, its settings.
    ///
    /// # Errors
    /// A picture cannot be read.
    pub fn chat_of_cell(&mut self, number: usize) -> Result<()> {
        let Some(comparing) = &self.comparing else { return Ok(()) };
        let (Some(plan), Some(result)) = (comparing.plan.clone(), comparing.results.get(&number).cloned())
        else {
            return Ok(());
        };
        let fields = plan.cell(number)?.fields;
        let mut turns: Vec<Turn> = fields.before.clone().unwrap_or_default();
        let pictures = fields.pictures.clone().unwrap_or_default();
        turns.push(Turn { role: Role::User, pictures, text: fields.prompt.clone().unwrap_or_default() });
        let mut read = HashMap::new();
        for name in turns.iter().flat_map(|turn| &turn.pictures) {
            if !read.contains_key(name) {
                read.insert(name.clone(), (plan.pictures.hash(name)?, plan.pictures.bytes(name)?));
            }
        }
        self.shows_comparison = false;
        self.new_chat();
        let chat = self.chat.id;
        self.take_fields(&fields);
        let mut parent = None;
        for turn in turns {
            let mut attachments = Vec::new();
            for picture in &turn.pictures {
                let Some((hash, bytes)) = read.get(picture) else { continue };
                self.hold_file(*hash, bytes);
                let name = plan.pictures.shown(picture);
                attachments.push(Attachment { kind: AttachmentKind::Image, name, hash: *hash });
            }
            let complete = MessageState::Complete;
            parent = Some(self.add_entry(chat, parent, turn.role, turn.text, attachments, complete));
        }
        self.add_cells_answer(parent, &result);
        Ok(())
    }

    /// Sets the chat up as a column was.
    fn take_fields(&mut self, fields: &Fields) {
        let factor = self.model_info().map(|info| info.preprocessors.image.factor());
        let settings = &mut self.chat.settings;
        settings.system_prompt = fields.system.clone().unwrap_or_default();
        if let Some(temperature) = fields.temperature {
            settings.own_sampling = true;
            settings.greedy = temperature <= 0.0;
            if temperature > 0.0 {
                settings.sampling.temperature = temperature;
            }
        }
        settings.sampling.top_p = fields.top_p.unwrap_or(settings.sampling.top_p);
        settings.sampling.top_k = fields.top_k.unwrap_or(settings.sampling.top_k);
        settings.sampling.min_p = fields.min_p.unwrap_or(settings.sampling.min_p);
        if let Some(max_tokens) = fields.max_tokens {
            (settings.limit_tokens, settings.max_tokens) = (true, max_tokens);
        }
        let range = fields.picture_size.as_ref().zip(factor).map(|(size, factor)| image_tokens(size, factor));
        if let Some(Ok(range)) = range {
            (settings.own_image_tokens, settings.choose_image_tokens) = (true, true);
            settings.image_tokens = range;
        }
        settings.stop_lines = fields.stop.clone().unwrap_or_default().join("\n");
    }

    fn add_cells_answer(&mut self, parent: Option<MessageId>, result: &CellResult) {
        let chat = self.chat.id;
        let state = if result.error.is_some() { MessageState::Failed } else { MessageState::Complete };
        let answer = self.add_entry(chat, parent, Role::Assistant, result.answer.clone(), Vec::new(), state);
        let about = AnswerDetails {
            model: result.answered_by.clone(),
            error: result.error.clone(),
            ..AnswerDetails::default()
        };
        if let Some(entry) = self.chat.tree.get_mut(answer) {
            entry.details = serde_json::to_value(about).unwrap_or_default();
        }
        self.keep(chat, answer);
    }
}
