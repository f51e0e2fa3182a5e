//! accrual runs a shop's loyalty programme as a Kafka worker: events in, points and tiers out, each
//! event exactly once. The map of the crate; `ARCHITECTURE.md` tells how the parts work together.
//!
//! Pure (no clock, no I/O, no async): [`types`], [`event`], [`programme`], [`rules`], [`account`],
//! [`entry`], [`ledger`] (the same read back), and [`scenario`], which tries programmes out. Around them: [`store`] (accounts in Redis), [`log`] (Kafka), [`lane`] (the loop that
//! ties them), [`worker`] (lanes on threads), and what a person touches: [`config`], [`metrics`],
//! [`commands`].

pub mod account;
pub mod account_view;
pub mod commands;
pub mod config;
pub mod entry;
pub mod event;
pub mod explain;
pub mod http;
pub mod lane;
pub mod ledger;
pub mod log;
pub mod metrics;
pub mod programme;
pub mod record;
pub mod repair;
pub mod rules;
pub mod scenario;
pub mod schema;
mod spelling;
pub mod store;
pub mod traffic;
pub mod types;
pub mod verify;
pub mod worker;
pub mod yaml;
