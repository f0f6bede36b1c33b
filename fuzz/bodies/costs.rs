//! What answers cost, packed, and everything that is worked out of it.

use std::io::Write;

use ocelli::costs::write::Form;
use ocelli::costs::{Costs, Figures, floor_ms, histogram, pack, parts, rate_over_time, stalls, unpack};

use super::{choice, read};

/// The first byte says whether the rest is what is kept, or what is deflated in it.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 2) else { return };
    let unpacked = if door == 0 {
        read(unpack(rest))
    } else {
        let mut deflated = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflated.write_all(rest).expect("memory");
        let deflated = deflated.finish().expect("memory");
        let length = u32::try_from(deflated.len()).expect("small");
        read(unpack(&[&[1], length.to_le_bytes().as_slice(), &deflated].concat()))
    };
    let Some(all) = unpacked else { return };
    all.iter().for_each(figures);
    for form in [Form::Csv, Form::JsonLines, Form::Trace] {
        read(form.text(&all));
    }
    let packed = pack(&all).expect("packed");
    assert_eq!(unpack(&packed).expect("unpacked").len(), all.len());
}

fn figures(costs: &Costs) {
    let _ = (Figures::of(costs, 0..costs.tokens.len()), parts(costs), stalls(costs), floor_ms(costs, 7));
    let _ = (histogram(costs, 20), rate_over_time(costs, 1.0, 20), costs.text_ranges(), costs.text_end());
    for (n, token) in costs.tokens.iter().enumerate() {
        let _ =
            (token.pages(), token.gb_s(), token.probability(), costs.latency_ms(n), costs.text_of(token.id));
    }
    let mut beginning = costs.beginning(3);
    beginning.forget_unused_pieces();
}
