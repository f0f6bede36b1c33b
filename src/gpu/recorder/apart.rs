//! Recording for a profile: each dispatch a pass of its own.

use super::Op;
use crate::gpu::profile::{Profile, Timed};

/// Which of a span's ends a submission holds.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub begins: bool,
    pub ends: bool,
}

/// Records each dispatch as a pass of its own between two of the profile's timestamps, and puts a span's begin, mark and end among them
/// where [`super::Recorder::split_times`] will look; the dispatches in their order.
pub(super) fn record_apart(
    encoder: &mut wgpu::CommandEncoder,
    profile: &mut Profile,
    ops: &[Op],
    span: Span,
    span_times: Option<&wgpu::Buffer>,
) -> Vec<Timed> {
    let mut dispatches = Vec::new();
    let mut mark = None;
    for op in ops {
        match op {
            Op::Copy { from, from_offset, to, to_offset, bytes } => {
                encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
                profile.copies += 1;
            }
            Op::Mark => mark = Some(dispatches.len() as u64),
            Op::Dispatch(d) => {
                let first = u32::try_from(2 * dispatches.len()).unwrap_or(0);
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(&d.kernel.label),
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &profile.set,
                        beginning_of_pass_write_index: Some(first),
                        end_of_pass_write_index: Some(first + 1),
                    }),
                });
                d.encode(&mut pass);
                dispatches.push(Timed {
                    kernel: d.kernel.label.clone(),
                    workgroups: d.workgroups,
                    scope: d.scope,
                    work: d.work,
                    step: d.step,
                    copies: std::mem::take(&mut profile.copies),
                });
            }
        }
    }
    let count = dispatches.len() as u64;
    if count > 0 {
        let queries = u32::try_from(2 * count).unwrap_or(0);
        encoder.resolve_query_set(&profile.set, 0..queries, &profile.resolved, 0);
        if let Some(times) = span_times {
            if span.begins {
                encoder.copy_buffer_to_buffer(&profile.resolved, 0, times, 0, 8);
            }
            if let Some(mark) = mark.filter(|mark| *mark < count) {
                encoder.copy_buffer_to_buffer(&profile.resolved, mark * 16, times, 16, 8);
            }
            if span.ends {
                encoder.copy_buffer_to_buffer(&profile.resolved, count * 16 - 8, times, 8, 8);
            }
        }
    }
    dispatches
}
