//! Files of tokens and secrets, one a line, so that an old one and its successor hold side by side while they are
//! exchanged.

use std::fmt;
use std::path::{Path, PathBuf};

use super::secret::{Secret, read_trimmed};
use crate::yaml::shown;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Bearer tokens as they are sent.
    Service,
    /// Secrets that tokens of members are signed with.
    Member,
}

/// As many are needed for an exchange, and some.
const MOST: usize = 100;

/// Nobody guesses a token of so many characters, if it was drawn.
const SHORTEST_TOKEN: usize = 24;

/// HS256 wants a key as long as its hash (RFC 7518, 3.2).
const SHORTEST_SECRET: usize = 32;

impl Kind {
    /// What the file holds, for who is to write it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Service => {
                "bearer tokens of 24 or more characters, one a line, as `openssl rand -base64 32` makes them"
            }
            Self::Member => {
                "secrets of 32 or more characters that tokens are signed with (HS256), one a line"
            }
        }
    }

    /// Reads the lines; empty ones and those that begin with `#` are skipped. What is wrong is named by its line,
    /// and never quoted.
    fn parse(self, text: &str) -> Result<Vec<Secret>, String> {
        let mut found = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = at + 1;
            if self == Self::Service && !line.bytes().all(is_of_token) {
                return Err(format!(
                    "line {number} holds a character that no bearer token may have; letters, digits and -._~+/= may stand there"
                ));
            }
            let least = match self {
                Self::Service => SHORTEST_TOKEN,
                Self::Member => SHORTEST_SECRET,
            };
            if line.len() < least {
                return Err(format!(
                    "line {number} has {} characters, at least {least} are needed",
                    line.chars().count()
                ));
            }
            found.push(Secret::new(line));
        }
        match found.len() {
            0 => Err("it holds nothing but comments".to_owned()),
            1..=MOST => Ok(found),
            many => Err(format!("it holds {many} lines, at most {MOST} are allowed")),
        }
    }
}

/// RFC 6750, 2.1.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

/// A file of tokens or secrets, and what it held when it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenFile {
    path: PathBuf,
    kind: Kind,
    held: Vec<Secret>,
}

impl TokenFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Why it cannot be used. The message names the file and quotes nothing of it.
    pub fn read(path: PathBuf, kind: Kind) -> Result<Self, String> {
        let held = read_trimmed(&path)
            .map_err(|why| format!("cannot read {}: {why}", shown(&path.display().to_string())))?;
        let held = kind.parse(&held).map_err(|why| {
            format!("{} must hold {}: {why}", shown(&path.display().to_string()), kind.describe())
        })?;
        Ok(Self { path, kind, held })
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_again(&self) -> Result<Self, String> {
        Self::read(self.path.clone(), self.kind)
    }

    /// What it held: at least one.
    pub fn held(&self) -> &[Secret] {
        &self.held
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for TokenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.held.len(), self.path.display())
    }
}
