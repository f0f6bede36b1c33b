//! Ocelli talks about pictures: Qwen3-VL in one process, on WGSL kernels of its own.
//!
//! The program is a thin shell around this library: the window ([`app`]) and the command line ([`cli`]) only ask an
//! [`engine::Engine`] and draw, or print, the events that come back. What they do, a program of yours can do as well.
//! (The crate is not published; name it by its path or its repository.)
//!
//! # Load, ask, stream
//!
//! The model here is the small one inside the program, [`model::builtin`], so that this runs as it stands, without a
//! download. For another, [`engine::LoadRequest::folder`] takes a checkpoint's folder, a converted model's, or a GGUF
//! file; what a person calls a model (`Qwen3-VL-2B-Instruct`) becomes such a path by [`hub::library::Library::resolve`].
//!
//! ```
//! use std::sync::Arc;
//!
//! use ocelli::chat::message::{ImageSource, Message, Part, Role};
//! use ocelli::engine::{AnswerEvent, Engine, LoadEvent, LoadRequest, Request};
//! use ocelli::gpu::{Gpu, GpuOptions};
//! use ocelli::model::builtin;
//! use ocelli::model::loaded::LoadOptions;
//!
//! fn main() -> ocelli::Result<()> {
//!     // The first adapter of `ocelli devices`. The engine is a thread; its second argument is called after each
//!     // event, which a window needs and a loop over events does not.
//!     let gpu = Gpu::new(&GpuOptions::default())?;
//!     let engine = Engine::start(gpu, Arc::new(|| {}))?;
//!
//!     // Load. Events say how far it is and what it will take; the last one is `Loaded` or `Failed`.
//!     let folder = builtin::NAME.into();
//!     let load = engine.load(LoadRequest { folder, recipe: None, options: LoadOptions::default() });
//!     for event in load.events {
//!         match event {
//!             LoadEvent::Loaded(model) => println!("{} on {}", model.name, model.adapter),
//!             LoadEvent::Failed(error) => return Err(error),
//!             _ => {}
//!         }
//!     }
//!
//!     // Ask. Greedy, and nothing else set, unless you change a field of the request.
//!     let picture = ImageSource::Path("assets/pictures/shapes.png".into());
//!     let question = vec![Part::Image(picture), Part::Text("What colour is the star?".into())];
//!     let mut request = Request::new(vec![Message::new(Role::User, question)]);
//!     request.max_tokens = Some(32);
//!     let answer = engine.ask(request);
//!
//!     // Stream. Dropping `answer.events` stops nothing: `answer.cancel.cancel()` does.
//!     let mut text = String::new();
//!     for event in &answer.events {
//!         match event {
//!             AnswerEvent::Token(token) => text += &token.text, // print it here
//!             AnswerEvent::Text(rest) => text += &rest,
//!             AnswerEvent::Finished(summary) => {
//!                 assert_eq!(summary.text, text);
//!                 println!("{text} ({:.1} tok/s)", summary.decode_tok_s());
//!             }
//!             AnswerEvent::Failed(error) => return Err(error),
//!             _ => {} // pictures encoded, pieces of the prompt, and the events of servers elsewhere
//!         }
//!     }
//!     assert_eq!(text, "Blue.");
//!     Ok(())
//! }
//! ```
//!
//! To ask again in the same conversation, append a [`chat::message::Message`] with the answer and one with the next
//! question; what the cache has of it is not computed again. Several requests may be under way at once.
//!
//! # Rooms
//!
//! From top to bottom (imports point down only): `app` and `cli`, then `compare`, `costs`, `remote` and
//! `engine`, then `chat`, then `model`, then `gpu`. `hub` brings models to this machine. `ARCHITECTURE.md` is the map.

pub mod app;
pub mod bounded;
pub mod bounded_memory;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod costs;
pub mod diagnostics;
pub mod engine;
pub mod error;
pub mod gpu;
pub mod hub;
pub mod licences;
pub mod log;
pub mod model;
pub mod remote;

pub use error::{Error, ErrorKind, Result};
