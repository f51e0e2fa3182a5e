//! Values that must not show in logs, errors or debug output.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::kafka::is_harmless_property;
use super::read::path_from;
use crate::yaml::{Collector, Content, Node, Value, shown};

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

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A file with one secret, and what it held when it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    held: Secret,
}

impl SecretFile {
    /// Reads the file.
    ///
    /// # Errors
    /// Why it cannot be used. The message names the file and quotes nothing of it.
    pub fn read(path: PathBuf) -> Result<Self, String> {
        match read_trimmed(&path) {
            Ok(text) => Ok(Self { path, held: Secret(text) }),
            Err(why) => Err(format!("cannot read {}: {why}", shown(&path.display().to_string()))),
        }
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_again(&self) -> Result<Self, String> {
        Self::read(self.path.clone())
    }

    /// What it held.
    pub fn held(&self) -> &Secret {
        &self.held
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "*** of {}", self.path.display())
    }
}

/// A property's value, which may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Secretable {
    /// May be shown.
    Plain(String),
    /// Its name says that it is a secret.
    Hidden(Secret),
    /// Came from a file.
    File(SecretFile),
}

impl Secretable {
    /// The text itself, for the one who connects with it.
    pub fn reveal(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Hidden(secret) => secret.reveal(),
            Self::File(file) => file.held.reveal(),
        }
    }
}

impl fmt::Debug for Secretable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => fmt::Debug::fmt(text, f),
            Self::Hidden(secret) => fmt::Debug::fmt(secret, f),
            Self::File(file) => fmt::Debug::fmt(file, f),
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

/// Whether text that could not be read as YAML may hold a secret somewhere.
pub(super) fn may_hold_one(text: &str) -> bool {
    text.contains('@') || is_secret_name(text) || text.contains("pem") || text.contains("oauthbearer")
}

/// Hides the values of secrets in the file, so that a problem beside one does not show it.
pub(super) fn hide(root: &Node, collector: &Collector) {
    let Content::Map(settings) = &root.content else {
        return;
    };
    for setting in settings {
        match (setting.key.as_str(), &setting.value.content) {
            ("kafka", Content::Map(properties)) => {
                // A name that nobody knows may be a misspelt secret's.
                for property in properties.iter().filter(|property| !is_harmless_property(&property.key)) {
                    hide_scalars(&property.value, collector);
                }
            }
            // A URL may hold a password.
            ("store", Content::Scalar(address)) if is_harmless(&address.text) => {}
            ("store", _) => hide_scalars(&setting.value, collector),
            // What stands there instead of a file's name may be a token.
            ("http", Content::Map(settings)) => {
                for setting in settings.iter().filter(|setting| is_secret_name(&setting.key)) {
                    hide_scalars(&setting.value, collector);
                }
            }
            _ => {}
        }
    }
}

fn hide_scalars(node: &Node, collector: &Collector) {
    match &node.content {
        Content::Scalar(_) => collector.hide(&node.place),
        Content::List(nodes) => nodes.iter().for_each(|node| hide_scalars(node, collector)),
        Content::Map(entries) => {
            for entry in entries {
                if entry.key != "file" {
                    collector.hide(&entry.key_place);
                    hide_scalars(&entry.value, collector);
                }
            }
        }
    }
}

/// A store's address that can hold no password, with colons only before `//` and ports and without options. It is
/// shown, because it may be what is wrong.
fn is_harmless(text: &str) -> bool {
    let is_harmless_after_colon = |rest: &str| {
        let word = rest.split([',', '/']).next().unwrap_or_default();
        rest.starts_with("//") || word.bytes().all(|byte| byte.is_ascii_digit())
    };
    !text.contains(['@', '?']) && text.split(':').skip(1).all(is_harmless_after_colon)
}

/// A secret's file has at most so many bytes.
const MOST_BYTES: u64 = 64 * 1024;

/// Text as it stands, or the trimmed content of the file that `{file: path}` names.
pub(super) fn text_or_file(value: &Value<'_>, folder: &Path) -> Option<Secretable> {
    if value.is_scalar() {
        return value.text().map(|text| Secretable::Plain(text.to_owned()));
    }
    let Content::Map(entries) = &value.node().content else {
        value.report(format!("{} must be text or {{file: PATH}}", value.label()));
        return None;
    };
    let is_file = matches!(entries.as_slice(), [entry] if entry.key == "file");
    let Some(file) = value.any_map().filter(|_| is_file).and_then(|map| map.get("file")) else {
        value.report(format!(
            "{} must be text or {{file: PATH}}; a property's name is written with its dots, as in `sasl.username: me`",
            value.label()
        ));
        return None;
    };
    let path = path_from(&file, folder, file.text()?);
    match SecretFile::read(path) {
        Ok(secret) => Some(Secretable::File(secret)),
        Err(why) => {
            file.report(why);
            None
        }
    }
}

/// The trimmed text of a small file.
pub(super) fn read_trimmed(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MOST_BYTES {
        return Err(format!("it has more than {MOST_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())?;
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
