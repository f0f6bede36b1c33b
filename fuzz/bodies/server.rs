//! What a server answers: streams of events, whole answers, lists of models, refusals.

use ocelli::remote::{hear, hear_models, hear_refusal};

use super::{choice, read};

/// The first byte says which; of a stream the second one says how it is cut.
pub fn run(data: &[u8]) {
    let Some((door, rest)) = choice(data, 3) else { return };
    match door {
        0 => {
            let Some((cut, stream)) = rest.split_first() else { return };
            read(hear(stream, usize::from(*cut) + 1));
        }
        1 => drop(hear_models(rest)),
        _ => assert!(!hear_refusal(rest).contains('\n')),
    }
}
