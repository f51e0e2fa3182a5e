//! What follows from an error of Redis: wait, connect anew, or give up.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::store::StoreError;

/// An error, by what follows from it.
#[derive(Debug)]
pub(super) struct Trouble {
    /// What the caller is told.
    pub(super) error: StoreError,
    /// Whether the connection must be given up: it is lost, out of step, or leads to a server that is
    /// no longer the primary.
    pub(super) reconnect: bool,
    /// Whether this worker was not let in.
    login: bool,
}

impl Trouble {
    /// It may work again by itself, on another connection.
    pub(super) fn lost(message: String) -> Self {
        Self { error: StoreError::Away(message), reconnect: true, login: false }
    }

    fn waiting(message: String) -> Self {
        Self { error: StoreError::Away(message), reconnect: false, login: false }
    }

    /// It will not work by itself. The next attempt connects anew: its cause may be the login.
    pub(super) fn broken(message: String) -> Self {
        Self { error: StoreError::Broken(message), reconnect: true, login: false }
    }

    /// The server does not let this worker in, or it does not trust the server.
    pub(super) fn not_let_in(message: String) -> Self {
        Self::broken(message).of_login()
    }

    /// The same, met on the way in.
    pub(super) fn of_login(self) -> Self {
        Self { login: true, ..self }
    }

    /// What was met.
    pub(super) fn why(&self) -> &str {
        match &self.error {
            StoreError::Away(why) | StoreError::Broken(why) => why,
            StoreError::Crash => "",
        }
    }

    /// The same in other words.
    pub(super) fn saying(self, why: String) -> Self {
        let error = if self.is_broken() { StoreError::Broken(why) } else { StoreError::Away(why) };
        Self { error, ..self }
    }

    /// What the caller is told. A login that was good before is the server's trouble, or a password is being
    /// exchanged: to wait and say so loses nothing.
    pub(super) fn error_after(self, was_let_in: bool) -> StoreError {
        match self.error {
            StoreError::Broken(why) if self.login && was_let_in => StoreError::Away(why),
            error => error,
        }
    }

    fn is_broken(&self) -> bool {
        matches!(self.error, StoreError::Broken(_))
    }

    /// The more serious of two.
    pub(super) fn or(self, other: Trouble) -> Trouble {
        let reconnect = self.reconnect || other.reconnect;
        let worse = if other.is_broken() && !self.is_broken() { other } else { self };
        Trouble { reconnect, ..worse }
    }
}

impl From<RedisError> for Trouble {
    fn from(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::ResponseError | ServerErrorKind::ExecAbort) => {
                by_text(error.detail().unwrap_or_default())
            }
            ErrorKind::Server(_) | ErrorKind::Extension => {
                by_code(error.code().unwrap_or_default(), error.detail().unwrap_or_default())
            }
            ErrorKind::AuthenticationFailed => {
                by_code("WRONGPASS", "the server refused the user or the password")
            }
            // A cluster's nodes are asked in turn, and their refusals come as one error.
            ErrorKind::Io if error.to_string().contains("AuthenticationFailed") => {
                by_code("WRONGPASS", "every node refused the user or the password")
            }
            ErrorKind::Io if error.to_string().contains("NOAUTH") => by_code("NOAUTH", "on every node"),
            ErrorKind::Io if error.is_timeout() => Self::lost("no answer from Redis in time".into()),
            ErrorKind::Client | ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported => {
                Self::broken(error.to_string())
            }
            // Connections refused and lost, names not resolved, answers out of step, no node known.
            _ if error.to_string().contains("invalid peer certificate") => Self::not_let_in(format!(
                "{error}: the server's certificate must be of an authority that this machine trusts; \
                 SSL_CERT_FILE may name a file with the authority's own certificate"
            )),
            _ => Self::lost(error.to_string()),
        }
    }
}

/// Judges an error by the word that Redis begins it with.
fn by_code(code: &str, detail: &str) -> Trouble {
    let said = format!("{code} {detail}");
    let said = said.trim();
    match code {
        // No longer, or not yet, the primary: the address may lead to another server by now.
        "READONLY" | "MASTERDOWN" | "MOVED" | "ASK" => {
            Trouble::lost(format!("Redis is failing over: {said}"))
        }
        "CLUSTERDOWN" | "TRYAGAIN" => Trouble::waiting(format!("the Redis cluster is changing: {said}")),
        "LOADING" => Trouble::waiting(format!("Redis is loading its data: {said}")),
        "OOM" => Trouble::waiting(format!("Redis is out of memory, give it more (maxmemory): {said}")),
        "MISCONF" => Trouble::waiting(format!("Redis cannot write to its disk: {said}")),
        // It may be cut off, and another be the primary by now.
        "NOREPLICAS" => Trouble::lost(format!("too few Redis replicas are in sync: {said}")),
        "BUSY" => Trouble::waiting(format!("Redis is busy with a script: {said}")),
        "NOSCRIPT" => Trouble::waiting(format!("Redis lost a script as soon as it was loaded: {said}")),
        "NOAUTH" => {
            Trouble::not_let_in(format!("Redis wants a password: put one into the store's URL ({said})"))
        }
        "WRONGPASS" => {
            Trouble::not_let_in(format!("check the user and password in the store's URL ({said})"))
        }
        "NOPERM" => Trouble::broken(format!(
            "the Redis user lacks a permission; `ACL LOG` names it, and docs/security.md has the list of all ({said})"
        )),
        "WRONGTYPE" => Trouble::broken(format!(
            "a key under `accrual:` is not what accrual made it; does another program write there? ({said})"
        )),
        "CROSSSLOT" | "NOPROTO" => Trouble::broken(said.to_owned()),
        // Proxies and later versions have codes of their own. To wait and say so loses nothing.
        _ => Trouble::waiting(said.to_owned()),
    }
}

/// Judges a general error. Up to Redis 6 an error inside a script comes as one, with the code in its text.
fn by_text(detail: &str) -> Trouble {
    const INSIDE_SCRIPTS: [&str; 9] = [
        "READONLY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "LOADING",
        "OOM",
        "MISCONF",
        "NOREPLICAS",
        "NOPERM",
        "WRONGTYPE",
    ];
    let inside = |code: &&str| detail.contains(&format!("-{code} "));
    if let Some(code) = INSIDE_SCRIPTS.iter().copied().find(inside) {
        return by_code(code, detail);
    }
    let passing = ["max number of clients", "non local key in a cluster", "Script killed by user"];
    if passing.iter().any(|text| detail.contains(text)) {
        return Trouble::lost(detail.to_owned());
    }
    if detail.contains("The user executing the script can't") {
        return by_code("NOPERM", detail);
    }
    if detail.contains("without any password configured") {
        return Trouble::broken(format!(
            "Redis has no password set: remove it from the store's URL ({detail})"
        ));
    }
    Trouble::broken(format!("Redis refused a command: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the server would send it.
    fn triage(line: &str) -> Trouble {
        let reply = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        Trouble::from(reply.extract_error().unwrap_err())
    }

    #[test]
    fn what_passes_by_itself_is_waited_for() {
        let passing = [
            "LOADING Redis is loading the dataset in memory",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "ERR Error running script (call to f_0a): @user_script:9: @user_script: 9: -OOM command not allowed",
            "CLUSTERDOWN The cluster is down",
            "CLUSTERDOWN Hash slot not served",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "BUSY Redis is busy running a script.",
            "MISCONF Redis is configured to save RDB snapshots",
            "NOSCRIPT No matching script.",
            "PROXY something that only a proxy says",
        ];
        for line in passing {
            let trouble = triage(line);
            assert!(matches!(trouble.error, StoreError::Away(_)), "{line}: {trouble:?}");
            assert!(!trouble.reconnect, "{line}");
        }
    }

    #[test]
    fn a_server_that_may_not_be_the_primary_is_left_for_a_new_connection() {
        let leaving = [
            "READONLY You can't write against a read only replica.",
            "ERR Error running script (call to f_0a): @user_script: 9: -READONLY You can't write",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "NOREPLICAS Not enough good replicas to write.",
            "MOVED 3999 127.0.0.1:6381",
            "ASK 3999 127.0.0.1:6381",
            "ERR max number of clients reached",
            "ERR Script attempted to access a non local key in a cluster node",
        ];
        for line in leaving {
            let trouble = triage(line);
            assert!(matches!(trouble.error, StoreError::Away(_)), "{line}: {trouble:?}");
            assert!(trouble.reconnect, "{line}");
        }
    }

    #[test]
    fn what_a_person_must_mend_is_broken_and_says_what_to_do() {
        let broken = [
            ("NOAUTH Authentication required.", "password"),
            ("WRONGPASS invalid username-password pair", "password"),
            ("ERR AUTH <password> called without any password configured for the default user.", "remove it"),
            ("NOPERM this user has no permissions to run the 'evalsha' command", "permission"),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", "another program"),
            ("ERR unknown command 'EVALSHA'", "unknown command"),
            ("ERR user_script:3: attempt to index a nil value", "attempt to index"),
        ];
        for (line, advice) in broken {
            let trouble = triage(line);
            assert!(matches!(trouble.error, StoreError::Broken(_)), "{line}: {trouble:?}");
            assert!(trouble.error.to_string().contains(advice), "{line}: {trouble:?}");
        }
    }

    #[test]
    fn a_login_that_was_good_before_is_waited_for_and_no_other_refusal_is() {
        for line in ["NOAUTH Authentication required.", "WRONGPASS invalid username-password pair"] {
            assert!(matches!(triage(line).error_after(false), StoreError::Broken(_)), "{line}");
            assert!(matches!(triage(line).error_after(true), StoreError::Away(_)), "{line}");
            let with_another = triage("LOADING …").or(triage(line));
            assert!(matches!(with_another.error_after(true), StoreError::Away(_)), "{line}");
        }
        let missing = triage("NOPERM this user has no permissions to run the 'hset' command");
        assert!(matches!(missing.error_after(true), StoreError::Broken(_)));
    }

    #[test]
    fn of_two_troubles_the_one_that_waiting_does_not_mend_is_told() {
        let trouble = triage("LOADING …").or(triage("NOAUTH …"));
        assert!(matches!(trouble.error, StoreError::Broken(_)));
    }
}
