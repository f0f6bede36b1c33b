//! The floor of each stage: its matrix products alone, one after the other on the same kernels, with nothing in between.

use std::time::Instant;

use super::Bench;
use crate::error::Result;
use crate::model::linear::{Linear, Product};
use crate::model::weights::Matrix;

impl Bench<'_> {
    /// Seconds for `rows` rows through every matrix of a decode step, the median of `runs`.
    pub(super) fn bare_decode(&mut self, rows: usize, runs: usize) -> Result<f64> {
        self.bare(runs, |bench| {
            let (body, head) = bench.model.text.matrices();
            body.into_iter().chain([head]).map(|matrix| (matrix, rows)).collect()
        })
    }

    /// Seconds for a prompt of `rows` tokens through every matrix, in chunks as prefill takes them.
    pub(super) fn bare_prefill(&mut self, rows: usize) -> Result<f64> {
        let chunk = self.model.text.max_rows();
        let mut secs = 0.0;
        let mut left = rows;
        while left > 0 {
            let rows = left.min(chunk);
            left -= rows;
            secs += self.bare(1, |bench| {
                let (body, head) = bench.model.text.matrices();
                let mut products: Vec<_> = body.into_iter().map(|matrix| (matrix, rows)).collect();
                if left == 0 {
                    products.push((head, 1));
                }
                products
            })?;
        }
        Ok(secs)
    }

    /// Seconds for a picture of `patches` patches through the tower's matrices.
    pub(super) fn bare_vision(&mut self, patches: usize) -> Result<f64> {
        self.bare(1, |bench| {
            let tokens = patches / bench.model.config.vision.merge_unit();
            let Some(tower) = &bench.model.vision else { return Vec::new() };
            let (of_patches, of_tokens) = tower.matrices();
            let of_patches = of_patches.into_iter().map(|matrix| (matrix, patches));
            of_patches.chain(of_tokens.into_iter().map(|matrix| (matrix, tokens))).collect()
        })
    }

    fn bare(
        &mut self,
        runs: usize,
        products: impl for<'a> Fn(&'a Self) -> Vec<(&'a Matrix, usize)>,
    ) -> Result<f64> {
        let largest = |of: fn(&Matrix) -> usize| {
            products(self).iter().map(|(matrix, rows)| of(matrix) * rows * 4).max().unwrap_or(4)
        };
        let x = self.gpu.storage_buffer("input of bare products", largest(|m| m.cols))?;
        let y = self.gpu.storage_buffer("output of bare products", largest(|m| m.rows))?;
        self.gpu.fill(&x, 0x3c00_0000);
        let mut linear = Linear::new(self.gpu)?;
        let mut all = Vec::new();
        for _ in 0..runs {
            // A recorder of their own borrows nothing of the model, and learns the speed as the model's does.
            let mut recorder = std::mem::replace(
                &mut self.model.recorder,
                crate::gpu::Recorder::new(self.gpu, crate::gpu::Pacing::HEADLESS)?,
            );
            recorder.finish()?;
            let began = Instant::now();
            for (matrix, rows) in products(self) {
                linear.record(&mut recorder, matrix, &Product::new(&x, &y, rows))?;
            }
            recorder.finish()?;
            all.push(began.elapsed().as_secs_f64());
            std::mem::replace(&mut self.model.recorder, recorder).free();
        }
        self.model.recorder.forget();
        self.gpu.uncount_bytes(x.size() + y.size());
        all.sort_by(f64::total_cmp);
        Ok(all.get(all.len() / 2).copied().unwrap_or(f64::NAN))
    }
}
