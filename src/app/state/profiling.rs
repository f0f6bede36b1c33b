//! Profile mode, and the device's limits.

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use super::{State, engine_gone};
use crate::app::backend::Backend;
use crate::error::{Error, Result};
use crate::gpu::{Ceilings, ProfileReport};

/// A profile that is looked at is asked for anew this often.
const EVERY: Duration = Duration::from_millis(700);

/// Time by kernel, and what the device can do.
#[derive(Debug, Default)]
pub struct Profiling {
    /// Each kernel is timed.
    pub is_on: bool,
    /// What has been timed.
    pub report: Option<Box<ProfileReport>>,
    /// What the device can do at most, once measured.
    pub ceilings: Option<Ceilings>,
    /// Why it cannot be switched on.
    pub error: Option<Error>,
    switching: Option<(bool, Receiver<Result<()>>)>,
    asked: Option<Receiver<Result<ProfileReport>>>,
    measuring: Option<Receiver<Result<Ceilings>>>,
    last: Option<Instant>,
}

impl Profiling {
    /// Is an answer of the engine's awaited?
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.switching.is_some() || self.measuring.is_some()
    }

    /// Are the device's limits being measured?
    #[must_use]
    pub fn is_measuring(&self) -> bool {
        self.measuring.is_some()
    }
}

/// What a channel that gives one thing has: nothing yet, or that.
fn come<T>(waits: &mut Option<Receiver<Result<T>>>, doing: &str) -> Option<Result<T>> {
    let result = match waits.as_ref()?.try_recv() {
        Ok(result) => result,
        Err(TryRecvError::Empty) => return None,
        Err(TryRecvError::Disconnected) => Err(engine_gone(doing)),
    };
    *waits = None;
    Some(result)
}

impl State {
    /// Switches profile mode on or off.
    pub fn set_profiling(&mut self, on: bool, backend: &mut dyn Backend) {
        self.profiling.error = None;
        self.profiling.switching = Some((on, backend.set_profiling(on)));
    }

    /// Has the device's limits measured, where they are not known.
    pub fn measure_ceilings(&mut self, backend: &mut dyn Backend) {
        if self.profiling.ceilings.is_none() && self.profiling.measuring.is_none() {
            self.profiling.measuring = Some(backend.ceilings());
        }
    }

    /// The profile is on the screen: asks for it, now and then.
    pub fn want_profile(&mut self, backend: &mut dyn Backend, now: Instant) {
        let profiling = &mut self.profiling;
        let is_due = profiling.last.is_none_or(|last| now.saturating_duration_since(last) >= EVERY);
        if profiling.is_on && profiling.asked.is_none() && is_due {
            profiling.last = Some(now);
            profiling.asked = Some(backend.profile());
        }
    }

    pub(super) fn poll_profiling(&mut self) {
        const DOING: &str = "timing kernels";
        if let Some((on, waits)) = self.profiling.switching.take() {
            let mut waits = Some(waits);
            match come(&mut waits, DOING) {
                None => self.profiling.switching = waits.map(|waits| (on, waits)),
                Some(Ok(())) => {
                    self.profiling.is_on = on;
                    self.profiling.last = None;
                    if on {
                        self.profiling.report = None;
                    }
                }
                Some(Err(error)) => self.profiling.error = Some(error),
            }
        }
        match come(&mut self.profiling.asked, DOING) {
            None => {}
            Some(Ok(report)) => {
                if let Some(ceilings) = &report.ceilings {
                    let ceilings = ceilings.clone();
                    self.ceilings_came(ceilings);
                }
                self.profiling.error = None;
                self.profiling.report = Some(Box::new(report));
            }
            Some(Err(error)) => self.profiling.error = Some(error),
        }
        match come(&mut self.profiling.measuring, "measuring the device's limits") {
            None => {}
            Some(Ok(ceilings)) => self.ceilings_came(ceilings),
            Some(Err(error)) => self.report(&error),
        }
    }

    fn ceilings_came(&mut self, ceilings: Ceilings) {
        let bandwidth_gb_s = ceilings.read_gb_s as f32;
        self.profiling.ceilings = Some(ceilings);
        if self.shelf.bandwidth_gb_s.replace(bandwidth_gb_s).is_some() {
            return;
        }
        for ledger in self.answering.iter_mut().filter_map(|answering| answering.ledger.as_mut()) {
            ledger.bandwidth_is(bandwidth_gb_s);
        }
        if let Some(adapter) = self.model_info().map(|info| info.adapter.clone()) {
            self.shelf.bandwidth_is(bandwidth_gb_s, &adapter);
        }
    }
}
