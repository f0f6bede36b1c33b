//! Qwen3-VL itself: configuration, checkpoints, recipes, pictures, tokens, positions, and the model on the
//! device. Knows `gpu`; knows nothing of chats, sessions or windows.

pub mod checkpoint;
pub mod config;
pub mod convert;
pub mod converted;
pub mod kv_cache;
pub mod linear;
pub mod loaded;
pub mod mapped_file;
pub mod picture_arena;
pub mod recipe;
pub mod runner;
pub mod sampler;
pub mod source;
pub mod tensor_names;
pub mod text_decoder;
pub mod vision_tower;
pub mod weights;
