//! How Sentinels are named: as lettuce, whose scheme it is, names them.

use std::fmt;

use redis::IntoConnectionInfo as _;

/// Where a Sentinel listens unless it says otherwise.
const SENTINEL_PORT: u16 = 26379;

/// `redis-sentinel://[user:password@]host[:26379],host[:26379],…[/database][?options]#NAME`, taken apart, or
/// `rediss-sentinel://…`, with TLS to the Sentinels and to the servers.
///
/// User, password and database are the servers'. What the Sentinels want is told by the options `sentinelUsername` and
/// `sentinelPassword`.
#[derive(Clone, PartialEq, Eq)]
pub struct SentinelUrl {
    whole: String,
    /// What is shown: the whole without what is secret.
    shown: String,
    /// What the Sentinels know the servers by.
    name: String,
    /// A URL for each Sentinel, in the order in which they are asked.
    sentinels: Vec<String>,
    /// A URL with the login and the database of the servers, at a host that means nothing.
    server: String,
}

impl SentinelUrl {
    /// Whether a URL is meant to be one.
    pub fn is_meant_by(url: &str) -> bool {
        scheme(url).is_some()
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, as the rest of a sentence that begins with what the URL is for. It quotes nothing, for the
    /// URL may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = scheme(url) else { return Err(form("redis")) };
        if scheme == "rediss" && !cfg!(feature = "tls-system") {
            return Err("needs TLS, and this worker was built without the feature `tls`".to_owned());
        }
        let (rest, name) = rest.split_once('#').unwrap_or((rest, ""));
        if name.is_empty() {
            return Err("names Sentinels, but not what they know the servers by: end it with `#` and that name, as in \
                        redis-sentinel://a:26379,b:26379#mymaster"
                .to_owned());
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)) {
            return Err(
                "must end with `#` and the name that the Sentinels know the servers by, which has letters, \
                        digits, `.`, `-` and `_` only; in a password write `#` as %23"
                    .to_owned(),
            );
        }
        let (rest, options) =
            rest.split_once('?').map_or((rest, None), |(rest, options)| (rest, Some(options)));
        let sentinel_login = options.map_or(Ok(String::new()), login_of_sentinels)?;
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let (nodes, database) = rest.split_once('/').unwrap_or((rest, ""));
        let login = if login.is_empty() { String::new() } else { format!("{login}@") };
        let server = format!("{scheme}://{login}localhost/{database}");
        let sentinels: Vec<String> = nodes
            .split(',')
            .map(|node| format!("{scheme}://{sentinel_login}{}", with_port(node.trim())))
            .collect();
        let is_readable = |url: &String| url.as_str().into_connection_info().is_ok();
        if !is_readable(&server) || !sentinels.iter().all(is_readable) {
            return Err(form(scheme));
        }
        let hidden_login = if login.is_empty() { "" } else { "***@" };
        let slash = if database.is_empty() { "" } else { "/" };
        let hidden_options = if options.is_some() { "?***" } else { "" };
        let shown =
            format!("{scheme}-sentinel://{hidden_login}{nodes}{slash}{database}{hidden_options}#{name}");
        Ok(Self { whole: url.to_owned(), shown, name: name.to_owned(), sentinels, server })
    }

    /// The URL as it was given. May hold passwords.
    pub fn reveal(&self) -> &str {
        &self.whole
    }

    /// What the Sentinels know the servers by.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A URL for each Sentinel, in the order in which they are asked.
    pub(super) fn sentinels(&self) -> &[String] {
        &self.sentinels
    }

    /// A URL with the login and the database of the servers, at a host that means nothing.
    pub(super) fn server(&self) -> &str {
        &self.server
    }
}

/// Without user, password and options.
impl fmt::Display for SentinelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SentinelUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// The scheme of each single server, and what comes after it.
fn scheme(url: &str) -> Option<(&str, &str)> {
    url.split_once("-sentinel://").filter(|(scheme, _)| ["redis", "rediss"].contains(scheme))
}

fn form(scheme: &str) -> String {
    format!(
        "must be {scheme}-sentinel://[user:password@]host[:26379],host[:26379],…[/database][?sentinelPassword=…]#NAME \
         with users and passwords percent-encoded"
    )
}

/// The options as the login in a URL.
fn login_of_sentinels(options: &str) -> Result<String, String> {
    let (mut user, mut password) = ("", None);
    for option in options.split('&') {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "sentinelUsername" => user = value,
            "sentinelPassword" => password = Some(value),
            _ => {
                return Err("may have the options sentinelUsername and sentinelPassword only: what the Sentinels \
                            themselves want, while user and password of the servers stand before the first host"
                    .to_owned());
            }
        }
        if value.is_empty() || value.contains([':', '/', '@', '?']) {
            return Err("must have its options percent-encoded, and none of them empty".to_owned());
        }
    }
    let Some(password) = password else {
        return Err("has sentinelUsername without sentinelPassword".to_owned());
    };
    Ok(format!("{user}:{password}@"))
}

fn with_port(node: &str) -> String {
    let after_address = node.rsplit(']').next().unwrap_or_default();
    if node.is_empty() || after_address.contains(':') {
        node.to_owned()
    } else {
        format!("{node}:{SENTINEL_PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentinels_are_asked_with_their_own_login_at_their_own_port() {
        let parts = |url: &str| {
            let url = SentinelUrl::parse(url).unwrap();
            (url.name().to_owned(), url.sentinels().join(" "), url.server().to_owned())
        };
        for (url, name, sentinels, server) in [
            ("redis-sentinel://a#mymaster", "mymaster", "redis://a:26379", "redis://localhost/"),
            (
                "redis-sentinel://joe:s%23cret@a,b:7001,[::1],[::2]:7/3#eu.points-1_b",
                "eu.points-1_b",
                "redis://a:26379 redis://b:7001 redis://[::1]:26379 redis://[::2]:7",
                "redis://joe:s%23cret@localhost/3",
            ),
            (
                "redis-sentinel://:secret@a,b?sentinelPassword=other%40#m",
                "m",
                "redis://:other%40@a:26379 redis://:other%40@b:26379",
                "redis://:secret@localhost/",
            ),
            (
                "redis-sentinel://a/0?sentinelUsername=watch&sentinelPassword=other#m",
                "m",
                "redis://watch:other@a:26379",
                "redis://localhost/0",
            ),
        ] {
            assert_eq!(parts(url), (name.to_owned(), sentinels.to_owned(), server.to_owned()), "{url}");
        }
    }
}
