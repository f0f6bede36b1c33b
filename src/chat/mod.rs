//! The chat room: messages, the model's own template, the form messages are read from files in, conversations as trees
//! and their database.
//! Knows nothing of the GPU.

pub mod grounding;
pub mod history;
pub mod message;
pub mod openai;
pub mod store;
pub mod template;
pub mod transfer;
pub mod tree;
