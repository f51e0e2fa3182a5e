//! The versions of the programme that decide, which may be exchanged while the worker runs.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Programme, Versions};

/// What every lane and request looks up. Each goes on with the versions that it holds until it looks again:
/// a lane between two batches.
#[derive(Debug)]
pub struct Current(RwLock<Arc<Versions>>);

impl Current {
    /// What decides first.
    pub fn new(versions: Arc<Versions>) -> Self {
        Self(RwLock::new(versions))
    }

    /// The versions that decide now.
    pub fn get(&self) -> Arc<Versions> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has others decide from now on.
    ///
    /// # Errors
    /// What must not change while there are accounts, and would.
    pub fn replace(&self, versions: Arc<Versions>) -> Result<(), String> {
        let before = self.get();
        let (before, after) = (before.first(), versions.first());
        let zone = |programme: &Programme| programme.zone.iana_name().unwrap_or("UTC").to_owned();
        for (what, before, after) in [
            ("`programme`", &before.name, &after.name),
            ("`timezone`", &zone(before), &zone(after)),
            ("`currency`", &before.currency, &after.currency),
        ] {
            if before != after {
                return Err(format!("{what} must stay {before}, and is {after}: accounts were made with it"));
            }
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = versions;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programme(head: &str, points: u32) -> Arc<Versions> {
        let text = format!("{head}\nrules: [{{id: a, on: order.paid, earn: {{points: {points}}}}}]\n");
        Arc::new(Versions::only(Programme::parse("programme.yaml", &text).unwrap()))
    }

    #[test]
    fn a_version_is_exchanged_whole_and_what_accounts_were_made_with_stays() {
        let head = "programme: p\ntimezone: UTC\ncurrency: EUR";
        let current = Current::new(programme(head, 1));
        let second = programme(head, 2);
        current.replace(second.clone()).unwrap();
        assert!(Arc::ptr_eq(&current.get(), &second));
        for (other, what) in [
            ("programme: q\ntimezone: UTC\ncurrency: EUR", "`programme` must stay p, and is q"),
            (
                "programme: p\ntimezone: Asia/Tokyo\ncurrency: EUR",
                "`timezone` must stay UTC, and is Asia/Tokyo",
            ),
            ("programme: p\ntimezone: UTC\ncurrency: USD", "`currency` must stay EUR, and is USD"),
        ] {
            let why = current.replace(programme(other, 3)).unwrap_err();
            assert!(why.starts_with(what), "{why}");
            assert!(Arc::ptr_eq(&current.get(), &second));
        }
    }
}
