//! Room `remote`: a larger engine elsewhere. Asks servers that speak OpenAI's chat completions (vLLM, llama.cpp's server,
//! LM Studio, SGLang) and gives the same kind of channel that `engine` gives. Knows messages and pictures; knows nothing of the
//! window and touches no GPU.
//!
//! `server` is where one is, `keys` what opens it, `http` the only file that touches the network, `request` what is sent,
//! `sse` and `reply` what comes back, `ask` an answer from beginning to end, `models` the list of models.

mod ask;
mod doors;
mod http;
mod keys;
mod models;
mod pictures;
mod reply;
mod request;
mod server;
mod sse;

pub use ask::{Ask, Limits, ask};
#[doc(hidden)]
pub use doors::{hear, hear_models, hear_refusal};
pub use keys::{KEY_VARIABLE, Key, KeyStore, Keys, MemoryStore, SystemStore, Where};
pub use models::{Listed, Listing, list_models};
pub use pictures::CLIP_FRAMES;
pub use request::{Choosing, body};
pub use server::{Server, ServerModel, address};
