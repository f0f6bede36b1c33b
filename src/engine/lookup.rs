//! Guessing the next tokens without a second model (prompt lookup): what followed the last time the sequence went as it
//! goes now. <https://github.com/apoorvumang/prompt-lookup-decoding>

use super::pages::TokenKey;

/// Tokens that must agree before what followed them is a guess.
pub const SHORTEST: usize = 2;
/// Tokens compared at most: a longer agreement says no more.
pub const LONGEST: usize = 8;
/// Places looked back over at most, so that a token's cost has a bound.
const MOST_LOOKED_AT: usize = 32_768;
/// Places looked at together; without an early exit the comparison is a vector's.
const CHUNK: usize = 64;

/// Where the sequence went the same way before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precedent {
    /// The place of the token that followed.
    pub next: usize,
    /// Tokens that agree, [`SHORTEST`]…[`LONGEST`].
    pub agreed: usize,
}

impl Precedent {
    /// The latest place among those where most of the last tokens agree; `None`: nowhere do [`SHORTEST`].
    #[must_use]
    pub fn find(keys: &[TokenKey]) -> Option<Self> {
        let (&last, before) = keys.split_last()?;
        let mut best: Option<Self> = None;
        let floor = before.len().saturating_sub(MOST_LOOKED_AT);
        let mut end = before.len();
        while end > floor {
            let start = end.saturating_sub(CHUNK).max(floor);
            let chunk = &before[start..end];
            // All of a chunk first: most hold nothing.
            if chunk.iter().map(|&key| u64::from(key == last)).sum::<u64>() > 0 {
                for at in (start..end).rev().filter(|&at| before[at] == last) {
                    let agreed = agreement(&before[..at], before) + 1;
                    if agreed >= SHORTEST && best.is_none_or(|b| agreed > b.agreed) {
                        best = Some(Self { next: at + 1, agreed });
                        if agreed == LONGEST {
                            return best;
                        }
                    }
                }
            }
            end = start;
        }
        best
    }

    /// The tokens that followed, `most` at most. Past the end of the sequence the guess goes on with itself: a loop is
    /// guessed round and round. It ends before a picture's place and before a token of `ends`, after which nothing comes.
    #[must_use]
    pub fn guess(&self, keys: &[TokenKey], most: usize, ends: &[u32]) -> Vec<u32> {
        let mut guess: Vec<u32> = Vec::with_capacity(most);
        while guess.len() < most {
            let at = self.next + guess.len();
            let id = match keys.get(at) {
                Some(&key) => u32::try_from(key).ok(),
                None => at.checked_sub(keys.len()).and_then(|at| guess.get(at)).copied(),
            };
            match id {
                Some(id) if !ends.contains(&id) => guess.push(id),
                _ => break,
            }
        }
        guess
    }
}

/// Tokens at the ends of both that are the same, fewer than [`LONGEST`].
fn agreement(a: &[TokenKey], b: &[TokenKey]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take(LONGEST - 1).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURE: TokenKey = 1 << 63;

    fn found(keys: &[TokenKey]) -> Option<(usize, usize)> {
        Precedent::find(keys).map(|p| (p.next, p.agreed))
    }

    #[test]
    fn the_longest_agreement_counts_and_among_equals_the_latest() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[5]), None);
        assert_eq!(found(&[1, 2, 3, 1, 4]), None, "one token is no agreement");
        assert_eq!(found(&[1, 2, 3, 9, 1, 2]), Some((2, 2)));
        assert_eq!(found(&[1, 2, 3, 1, 2, 4, 1, 2]), Some((5, 2)), "the latest");
        assert_eq!(found(&[7, 1, 2, 3, 1, 2, 4, 7, 1, 2]), Some((3, 3)), "the longest");
    }

    #[test]
    fn an_agreement_is_found_across_chunks_and_no_further_back_than_the_bound() {
        let mut keys: Vec<TokenKey> = (0..2 * MOST_LOOKED_AT as u64).map(|i| 1000 + i).collect();
        let place = MOST_LOOKED_AT + 777;
        keys.extend_from_within(place - 20..place);
        assert_eq!(found(&keys), Some((place, LONGEST)));
        let mut keys: Vec<TokenKey> = (0..2 * MOST_LOOKED_AT as u64).map(|i| 1000 + i).collect();
        keys.extend_from_within(100..120);
        assert_eq!(found(&keys), None);
    }

    #[test]
    fn a_guess_is_what_followed_and_a_loop_goes_round() {
        let keys = [1, 2, 3, 4, 5, 1, 2];
        let precedent = Precedent::find(&keys).unwrap();
        assert_eq!(precedent.guess(&keys, 3, &[]), [3, 4, 5]);
        assert_eq!(precedent.guess(&keys, 8, &[]), [3, 4, 5, 1, 2, 3, 4, 5]);
        let keys = [9, 9, 9];
        assert_eq!(Precedent::find(&keys).unwrap().guess(&keys, 4, &[]), [9; 4]);
    }

    #[test]
    fn no_picture_and_no_end_is_guessed() {
        let keys = [1, 2, 3, PICTURE | 7, 5, 1, 2];
        let precedent = Precedent::find(&keys).unwrap();
        assert_eq!(precedent.guess(&keys, 8, &[]), [3]);
        assert_eq!(precedent.guess(&keys, 8, &[3]), [0u32; 0]);
        // The same picture twice agrees with itself, and what was said after it is a guess.
        let keys = [PICTURE | 7, PICTURE | 8, 4, 6, PICTURE | 7, PICTURE | 8];
        let precedent = Precedent::find(&keys).unwrap();
        assert_eq!((precedent.next, precedent.agreed), (2, 2));
        assert_eq!(precedent.guess(&keys, 8, &[]), [4, 6]);
    }

    /// Against the definition, on sequences of few different tokens, where much agrees.
    #[test]
    fn every_precedent_is_that_of_the_definition() {
        let mut state = 1u64;
        for round in 0..300 {
            let keys: Vec<TokenKey> = (0..(round % 150))
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 33) % (2 + round % 5)
                })
                .collect();
            let n = keys.len();
            let mut want: Option<(usize, usize)> = None;
            for next in (1..n).rev() {
                let agreed = (1..=LONGEST.min(next)).take_while(|&k| keys[next - k] == keys[n - k]).count();
                if agreed >= SHORTEST && want.is_none_or(|(_, best)| agreed > best) {
                    want = Some((next, agreed));
                }
            }
            assert_eq!(found(&keys), want, "{keys:?}");
        }
    }
}
