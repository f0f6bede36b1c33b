//! The chat room: messages, the model's own template, the form messages are read from files in.
//! Knows nothing of the GPU.

pub mod message;
pub mod openai;
pub mod template;
