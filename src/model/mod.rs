//! Qwen3-VL itself: configuration, checkpoints, recipes, pictures, tokens, positions, and the model on the
//! device. Knows `gpu`; knows nothing of chats, sessions or windows.

pub mod attention_tap;
pub mod builtin;
pub mod calibration;
pub mod checkpoint;
pub mod clip;
pub mod config;
pub mod convert;
pub mod converted;
pub mod detokenizer;
pub mod disk;
pub mod flash;
pub mod gguf;
pub mod kv_cache;
pub mod lens;
pub mod linear;
pub mod loaded;
pub mod mapped_file;
pub mod memory;
pub mod picture;
pub mod picture_arena;
pub mod positions;
pub mod preprocessor;
pub mod prompt;
pub mod recipe;
pub mod runner;
pub mod sampler;
pub mod scorer;
pub mod source;
pub mod stages;
pub mod synth;
pub mod tensor_names;
pub mod text_decoder;
pub mod tokenizer;
pub mod vision_tower;
pub mod weights;
