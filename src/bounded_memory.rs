//! A bound on the memory of one thread. Work on what a stranger wrote, by a library that asks nobody how much it may take (a chat
//! template that multiplies a text by a billion), runs on a thread that gets so much and no more.
//!
//! An allocation cannot fail in safe Rust without ending the program, so a thread that wants more than it has stands still for ever, in
//! the middle of asking, with what it holds. Whoever waits for it is told ([`Allowance::is_spent`]) and goes on without. One that
//! takes too long is made to stand still in the same way ([`Allowance::give_up`]).
#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one adds nothing to the system's but counting"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The program's allocator: the system's, with a look at what the thread may have.
#[derive(Debug)]
pub struct Bounded;

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

/// Threads that may be bounded at a time; one more shares a place, and then may be told of another's end.
const PLACES: usize = 64;
static SPENT: [AtomicBool; PLACES] = [const { AtomicBool::new(false) }; PLACES];
/// Nobody waits for the thread any more.
static GIVEN_UP: [AtomicBool; PLACES] = [const { AtomicBool::new(false) }; PLACES];
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Bytes that this thread may still take; none: as many as there are. And its place.
    static LEFT: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// What a thread may take.
#[derive(Debug)]
pub struct Allowance {
    place: usize,
    bytes: usize,
}

impl Allowance {
    /// So many bytes, for a thread that is about to begin.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let place = NEXT.fetch_add(1, Ordering::Relaxed) % PLACES;
        SPENT[place].store(false, Ordering::Release);
        GIVEN_UP[place].store(false, Ordering::Release);
        Self { place, bytes }
    }

    /// Its copy for whoever waits.
    #[must_use]
    pub fn watch(&self) -> Self {
        Self { ..*self }
    }

    /// This thread has this and no more from here on, until it ends.
    pub fn hold(self) {
        LEFT.set(Some((self.bytes, self.place)));
    }

    /// Has the thread wanted more? It stands still then, for ever.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        SPENT[self.place].load(Ordering::Acquire)
    }

    /// The thread stands still, for ever, where it next asks for memory: what it was to make is not wanted any more.
    pub fn give_up(&self) {
        GIVEN_UP[self.place].store(true, Ordering::Release);
    }
}

/// This thread has no bound any more. For one that panics: what is said of it takes memory, under locks that others want.
pub fn lift() {
    let _ = LEFT.try_with(|left| left.set(None));
}

/// Counts what is taken. Does not come back where it is too much.
fn take(bytes: usize) {
    // A thread that is ending has nothing any more, and no bound.
    let has = LEFT.try_with(|left| {
        let Some((has, place)) = left.get() else { return true };
        let rest = has.checked_sub(bytes).filter(|_| !GIVEN_UP[place].load(Ordering::Relaxed));
        // Standing still must not come back here.
        left.set(rest.map(|rest| (rest, place)));
        if rest.is_none() {
            SPENT[place].store(true, Ordering::Release);
        }
        rest.is_some()
    });
    while has == Ok(false) {
        std::thread::park();
    }
}

fn give_back(bytes: usize) {
    let _ = LEFT.try_with(|left| {
        if let Some((has, place)) = left.get() {
            left.set(Some((has.saturating_add(bytes), place)));
        }
    });
}

// SAFETY: all that is asked of an allocator, the system's does; counting touches neither pointers nor layouts and allocates nothing.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller's promises are the system's, from whom the pointer came.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size.saturating_sub(layout.size()));
        give_back(layout.size().saturating_sub(size));
        // SAFETY: the caller's promises are the system's, from whom the pointer came.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    use super::*;

    /// Runs this with ten megabytes. Its end, or that it stands still.
    fn run(work: impl FnOnce() -> usize + Send + 'static) -> Option<usize> {
        let allowance = Allowance::new(10 << 20);
        let watch = allowance.watch();
        let (say, hear) = channel();
        let bounded = move || {
            allowance.hold();
            let _ = say.send(work());
        };
        std::thread::Builder::new().spawn(bounded).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            match hear.recv_timeout(Duration::from_millis(10)) {
                Ok(made) => return Some(made),
                Err(RecvTimeoutError::Timeout) if watch.is_spent() => return None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("it neither ends nor stands still");
    }

    #[test]
    fn a_thread_has_its_bytes_and_no_more_and_what_it_gives_back_it_has_again() {
        assert_eq!(run(|| vec![1_u8; 9 << 20].len()), Some(9 << 20));
        assert_eq!(run(|| (0..100).map(|_| vec![1_u8; 5 << 20].len()).sum()), Some(500 << 20));
        assert_eq!(run(|| vec![0_u8; 11 << 20].len()), None);
        assert_eq!(run(|| "x".repeat(1_000_000_000).len()), None);
        let growing = || {
            let mut text = String::from("x");
            while text.len() < 1 << 40 {
                text.push_str(&text.clone());
            }
            text.len()
        };
        assert_eq!(run(growing), None);
        // One that nobody waits for any more stands still, too.
        let allowance = Allowance::new(10 << 20);
        let watch = allowance.watch();
        let turns = std::sync::Arc::new(AtomicUsize::new(0));
        let counted = turns.clone();
        let endless = move || -> ! {
            allowance.hold();
            loop {
                counted.fetch_add(vec![1_u8; 10].len(), Ordering::Relaxed);
            }
        };
        std::thread::Builder::new().spawn(endless).unwrap();
        while turns.load(Ordering::Relaxed) < 1000 {
            std::thread::yield_now();
        }
        watch.give_up();
        while !watch.is_spent() {
            std::thread::yield_now();
        }
        let then = turns.load(Ordering::Relaxed);
        std::thread::park_timeout(Duration::from_millis(50));
        assert_eq!(turns.load(Ordering::Relaxed), then);
        // This thread has no bound.
        assert_eq!(vec![0_u8; 100 << 20].len(), 100 << 20);
    }
}
