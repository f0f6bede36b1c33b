//! The floor of each stage: its matrix products alone, one after the other on the same kernels, with nothing in between.

use std::time::Instant;

use crate::cli::workload::Workload;
use crate::error::Result;
use crate::gpu::Recorder;
use crate::model::linear::{Linear, Product};
use crate::model::weights::Matrix;

impl Workload<'_> {
    /// Seconds for `rows` rows through every matrix of a decode step.
    pub(super) fn bare_decode(&mut self, rows: usize) -> Result<f64> {
        let (body, head) = self.model.text.matrices();
        let products = body.into_iter().chain([head]).map(|matrix| (matrix, rows)).collect();
        bare(&mut self.model.recorder, products)
    }

    /// Seconds for a prompt of `rows` tokens through every matrix, in chunks as prefill takes them.
    pub(super) fn bare_prefill(&mut self, rows: usize) -> Result<f64> {
        let chunk = self.model.text.max_rows();
        let mut secs = 0.0;
        let mut left = rows;
        while left > 0 {
            let rows = left.min(chunk);
            left -= rows;
            let (body, head) = self.model.text.matrices();
            let mut products: Vec<_> = body.into_iter().map(|matrix| (matrix, rows)).collect();
            if left == 0 {
                products.push((head, 1));
            }
            secs += bare(&mut self.model.recorder, products)?;
        }
        Ok(secs)
    }

    /// Seconds for a picture of `patches` patches through the tower's matrices.
    pub(super) fn bare_vision(&mut self, patches: usize) -> Result<f64> {
        let tokens = patches / self.model.config.vision.merge_unit();
        let Some(tower) = &self.model.vision else { return Ok(0.0) };
        let (of_patches, of_tokens) = tower.matrices();
        let of_patches = of_patches.into_iter().map(|matrix| (matrix, patches));
        let products = of_patches.chain(of_tokens.into_iter().map(|matrix| (matrix, tokens))).collect();
        bare(&mut self.model.recorder, products)
    }
}

/// Seconds for so many rows through each of these matrices.
fn bare(recorder: &mut Recorder, products: Vec<(&Matrix, usize)>) -> Result<f64> {
    let gpu = recorder.gpu().clone();
    let largest = |of: fn(&Matrix) -> usize| {
        products.iter().map(|(matrix, rows)| of(matrix) * rows * 4).max().unwrap_or(4)
    };
    let x = gpu.storage_buffer("input of bare products", largest(|m| m.cols))?;
    let y = gpu.storage_buffer("output of bare products", largest(|m| m.rows))?;
    gpu.fill(&x, 0x3c00_0000);
    let mut linear = Linear::new(&gpu)?;
    recorder.finish()?;
    let began = Instant::now();
    for (matrix, rows) in products {
        linear.record(recorder, matrix, &Product::new(&x, &y, rows))?;
    }
    recorder.finish()?;
    let secs = began.elapsed().as_secs_f64();
    // Its bind groups would keep the two buffers alive.
    recorder.forget();
    linear.free();
    gpu.uncount_bytes(x.size() + y.size());
    Ok(secs)
}
