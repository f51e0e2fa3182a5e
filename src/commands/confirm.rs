//! Asking whether to go on, before something that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::Context;

/// Whether nobody is there to be asked.
pub fn nobody_is_there() -> bool {
    !std::io::stdin().is_terminal()
}

/// Asks whether to go on.
///
/// # Errors
/// Where the answer cannot be read.
pub fn go_on() -> anyhow::Result<bool> {
    eprint!("go on? [y/N] ");
    std::io::stderr().flush().context("asking")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("reading the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
