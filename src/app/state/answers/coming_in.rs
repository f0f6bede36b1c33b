//! What comes of answers: stopping them, taking in their events, their ends.

use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use serde_json::json;

use super::{Answering, Fresh, KEEP_EVERY};
use crate::app::chat::{
    AnswerDetails, Attached, Draft, Figures, PictureState, QuestionDetails, RemoteFigures, details,
};
use crate::app::state::costs::Ended;
use crate::app::state::{State, engine_gone};
use crate::chat::history::ConversationId;
use crate::chat::store::Job;
use crate::chat::tree::{Entry, MessageId, MessageState};
use crate::engine::{AnswerEvent, PictureReport, StopReason};
use crate::error::{Error, ErrorKind};

impl State {
    /// Asks the answer of the conversation on the screen to stop; that it has is told by an event.
    pub fn stop(&mut self) {
        self.stop_in(self.chat.id);
    }

    pub(in crate::app::state) fn stop_in(&mut self, conversation: ConversationId) {
        let (waiting, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| w.conversation == conversation);
        self.waiting = others;
        for waiting in waiting {
            self.give_back(waiting);
        }
        for answering in self.answering.iter_mut().filter(|a| a.conversation == conversation) {
            answering.answer.cancel.cancel();
            answering.progress.stopping = true;
        }
    }

    /// Stops what the model of this machine answers or is to answer; what servers say goes on.
    pub(in crate::app::state) fn stop_here(&mut self) {
        let waiting = self.waiting.iter().filter(|w| w.answers_from.is_none()).map(|w| w.conversation);
        let answering = self.answering.iter().filter(|a| !a.progress.is_remote).map(|a| a.conversation);
        let all: Vec<_> = waiting.chain(answering).collect();
        for conversation in all {
            self.stop_in(conversation);
        }
    }

    pub(in crate::app::state) fn poll_answers(&mut self, now: Instant) {
        let mut under_way = std::mem::take(&mut self.answering);
        under_way.retain_mut(|answering| self.poll_answer(answering, now));
        under_way.append(&mut self.answering);
        self.answering = under_way;
    }

    /// Takes in what has come of one answer; false when it has ended.
    fn poll_answer(&mut self, answering: &mut Answering, now: Instant) -> bool {
        let mut came = false;
        loop {
            let event = match answering.answer.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => AnswerEvent::Failed(engine_gone("answering")),
            };
            answering.progress.see(&event);
            if let Some(ledger) = &mut answering.ledger {
                ledger.see(&event);
            }
            match event {
                // No answer of a chat is scored, nor looked into.
                AnswerEvent::Prepared { .. }
                | AnswerEvent::Encoded { .. }
                | AnswerEvent::Chunk { .. }
                | AnswerEvent::Vision { .. }
                | AnswerEvent::Prefill { .. }
                | AnswerEvent::Scored(_)
                | AnswerEvent::Inside(_) => {}
                AnswerEvent::Picture(report) => self.picture_seen(answering, report),
                AnswerEvent::Token(token) => came |= self.append(answering, &token.text),
                AnswerEvent::Text(text) => came |= self.append(answering, &text),
                AnswerEvent::RemoteToken(token) => came |= self.append(answering, &token.text),
                AnswerEvent::Thinking(text) => {
                    answering.thinking.push_str(&text);
                    came = true;
                }
                AnswerEvent::Finished(summary) => {
                    let figures = Figures::from(&*summary);
                    self.finished(answering, &summary.text, summary.reason, |about| {
                        about.figures = Some(figures);
                    });
                    self.end_of_costs(answering);
                    return false;
                }
                AnswerEvent::RemoteFinished(summary) => {
                    self.finished(answering, &summary.text, summary.reason, |about| {
                        about.remote = Some(RemoteFigures::from(&*summary));
                        about.thinking = joined(&answering.thought_before, &summary.thinking);
                    });
                    self.end_of_costs(answering);
                    return false;
                }
                AnswerEvent::Failed(error) => {
                    self.failed(answering, &error);
                    self.end_of_costs(answering);
                    return false;
                }
            }
        }
        if came && now.saturating_duration_since(answering.kept) >= KEEP_EVERY {
            answering.kept = now;
            self.thought(answering);
            self.keep(answering.conversation, answering.message);
        }
        true
    }

    /// What it cost is kept, where anything came of it.
    fn end_of_costs(&mut self, answering: &mut Answering) {
        let (conversation, message) = (answering.conversation, answering.message);
        let before = std::mem::take(&mut answering.costs_before);
        let is_there = self.chat_of(conversation).is_some_and(|chat| chat.tree.get(message).is_some());
        match answering.ledger.take().filter(|_| is_there) {
            Some(ledger) if !before.is_empty() || !ledger.costs().tokens.is_empty() => {
                let append = answering.appends && !ledger.costs().tokens.is_empty();
                self.shelf.ended(Ended { conversation, message, before, ledger, append });
            }
            _ => self.shelf.gone(message),
        }
    }

    fn append(&mut self, answering: &Answering, text: &str) -> bool {
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            entry.text.push_str(text);
        }
        !text.is_empty()
    }

    fn picture_seen(&mut self, answering: &Answering, report: PictureReport) {
        let Some(&(id, place)) = answering.pictures.get(report.index) else { return };
        let Some(chat) = self.chat_mut(answering.conversation) else { return };
        let Some(entry) = chat.tree.get_mut(id) else { return };
        let mut seen: QuestionDetails = details(entry);
        seen.pictures.resize(seen.pictures.len().max(place + 1), None);
        if let Some(slot) = seen.pictures.get_mut(place) {
            *slot = Some(report);
        }
        entry.details = json!(seen);
        self.keep(answering.conversation, id);
    }

    /// Writes down what the model elsewhere has thought so far.
    fn thought(&mut self, answering: &Answering) {
        if answering.thinking.is_empty() {
            return;
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            let about: AnswerDetails = details(entry);
            entry.details = json!(AnswerDetails {
                thinking: joined(&answering.thought_before, &answering.thinking),
                ..about
            });
        }
    }

    fn finished(
        &mut self,
        answering: &Answering,
        text: &str,
        reason: StopReason,
        figures: impl FnOnce(&mut AnswerDetails),
    ) {
        tracing::debug!("an answer has ended");
        let nothing = text.is_empty() && answering.thinking.is_empty() && reason == StopReason::Cancelled;
        if nothing {
            self.nothing_came(answering);
            return;
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        if let Some(entry) = entry {
            entry.text = format!("{}{text}", answering.start);
            entry.state = match reason {
                StopReason::End | StopReason::StopString => MessageState::Complete,
                StopReason::MaxTokens | StopReason::ContextFull | StopReason::Cancelled => {
                    MessageState::Stopped
                }
            };
            let mut about: AnswerDetails = details(entry);
            about.error = None;
            figures(&mut about);
            entry.details = json!(about);
        }
        self.keep(answering.conversation, answering.message);
    }

    fn failed(&mut self, answering: &Answering, error: &Error) {
        self.thought(answering);
        match error.get_kind() {
            ErrorKind::Cancelled => {}
            ErrorKind::DeviceLost => self.lose_device(error),
            ErrorKind::Panicked => {
                // A request that panicked before it reached the model has taken nothing with it; loading again does no harm.
                self.model_fell = true;
                self.report(error);
            }
            _ => self.report(error),
        }
        let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
        let Some(entry) = entry else { return };
        if answering.is_silent(&entry.text) {
            self.nothing_came(answering);
            return;
        }
        let is_cancelled = error.get_kind() == ErrorKind::Cancelled;
        entry.state = if is_cancelled { MessageState::Stopped } else { MessageState::Failed };
        let mut about: AnswerDetails = details(entry);
        about.error = (!is_cancelled).then(|| error.to_string());
        entry.details = json!(about);
        self.keep(answering.conversation, answering.message);
    }

    /// An answer without a word or a thought is taken away, and its question goes back to where it was typed: nothing is lost. One that was
    /// to be gone on with is as it was.
    fn nothing_came(&mut self, answering: &Answering) {
        if !answering.is_new {
            let entry = self.chat_mut(answering.conversation).and_then(|c| c.tree.get_mut(answering.message));
            if let Some(entry) = entry {
                entry.text.clone_from(&answering.start);
                (entry.state, entry.details) = answering.before.clone();
            }
            self.keep(answering.conversation, answering.message);
            return;
        }
        if answering.fresh == Fresh::No {
            let chat = self.chat_of(answering.conversation);
            let was_shown = chat.is_some_and(|chat| chat.tree.path().contains(&answering.message));
            self.remove_entries(answering.conversation, answering.message);
            // Not whatever version is the last now.
            let chat = self.chat_mut(answering.conversation).filter(|_| was_shown);
            if let Some((chat, shown)) = chat.zip(answering.shown) {
                chat.tree.choose(shown);
                let path = chat.tree.path_to(shown);
                self.jobs.push(Job::Choose { conversation: answering.conversation, path });
            }
        }
        self.take_back(answering.conversation, answering.fresh);
    }

    pub(super) fn take_back(&mut self, conversation: ConversationId, fresh: Fresh) {
        let (question, original) = match fresh {
            Fresh::No => return,
            Fresh::Draft(question) => (question, None),
            Fresh::Edit { question, original } => (question, Some(original)),
        };
        let Some(entry) = self.remove_entries(conversation, question).into_iter().next() else { return };
        let draft = self.draft_of(&entry);
        self.put_back(conversation, draft, original);
    }

    /// Ends the answers of a conversation now, as they are: what has come is kept.
    pub(in crate::app) fn settle(&mut self, conversation: ConversationId) {
        self.stop_in(conversation);
        let (ending, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.answering).into_iter().partition(|a| a.conversation == conversation);
        self.answering = others;
        for mut answering in ending {
            self.thought(&answering);
            self.end_of_costs(&mut answering);
            let entry = self.chat_mut(conversation).and_then(|c| c.tree.get_mut(answering.message));
            let Some(entry) = entry else { continue };
            if answering.is_silent(&entry.text) {
                self.nothing_came(&answering);
            } else {
                entry.state = MessageState::Stopped;
                self.keep(conversation, answering.message);
            }
        }
    }

    /// As [`Self::settle`], everywhere: the window is closing.
    pub(in crate::app) fn settle_all(&mut self) {
        let all: Vec<_> = self.answering.iter().map(|a| a.conversation).collect();
        let waiting: Vec<_> = self.waiting.iter().map(|w| w.conversation).collect();
        for conversation in all.into_iter().chain(waiting) {
            self.settle(conversation);
        }
    }

    /// Takes a branch out of a conversation, on the screen and in the history.
    pub(in crate::app::state) fn remove_entries(
        &mut self,
        conversation: ConversationId,
        first: MessageId,
    ) -> Vec<Entry> {
        let Some(chat) = self.chat_mut(conversation) else { return Vec::new() };
        let removed = chat.tree.remove_branch(first);
        self.jobs.push(Job::DeleteMessages(removed.iter().map(|entry| entry.id).collect()));
        removed
    }

    /// A message as a draft.
    pub(in crate::app::state) fn draft_of(&mut self, entry: &Entry) -> Draft {
        let mut pictures = Vec::new();
        for attachment in &entry.attachments {
            let (width, height) = self.files.get(&attachment.hash).map_or((0, 0), |file| file.size);
            pictures.push(Attached {
                id: self.new_id(),
                name: attachment.name.clone(),
                kind: attachment.kind,
                state: PictureState::Ready(attachment.hash, width, height),
            });
        }
        Draft { text: entry.text.clone(), pictures }
    }
}

/// The thoughts of an answer that was gone on with, first those of its beginning.
fn joined(before: &str, thinking: &str) -> String {
    let between = if before.is_empty() || thinking.is_empty() { "" } else { "\n\n" };
    format!("{before}{between}{thinking}")
}
