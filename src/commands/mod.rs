//! What a person can ask accrual to do: one command a file.

pub mod account;
pub mod check;
pub mod demo;
pub mod explain;
pub mod generate;
pub mod probe;
pub mod progress;
mod reload;
pub mod run;
pub mod schemas;
pub mod setup;
pub mod summary;
pub mod test;
