//! Faults on demand: a test says what goes wrong and how many of the places where a device can fail are passed before. Nothing of it
//! runs in the program itself but a look at a number that stays zero.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::device::Gpu;
use crate::error::Result;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The device is lost: a driver is reset, a card is pulled out, a machine comes back from sleep without it.
    Lost,
    /// Memory is refused, for a buffer or for a kernel.
    OutOfMemory,
    /// A kernel is refused by the driver.
    Refused,
    /// The device reports an error of a submitted command, outside any call.
    CommandFailed,
    /// What was to be read back cannot be mapped.
    Unreadable,
    /// Waiting for the device fails.
    WaitFailed,
    /// The program itself has a fault, and panics.
    Panic,
}

impl Injected {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Lost,
        Self::OutOfMemory,
        Self::Refused,
        Self::CommandFailed,
        Self::Unreadable,
        Self::WaitFailed,
        Self::Panic,
    ];

    fn can_happen_at(self, point: Point) -> bool {
        match self {
            Self::Lost => true,
            // Elsewhere it would be in the middle of what tests themselves do.
            Self::Panic => matches!(point, Point::Submit | Point::Wait),
            Self::OutOfMemory => matches!(point, Point::Allocate | Point::Compile),
            Self::Refused => point == Point::Compile,
            Self::CommandFailed => point == Point::Submit,
            Self::Unreadable => point == Point::Read,
            Self::WaitFailed => point == Point::Wait,
        }
    }
}

/// Where a device can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Allocate,
    Compile,
    Submit,
    Wait,
    Read,
}

/// What a test has asked for, and how often it has happened.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Points to pass until it happens, that one included; 0: nothing is planned.
    left: AtomicU64,
    kind: Mutex<Option<Injected>>,
    happened: AtomicU64,
}

impl Gpu {
    /// Lets this happen at the `after`-th place, from 1, where it can; 0: not at all any more. For tests.
    #[doc(hidden)]
    pub fn inject(&self, kind: Injected, after: u64) {
        let plan = self.injected();
        *plan.kind.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
        plan.left.store(after, Ordering::Release);
    }

    /// Faults that have been injected and met.
    #[doc(hidden)]
    #[must_use]
    pub fn faults_met(&self) -> u64 {
        self.injected().happened.load(Ordering::Acquire)
    }

    /// A place where the device can fail. `Ok` as far as nothing is planned, or what is reported otherwise.
    #[expect(clippy::panic, reason = "a test asks for it")]
    pub(super) fn pass(&self, point: Point) -> Result<()> {
        let plan = self.injected();
        if plan.left.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let kind = *plan.kind.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(kind) = kind.filter(|kind| kind.can_happen_at(point)) else { return Ok(()) };
        // Other threads pass here too: exactly one is the last.
        let before = plan.left.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |left| left.checked_sub(1));
        if before != Ok(1) {
            return Ok(());
        }
        plan.happened.fetch_add(1, Ordering::AcqRel);
        let fails = |why: &str| Err(self.failed("running on the GPU", why));
        match kind {
            Injected::Lost => {
                self.lose();
                Ok(())
            }
            Injected::OutOfMemory => {
                Err(Self::out_of_memory("allocating GPU memory for", "injected by a test"))
            }
            Injected::Refused => {
                Err(Self::refused("compiling kernel", "the driver refused it, injected by a test"))
            }
            Injected::CommandFailed => {
                self.report("a command was refused, injected by a test");
                Ok(())
            }
            Injected::Unreadable => fails("a buffer could not be mapped, injected by a test"),
            Injected::Panic => panic!("injected by a test"),
            Injected::WaitFailed => fails("waiting failed, injected by a test"),
        }
    }
}
