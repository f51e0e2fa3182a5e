//! Whether the user may call all that accrual calls. Asked before anything is written: a script that is refused at its
//! second command has carried out the first, and half of a commit is an event that is neither counted nor not.

use std::sync::Arc;

use redis::{Script, Value};

use super::connection::Request;
use super::reply;
use crate::store::StoreError;

const SCRIPT: &str = include_str!("rights.lua");

/// Calls every command on keys of its own.
pub(super) fn request() -> Request {
    let mut request = Request::call(&Arc::new(Script::new(SCRIPT)), 3);
    request.cmd.arg("accrual:{rights}:string").arg("accrual:{rights}:hash").arg("accrual:{rights}:sorted");
    request
}

/// Reads the answer.
pub(super) fn check(answer: Value) -> Result<(), StoreError> {
    let missing = reply::texts(answer)?;
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.iter().map(|command| format!("+{command}")).collect();
    Err(StoreError::Broken(format!(
        "the Redis user lacks the permissions {}; docs/security.md has the list of all",
        missing.join(" ")
    )))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// What is called by itself and not by a script, beside `EVALSHA`, `SCRIPT LOAD` and `INFO`.
    const BY_ITSELF: &[&str] =
        &["HDEL", "HGET", "HKEYS", "HMGET", "HSCAN", "MGET", "SCAN", "SET", "ZADD", "ZMSCORE", "ZREM"];

    /// The commands that a script calls by this function.
    fn called(script: &str, by: &str) -> BTreeSet<String> {
        let by = format!("{by}('");
        let after = script.split(by.as_str()).skip(1);
        after.filter_map(|rest| Some(rest.split_once('\'')?.0.to_lowercase())).collect()
    }

    #[test]
    fn every_command_of_a_script_is_asked_for_and_no_other() {
        let mut needed: BTreeSet<String> = BY_ITSELF.iter().map(|name| name.to_lowercase()).collect();
        for file in std::fs::read_dir("src/store/redis").unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|end| end == "lua") && !path.ends_with("rights.lua") {
                needed.extend(called(&std::fs::read_to_string(path).unwrap(), "call"));
            }
        }
        assert_eq!(called(SCRIPT, "try"), needed);
    }

    #[test]
    fn the_documentation_grants_what_is_asked_for_and_no_more() {
        let text = std::fs::read_to_string(Path::new("docs/security.md")).unwrap();
        let line = text.lines().find(|line| line.starts_with("ACL SETUSER accrual on")).unwrap();
        let granted: BTreeSet<String> =
            line.split(" +").skip(1).map(|command| command.trim().to_owned()).collect();
        let mut needed = called(SCRIPT, "try");
        needed.extend(["evalsha", "info", "script|load"].map(str::to_owned));
        assert_eq!(granted, needed);
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing =
            Value::Array(vec![Value::BulkString(b"hset".to_vec()), Value::BulkString(b"zrem".to_vec())]);
        let why = check(missing).unwrap_err().to_string();
        assert!(why.contains("lacks the permissions +hset +zrem; docs/security.md"), "{why}");
        assert!(check(Value::Array(Vec::new())).is_ok());
    }
}
