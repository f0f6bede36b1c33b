use super::colour::{Metric, Scale};
use super::samples::{Random, answer};
use super::write::{Form, Plot, csv, json_lines, svg, trace};
use super::*;

#[test]
fn what_is_packed_comes_back() {
    let mut costs = answer(300, 7);
    costs.tokens[5].drafted = true;
    costs.tokens[6].interrupted = true;
    costs.tokens[7].times = Times { read: 900_000_000, decoded: 901_000_000, ..Times::default() };
    let copy = costs.beginning(9);
    let packed = pack(&[copy.clone(), costs.clone()]).unwrap();
    assert_eq!(unpack(&packed).unwrap(), [copy.clone(), costs.clone()]);
    // What is appended later is read behind it.
    let more = answer(3, 5);
    let both = [packed, pack(std::slice::from_ref(&more)).unwrap()].concat();
    assert_eq!(unpack(&both).unwrap(), [copy, costs, more]);
}

#[test]
fn a_token_takes_about_a_hundred_bytes() {
    let costs = answer(2000, 11);
    let bytes = pack(std::slice::from_ref(&costs)).unwrap().len();
    // The pieces of the made-up alternatives, hardly two of which are the same, take most of it.
    assert!(bytes < 2000 * 230, "{bytes}");
    let mut without = costs;
    without.pieces.clear();
    let bytes = pack(&[without]).unwrap().len();
    assert!(bytes < 2000 * 110, "{bytes}");
}

#[test]
fn damaged_bytes_are_refused_and_never_panic() {
    let packed = pack(&[answer(40, 3)]).unwrap();
    assert!(unpack(&[]).is_err());
    assert!(unpack(&[9, 1, 0, 0, 0, 7]).unwrap_err().to_string().contains("newer program"));
    let mut random = Random(5);
    for _ in 0..300 {
        let mut broken = packed.clone();
        for _ in 0..3 {
            let at = random.below(broken.len() as u64) as usize;
            broken[at] = random.below(256) as u8;
        }
        let _ = unpack(&broken);
        let _ = unpack(&packed[..random.below(packed.len() as u64) as usize]);
    }
    // What it is made of, broken before it was deflated.
    let raw = {
        let mut raw = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::DeflateDecoder::new(&packed[5..]), &mut raw).unwrap();
        raw
    };
    for _ in 0..300 {
        let mut broken = raw.clone();
        let at = random.below(broken.len() as u64) as usize;
        broken[at] = random.below(256) as u8;
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut deflated, &broken).unwrap();
        let deflated = deflated.finish().unwrap();
        let length = u32::try_from(deflated.len()).unwrap().to_le_bytes();
        if let Ok(costs) = unpack(&[&[1], length.as_slice(), &deflated].concat()) {
            // Whatever came, it can be read.
            let _ = (trace(&costs), csv(&costs), json_lines(&costs), svg(&costs, Plot::Parts));
            for c in &costs {
                let _ = (parts(c), stalls(c), c.text_ranges(), Figures::of(c, 0..9));
            }
        }
    }
}

#[test]
fn the_parts_add_up_to_the_whole_and_each_has_what_it_took() {
    let mut costs = answer(200, 23);
    let sums = parts(&costs);
    let ns = |part: Part| sums.iter().find(|time| time.part == part).unwrap().ns;
    assert_eq!(sums.iter().map(|time| time.ns).sum::<u64>(), costs.finished);
    let device = |times: &Times| times.device_ns();
    assert_eq!(ns(Part::Vision), device(&costs.pictures[0].times));
    let sampled = |times: &Times| times.end - times.sampling;
    let prefill: u64 = costs.chunks.iter().map(|c| device(&c.times)).sum();
    assert_eq!(ns(Part::Prefill), prefill - sampled(&costs.chunks[1].times));
    let decode: u64 = costs.tokens[1..].iter().map(|t| device(&t.times) - sampled(&t.times)).sum();
    assert_eq!(ns(Part::Decode), decode);
    assert!(ns(Part::Readback) > 0 && ns(Part::Recording) > 0 && ns(Part::Queue) > 0 && ns(Part::Prompt) > 0);
    // Steps that overlap are counted once.
    let first = costs.tokens[50].times;
    costs.tokens[51].times = first;
    assert_eq!(parts(&costs).iter().map(|time| time.ns).sum::<u64>(), costs.finished);
}

#[test]
fn figures_are_those_of_the_selection() {
    let mut costs = Costs::default();
    for n in 0..101_u64 {
        // The hundred latencies are 1 to 100 ms, shuffled.
        let ms: u64 = (0..n).map(|k| k * 37 % 100 + 1).sum();
        let times = Times { read: 5_000_000 + ms * 1_000_000, ..Times::default() };
        costs.tokens.push(TokenCost { times, logprob: 0.5f32.ln(), ..TokenCost::default() });
    }
    let figures = Figures::of(&costs, 0..usize::MAX);
    assert_eq!((figures.count, figures.median_ms, figures.p95_ms, figures.p99_ms), (101, 50.0, 95.0, 99.0));
    assert_eq!((figures.most_ms, figures.total_ms), (100.0, 5050.0));
    assert!((figures.tok_s - 100.0 / 5.05).abs() < 1e-9);
    assert!((figures.mean_probability - 0.5).abs() < 1e-6 && (figures.perplexity - 2.0).abs() < 1e-5);
    let one = Figures::of(&costs, 3..4);
    assert_eq!((one.count, one.median_ms, one.total_ms), (1, 75.0, 75.0));
    let first = Figures::of(&costs, 0..1);
    assert!((first.total_ms - 5.0).abs() < 1e-9);
    assert_eq!(Figures::of(&Costs::default(), 0..5).count, 0);
    let bins = histogram(&costs, 10);
    assert_eq!((bins.len(), bins.iter().map(|bin| bin.2).sum::<usize>()), (10, 100));
}

#[test]
fn the_floor_is_the_bytes_at_the_measured_bandwidth() {
    let costs = answer(1, 1);
    let floor = floor_ms(&costs, 1000).unwrap();
    assert!((floor - (1.7e9 + 114_688_000.0) / 200e9 * 1e3).abs() < 1e-9, "{floor}");
    assert_eq!(floor_ms(&Costs { bandwidth_gb_s: None, ..costs }, 1000), None);
}

#[test]
fn a_late_token_is_found_with_its_cause() {
    let late = |change: &dyn Fn(&mut Costs)| {
        let mut costs = answer(120, 99);
        costs.frames.clear();
        for token in &mut costs.tokens[60..] {
            let t = &mut token.times;
            for moment in [&mut t.recorded, &mut t.submitted, &mut t.begin, &mut t.sampling, &mut t.end] {
                *moment += 40_000_000;
            }
            (t.read, t.decoded, t.painted) =
                (t.read + 40_000_000, t.decoded + 40_000_000, t.painted + 40_000_000);
        }
        costs.tokens.iter_mut().for_each(|token| token.grew_page = false);
        change(&mut costs);
        let found = stalls(&costs);
        assert_eq!(found.iter().map(|stall| stall.token).collect::<Vec<_>>(), [60]);
        assert!(found[0].ms > 40.0 && found[0].usual_ms < 15.0);
        found[0].cause
    };
    assert_eq!(late(&|_| {}), Cause::Unknown);
    assert_eq!(late(&|costs| costs.tokens[60].compiled = true), Cause::Compiling);
    assert_eq!(late(&|costs| costs.tokens[60].interrupted = true), Cause::OtherPrompt);
    assert_eq!(late(&|costs| costs.tokens[60..].iter_mut().for_each(|t| t.batch = 3)), Cause::LargerBatch);
    assert_eq!(late(&|costs| costs.tokens[60].grew_page = true), Cause::NewPage);
    let frame = |costs: &mut Costs| {
        let begin = costs.tokens[59].times.decoded + 1_000_000;
        costs.frames = vec![FrameCost { begin, end: begin + 38_000_000 }];
    };
    assert_eq!(late(&frame), Cause::WindowFrame);
    assert_eq!(stalls(&answer(120, 99)), []);
}

#[test]
fn a_device_that_grows_slower_is_said_to() {
    let mut costs = answer(200, 4);
    let mut later = 0;
    for n in 1..200 {
        let t = &mut costs.tokens[n].times;
        let took = t.end - t.begin;
        for moment in [&mut t.recorded, &mut t.submitted, &mut t.begin] {
            *moment += later;
        }
        later += if n >= 150 { took } else { 0 };
        for moment in [&mut t.sampling, &mut t.end, &mut t.read, &mut t.decoded, &mut t.painted] {
            *moment += later;
        }
    }
    let slower: Vec<usize> =
        stalls(&costs).iter().filter(|s| s.cause == Cause::Slower).map(|s| s.token).collect();
    assert_eq!(slower, [150]);
}

#[test]
fn colours_are_stronger_the_more_remarkable_a_token_is() {
    let costs = answer(100, 8);
    for metric in Metric::ALL {
        let scale = Scale::new(metric, &[&costs]);
        for n in 1..100 {
            let value = scale.value(&costs, n).unwrap();
            let strength = scale.strength(value);
            assert!((0.0..=1.0).contains(&strength), "{metric:?} {value} {strength}");
            if strength > 0.0 && strength < 1.0 {
                assert!((scale.value_at(strength) - value).abs() < 1e-6 * value.abs().max(1.0));
            }
        }
        assert!(scale.strength(scale.value_at(0.2)) < scale.strength(scale.value_at(0.8)));
    }
    let scale = Scale::new(Metric::Probability, &[]);
    assert_eq!((scale.strength(1.0), scale.strength(0.25)), (0.0, 0.75));
    assert_eq!(Scale::new(Metric::Rank, &[]).value(&Costs::default(), 0), None);
}

#[test]
fn the_beginning_of_an_answer_keeps_its_texts_places() {
    let costs = answer(30, 2);
    let ranges = costs.text_ranges();
    assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
    let beginning = costs.beginning(10);
    assert!(beginning.is_copied && beginning.tokens.len() == 10);
    assert_eq!(beginning.text_end(), ranges[9].end);
    assert_eq!(parts(&beginning).iter().map(|time| time.ns).sum::<u64>(), 0);
}

#[test]
fn a_trace_has_a_span_for_every_step_and_their_times() {
    let costs = answer(50, 12);
    let value: serde_json::Value = serde_json::from_str(&trace(std::slice::from_ref(&costs))).unwrap();
    let events = value["traceEvents"].as_array().unwrap();
    let lane = |name: &str| {
        let found = events.iter().find(|e| e["name"] == "thread_name" && e["args"]["name"] == name).unwrap();
        found["tid"].as_u64().unwrap()
    };
    let spans = |name: &str| {
        let tid = lane(name);
        events.iter().filter(move |e| e["ph"] == "X" && e["tid"] == tid).collect::<Vec<_>>()
    };
    assert_eq!((spans("decode (device)").len(), spans("prefill (device)").len()), (49, 2));
    let sum: f64 = spans("decode (device)").iter().map(|e| e["dur"].as_f64().unwrap()).sum();
    let wanted: u64 = costs.tokens[1..].iter().map(|t| t.times.device_ns()).sum();
    assert!((sum - wanted as f64 / 1e3).abs() < 1.0, "{sum} {wanted}");
    let (begun, ended) = (|ph: &str| events.iter().filter(|e| e["ph"] == ph).count(), "e");
    assert_eq!(begun("b"), begun(ended));
    // Spans of one lane never cross.
    for (name, _) in [("decode (device)", 0), ("recording (processor)", 0), ("sampling (device)", 0)] {
        let mut all: Vec<(f64, f64)> =
            spans(name).iter().map(|e| (e["ts"].as_f64().unwrap(), e["dur"].as_f64().unwrap())).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(all.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0 + 1e-3), "{name}");
    }
}

#[test]
fn tables_and_lines_have_a_line_for_each_token() {
    let mut costs = answer(20, 31);
    costs.pieces.insert(costs.tokens[0].id, b"=1+1".to_vec());
    let text = csv(std::slice::from_ref(&costs)).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let place = |name: &str| head.iter().position(|column| column == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 20);
    assert_eq!(&rows[0][place("text")], "'=1+1");
    for (row, token) in rows.iter().zip(&costs.tokens) {
        assert_eq!(row[place("rank")].parse::<u32>().unwrap(), token.rank);
        let number = |name: &str| row[place(name)].parse::<f32>().unwrap().to_bits();
        assert_eq!(number("entropy"), token.entropy.to_bits());
        assert_eq!(number("logprob"), token.logprob.to_bits());
        assert_eq!(row[place("end_us")].parse::<u64>().unwrap(), token.times.end / 1000);
        assert_eq!(row[place("batch")], *"1");
    }
    let lines: Vec<serde_json::Value> =
        json_lines(&[costs]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((kinds("answer"), kinds("picture"), kinds("chunk"), kinds("token")), (1, 1, 2, 20));
}

#[test]
fn plots_are_whole_whatever_is_plotted() {
    let costs = [answer(80, 1), Costs { model: "<b>&".into(), ..answer(3, 2) }, Costs::default()];
    for plot in [Plot::Latency, Plot::Histogram, Plot::Rate, Plot::Parts] {
        let text = svg(&costs, plot);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"), "{plot:?}");
        assert!(!text.contains("NaN") && !text.contains("inf") && !text.contains("<b>"), "{plot:?}");
        assert!(svg(&[], plot).ends_with("</svg>\n"));
    }
    assert_eq!(Form::of_path("a/b.JSON".as_ref()).unwrap(), Form::Trace);
    assert!(Form::of_path("a/b.txt".as_ref()).unwrap_err().to_string().contains(".csv"));
}
