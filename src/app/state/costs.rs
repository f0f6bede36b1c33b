//! What answers cost, as far as it is in memory: of those that come in, of those of this run of the program, and of those
//! whose costs the history was asked for. And answers that branch off from another at a token.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::State;
use super::answers::Intent;
use crate::app::backend::Backend;
use crate::chat::history::ConversationId;
use crate::chat::store::Job;
use crate::chat::tree::MessageId;
use crate::costs::{Costs, Ledger, pack, unpack};
use crate::error::{Error, Result};
use crate::model::detokenizer::Detokenizer;

/// Bytes of costs that are held in memory, at most: some hundred thousand tokens. The conversation on the screen may have more.
const MOST_BYTES: usize = 32 << 20;

/// The costs of answers.
#[derive(Debug, Default)]
pub struct Shelf {
    /// By message; empty: nothing was kept of it.
    known: HashMap<MessageId, Arc<Vec<Costs>>>,
    /// The history was asked for them.
    asked: HashSet<MessageId>,
    /// Answers of this run of the program, in the order they were asked.
    run: Vec<(ConversationId, MessageId)>,
    /// Answers that have ended and whose last tokens are yet to be drawn.
    unpainted: Vec<Ended>,
    /// The device's own read bandwidth, GB/s, where it was measured.
    pub bandwidth_gb_s: Option<f32>,
    /// Counts changes, for drawings that remember.
    pub version: u64,
}

/// An answer that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub conversation: ConversationId,
    pub message: MessageId,
    /// What its pieces before cost.
    pub before: Vec<Costs>,
    pub ledger: Ledger,
    /// There are pieces before that are not in memory.
    pub append: bool,
}

impl Ended {
    /// What is known of it.
    fn costs(self) -> Vec<Costs> {
        let mut all = self.before;
        all.extend(Some(self.ledger.into_costs()).filter(|costs| !costs.tokens.is_empty()));
        all
    }
}

/// An answer that begins with tokens of another.
#[derive(Clone, Debug)]
pub struct Branch {
    /// Text before its first token.
    pub start: String,
    /// Its tokens, the one that was chosen last.
    pub ids: Vec<u32>,
    /// The text of all of it.
    pub text: String,
    /// What those tokens cost where they came from.
    pub costs: Vec<Costs>,
}

impl Shelf {
    /// Answers of this run, in the order they were asked.
    #[must_use]
    pub fn run(&self) -> &[(ConversationId, MessageId)] {
        &self.run
    }

    pub(super) fn began(&mut self, conversation: ConversationId, message: MessageId) {
        self.run.retain(|(_, other)| *other != message);
        self.run.push((conversation, message));
        self.version += 1;
    }

    pub(super) fn put(&mut self, message: MessageId, costs: Vec<Costs>) {
        self.known.insert(message, Arc::new(costs));
        self.version += 1;
    }

    /// An answer has ended; it is kept once its last tokens have been drawn.
    pub(super) fn ended(&mut self, ended: Ended) {
        self.unpainted.push(ended);
        self.version += 1;
    }

    /// Nothing came of an answer.
    pub(super) fn gone(&mut self, message: MessageId) {
        self.run.retain(|(_, other)| *other != message);
        self.version += 1;
    }

    /// The device's bandwidth was measured: it is that of the answers that ran on it before, too.
    pub(super) fn bandwidth_is(&mut self, gb_s: f32, adapter: &str) {
        for ended in &mut self.unpainted {
            ended.ledger.bandwidth_is(gb_s);
        }
        for all in self.known.values_mut() {
            if all.iter().any(|costs| costs.adapter == adapter && costs.bandwidth_gb_s.is_none()) {
                for costs in Arc::make_mut(all).iter_mut().filter(|costs| costs.adapter == adapter) {
                    costs.bandwidth_gb_s.get_or_insert(gb_s);
                }
            }
        }
        self.version += 1;
    }

    fn forget(&mut self, shown: &[MessageId]) {
        let bytes = |all: &[Costs]| all.iter().map(Costs::memory_bytes).sum::<usize>();
        let mut sum: usize = self.known.values().map(|costs| bytes(costs)).sum();
        if sum <= MOST_BYTES {
            return;
        }
        let mut ids: Vec<MessageId> = self.known.keys().copied().filter(|id| !shown.contains(id)).collect();
        ids.sort_unstable_by_key(|id| id.0);
        for id in ids {
            if sum <= MOST_BYTES {
                break;
            }
            if let Some(costs) = self.known.remove(&id) {
                sum -= bytes(&costs);
                self.asked.remove(&id);
            }
        }
    }
}

impl State {
    /// What an answer cost, piece by piece, also while it comes in. Empty: not known, or not yet.
    #[must_use]
    pub fn costs_of(&self, message: MessageId) -> Vec<&Costs> {
        if let Some(answering) = self.answering.iter().find(|answering| answering.message == message) {
            let live = answering.ledger.as_ref().map(Ledger::costs);
            return answering.costs_before.iter().chain(live).collect();
        }
        if let Some(ended) = self.shelf.unpainted.iter().find(|ended| ended.message == message) {
            return ended.before.iter().chain([ended.ledger.costs()]).collect();
        }
        self.shelf.known.get(&message).map(|all| all.iter().collect()).unwrap_or_default()
    }

    /// Asks the history what an answer cost, once.
    pub fn want_costs(&mut self, message: MessageId) {
        let is_here = self.shelf.known.contains_key(&message) || !self.costs_of(message).is_empty();
        if !is_here && self.shelf.asked.insert(message) {
            self.jobs.push(Job::Costs(message));
        }
    }

    pub(super) fn costs_came(&mut self, message: MessageId, result: Result<Option<Arc<[u8]>>>) {
        let costs = result.and_then(|bytes| bytes.map_or_else(|| Ok(Vec::new()), |bytes| unpack(&bytes)));
        match costs {
            Ok(costs) => {
                // What came in meanwhile is newer.
                if !self.shelf.known.contains_key(&message) {
                    self.shelf.put(message, costs);
                }
            }
            Err(error) => {
                self.report(&error);
                self.shelf.put(message, Vec::new());
            }
        }
        self.forget_costs(message);
    }

    /// Forgets what is in memory of answers that are not on the screen, where it is much; never of this one.
    fn forget_costs(&mut self, message: MessageId) {
        let mut shown = self.chat.tree.path().to_vec();
        shown.push(message);
        self.shelf.forget(&shown);
    }

    /// A frame has been drawn, from and to these times of [`crate::clock`]: whatever has come of the conversation on the screen is
    /// on it. Answers that have ended are kept.
    pub fn drawn(&mut self, begin_ns: u64, end_ns: u64) {
        // The comparison may be on the screen instead.
        let shown = Some(self.chat.id).filter(|_| !self.shows_comparison);
        let ledgers = self.answering.iter_mut().filter(|answering| Some(answering.conversation) == shown);
        for ledger in ledgers.filter_map(|answering| answering.ledger.as_mut()) {
            ledger.drawn(begin_ns, end_ns);
        }
        for mut ended in std::mem::take(&mut self.shelf.unpainted) {
            if Some(ended.conversation) == shown {
                ended.ledger.drawn(begin_ns, end_ns);
            }
            self.keep_costs(ended);
        }
    }

    /// Keeps the costs of answers that have ended, drawn or not: the window is going.
    pub fn keep_all_costs(&mut self) {
        for ended in std::mem::take(&mut self.shelf.unpainted) {
            self.keep_costs(ended);
        }
    }

    fn keep_costs(&mut self, ended: Ended) {
        let (message, append) = (ended.message, ended.append);
        let costs = ended.costs();
        match pack(&costs) {
            Ok(bytes) => self.jobs.push(Job::KeepCosts { id: message, bytes: bytes.into(), append }),
            Err(error) => self.report(&error),
        }
        if append {
            // All of it is read again when it is wanted.
            self.shelf.known.remove(&message);
            self.shelf.asked.remove(&message);
            self.shelf.version += 1;
        } else {
            self.shelf.put(message, costs);
        }
        self.forget_costs(message);
    }

    /// Answers anew from a token of an answer on: with `id` in its place and everything before it as it was. `token` counts over
    /// all pieces of the answer.
    pub fn branch(
        &mut self,
        answer: MessageId,
        token: usize,
        id: u32,
        backend: &mut dyn Backend,
        now: Instant,
    ) {
        if self.cannot_ask().is_some() {
            return;
        }
        match self.branch_at(answer, token, id) {
            Ok((question, branch)) => self.ask_with(Intent::Answer(question), Some(branch), backend, now),
            Err(error) => self.report(&error),
        }
    }

    fn branch_at(&self, answer: MessageId, token: usize, id: u32) -> Result<(MessageId, Branch)> {
        const DOING: &str = "going on from another token";
        let gone = || Error::new(DOING, "the answer is gone").help("ask again");
        let entry = self.chat.tree.get(answer).ok_or_else(gone)?;
        let question = entry.parent.ok_or_else(gone)?;
        let info = self.model_info().filter(|_| self.answers_here()).ok_or_else(|| {
            Error::new(DOING, "only the model of this machine can")
                .help("open a model, and choose it in the settings")
        })?;
        let pieces = self.costs_of(answer);
        if pieces.iter().any(|costs| costs.adapter.is_empty() || costs.model != info.name) {
            let why = "the answer is of another model, whose tokens are others";
            return Err(Error::new(DOING, why).help("open that model again"));
        }
        let mut kept = Vec::new();
        let mut left = token;
        for costs in pieces {
            let count = costs.tokens.len();
            kept.push(costs.beginning(left));
            if left < count {
                break;
            }
            left -= count;
        }
        let last = kept.last_mut().ok_or_else(gone)?;
        if info.tokenizer.is_special(id) {
            let why = "this token ends a turn, or is one of control";
            return Err(Error::new(DOING, why).help("choose another one"));
        }
        let original = self.costs_of(answer).into_iter().flat_map(|costs| &costs.tokens).nth(token);
        let mut chosen = original.cloned().ok_or_else(gone)?;
        let place = chosen.alternatives.iter().position(|(other, _)| *other == id);
        if let Some((rank, (_, logprob))) =
            place.and_then(|place| Some((place, *chosen.alternatives.get(place)?)))
        {
            chosen.logprob = logprob;
            chosen.rank = u32::try_from(rank).unwrap_or(u32::MAX);
        }
        (chosen.id, chosen.forced) = (id, true);
        last.pieces.insert(id, info.tokenizer.token_bytes(id).unwrap_or_default().to_vec());
        last.tokens.push(chosen);
        let start_bytes = kept.first().map_or(0, |costs| costs.start_bytes as usize);
        let start = entry.text.get(..start_bytes).ok_or_else(gone)?.to_owned();
        let ids: Vec<u32> = kept.iter().flat_map(|costs| costs.tokens.iter().map(|token| token.id)).collect();
        // As the engine will: half a character at the end comes with the next token.
        let mut detokenizer = Detokenizer::new(info.tokenizer.clone(), true);
        let mut text = start.clone();
        let mut texts = ids.iter().map(|&id| detokenizer.push(id)).collect::<Vec<_>>().into_iter();
        for token in kept.iter_mut().flat_map(|costs| &mut costs.tokens) {
            let piece = texts.next().unwrap_or_default();
            token.text_bytes = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            text += &piece;
        }
        let mut at = start.len();
        for costs in &mut kept {
            costs.start_bytes = u32::try_from(at).unwrap_or(u32::MAX);
            costs.forget_unused_pieces();
            at = costs.text_end();
        }
        Ok((question, Branch { start, ids, text, costs: kept }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::TokenCost;

    #[test]
    fn costs_that_nobody_looks_at_are_forgotten_where_they_are_much_and_are_asked_for_again() {
        let answer = |tokens: usize| {
            let token = TokenCost { alternatives: vec![(7, -1.0); 20], ..TokenCost::default() };
            vec![Costs { tokens: vec![token; tokens], ..Costs::default() }]
        };
        let mut shelf = Shelf::default();
        let held = |shelf: &Shelf| -> usize {
            shelf.known.values().flat_map(|all| all.iter().map(Costs::memory_bytes)).sum()
        };
        let shown = MessageId(2);
        for id in 0..400 {
            shelf.put(MessageId(id), answer(500));
            shelf.asked.insert(MessageId(id));
            shelf.forget(&[shown, MessageId(id)]);
        }
        let bytes = held(&shelf);
        assert!(bytes <= MOST_BYTES && bytes > MOST_BYTES / 2, "{bytes}");
        assert!(shelf.known.contains_key(&shown) && shelf.known.contains_key(&MessageId(399)));
        let gone = MessageId(3);
        assert!(
            !shelf.known.contains_key(&gone) && !shelf.asked.contains(&gone),
            "it can be asked for again"
        );
        // What is on the screen stays, however large.
        shelf.put(shown, answer(200_000));
        shelf.forget(&[shown]);
        assert!(shelf.known.contains_key(&shown) && shelf.known.len() == 1);
    }
}
