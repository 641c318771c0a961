//! The hub: reads the fleet repo, decides what each cluster should run, and serves agents and people.
//!
//! ```text
//! sources ─► fleet (the loop) ─► desired ─► board ─► session ─► agents      api ─► people
//!        └──────► view ◄──────────────────────┴────────────────────┘
//! store: what cannot be rebuilt       authority: who is who       state: what all of them share
//! ```

pub mod api;
pub mod attempts;
pub mod audit;
pub mod authority;
pub mod changes;
mod clock;
pub mod desired;
pub mod fleet;
pub mod index;
pub mod journal;
pub mod metrics;
pub mod ports;
pub mod pulse;
pub mod rollout;
pub mod serve;
pub mod session;
pub mod sources;
pub mod state;
pub mod store;
pub mod view;
