//! Profile mode: kernels are timed one by one while sessions go on as they would. Tokens stay the same, bit for bit.

use super::{Core, Running};
use crate::error::{Error, Result};
use crate::gpu::{Ceilings, ProfileReport};

const DOING: &str = "timing kernels";

impl Core {
    /// Begins to profile from nothing, or ends it; kept for the models loaded after this one.
    pub(super) fn set_profiling(&mut self, on: bool) -> Result<()> {
        if on {
            self.gpu.check_timestamps()?;
        }
        if let Some(running) = &mut self.running {
            running.set_profiling(on)?;
        }
        self.profiling = on;
        Ok(())
    }

    /// The device's limits, measured with nothing else on it.
    pub(super) fn ceilings(&mut self) -> Result<Ceilings> {
        if let Some(running) = &mut self.running {
            running.steps.interrupt(None);
            running.model.recorder.wait_for_all()?;
        }
        self.gpu.ceilings()
    }

    pub(super) fn profile(&self) -> Result<ProfileReport> {
        if !self.profiling {
            return Err(Error::new(DOING, "profile mode is off").help("switch it on, then ask something"));
        }
        let Some(running) = &self.running else {
            return Err(Error::new(DOING, "no model is loaded").help("open a model first"));
        };
        let mut report = running
            .model
            .recorder
            .profile()
            .ok_or_else(|| Error::new(DOING, "the model was loaded without profile mode"))?;
        report.ceilings = self.gpu.known_ceilings();
        Ok(report)
    }
}

impl Running {
    pub(super) fn set_profiling(&mut self, on: bool) -> Result<()> {
        let recorder = &mut self.model.recorder;
        // What was timed while both ways were in use says nothing of passes.
        self.steps.interrupt(None);
        recorder.set_profiling(on)?;
        if on {
            // With the device to ourselves, once; where memory is short a profile goes without.
            recorder.wait_for_all()?;
            if let Err(error) = self.model.gpu.ceilings() {
                tracing::warn!("{error}");
            }
        }
        Ok(())
    }
}
