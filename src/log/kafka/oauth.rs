//! The token that a client logs in with by SASL/OAUTHBEARER: from a file, which whoever renews it writes.
//!
//! librdkafka asks for it when a client is made and again after four fifths of its life, so that a token which is
//! renewed in time is never expired when a connection is made. Its own way to fetch one (OIDC) needs curl, which
//! this build lacks.

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

/// The property that names the file. librdkafka has none of this name.
pub const OAUTH_TOKEN: &str = "sasl.oauthbearer.token";

/// Brokers take no more in a handshake by default.
const MOST_BYTES: u64 = 64 * 1024;

/// Where a client's token is, if it logs in with one.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OauthSource(Option<PathBuf>);

impl OauthSource {
    /// In this file.
    pub fn file(path: PathBuf) -> Self {
        Self(Some(path))
    }

    /// Whether clients log in with a token.
    pub(super) fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// The token, as librdkafka is told. No error quotes any of it.
    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let path = self.0.as_deref().ok_or_else(|| format!("`{OAUTH_TOKEN}` is not set"))?;
        let token = read(path)?;
        Ok(OAuthToken { token: token.text, principal_name: token.name, lifetime_ms: token.expires_ms })
    }
}

/// What is wrong with the token in a file, without a login.
pub fn oauth_token_problem(path: &Path) -> Option<String> {
    read(path).err()
}

struct Token {
    text: String,
    name: String,
    expires_ms: i64,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    sub: Option<String>,
}

fn read(path: &Path) -> Result<Token, String> {
    let shown = path.display();
    let cannot = |error: std::io::Error| format!("the token cannot be read from {shown}: {error}");
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_string(&mut text));
    if read.map_err(cannot)? as u64 > MOST_BYTES {
        return Err(format!("{shown} has more than {MOST_BYTES} bytes, which no broker takes for a token"));
    }
    parse(text.trim(), Timestamp::now()).map_err(|why| format!("the token in {shown} {why}"))
}

/// Of a JWT only the claims are looked at: whether it is genuine the broker decides.
fn parse(text: &str, now: Timestamp) -> Result<Token, String> {
    // Also because librdkafka would quote a token with another character in its error.
    let is_of_jwt = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let mut parts = text.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("is no JWT: three parts with dots between them are expected".to_owned());
    };
    if !text.bytes().all(is_of_jwt) {
        return Err("is no JWT: it holds a character that base64url has not".to_owned());
    }
    let claims = URL_SAFE_NO_PAD.decode(claims).ok();
    let claims: Claims = claims
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or("has no claim `exp`, the second since 1970 at which it expires")?;
    // Kafka takes fractions, too; beyond what milliseconds can hold it saturates.
    #[expect(clippy::cast_possible_truncation, reason = "saturates")]
    let expires_ms = (claims.exp * 1_000.0) as i64;
    if expires_ms <= now.as_millisecond() {
        let when =
            Timestamp::from_millisecond(expires_ms).map_or("long ago".to_owned(), |at| format!("at {at}"));
        return Err(format!("expired {when}: whoever renews it must write a new one before"));
    }
    let name = claims.sub.filter(|sub| !sub.contains('\0')).unwrap_or_else(|| "accrual".to_owned());
    Ok(Token { text: text.to_owned(), name, expires_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    fn parsed(text: &str) -> Result<(String, i64), String> {
        let now = Timestamp::from_second(1_000).unwrap();
        parse(text, now).map(|token| (token.name, token.expires_ms))
    }

    #[test]
    fn a_token_lives_as_long_as_it_says() {
        assert_eq!(parsed(&jwt(r#"{"sub":"worker","exp":1001}"#)), Ok(("worker".to_owned(), 1_001_000)));
        assert_eq!(parsed(&jwt(r#"{"exp":1000.5}"#)), Ok(("accrual".to_owned(), 1_000_500)));
    }

    #[test]
    fn what_cannot_log_in_is_said_and_not_shown() {
        let cases = [
            ("hunter2".to_owned(), "three parts"),
            ("hunter2.a b.c".to_owned(), "base64url"),
            ("hunter2.hunter2.hunter2".to_owned(), "no claim `exp`"),
            (jwt(r#"{"sub":"hunter2"}"#), "no claim `exp`"),
            (jwt(r#"{"sub":"hunter2","exp":1000}"#), "expired at 1970-01-01T00:16:40Z"),
        ];
        for (token, expected) in cases {
            let why = parsed(&token).unwrap_err();
            assert!(why.contains(expected) && !why.contains("hunter2") && !why.contains(&token), "{why}");
        }
        let gone = OauthSource::file("no/such/file".into()).token().err().unwrap().to_string();
        assert!(gone.contains("no/such/file: No such file"), "{gone}");
    }
}
