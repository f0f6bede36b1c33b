//! Who owns which page of the KV cache: reference counts, sequences kept for reuse, copy on write.

use crate::model::kv_cache::PAGE_TOKENS;

/// What stands at a place of a sequence, for comparing prefixes: a text id, or a hash of a picture's
/// content, size and preprocessing with the place inside it. Slots do not count: they are handed out anew.
pub type TokenKey = u64;

/// Pages with reference counts.
#[derive(Debug)]
pub struct PagePool {
    counts: Vec<u32>,
    free: Vec<u32>,
}

impl PagePool {
    /// All of `pages` free.
    #[must_use]
    pub fn new(pages: usize) -> Self {
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        Self { counts: vec![0; pages as usize], free: (0..pages).rev().collect() }
    }

    /// A free page, owned once.
    pub fn take(&mut self) -> Option<u32> {
        let page = self.free.pop()?;
        self.counts[page as usize] = 1;
        Some(page)
    }

    /// One more owner.
    pub fn share(&mut self, page: u32) {
        self.counts[page as usize] += 1;
    }

    /// One owner less; a page without owners is free.
    pub fn release(&mut self, page: u32) {
        let count = &mut self.counts[page as usize];
        debug_assert!(*count > 0, "page {page} is released twice");
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.free.push(page);
        }
    }

    /// Free pages.
    #[must_use]
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Is there no page at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

/// A sequence whose keys and values are in the cache.
#[derive(Clone, Copy, Debug)]
pub struct Cached<'a> {
    /// Its tokens.
    pub keys: &'a [TokenKey],
    /// Where they are.
    pub pages: &'a [u32],
    /// Tokens at its beginning that a prefill of the sequence alone would have written bit for bit so.
    pub settled: usize,
}

impl Cached<'_> {
    /// Tokens that can be taken over by a sequence of `keys`.
    fn common(&self, keys: &[TokenKey], wish: Wish) -> usize {
        let common = self.keys.iter().zip(keys).take_while(|(a, b)| a == b).count();
        common.min(wish.most).min(if wish.settled_only { self.settled } else { usize::MAX })
    }
}

/// What a new session would take over.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Tokens, at most.
    pub most: usize,
    /// Only what does not depend on what else was asked ([`Cached::settled`]).
    pub settled_only: bool,
}

/// A sequence whose pages are kept after its session ended.
#[derive(Debug)]
struct Kept {
    keys: Vec<TokenKey>,
    pages: Vec<u32>,
    settled: usize,
    last_use: u64,
}

impl Kept {
    fn cached(&self) -> Cached<'_> {
        Cached { keys: &self.keys, pages: &self.pages, settled: self.settled }
    }
}

/// What a new session can take over.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reuse {
    /// Tokens that need no prefill.
    pub tokens: usize,
    /// Whole pages, already shared with the new session.
    pub pages: Vec<u32>,
    /// A page of which only the first tokens are common: to be copied into one of the session's own.
    pub partial: Option<u32>,
    /// Of the tokens, those that are settled ([`Cached::settled`]).
    pub settled: usize,
}

/// Sequences kept for reuse, least recently used dropped first.
#[derive(Debug, Default)]
pub struct PrefixCache {
    kept: Vec<Kept>,
    clock: u64,
}

/// Sequences kept at most, whatever room there is.
const MOST_KEPT: usize = 64;

impl PrefixCache {
    /// Takes over a finished session's pages, of which the first `keys.len()` tokens are valid and the first `settled`
    /// settled.
    pub fn keep(&mut self, pool: &mut PagePool, keys: Vec<TokenKey>, mut pages: Vec<u32>, settled: usize) {
        let used = keys.len().div_ceil(PAGE_TOKENS);
        for page in pages.drain(used.min(pages.len())..) {
            pool.release(page);
        }
        self.clock += 1;
        // A sequence that is the beginning of the new one adds nothing any more.
        let settled = settled.min(keys.len());
        let adds_nothing = |k: &Kept| keys.starts_with(&k.keys) && k.settled <= settled;
        while let Some(at) = self.kept.iter().position(adds_nothing) {
            self.drop_at(pool, at);
        }
        self.kept.push(Kept { keys, pages, settled, last_use: self.clock });
        if self.kept.len() > MOST_KEPT {
            self.drop_oldest(pool);
        }
    }

    /// The longest common beginning with any kept sequence, or one of a session that is `running`; its whole pages are
    /// shared with the caller.
    pub fn reuse(
        &mut self,
        pool: &mut PagePool,
        running: &[Cached<'_>],
        keys: &[TokenKey],
        wish: Wish,
    ) -> Reuse {
        self.clock += 1;
        let best_running = running.iter().copied().max_by_key(|r| r.common(keys, wish));
        let most_running = best_running.map_or(0, |r| r.common(keys, wish));
        let best_kept = self.kept.iter_mut().max_by_key(|k| k.cached().common(keys, wish));
        let best = match best_kept {
            Some(kept) if kept.cached().common(keys, wish) >= most_running => {
                kept.last_use = self.clock;
                Some(kept.cached())
            }
            _ => best_running,
        };
        let Some(best) = best else { return Reuse::default() };
        let tokens = best.common(keys, wish);
        if tokens == 0 {
            return Reuse::default();
        }
        let whole = tokens / PAGE_TOKENS;
        let pages: Vec<u32> = best.pages[..whole].to_vec();
        for &page in &pages {
            pool.share(page);
        }
        // Shared until it is copied, lest it be dropped to make room for the copy.
        let partial = (tokens % PAGE_TOKENS > 0).then(|| best.pages[whole]);
        if let Some(page) = partial {
            pool.share(page);
        }
        Reuse { tokens, pages, partial, settled: best.settled.min(tokens) }
    }

    /// Drops the sequence not used for longest; false when there is none.
    pub fn drop_oldest(&mut self, pool: &mut PagePool) -> bool {
        let Some((at, _)) = self.kept.iter().enumerate().min_by_key(|(_, k)| k.last_use) else {
            return false;
        };
        self.drop_at(pool, at);
        true
    }

    fn drop_at(&mut self, pool: &mut PagePool, at: usize) {
        for page in self.kept.swap_remove(at).pages {
            pool.release(page);
        }
    }

    /// Drops all.
    pub fn clear(&mut self, pool: &mut PagePool) {
        while self.drop_oldest(pool) {}
    }

    /// A free page, dropping kept sequences until there is one.
    pub fn take_page(&mut self, pool: &mut PagePool) -> Option<u32> {
        loop {
            if let Some(page) = pool.take() {
                return Some(page);
            }
            if !self.drop_oldest(pool) {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(n: usize) -> Vec<TokenKey> {
        (0..n as u64).collect()
    }

    fn any(most: usize) -> Wish {
        Wish { most, settled_only: false }
    }

    #[test]
    fn a_fork_shares_whole_pages_and_copies_the_one_it_ends_in() {
        let mut pool = PagePool::new(8);
        let mut cache = PrefixCache::default();
        let pages: Vec<u32> = (0..3).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(150), pages.clone(), 0);
        let mut other = keys(200);
        other[100] = 9999;
        let reuse = cache.reuse(&mut pool, &[], &other, any(199));
        assert_eq!(reuse, Reuse { tokens: 100, pages: vec![pages[0]], partial: Some(pages[1]), settled: 0 });
        assert_eq!(pool.free(), 5);
    }

    #[test]
    fn a_running_session_shares_its_pages_and_keeps_them_when_the_other_is_done() {
        let mut pool = PagePool::new(8);
        let mut cache = PrefixCache::default();
        let own: Vec<u32> = (0..3).filter_map(|_| pool.take()).collect();
        let running = [Cached { keys: &keys(150), pages: &own, settled: 150 }];
        let reuse = cache.reuse(&mut pool, &running, &keys(200), any(199));
        assert_eq!(
            reuse,
            Reuse { tokens: 150, pages: own[..2].to_vec(), partial: Some(own[2]), settled: 150 }
        );
        reuse.pages.iter().chain(&reuse.partial).for_each(|&page| pool.release(page));
        assert_eq!(pool.free(), 5, "the running session still has its three");
    }

    #[test]
    fn what_was_decoded_is_not_taken_over_by_who_wants_the_same_bits_as_alone() {
        let mut pool = PagePool::new(8);
        let mut cache = PrefixCache::default();
        let pages: Vec<u32> = (0..3).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(150), pages, 90);
        let settled = Wish { most: 199, settled_only: true };
        let reuse = cache.reuse(&mut pool, &[], &keys(200), settled);
        assert_eq!((reuse.tokens, reuse.settled), (90, 90));
        let reuse = cache.reuse(&mut pool, &[], &keys(200), any(199));
        assert_eq!((reuse.tokens, reuse.settled), (150, 90));
        // A longer sequence of which less is settled does not take its place.
        let longer = (0..3).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(160), longer, 10);
        assert_eq!(cache.reuse(&mut pool, &[], &keys(200), settled).tokens, 90);
    }

    #[test]
    fn pages_in_use_survive_when_everything_kept_is_dropped_and_none_is_lost() {
        let mut pool = PagePool::new(4);
        let mut cache = PrefixCache::default();
        let pages: Vec<u32> = (0..4).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(256), pages, 256);
        let reuse = cache.reuse(&mut pool, &[], &keys(256), any(128));
        assert_eq!(reuse.pages.len(), 2);
        assert!(cache.take_page(&mut pool).is_some());
        assert_eq!(pool.free(), 1, "two shared pages stay, one of the other two was taken");
        for page in reuse.pages {
            pool.release(page);
        }
        assert_eq!(pool.free(), 3);
    }

    #[test]
    fn a_longer_sequence_replaces_its_own_beginning() {
        let mut pool = PagePool::new(4);
        let mut cache = PrefixCache::default();
        let a = pool.take().into_iter().collect();
        cache.keep(&mut pool, keys(30), a, 30);
        let b = pool.take().into_iter().collect();
        cache.keep(&mut pool, keys(60), b, 60);
        assert_eq!(pool.free(), 3);
        assert_eq!(cache.reuse(&mut pool, &[], &keys(60), any(59)).tokens, 59);
    }

    #[test]
    fn pages_beyond_the_valid_tokens_are_given_back() {
        let mut pool = PagePool::new(4);
        let mut cache = PrefixCache::default();
        let pages = (0..4).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(65), pages, 65);
        assert_eq!(pool.free(), 2);
    }
}
