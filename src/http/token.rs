//! Bearer tokens: those of services, which are compared, and those of members, which are signed (JWT, RFC 7519).
//!
//! Of JWT only what is needed is spoken: HS256, verified before anything else of the token is believed. A library
//! would bring in the other algorithms, whose confusion is what goes wrong with JWTs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::Value;
use sha2::Sha256;

use crate::config::Secret;
use crate::event::decode::LONGEST_ID;
use crate::types::MemberId;

/// Clocks of two machines differ by so many seconds.
const LEEWAY: i64 = 5;

/// A token of a member has at most so many bytes.
const LONGEST: usize = 4_096;

/// Whom a token that names its audience must name.
const AUDIENCE: &str = "accrual";

/// Why a member's token does not count. None of them tells anything of the member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It is no JWT, or its signature is not by one of the secrets.
    #[error("the token is not one that counts here")]
    Unknown,
    /// Another algorithm, or an extension that has to be understood and is not.
    #[error("the token is not signed as tokens for this API are: HS256 and no `crit`")]
    Algorithm,
    /// The claims are not what they must be.
    #[error("the token must have the claims `sub`, the member's id, and `exp`, in seconds since 1970")]
    Claims,
    /// It is over.
    #[error("the token has expired")]
    Expired,
    /// It does not hold yet.
    #[error("the token does not hold yet")]
    Early,
    /// It is for somebody else.
    #[error("the token is for another audience; `aud` must be `accrual` where it is given")]
    Audience,
}

/// Whether two secrets are the same, in a time that says nothing of where they differ: both are hashed under a key
/// of this comparison's, and hashes that are of one length are compared.
pub(super) fn is_same(left: &[u8], right: &[u8]) -> bool {
    let of = |bytes: &[u8]| keyed(b"accrual compares").map(|mac| mac.chain_update(bytes));
    match (of(left), of(right)) {
        (Some(left), Some(right)) => left.verify(&right.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

fn keyed(key: &[u8]) -> Option<Hmac<Sha256>> {
    // HMAC takes keys of any length.
    Hmac::<Sha256>::new_from_slice(key).ok()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    nbf: Option<f64>,
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The member of a token that is signed with one of these secrets and holds now, in seconds since 1970.
///
/// # Errors
/// Why it does not count.
pub(super) fn member(token: &str, secrets: &[Secret], now: i64) -> Result<MemberId, Refused> {
    if token.len() > LONGEST {
        return Err(Refused::Unknown);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Unknown)?;
    let (header, claims) = signed.split_once('.').ok_or(Refused::Unknown)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Refused::Unknown)?;
    let is_signed_with = |secret: &Secret| {
        let mac = keyed(secret.reveal().as_bytes()).map(|mac| mac.chain_update(signed));
        mac.is_some_and(|mac| mac.verify_slice(&signature).is_ok())
    };
    if !secrets.iter().any(is_signed_with) {
        return Err(Refused::Unknown);
    }
    // Whoever holds the secret wrote what follows.
    let header: Header = read(header).ok_or(Refused::Algorithm)?;
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(Refused::Algorithm);
    }
    let claims: Claims = read(claims).ok_or(Refused::Claims)?;
    if claims.sub.trim().is_empty() || claims.sub.len() > LONGEST_ID {
        return Err(Refused::Claims);
    }
    #[allow(clippy::cast_possible_truncation)] // a moment far away stays far away
    let second = |moment: f64| moment as i64;
    if now.saturating_sub(LEEWAY) >= second(claims.exp) {
        return Err(Refused::Expired);
    }
    if claims.nbf.is_some_and(|from| now.saturating_add(LEEWAY) < second(from)) {
        return Err(Refused::Early);
    }
    let is_for_us = match &claims.aud {
        None => true,
        Some(Audience::One(one)) => one == AUDIENCE,
        Some(Audience::Several(several)) => several.iter().any(|one| one == AUDIENCE),
    };
    if is_for_us { Ok(MemberId::from(claims.sub)) } else { Err(Refused::Audience) }
}

fn read<T: for<'a> Deserialize<'a>>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// A token as a shop signs it.
#[cfg(test)]
pub(super) fn signed(header: &str, claims: &str, secret: &str) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let signed = format!("{}.{}", part(header), part(claims));
    let mac = keyed(secret.as_bytes()).unwrap().chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn asked(header: &str, claims: &str) -> Result<String, Refused> {
        let secrets = [Secret::new("the one that was before this one"), Secret::new(SECRET)];
        member(&signed(header, claims, SECRET), &secrets, 1_000).map(|member| member.to_string())
    }

    #[test]
    fn a_token_of_another_implementation_is_verified() {
        // By Python: base64url(hmac.new(secret, header + "." + claims, sha256)).
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhbm4iLCJleHAiOjIwMDB9.OxFCJI1O1wtzlGlUyRpRAzszRV84kO7C2AFm_jgiqg4";
        assert_eq!(member(token, &[Secret::new(SECRET)], 1_000), Ok("ann".into()));
    }

    #[test]
    fn a_member_is_who_the_signed_claims_name_while_they_hold() {
        assert_eq!(asked(HS256, r#"{"sub":"ann","exp":1001}"#), Ok("ann".to_owned()));
        assert_eq!(
            asked(HS256, r#"{"sub":"ann","exp":2000.5,"nbf":990,"iat":1,"x":{}}"#),
            Ok("ann".to_owned())
        );
        assert_eq!(asked(HS256, r#"{"sub":"ann","exp":995}"#), Err(Refused::Expired));
        assert_eq!(asked(HS256, r#"{"sub":"ann","exp":2000,"nbf":1006}"#), Err(Refused::Early));
        for missing in
            [r#"{"sub":"ann"}"#, r#"{"exp":2000}"#, r#"{"sub":" ","exp":2000}"#, r#"{"sub":7,"exp":2000}"#]
        {
            assert_eq!(asked(HS256, missing), Err(Refused::Claims), "{missing}");
        }
        assert_eq!(asked(HS256, r#"{"sub":"ann","exp":2000,"aud":["x","accrual"]}"#), Ok("ann".to_owned()));
        assert_eq!(asked(HS256, r#"{"sub":"ann","exp":2000,"aud":"x"}"#), Err(Refused::Audience));
    }

    #[test]
    fn only_hs256_by_one_of_the_secrets_counts() {
        let claims = r#"{"sub":"ann","exp":2000}"#;
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"HS256","crit":["b64"]}"#, "{}"] {
            assert_eq!(asked(header, claims), Err(Refused::Algorithm), "{header}");
        }
        let secrets = [Secret::new(SECRET)];
        let forged = signed(HS256, claims, "fedcba9876543210fedcba9876543210");
        assert_eq!(member(&forged, &secrets, 1_000), Err(Refused::Unknown));
        let good = signed(HS256, claims, SECRET);
        let (unsigned, signature) = good.rsplit_once('.').unwrap();
        let other = signed(HS256, r#"{"sub":"bob","exp":2000}"#, SECRET);
        let (of_bob, _) = other.rsplit_once('.').unwrap();
        for broken in [
            unsigned.to_owned(),
            format!("{unsigned}."),
            format!("{of_bob}.{signature}"),
            format!("{unsigned}.{}", &signature[..20]),
            format!("{good}="),
            "a.b.c".to_owned(),
            String::new(),
            "x".repeat(LONGEST + 1),
        ] {
            assert_eq!(member(&broken, &secrets, 1_000), Err(Refused::Unknown), "{broken}");
        }
    }

    #[test]
    fn secrets_are_the_same_only_as_a_whole() {
        assert!(is_same(b"abc", b"abc"));
        for other in ["abd", "ab", "abcd", ""] {
            assert!(!is_same(b"abc", other.as_bytes()), "{other}");
        }
    }
}
