//! Recording and pacing: dispatches are gathered, submitted in pieces of a few milliseconds, and the
//! queue is kept short, so that a window on the same device gets its frames in between.

mod apart;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::apart::{Span, record_apart};
use super::device::Gpu;
use super::device_clock::DeviceClock;
use super::injected::Point;
use super::kernels::Kernel;
use super::profile::{MOST_DISPATCHES, Profile, ProfileReport};
use super::readback::{Readback, ReadbackRing};
use super::work::{Scope, Work};
use crate::clock;
use crate::error::{Error, Result};

/// How long a submitted piece of work may take, and how many may wait in the queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacing {
    /// Aim for pieces of this many seconds.
    pub piece_secs: f64,
    /// Pieces submitted and not finished, at most.
    pub outstanding: usize,
}

impl Pacing {
    /// No window shares the device: long pieces, but far from any driver's time-out.
    pub const HEADLESS: Self = Self { piece_secs: 0.1, outstanding: 4 };
    /// A window draws on the same queue: its frame waits for at most two short pieces.
    pub const WINDOW: Self = Self { piece_secs: 0.006, outstanding: 2 };
}

/// When a span of work (a step, a chunk of a prompt, a frame of a picture) was where, in nanoseconds of [`crate::clock`]. What
/// the device does is timed by its own clock, brought to this one ([`DeviceClock`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "names say their units")]
pub struct StepTimes {
    /// The processor began to record it.
    pub recorded_ns: u64,
    /// Its first piece was submitted.
    pub submitted_ns: u64,
    /// Its first pass began on the device; 0: the adapter has no timestamps.
    pub begin_ns: u64,
    /// The device came to its mark ([`Recorder::mark`]); 0: there is none, or it is not known.
    pub mark_ns: u64,
    /// Its last pass ended on the device; 0: the adapter has no timestamps.
    pub end_ns: u64,
    /// What it left was found to be in the machine's memory.
    pub read_ns: u64,
}

impl StepTimes {
    /// Its time on the device or, where that has no timestamps, from submitting to reading; nanoseconds.
    #[must_use]
    pub fn device_ns(&self) -> u64 {
        if self.end_ns == 0 {
            self.read_ns.saturating_sub(self.submitted_ns)
        } else {
            self.end_ns.saturating_sub(self.begin_ns)
        }
    }
}

struct Dispatch {
    kernel: Arc<Kernel>,
    bind_group: wgpu::BindGroup,
    params_offset: u32,
    workgroups: [u32; 3],
    work: Work,
    scope: Scope,
    step: u64,
}

impl Dispatch {
    fn encode(&self, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.kernel.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[self.params_offset]);
        pass.dispatch_workgroups(self.workgroups[0], self.workgroups[1], self.workgroups[2]);
    }
}

enum Op {
    Dispatch(Dispatch),
    /// The next pass begins with the span's mark.
    Mark,
    Copy {
        from: wgpu::Buffer,
        from_offset: u64,
        to: wgpu::Buffer,
        to_offset: u64,
        bytes: u64,
    },
}

struct Outstanding {
    index: wgpu::SubmissionIndex,
    submitted: Instant,
    cost: f64,
}

/// Bytes between two parameter blocks: the largest alignment WebGPU lets an adapter ask for.
const PARAMS_STRIDE: usize = 256;
/// Parameter blocks in one submission, at most.
const PARAMS_SLOTS: usize = 1024;
/// Bytes of a recorder's own buffers.
pub const RECORDER_BYTES: usize = PARAMS_STRIDE * PARAMS_SLOTS + 256;

/// Gathers dispatches and submits them. One per engine; not shared between threads.
pub struct Recorder {
    gpu: Gpu,
    ops: Vec<Op>,
    cost: f64,
    params: Vec<u8>,
    params_seen: HashMap<Vec<u8>, u32>,
    params_buffer: wgpu::Buffer,
    bind_groups: HashMap<(usize, Vec<wgpu::Buffer>), wgpu::BindGroup>,
    pacing: Pacing,
    outstanding: VecDeque<Outstanding>,
    last_done: Instant,
    measured_since: Instant,
    measured_cost: f64,
    cost_per_sec: f64,
    timestamps: Option<Timestamps>,
    /// Has a pass of the current span already been submitted?
    span_open: bool,
    /// When the current span's recording began, and when its first piece was submitted.
    recorded_ns: Option<u64>,
    submitted_ns: Option<u64>,
    /// Which times of the current span have been taken: its beginning, its end, its mark.
    taken: [bool; TIMES as usize],
    clock: DeviceClock,
    submissions: u64,
    /// What is recorded next works for this, in the step of this number.
    scope: Scope,
    step: u64,
    profile: Option<Profile>,
}

struct Timestamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    period_ns: f64,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("ops", &self.ops.len())
            .field("pacing", &self.pacing)
            .finish_non_exhaustive()
    }
}

/// Times of a span that the device takes: its beginning, its end, its mark.
const TIMES: u32 = 3;
/// They stand behind a record that is read back, 64 bits each.
const TIMES_BYTES: u64 = 8 * TIMES as u64;

impl Recorder {
    /// An empty recording.
    ///
    /// # Errors
    /// Memory is short.
    pub fn new(gpu: &Gpu, pacing: Pacing) -> Result<Self> {
        use wgpu::BufferUsages as Usage;
        let params_buffer = gpu.buffer(
            "kernel parameters",
            (PARAMS_STRIDE * PARAMS_SLOTS) as u64,
            Usage::UNIFORM | Usage::COPY_DST,
        )?;
        let timestamps = if gpu.has_timestamps() {
            Some(Timestamps {
                set: gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("step times"),
                    ty: wgpu::QueryType::Timestamp,
                    count: TIMES,
                }),
                resolved: gpu.buffer(
                    "step times",
                    256,
                    Usage::QUERY_RESOLVE | Usage::COPY_SRC | Usage::COPY_DST,
                )?,
                period_ns: f64::from(gpu.queue().get_timestamp_period()),
            })
        } else {
            None
        };
        Ok(Self {
            gpu: gpu.clone(),
            ops: Vec::new(),
            cost: 0.0,
            params: Vec::new(),
            params_seen: HashMap::new(),
            params_buffer,
            bind_groups: HashMap::new(),
            pacing,
            outstanding: VecDeque::new(),
            last_done: Instant::now(),
            measured_since: Instant::now(),
            measured_cost: 0.0,
            // A software device's speed; measured upwards from there within a few pieces.
            cost_per_sec: 4e9,
            timestamps,
            span_open: false,
            recorded_ns: None,
            submitted_ns: None,
            taken: [false; TIMES as usize],
            clock: DeviceClock::default(),
            submissions: 0,
            scope: Scope::default(),
            step: 0,
            profile: None,
        })
    }

    /// The device recorded for.
    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Changes the pacing from the next piece on.
    pub fn set_pacing(&mut self, pacing: Pacing) {
        self.pacing = pacing;
    }

    /// The cost one piece should have at the speed measured so far; work that can be divided is divided
    /// into dispatches of no more than this. Cost is floating-point operations plus three per byte moved.
    #[must_use]
    pub fn piece_cost(&self) -> f64 {
        self.cost_per_sec * self.pacing.piece_secs
    }

    /// Begins to time each kernel on its own, from nothing (see [`Recorder::profile`]), or ends it.
    ///
    /// # Errors
    /// The adapter has no timestamps, or memory is short; nothing has changed then.
    pub fn set_profiling(&mut self, on: bool) -> Result<()> {
        let profile = if on { Some(Profile::new(&self.gpu)?) } else { None };
        self.submit()?;
        if let Some(before) = std::mem::replace(&mut self.profile, profile) {
            before.free(&self.gpu);
        }
        // The two ways keep a span's beginning in different places.
        self.span_open = false;
        self.step += 1;
        Ok(())
    }

    /// Time by kernel since profiling began, without the device's ceilings ([`Gpu::ceilings`]); `None` without profiling.
    #[must_use]
    pub fn profile(&self) -> Option<ProfileReport> {
        self.profile.as_ref().map(|profile| profile.report(&self.gpu))
    }

    /// What is recorded from here on, until the work is read or waited for, is a step of `part`: a chunk of a prompt, a step of
    /// decoding, a frame. Profiles add up by it.
    pub fn begin_part(&mut self, part: &'static str) {
        self.scope = Scope { part, ..Scope::default() };
        self.step += 1;
    }

    /// [`Recorder::begin_part`] of a step whose own times are read back behind its record: they begin with what is recorded
    /// next, also where a prompt's chunk was submitted before.
    pub fn begin_step(&mut self, part: &'static str) {
        self.begin_part(part);
        (self.span_open, self.recorded_ns, self.submitted_ns) = (false, None, None);
        self.taken = [false; TIMES as usize];
    }

    /// What is recorded from here on computes `kind` in this layer (`None`: outside of layers).
    pub fn at(&mut self, layer: Option<usize>, kind: &'static str) {
        let layer = layer.map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        self.scope = Scope { layer, kind, ..self.scope };
    }

    /// The work is read or waited for: what comes next belongs to another step, of a part that is yet to be said.
    fn end_part(&mut self) {
        self.scope = Scope::default();
        self.step += 1;
    }

    /// How many times work was submitted.
    #[must_use]
    pub fn submissions(&self) -> u64 {
        self.submissions
    }

    /// Adds a dispatch. `params` fill the kernel's uniform, `buffers` its storage bindings in order; `work` is what it does.
    ///
    /// # Errors
    /// The buffers do not match the kernel's bindings, or the device failed.
    pub fn dispatch(
        &mut self,
        kernel: &Arc<Kernel>,
        params: &[u32],
        buffers: &[&wgpu::Buffer],
        workgroups: [u32; 3],
        work: Work,
    ) -> Result<()> {
        if buffers.len() != kernel.storages || params.len() * 4 > PARAMS_STRIDE {
            let why = format!(
                "{} buffers for {} bindings, {} words of parameters",
                buffers.len(),
                kernel.storages,
                params.len()
            );
            return Err(Error::new("recording kernel", why).at(&kernel.label));
        }
        if workgroups.contains(&0) {
            return Ok(());
        }
        let full = self.profile.is_some() && self.ops.len() >= MOST_DISPATCHES;
        if full || self.cost > 0.0 && self.cost + work.cost > self.piece_cost() {
            self.submit()?;
        }
        self.recorded_ns.get_or_insert_with(clock::now_ns);
        let params_offset = self.place_params(params)?;
        let key = (Arc::as_ptr(kernel) as usize, buffers.iter().map(|&b| b.clone()).collect::<Vec<_>>());
        let bind_group = self.bind_groups.entry(key).or_insert_with(|| {
            let mut entries = vec![wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer: &self.params_buffer,
                    offset: 0,
                    size: wgpu::BufferSize::new(PARAMS_STRIDE as u64),
                }),
            }];
            entries.extend((1..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            }));
            self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&kernel.label),
                layout: &kernel.layout,
                entries: &entries,
            })
        });
        let bind_group = bind_group.clone();
        self.ops.push(Op::Dispatch(Dispatch {
            kernel: kernel.clone(),
            bind_group,
            params_offset,
            workgroups,
            work,
            scope: self.scope,
            step: self.step,
        }));
        self.cost += work.cost;
        Ok(())
    }

    /// Adds a copy between two buffers, in order with the dispatches around it. Offsets and sizes are multiples of 4.
    pub fn copy(
        &mut self,
        from: &wgpu::Buffer,
        from_offset: u64,
        to: &wgpu::Buffer,
        to_offset: u64,
        bytes: u64,
    ) {
        self.ops.push(Op::Copy { from: from.clone(), from_offset, to: to.clone(), to_offset, bytes });
        self.cost += bytes as f64 * 6.0;
    }

    /// Marks where a new part of the span begins: the time when the device comes there is one of [`StepTimes`]. One a span.
    pub fn mark(&mut self) {
        self.ops.push(Op::Mark);
    }

    /// Equal parameter blocks of one submission share a place.
    fn place_params(&mut self, params: &[u32]) -> Result<u32> {
        let bytes: &[u8] = bytemuck::cast_slice(params);
        if let Some(&offset) = self.params_seen.get(bytes) {
            return Ok(offset);
        }
        if self.params_seen.len() == PARAMS_SLOTS {
            self.submit()?;
        }
        let offset = self.params.len();
        self.params.extend_from_slice(bytes);
        self.params.resize(offset + PARAMS_STRIDE, 0);
        let offset = u32::try_from(offset).unwrap_or(0);
        self.params_seen.insert(bytes.to_vec(), offset);
        Ok(offset)
    }

    /// Submits what is recorded; waits while too many pieces are unfinished.
    ///
    /// # Errors
    /// The device failed.
    pub fn submit(&mut self) -> Result<()> {
        self.submit_with(false, |_, _| {}).map(drop)
    }

    /// Submits the end of a step and reads the first bytes of `record` back through `ring`, with the
    /// step's times behind them (see [`Recorder::split_times`]).
    ///
    /// # Errors
    /// The device failed or memory is short.
    pub fn submit_and_read(&mut self, ring: &mut ReadbackRing, record: &wgpu::Buffer) -> Result<Readback> {
        self.end_span(ring, Some(record))
    }

    /// Submits the end of a span of which nothing but its times is read back; `ring` is one for records of no bytes.
    ///
    /// # Errors
    /// The device failed or memory is short.
    pub fn submit_and_time(&mut self, ring: &mut ReadbackRing) -> Result<Readback> {
        self.end_span(ring, None)
    }

    fn end_span(&mut self, ring: &mut ReadbackRing, record: Option<&wgpu::Buffer>) -> Result<Readback> {
        let staging = ring.take(&self.gpu)?;
        let record_bytes = ring.bytes() - TIMES_BYTES;
        let times = self.timed().map(|t| (t.set.clone(), t.resolved.clone()));
        let profiling = self.profile.is_some();
        let to = staging.clone();
        let submission = self.submit_with(true, move |encoder, taken| {
            if let Some(record) = record {
                encoder.copy_buffer_to_buffer(record, 0, &to, 0, record_bytes);
            }
            if let Some((set, resolved)) = times {
                // A profile has put them there from its own. A time that was never taken would be waited for, by some drivers for ever.
                let times = if taken[2] { TIMES } else { 2 };
                if !profiling && taken[0] && taken[1] {
                    encoder.resolve_query_set(&set, 0..times, &resolved, 0);
                }
                encoder.copy_buffer_to_buffer(&resolved, 0, &to, record_bytes, TIMES_BYTES);
            }
        })?;
        let submission =
            submission.ok_or_else(|| Error::new("reading a step's record", "nothing was submitted"))?;
        let mut readback = Readback::start(staging, submission);
        self.end_part();
        let now = clock::now_ns();
        readback.submitted_ns = self.submitted_ns.take().unwrap_or(now);
        readback.recorded_ns = self.recorded_ns.take().unwrap_or(readback.submitted_ns);
        let taken = std::mem::take(&mut self.taken);
        readback.is_timed = self.profile.is_some() || taken[0] && taken[1];
        Ok(readback)
    }

    /// Where steps are timed: their times on the device.
    fn timed(&self) -> Option<&Timestamps> {
        self.timestamps.as_ref().filter(|_| self.profile.is_some() || !self.gpu.is_untimed())
    }

    /// A ring for records of `bytes` with the step's times behind them.
    #[must_use]
    pub fn record_ring(bytes: usize) -> ReadbackRing {
        ReadbackRing::new(bytes + TIMES_BYTES as usize)
    }

    /// Takes the times off the end of a record read back; those of the device are zeros where the adapter has no timestamps.
    pub fn split_times(&mut self, record: &mut Vec<u8>, readback: &Readback) -> StepTimes {
        let at = record.len().saturating_sub(TIMES_BYTES as usize);
        let tail = record.split_off(at);
        let mut times = StepTimes {
            recorded_ns: readback.recorded_ns,
            submitted_ns: readback.submitted_ns,
            read_ns: readback.read_ns.get(),
            ..StepTimes::default()
        };
        let Some(t) = self.timestamps.as_ref().filter(|_| readback.is_timed) else { return times };
        let ticks = |i: usize| {
            let word = tail.get(i * 8..i * 8 + 8).and_then(|b| b.first_chunk());
            word.map_or(0, |b| (u64::from_le_bytes(*b) as f64 * t.period_ns) as u64)
        };
        let (begin, end, mark) = (ticks(0), ticks(1), ticks(2));
        if end < begin || end == 0 {
            return times;
        }
        self.clock.saw(times.submitted_ns, begin, end, times.read_ns);
        (times.begin_ns, times.end_ns) = (self.clock.to_process(begin), self.clock.to_process(end));
        // A span without a mark has an earlier one's.
        if (begin..=end).contains(&mark) {
            times.mark_ns = self.clock.to_process(mark);
        }
        times
    }

    fn submit_with(
        &mut self,
        end_of_span: bool,
        finish: impl FnOnce(&mut wgpu::CommandEncoder, [bool; TIMES as usize]),
    ) -> Result<Option<wgpu::SubmissionIndex>> {
        if self.ops.iter().all(|op| matches!(op, Op::Mark)) && !end_of_span {
            return Ok(None);
        }
        self.gpu.pass(Point::Submit)?;
        self.gpu.check()?;
        while self.outstanding.len() >= self.pacing.outstanding {
            self.wait_oldest()?;
        }
        self.gpu.queue().write_buffer(&self.params_buffer, 0, &self.params);
        let mut encoder =
            self.gpu.device().create_command_encoder(&wgpu::CommandEncoderDescriptor { label: None });
        let mut ops = std::mem::take(&mut self.ops);
        // A mark stays with what it is before.
        if !end_of_span && ops.pop_if(|op| matches!(op, Op::Mark)).is_some() {
            self.ops.push(Op::Mark);
        }
        let (profiled, has_passes) = match &mut self.profile {
            Some(profile) => {
                let span = Span { begins: !self.span_open, ends: end_of_span };
                let resolved = self.timestamps.as_ref().map(|t| &t.resolved);
                let dispatches = record_apart(&mut encoder, profile, &ops, span, resolved);
                let has_passes = !dispatches.is_empty();
                (Some(dispatches), has_passes)
            }
            None => {
                let (has_passes, taken) = self.record_together(&mut encoder, &ops, end_of_span);
                for (all, now) in self.taken.iter_mut().zip(taken) {
                    *all |= now;
                }
                (None, has_passes)
            }
        };
        self.span_open = !end_of_span && (self.span_open || has_passes);
        finish(&mut encoder, self.taken);
        self.submitted_ns.get_or_insert_with(clock::now_ns);
        let index = self.gpu.queue().submit([encoder.finish()]);
        if !self.span_open && !end_of_span {
            // Copies alone begin no span.
            (self.recorded_ns, self.submitted_ns) = (None, None);
        }
        self.submissions += 1;
        let cost = std::mem::take(&mut self.cost);
        self.params.clear();
        self.params_seen.clear();
        match (profiled, &mut self.profile) {
            (Some(dispatches), Some(profile)) => profile.read(&self.gpu, dispatches)?,
            // What is timed kernel by kernel says nothing of the speed.
            _ => self.outstanding.push_back(Outstanding {
                index: index.clone(),
                submitted: Instant::now(),
                cost,
            }),
        }
        Ok(Some(index))
    }

    /// Records dispatches that follow each other as one pass, with the span's times at its ends. Were there any, and which times did they take?
    fn record_together(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        ops: &[Op],
        end_of_span: bool,
    ) -> (bool, [bool; TIMES as usize]) {
        let runs =
            ops.chunk_by(|a, b| matches!((a, b), (Op::Dispatch(_), Op::Dispatch(_)))).collect::<Vec<_>>();
        let passes = runs.iter().filter(|run| matches!(run[0], Op::Dispatch(_))).count();
        let (mut pass_number, mut marked, mut taken) = (0, false, [false; TIMES as usize]);
        for run in runs {
            if let [Op::Mark] = run {
                marked = true;
                continue;
            }
            if let [Op::Copy { from, from_offset, to, to_offset, bytes }] = run {
                encoder.copy_buffer_to_buffer(from, *from_offset, to, *to_offset, *bytes);
                continue;
            }
            pass_number += 1;
            let begins = !self.span_open && pass_number == 1;
            let ends = end_of_span && pass_number == passes;
            let at_beginning = if begins { Some(0) } else { std::mem::take(&mut marked).then_some(2) };
            let is_timed = self.timed().is_some();
            taken[0] |= is_timed && begins;
            taken[1] |= is_timed && ends;
            taken[2] |= is_timed && at_beginning == Some(2);
            let timestamp_writes = match self.timed() {
                Some(t) if at_beginning.is_some() || ends => Some(wgpu::ComputePassTimestampWrites {
                    query_set: &t.set,
                    beginning_of_pass_write_index: at_beginning,
                    end_of_pass_write_index: ends.then_some(1),
                }),
                _ => None,
            };
            let mut pass =
                encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            for op in run {
                if let Op::Dispatch(d) = op {
                    d.encode(&mut pass);
                }
            }
        }
        (passes > 0, taken)
    }

    fn wait_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.outstanding.pop_front() else { return Ok(()) };
        let began = Instant::now();
        self.gpu.wait_for("waiting for the GPU", &oldest.index)?;
        let now = Instant::now();
        let waited = now.duration_since(began);
        // A piece that is done before it is waited for ended at an unknown time: its cost counts with the next
        // one's, or a piece seen late would make the one after it look infinitely fast.
        if self.measured_cost == 0.0 {
            self.measured_since = oldest.submitted.max(self.last_done);
        }
        self.measured_cost += oldest.cost;
        let took = now.duration_since(self.measured_since).as_secs_f64();
        let accurate = waited > Duration::from_micros(200);
        if self.measured_cost > 0.0 && (accurate || took > 4.0 * self.pacing.piece_secs) {
            // A piece that compiled kernels says little of the speed: fall slowly, rise at once.
            let measured =
                (self.measured_cost / took).max(self.cost_per_sec * 0.7).min(self.cost_per_sec * 2.0);
            self.cost_per_sec = 0.7 * self.cost_per_sec + 0.3 * measured;
            self.measured_cost = 0.0;
        }
        self.last_done = now;
        Ok(())
    }

    /// Submits and waits for everything; the speed measured on the way is kept.
    ///
    /// # Errors
    /// The device failed.
    pub fn finish(&mut self) -> Result<()> {
        self.submit()?;
        self.wait_for_all()?;
        self.end_part();
        self.gpu.check()
    }

    /// Waits for all that is submitted.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait_for_all(&mut self) -> Result<()> {
        while !self.outstanding.is_empty() {
            self.wait_oldest()?;
        }
        Ok(())
    }

    /// Waits for the oldest unfinished submission, which is at most a piece long.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait_a_piece(&mut self) -> Result<()> {
        self.wait_oldest()?;
        self.poll()
    }

    /// Lets finished readbacks arrive without waiting.
    ///
    /// # Errors
    /// The device failed.
    pub fn poll(&mut self) -> Result<()> {
        self.gpu.poll()
    }

    /// Takes its buffers off the device's count, before it is dropped.
    pub fn free(&self) {
        self.gpu.uncount_bytes(RECORDER_BYTES as u64);
        if let Some(profile) = &self.profile {
            profile.free(&self.gpu);
        }
    }

    /// Forgets what is recorded and not submitted, and the bind groups, which keep freed buffers alive.
    pub fn forget(&mut self) {
        self.ops.clear();
        (self.span_open, self.recorded_ns, self.submitted_ns) = (false, None, None);
        self.taken = [false; TIMES as usize];
        self.cost = 0.0;
        self.params.clear();
        self.params_seen.clear();
        self.bind_groups.clear();
    }
}
