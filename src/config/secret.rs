//! Values that must not show in logs, errors or debug output.

use std::fmt;

/// Text that only [`Secret::reveal`] shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides the text from now on.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who connects with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A property's value, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Secretable {
    /// May be shown.
    Plain(String),
    /// Came from a file, or its name says that it is a secret.
    Hidden(Secret),
}

impl Secretable {
    /// The text itself, for the one who connects with it.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Hidden(secret) => secret.reveal(),
        }
    }
}

impl fmt::Debug for Secretable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => fmt::Debug::fmt(text, f),
            Self::Hidden(secret) => fmt::Debug::fmt(secret, f),
        }
    }
}

/// Whether a property of this name holds a secret wherever its value came from.
pub(super) fn is_secret_name(property: &str) -> bool {
    let name = property.to_ascii_lowercase();
    ["password", "secret", "passphrase", "token", "credential"].iter().any(|word| name.contains(word))
        || name.ends_with("pem")
        || name == "sasl.oauthbearer.config"
}
