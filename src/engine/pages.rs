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

/// A sequence whose pages are kept after its session ended.
#[derive(Debug)]
struct Kept {
    keys: Vec<TokenKey>,
    pages: Vec<u32>,
    last_use: u64,
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
    /// Takes over a finished session's pages, of which the first `keys.len()` tokens are valid.
    pub fn keep(&mut self, pool: &mut PagePool, keys: Vec<TokenKey>, mut pages: Vec<u32>) {
        let used = keys.len().div_ceil(PAGE_TOKENS);
        for page in pages.drain(used.min(pages.len())..) {
            pool.release(page);
        }
        self.clock += 1;
        // A sequence that is the beginning of the new one adds nothing any more.
        while let Some(at) = self.kept.iter().position(|k| keys.starts_with(&k.keys)) {
            self.drop_at(pool, at);
        }
        self.kept.push(Kept { keys, pages, last_use: self.clock });
        if self.kept.len() > MOST_KEPT {
            self.drop_oldest(pool);
        }
    }

    /// The longest common beginning with any kept sequence, at most `most` tokens; its whole pages are
    /// shared with the caller.
    pub fn reuse(&mut self, pool: &mut PagePool, keys: &[TokenKey], most: usize) -> Reuse {
        self.clock += 1;
        let common = |k: &Kept| k.keys.iter().zip(keys).take_while(|(a, b)| a == b).count().min(most);
        let Some(best) = self.kept.iter_mut().max_by_key(|k| common(k)) else { return Reuse::default() };
        let tokens = common(best);
        if tokens == 0 {
            return Reuse::default();
        }
        best.last_use = self.clock;
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
        Reuse { tokens, pages, partial }
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

    #[test]
    fn a_fork_shares_whole_pages_and_copies_the_one_it_ends_in() {
        let mut pool = PagePool::new(8);
        let mut cache = PrefixCache::default();
        let pages: Vec<u32> = (0..3).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(150), pages.clone());
        let mut other = keys(200);
        other[100] = 9999;
        let reuse = cache.reuse(&mut pool, &other, 199);
        assert_eq!(reuse, Reuse { tokens: 100, pages: vec![pages[0]], partial: Some(pages[1]) });
        assert_eq!(pool.free(), 5);
    }

    #[test]
    fn pages_in_use_survive_when_everything_kept_is_dropped_and_none_is_lost() {
        let mut pool = PagePool::new(4);
        let mut cache = PrefixCache::default();
        let pages: Vec<u32> = (0..4).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(256), pages);
        let reuse = cache.reuse(&mut pool, &keys(256), 128);
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
        cache.keep(&mut pool, keys(30), a);
        let b = pool.take().into_iter().collect();
        cache.keep(&mut pool, keys(60), b);
        assert_eq!(pool.free(), 3);
        assert_eq!(cache.reuse(&mut pool, &keys(60), 59).tokens, 59);
    }

    #[test]
    fn pages_beyond_the_valid_tokens_are_given_back() {
        let mut pool = PagePool::new(4);
        let mut cache = PrefixCache::default();
        let pages = (0..4).filter_map(|_| pool.take()).collect();
        cache.keep(&mut pool, keys(65), pages);
        assert_eq!(pool.free(), 2);
    }
}
