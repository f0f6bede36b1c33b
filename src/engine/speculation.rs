//! Does guessing pay? What it costs is measured on every pass, how often guesses are right on every token, guessed or not;
//! from both follows how many guesses the next pass should check, if any. Nothing here changes tokens: a guess that is
//! checked and wrong leaves what plain decoding says, and so does one never made.

use super::api::Speculation;
use super::lookup::{LONGEST, Precedent, SHORTEST};
use super::pages::TokenKey;
use crate::model::linear::MAX_BATCH;

/// By how much tokens a second must grow for a verify pass: what is measured is not that exact.
const MARGIN: f64 = 1.1;
/// Passes with twice the rows of any measured are taken to be slower by this, so that they are tried.
const HOPED_GROWTH: f64 = 1.2;
/// A measurement of verify passes is forgotten after this many passes: it may have been disturbed, and what does not seem to
/// pay would never be measured again.
const FORGOTTEN_AFTER: u64 = 1024;
/// Weight of the newest measurement.
const NEWEST: f64 = 0.3;
/// A measurement this many times the usual was disturbed, and counts as this.
const MOST_OFF: f64 = 1.5;

/// Row counts whose passes use the same kernels: 1, 2, 3…4, 5…8.
const SIZES: usize = MAX_BATCH.ilog2() as usize + 1;

fn size_of_rows(rows: usize) -> usize {
    (rows.clamp(1, MAX_BATCH).next_power_of_two().ilog2() as usize).min(SIZES - 1)
}

#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    secs: Option<f64>,
    /// The pass it was last measured in.
    at: u64,
    /// The first pass of a size may have compiled kernels, and is not believed.
    ran: bool,
}

/// Seconds that passes take, by their rows: with guesses to verify (after which the processor looks at the outcome before it
/// records the next pass), and without (several in flight).
#[derive(Clone, Debug, Default)]
pub(super) struct PassTimes {
    plain: [Measured; SIZES],
    verify: [Measured; SIZES],
    passes: u64,
}

impl PassTimes {
    /// A pass of so many rows took so long.
    pub fn measured(&mut self, rows: usize, verify: bool, secs: f64) {
        self.passes += 1;
        let all = if verify { &mut self.verify } else { &mut self.plain };
        let of_size = &mut all[size_of_rows(rows)];
        if !std::mem::replace(&mut of_size.ran, true) {
            return;
        }
        of_size.at = self.passes;
        of_size.secs = Some(match of_size.secs {
            None => secs,
            Some(usual) => usual + NEWEST * (secs.min(usual * MOST_OFF) - usual),
        });
    }

    /// A step of `sessions` rows without guesses; `None`: not measured yet.
    fn plain(&self, sessions: usize) -> Option<f64> {
        self.plain[size_of_rows(sessions)].secs
    }

    /// A verify pass of `rows` rows for `sessions` sessions; `None`: too far from what was measured to be tried.
    fn verify(&self, rows: usize, sessions: usize) -> Option<f64> {
        let known = |size: usize| {
            let of_size = self.verify[size];
            of_size.secs.filter(|_| self.passes - of_size.at < FORGOTTEN_AFTER)
        };
        let (size, least) = (size_of_rows(rows), size_of_rows(sessions));
        if let Some(secs) = known(size) {
            return Some(secs);
        }
        if size == least {
            return self.plain(sessions);
        }
        // Half as many rows, measured; or no guesses at all.
        let below = known(size - 1).or_else(|| self.plain(sessions).filter(|_| size - 1 == least))?;
        Some(below * HOPED_GROWTH)
    }

    /// How many guesses of each session the next pass should verify; all 0: a plain step is as good.
    pub fn share(&self, wishes: &[Wish]) -> Vec<usize> {
        let sessions = wishes.len();
        let none = vec![0; sessions];
        let Some(plain) = self.plain(sessions) else { return none };
        let mut expected = sessions as f64;
        let (mut best, mut best_rate) = (none.clone(), expected / plain * MARGIN);
        let mut share = none;
        for rows in sessions + 1..=MAX_BATCH {
            // The guess that is most likely to be of use.
            let next = (0..sessions)
                .filter_map(|s| wishes[s].odds.get(share[s]).map(|&odds| (s, odds)))
                .max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((session, odds)) = next else { break };
            share[session] += 1;
            expected += odds;
            if let Some(secs) = self.verify(rows, sessions)
                && expected / secs >= best_rate
            {
                best_rate = expected / secs;
                best.clone_from(&share);
            }
        }
        best
    }
}

/// What a session would have verified.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wish {
    /// Of each guess, how likely it and all before it are right.
    pub odds: Vec<f64>,
}

/// How often guesses after precedents of one strength were right; old ones count less.
#[derive(Clone, Copy, Debug)]
struct Odds {
    right: f64,
    made: f64,
}

impl Odds {
    const FADING: f64 = 0.9;

    fn saw(&mut self, right: bool) {
        self.right = self.right * Self::FADING + f64::from(u8::from(right));
        self.made = self.made * Self::FADING + 1.0;
    }

    fn value(self) -> f64 {
        self.right / self.made
    }
}

/// A session's guesses.
#[derive(Debug)]
pub(super) struct Guesser {
    mode: Speculation,
    /// By the tokens that agree, from [`SHORTEST`] on.
    odds: [Odds; LONGEST - SHORTEST + 1],
    precedent: Option<Precedent>,
    /// Tokens until the next verify pass may come, and how many it will be after the next that gives nothing.
    pause: usize,
    next_pause: usize,
    waiting: bool,
    /// Tokens of the answer.
    said: usize,
    /// Guesses verified.
    pub drafted: usize,
    /// Of those, right, and so tokens of the answer.
    pub accepted: usize,
}

/// The longest pause after verify passes that gave nothing, tokens.
const LONGEST_PAUSE: usize = 64;

impl Guesser {
    pub fn new(mode: Speculation) -> Self {
        // Before anything is seen: one guess in two is right, and two tokens say otherwise.
        let odds = [Odds { right: 1.0, made: 2.0 }; LONGEST - SHORTEST + 1];
        Self {
            mode,
            odds,
            precedent: None,
            pause: 0,
            next_pause: 1,
            waiting: false,
            said: 0,
            drafted: 0,
            accepted: 0,
        }
    }

    /// Does this session never guess?
    pub fn is_off(&self) -> bool {
        self.mode == Speculation::Off
    }

    /// A token has come, the last of `keys`: was the guess at it right, and what will be the next?
    pub fn saw(&mut self, keys: &[TokenKey]) {
        if self.is_off() {
            return;
        }
        self.said += 1;
        self.pause = self.pause.saturating_sub(1);
        if let Some(precedent) = self.precedent
            && let Some((token, before)) = keys.split_last()
        {
            let right = before.get(precedent.next) == Some(token);
            self.odds[precedent.agreed - SHORTEST].saw(right);
        }
        self.precedent = Precedent::find(keys);
    }

    /// The guesses at what follows `keys` (`most` at most; none of `ends`).
    pub fn guess(&self, keys: &[TokenKey], most: usize, ends: &[u32]) -> Vec<u32> {
        let looked_up = self.precedent.map(|p| p.guess(keys, most, ends)).unwrap_or_default();
        match &self.mode {
            Speculation::Off => Vec::new(),
            Speculation::Auto if self.pause > 0 => Vec::new(),
            Speculation::Auto => looked_up,
            Speculation::Always { answer, wrong_every } => {
                let mut guess: Vec<u32> = match answer {
                    Some(answer) => answer.iter().skip(self.said).take(most).copied().collect(),
                    None => looked_up,
                };
                let last = keys.last().and_then(|&key| u32::try_from(key).ok()).unwrap_or(0);
                guess.resize(most, last);
                for (n, id) in (self.said..).zip(&mut guess) {
                    if *wrong_every > 0 && n % wrong_every == 0 {
                        *id ^= 1;
                    }
                }
                guess
            }
        }
    }

    /// Are guesses verified whether that pays or not? For tests.
    pub fn always(&self) -> bool {
        matches!(self.mode, Speculation::Always { .. })
    }

    /// How likely `guesses` guesses are right, when `in_flight` tokens before them have still to come as guessed.
    pub fn wish(&self, guesses: usize, in_flight: usize) -> Wish {
        let Some(precedent) = self.precedent else { return Wish::default() };
        // Each right guess makes the agreement longer.
        let odds = |n: usize| self.odds[(precedent.agreed + n).min(LONGEST) - SHORTEST].value();
        let mut all = 1.0;
        let mut chain = (0..guesses + in_flight).map(|n| {
            all *= odds(n);
            all
        });
        let arrives = if in_flight == 0 { 1.0 } else { chain.nth(in_flight - 1).unwrap_or(0.0) };
        if arrives < 0.5 {
            return Wish::default();
        }
        Wish { odds: chain.map(|odds| odds / arrives).collect() }
    }

    /// A verify pass checked `drafted` guesses and `right` of them were right. None right, and the next pass is put off,
    /// longer each time.
    pub fn verified(&mut self, drafted: usize, right: usize) {
        self.drafted += drafted;
        if right > 0 {
            self.next_pause = 1;
        } else {
            self.put_off();
        }
    }

    /// The next step was decided on: does it wait for tokens in flight, for this session's guesses to be verified after
    /// them? Where it did and the tokens came otherwise, so that nothing is verified, that counts as a pass that gave nothing.
    pub fn waits(&mut self, waits: bool, verify: bool) {
        if std::mem::replace(&mut self.waiting, waits) && !waits && !verify {
            self.put_off();
        }
    }

    fn put_off(&mut self) {
        self.pause = self.next_pause;
        self.next_pause = (2 * self.next_pause).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device where passes of 1, 2, 4, 8 rows take so long, plain and to verify.
    fn device(secs: [f64; SIZES]) -> PassTimes {
        let mut times = PassTimes::default();
        for (size, secs) in secs.into_iter().enumerate() {
            for _ in 0..2 {
                times.measured(1 << size, false, secs);
                times.measured(1 << size, true, secs);
            }
        }
        times
    }

    fn chain(odds: f64, n: i32) -> Wish {
        Wish { odds: (1..=n).map(|n| odds.powi(n)).collect() }
    }

    #[test]
    fn where_rows_are_free_all_likely_guesses_are_verified_and_where_they_cost_few_or_none() {
        let free = device([1.0, 1.02, 1.05, 1.1]);
        assert_eq!(free.share(&[chain(0.9, 7)]), [7]);
        assert_eq!(free.share(&[chain(0.9, 3)]), [3]);
        assert_eq!(free.share(&[chain(0.05, 7)]), [0], "the margin");
        assert_eq!(free.share(&[Wish::default()]), [0]);
        let costly = device([1.0, 1.8, 3.3, 6.4]);
        assert_eq!(costly.share(&[chain(0.9, 7)]), [0]);
        assert_eq!(costly.share(&[chain(0.995, 7)]), [7], "nearly sure guesses pay even there");
    }

    #[test]
    fn rows_go_to_the_sessions_whose_guesses_are_likelier_and_there_are_eight_at_most() {
        let free = device([1.0, 1.02, 1.05, 1.1]);
        let share = free.share(&[chain(0.5, 7), Wish::default(), chain(0.95, 7)]);
        assert!(share[1] == 0 && share[2] > share[0] && share.iter().sum::<usize>() <= 5, "{share:?}");
        assert_eq!(free.share(&vec![chain(0.9, 7); MAX_BATCH]), [0; MAX_BATCH]);
    }

    #[test]
    fn nothing_is_guessed_before_plain_steps_are_measured_and_sizes_are_tried_one_by_one() {
        let mut times = PassTimes::default();
        assert_eq!(times.share(&[chain(0.9, 7)]), [0]);
        times.measured(1, false, 9.0);
        assert_eq!(times.share(&[chain(0.9, 7)]), [0], "the first pass compiled kernels");
        times.measured(1, false, 1.0);
        for (rows, guesses) in [(2, 1), (4, 3), (8, 7)] {
            assert_eq!(times.share(&[chain(0.9, 7)]), [guesses]);
            times.measured(rows, true, 9.0);
            assert_eq!(times.share(&[chain(0.9, 7)]), [guesses], "the first says nothing");
            times.measured(rows, true, 1.1);
        }
    }

    #[test]
    fn what_did_not_pay_is_tried_again_after_a_long_time() {
        let mut times = device([1.0, 1.9, 3.9, 7.9]);
        assert_eq!(times.share(&[chain(0.9, 7)]), [0]);
        for _ in 0..FORGOTTEN_AFTER {
            times.measured(1, false, 1.0);
        }
        assert_eq!(times.share(&[chain(0.9, 7)]), [1]);
    }

    #[test]
    fn one_disturbed_pass_changes_little() {
        let mut times = device([1.0, 1.02, 1.05, 1.1]);
        times.measured(8, true, 500.0);
        assert_eq!(times.share(&[chain(0.9, 7)]), [7]);
    }

    #[test]
    fn odds_follow_what_comes_without_any_guess_being_verified() {
        // A text that repeats: after a few tokens the guesses are believed.
        let mut guesser = Guesser::new(Speculation::Auto);
        let text: Vec<TokenKey> = (0..60).map(|i| i % 12).collect();
        for n in 1..=text.len() {
            guesser.saw(&text[..n]);
        }
        let wish = guesser.wish(7, 0);
        assert!(wish.odds.len() == 7 && wish.odds[6] > 0.8, "{wish:?}");
        assert_eq!(guesser.guess(&text, 7, &[]), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(guesser.wish(5, 2).odds.len(), 5);
        // A text where the same pair is followed by something else each time.
        let mut guesser = Guesser::new(Speculation::Auto);
        let text: Vec<TokenKey> = (0..60).map(|i| if i % 3 == 2 { 100 + i } else { i % 3 }).collect();
        for n in 1..=59 {
            guesser.saw(&text[..n]);
        }
        let wish = guesser.wish(7, 0);
        assert!(wish.odds[0] < 0.2, "{wish:?}");
        assert!(guesser.wish(7, 2).odds.is_empty(), "the tokens in flight will not come as guessed");
    }

    #[test]
    fn verify_passes_that_give_nothing_come_ever_more_rarely() {
        let mut guesser = Guesser::new(Speculation::Auto);
        let text: Vec<TokenKey> = (0..2000).map(|i| i % 12).collect();
        let mut passes = 0;
        for n in 500..1500 {
            guesser.saw(&text[..n]);
            if !guesser.guess(&text[..n], 7, &[]).is_empty() {
                passes += 1;
                guesser.verified(7, 0);
            }
        }
        assert!((10..25).contains(&passes), "{passes} passes in 1000 tokens");
        guesser.verified(7, 3);
        guesser.pause = 0;
        guesser.verified(7, 0);
        assert_eq!(guesser.pause, 1, "one that gives something ends that");
    }

    #[test]
    fn sessions_that_do_not_speculate_look_nothing_up() {
        let mut guesser = Guesser::new(Speculation::Off);
        guesser.saw(&[1, 2, 3, 1, 2]);
        assert!(guesser.is_off() && guesser.guess(&[1, 2, 3, 1, 2], 7, &[]).is_empty());
    }
}
