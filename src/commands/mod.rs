//! What a person can ask accrual to do: one command a file.

pub mod accept_recreated;
pub mod account;
pub mod check;
mod confirm;
mod credentials;
pub mod dead_letters;
pub mod demo;
pub mod explain;
pub mod generate;
pub mod probe;
pub mod progress;
pub mod rebuild;
mod reload;
pub mod run;
pub mod schemas;
pub mod setup;
pub mod summary;
pub mod test;
pub mod verify;
