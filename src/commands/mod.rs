//! What a person can ask accrual to do: one command a file.

pub mod check;
pub mod probe;
pub mod run;
pub mod setup;
