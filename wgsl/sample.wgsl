// Chooses each session's next token from its logits and moves its state on by one; one workgroup a session.
//
// Order (Hugging Face's): repetition penalty, presence penalty, temperature, top-k, top-p on what is left
// (the smallest set whose mass reaches p), min-p (against the most likely), then one draw. Temperature 0 is
// greedy; ties go to the lowest id. The draw depends on the seed, the number of draws so far and nothing else.
//
//   l'[i] = seen(i) ? (l[i] > 0 ? l[i] / repetition : l[i] * repetition) : l[i],  minus presence if generated(i)
//
// rows [..] RowInfo: the rows that produced the logits, from row first_row on; logits [batch, vocab] f32;
// settings [8] by slot; counts [8, vocab]: bit 31 = in the prompt, the rest = times generated;
// states [8] RowInfo by slot: becomes the next row, except for rows of a verify pass, where the processor knows which of
// a slot's rows is the last good one; records [batch, 48] words: id, log-probability, flags,
// index, rank, entropy in nats, two unused, 20 ids, 20 log-probabilities (of the unmodified distribution,
// most likely first).
#import row_info

struct Params {
    vocab: u32,
    first_row: u32,
}

struct Settings {
    temperature: f32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    presence: f32,
    top_k: u32,
    seed_low: u32,
    seed_high: u32,
}

const NOT_A_NUMBER = 1u;
const RECORD = 48u;
const TOP = 20u;
const MOST_TOP_K = 64u;
const THREADS = 256u;
const CANDIDATES = 512u;
const LOWEST = -3.0e38;

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rows: array<RowInfo>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> settings: array<Settings>;
@group(0) @binding(4) var<storage, read_write> counts: array<u32>;
@group(0) @binding(5) var<storage, read_write> states: array<RowInfo>;
@group(0) @binding(6) var<storage, read_write> records: array<u32>;

var<workgroup> tree_f: array<f32, THREADS>;
var<workgroup> tree_u: array<u32, THREADS>;
var<workgroup> threshold: f32;
var<workgroup> found: atomic<u32>;
var<workgroup> found_count: u32;
var<workgroup> candidate_value: array<f32, CANDIDATES>;
var<workgroup> candidate_id: array<u32, CANDIDATES>;
// The best of one call of gather_top, in order.
var<workgroup> best_value: array<f32, MOST_TOP_K>;
var<workgroup> best_id: array<u32, MOST_TOP_K>;
var<workgroup> chosen: u32;

fn sum_f(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    tree_f[local] = v;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            tree_f[local] += tree_f[local + half];
        }
    }
    workgroupBarrier();
    return tree_f[0];
}

fn sum_u(local: u32, v: u32) -> u32 {
    workgroupBarrier();
    tree_u[local] = v;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            tree_u[local] += tree_u[local + half];
        }
    }
    workgroupBarrier();
    return tree_u[0];
}

fn max_f(local: u32, v: f32) -> f32 {
    workgroupBarrier();
    tree_f[local] = v;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half) {
            tree_f[local] = max(tree_f[local], tree_f[local + half]);
        }
    }
    workgroupBarrier();
    return tree_f[0];
}

// Does (v, i) come before (w, j): larger, or equal with the lower id?
fn before(v: f32, i: u32, w: f32, j: u32) -> bool {
    return v > w || (v == w && i < j);
}

// Afterwards tree_f[0], tree_u[0] hold the pair that comes first.
fn first_pair(local: u32, v: f32, i: u32) {
    workgroupBarrier();
    tree_f[local] = v;
    tree_u[local] = i;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (local < half && before(tree_f[local + half], tree_u[local + half], tree_f[local], tree_u[local])) {
            tree_f[local] = tree_f[local + half];
            tree_u[local] = tree_u[local + half];
        }
    }
    workgroupBarrier();
}

fn logit(at: u32) -> f32 {
    let v = logits[at];
    // A NaN must not win or lose comparisons by chance; it is reported in the record.
    return select(v, LOWEST, (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u);
}

fn adjusted(from_at: u32, slot: u32, id: u32, s: Settings) -> f32 {
    var l = logit(from_at + id);
    let count = counts[slot * p.vocab + id];
    if (count != 0u) {
        l = select(l * s.repetition, l / s.repetition, l > 0.0);
        if ((count & 0x7fffffffu) != 0u) {
            l -= s.presence;
        }
    }
    return l;
}

fn value(from_at: u32, slot: u32, id: u32, s: Settings, penalties: bool) -> f32 {
    if (penalties) {
        return adjusted(from_at, slot, id, s);
    }
    return logit(from_at + id);
}

// The k first of all values, in order, into best_*; k <= MOST_TOP_K. `own` is the invocation's own maximum.
fn gather_top(local: u32, own: f32, k: u32, from_at: u32, slot: u32, s: Settings, penalties: bool) {
    // At least k values reach the k-th largest of the 256 maxima, and hardly more than k do.
    workgroupBarrier();
    tree_f[local] = own;
    if (local == 0u) {
        atomicStore(&found, 0u);
    }
    workgroupBarrier();
    var rank = 0u;
    for (var j = 0u; j < THREADS; j += 1u) {
        if (before(tree_f[j], j, own, local)) {
            rank += 1u;
        }
    }
    if (rank == k - 1u) {
        threshold = own;
    }
    workgroupBarrier();
    let least = threshold;
    for (var id = local; id < p.vocab; id += THREADS) {
        let v = value(from_at, slot, id, s, penalties);
        if (v >= least) {
            let at = atomicAdd(&found, 1u);
            if (at < CANDIDATES) {
                candidate_value[at] = v;
                candidate_id[at] = id;
            }
        }
    }
    workgroupBarrier();
    if (local == 0u) {
        found_count = atomicLoad(&found);
    }
    workgroupBarrier();
    let count = workgroupUniformLoad(&found_count);
    if (count <= CANDIDATES) {
        for (var i = local; i < count; i += THREADS) {
            var place = 0u;
            for (var j = 0u; j < count; j += 1u) {
                if (before(candidate_value[j], candidate_id[j], candidate_value[i], candidate_id[i])) {
                    place += 1u;
                }
            }
            if (place < k) {
                best_value[place] = candidate_value[i];
                best_id[place] = candidate_id[i];
            }
        }
        workgroupBarrier();
    } else {
        // Very many equal values: one pass for each of the k.
        var last_value = 3.4e38;
        var last_id = 0u;
        for (var n = 0u; n < k; n += 1u) {
            var v_best = LOWEST;
            var i_best = 0xffffffffu;
            for (var id = local; id < p.vocab; id += THREADS) {
                let v = value(from_at, slot, id, s, penalties);
                if (before(last_value, last_id, v, id) && before(v, id, v_best, i_best)) {
                    v_best = v;
                    i_best = id;
                }
            }
            first_pair(local, v_best, i_best);
            last_value = tree_f[0];
            last_id = tree_u[0];
            if (local == 0u) {
                best_value[n] = last_value;
                best_id[n] = last_id;
            }
        }
        workgroupBarrier();
    }
}

// Larger values have larger keys.
fn key(v: f32) -> u32 {
    let bits = bitcast<u32>(v);
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// Two rounds of a 3-word mix (Jarzynski & Olano's pcg3d): well-distributed bits of (seed, draw, id).
fn mix(a: u32, b: u32, c: u32) -> vec3<u32> {
    var v = vec3<u32>(a, b, c);
    for (var i = 0u; i < 2u; i += 1u) {
        v = v * 1664525u + 1013904223u;
        v.x += v.y * v.z;
        v.y += v.z * v.x;
        v.z += v.x * v.y;
        v ^= v >> vec3<u32>(16u);
        v.x += v.y * v.z;
        v.y += v.z * v.x;
        v.z += v.x * v.y;
    }
    return v;
}

// Uniform in (0, 1).
fn uniform_draw(s: Settings, draw: u32, id: u32) -> f32 {
    let h = mix(s.seed_low ^ (id * 0x9e3779b9u), s.seed_high ^ (draw * 0x85ebca6bu), draw + (id << 16u) + (id >> 16u));
    return (f32(h.x >> 8u) + 0.5) / 16777216.0;
}

// Standard Gumbel noise; the maximum of value + noise is a draw from the softmax of the values.
fn gumbel(s: Settings, draw: u32, id: u32) -> f32 {
    let u = uniform_draw(s, draw, id);
    // -log(1 - u), by its series where the logarithm of a number near 1 is coarse on some devices.
    let e = select(-log(1.0 - u), u * (1.0 + u * (0.5 + u / 3.0)), u < 0.005);
    return -log(e);
}

// A draw from the best k, already in order: exact and sequential.
fn draw_from_best(k: u32, s: Settings, draw: u32) -> u32 {
    var total = 0.0;
    for (var i = 0u; i < k; i += 1u) {
        total += exp((best_value[i] - best_value[0]) / s.temperature);
    }
    var kept = 0.0;
    var n = 0u;
    for (var i = 0u; i < k; i += 1u) {
        let e = exp((best_value[i] - best_value[0]) / s.temperature);
        if (i > 0u && ((s.top_p < 1.0 && kept >= s.top_p * total) || e < s.min_p)) {
            break;
        }
        kept += e;
        n = i + 1u;
    }
    let mark = uniform_draw(s, draw, 0u) * kept;
    var passed = 0.0;
    for (var i = 0u; i < n; i += 1u) {
        passed += exp((best_value[i] - best_value[0]) / s.temperature);
        if (mark < passed) {
            return best_id[i];
        }
    }
    return best_id[n - 1u];
}

// A draw from the whole vocabulary: top-k, top-p and min-p are thresholds on the value, found by bisection
// over the 32 bits of its key; then the largest value + noise among the rest.
fn draw_from_all(local: u32, own: f32, from_at: u32, slot: u32, s: Settings, penalties: bool, draw: u32) {
    let top = max_f(local, own);
    var least = 0u;
    if (s.top_k > 0u && s.top_k < p.vocab) {
        var low = 0u;
        var high = 0xffffffffu;
        while (low < high) {
            let middle = low + (high - low) / 2u + 1u;
            var n = 0u;
            for (var id = local; id < p.vocab; id += THREADS) {
                n += select(0u, 1u, key(value(from_at, slot, id, s, penalties)) >= middle);
            }
            if (sum_u(local, n) >= s.top_k) {
                low = middle;
            } else {
                high = middle - 1u;
            }
        }
        least = low;
    }
    if (s.top_p < 1.0) {
        var total = 0.0;
        for (var id = local; id < p.vocab; id += THREADS) {
            let v = value(from_at, slot, id, s, penalties);
            total += select(0.0, exp((v - top) / s.temperature), key(v) >= least);
        }
        total = sum_f(local, total);
        var low = least;
        var high = 0xffffffffu;
        while (low < high) {
            let middle = low + (high - low) / 2u + 1u;
            var mass = 0.0;
            for (var id = local; id < p.vocab; id += THREADS) {
                let v = value(from_at, slot, id, s, penalties);
                mass += select(0.0, exp((v - top) / s.temperature), key(v) >= middle);
            }
            if (sum_f(local, mass) >= s.top_p * total) {
                low = middle;
            } else {
                high = middle - 1u;
            }
        }
        least = min(low, key(top));
    }
    var v_best = LOWEST;
    var i_best = 0xffffffffu;
    for (var id = local; id < p.vocab; id += THREADS) {
        let v = value(from_at, slot, id, s, penalties);
        let z = (v - top) / s.temperature;
        if (key(v) >= least && (s.min_p <= 0.0 || exp(z) >= s.min_p)) {
            let noisy = z + gumbel(s, draw, id);
            if (before(noisy, id, v_best, i_best)) {
                v_best = noisy;
                i_best = id;
            }
        }
    }
    first_pair(local, v_best, i_best);
    if (local == 0u) {
        chosen = tree_u[0];
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let b = workgroup.x;
    let row = rows[p.first_row + b];
    let slot = row.slot;
    let s = settings[slot];
    let from_at = b * p.vocab;
    let penalties = s.repetition != 1.0 || s.presence != 0.0;

    // The unmodified distribution: maximum, normaliser, entropy, and the twenty most likely.
    var own = LOWEST;
    var own_adjusted = LOWEST;
    var bad = 0u;
    for (var id = local; id < p.vocab; id += THREADS) {
        let bits = bitcast<u32>(logits[from_at + id]) & 0x7fffffffu;
        bad += select(0u, 1u, bits > 0x7f800000u);
        own = max(own, logit(from_at + id));
        if (penalties) {
            own_adjusted = max(own_adjusted, adjusted(from_at, slot, id, s));
        }
    }
    bad = sum_u(local, bad);
    let top = max_f(local, own);
    var mass = 0.0;
    var weighted = 0.0;
    for (var id = local; id < p.vocab; id += THREADS) {
        let d = logit(from_at + id) - top;
        let e = exp(d);
        mass += e;
        weighted += e * max(d, -1.0e4);
    }
    mass = sum_f(local, mass);
    weighted = sum_f(local, weighted);
    let log_mass = log(mass);
    let entropy = log_mass - weighted / mass;
    let listed = min(TOP, p.vocab);
    gather_top(local, own, listed, from_at, slot, s, false);
    if (local < TOP) {
        let at = b * RECORD + 8u + local;
        records[at] = select(0xffffffffu, best_id[local], local < listed);
        records[at + TOP] = bitcast<u32>(select(LOWEST, best_value[local] - top - log_mass, local < listed));
    }

    let own_value = select(own, own_adjusted, penalties);
    if (s.temperature <= 0.0) {
        if (penalties) {
            gather_top(local, own_value, 1u, from_at, slot, s, true);
        }
        if (local == 0u) {
            chosen = best_id[0];
        }
    } else if (s.top_k > 0u && s.top_k <= MOST_TOP_K && s.top_k <= p.vocab) {
        if (penalties || s.top_k > listed) {
            gather_top(local, own_value, s.top_k, from_at, slot, s, penalties);
        }
        if (local == 0u) {
            chosen = draw_from_best(s.top_k, s, row.draws);
        }
    } else {
        draw_from_all(local, own_value, from_at, slot, s, penalties, row.draws);
    }
    workgroupBarrier();
    let id = min(chosen, p.vocab - 1u);
    let chosen_value = logit(from_at + id);
    var ahead = 0u;
    for (var i = local; i < p.vocab; i += THREADS) {
        ahead += select(0u, 1u, before(logit(from_at + i), i, chosen_value, id));
    }
    ahead = sum_u(local, ahead);
    if (local != 0u) {
        return;
    }
    if (penalties) {
        counts[slot * p.vocab + id] += 1u;
    }
    let at = b * RECORD;
    records[at] = id;
    records[at + 1u] = bitcast<u32>(chosen_value - top - log_mass);
    records[at + 2u] = select(0u, NOT_A_NUMBER, bad > 0u);
    records[at + 3u] = row.index;
    records[at + 4u] = ahead;
    records[at + 5u] = bitcast<u32>(entropy);
    if (row.verify != 0u) {
        return;
    }
    let position = max(row.t, max(row.h, row.w)) + 1u;
    states[slot] = RowInfo(id, position, position, position, row.index + 1u, slot, row.draws + 1u, 0u);
}
