//! Room `hub`: from "I have nothing" to a model's files on the disk. Finding, downloading, verifying, naming and removing
//! models; knows nothing of the GPU and nothing of the window.
//!
//! Downloads land in the layout that all tools of the Hugging Face hub share (`models--owner--name/{blobs,snapshots,refs}`),
//! so that what is already there is used, and what Ocelli fetches is there for the others. Everything a hub says (names,
//! sizes, checksums) is checked before it becomes a path or an allocation.

pub mod cache;
pub mod catalogue;
pub mod checksum;
mod doors;
mod download;
mod http;
pub mod library;
mod listing;
pub mod names;
mod partial;
pub mod pull;
pub mod settings;
pub mod space;

#[doc(hidden)]
pub use doors::{resume, wanted_files};
pub use names::{RepoId, Revision};
pub use pull::{PullProgress, PullRequest, Pulled, pull};
pub use settings::HubSettings;
