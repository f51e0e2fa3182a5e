//! Which versions of accounts that the store lacks are on the ledger.

use std::collections::{BTreeSet, HashMap};

use crate::entry::Chain;
use crate::types::MemberId;

/// What was seen of the ledger, by member.
#[derive(Default, Debug)]
pub(super) struct Seen {
    members: HashMap<MemberId, Versions>,
    /// Whether the ledger begins later than it once did, so that what is not seen says nothing.
    pub(super) is_trimmed: bool,
}

#[derive(Default, Debug)]
struct Versions {
    /// Every version up to this one is in the store or was seen.
    whole_to: u64,
    /// Later ones that were seen.
    later: BTreeSet<u64>,
    /// The latest that was seen, with its link of the chain.
    latest: (u64, Option<Chain>),
}

impl Seen {
    /// A version was seen of an account that the store has in another one.
    pub(super) fn add(&mut self, member: &MemberId, held: u64, version: u64, chain: Option<Chain>) {
        if !self.members.contains_key(member) {
            self.members.insert(member.clone(), Versions { whole_to: held, ..Versions::default() });
        }
        let Some(versions) = self.members.get_mut(member) else { return };
        if version > versions.latest.0 {
            versions.latest = (version, chain);
        }
        if version > versions.whole_to {
            versions.later.insert(version);
        }
        while versions.later.remove(&(versions.whole_to + 1)) {
            versions.whole_to += 1;
        }
    }

    /// Whether the snapshot with this version and link is what all that is published of the account comes to: it is the
    /// last, and no version before it was never published.
    pub(super) fn vouches_for(&self, member: &MemberId, version: u64, chain: Option<Chain>) -> bool {
        let is_last = |seen: &Versions| seen.later.is_empty() && seen.latest == (version, chain);
        self.is_trimmed || self.members.get(member).is_some_and(is_last)
    }

    /// The account is restored.
    pub(super) fn is_restored(&mut self, member: &MemberId) {
        self.members.remove(member);
    }

    /// Members whose accounts no snapshot was good for.
    pub(super) fn open(&self) -> impl Iterator<Item = &MemberId> {
        self.members.keys().filter(|_| !self.is_trimmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(held: u64, versions: &[u64]) -> Seen {
        let mut seen = Seen::default();
        versions.iter().for_each(|version| seen.add(&"ann".into(), held, *version, None));
        seen
    }

    #[test]
    fn a_snapshot_is_trusted_where_it_is_just_what_is_published() {
        for (held, versions, trusted) in [
            (0, [1, 2, 3].as_slice(), Some(3)),
            (4, &[7, 5, 6], Some(7)),
            (4, &[5, 7], None),
            (4, &[6], None),
        ] {
            let seen = seen(held, versions);
            for version in 0..10 {
                assert_eq!(
                    seen.vouches_for(&"ann".into(), version, None),
                    trusted == Some(version),
                    "{held} {versions:?} {version}"
                );
            }
        }
        assert!(!seen(0, &[]).vouches_for(&"bob".into(), 1, None), "nothing was seen of bob");
    }

    #[test]
    fn a_snapshot_of_the_right_version_with_another_history_is_not_trusted() {
        let link = |payload: &str| {
            let mut chain = None;
            Chain::seal(&mut chain, &mut payload.as_bytes().to_vec());
            chain
        };
        let mut seen = Seen::default();
        seen.add(&"ann".into(), 0, 1, link("{{}}"));
        assert!(seen.vouches_for(&"ann".into(), 1, link("{{}}")));
        assert!(!seen.vouches_for(&"ann".into(), 1, link("{{ }}")));
    }

    #[test]
    fn who_has_no_snapshot_to_trust_stays_open() {
        let mut seen = seen(4, &[6]);
        assert_eq!(seen.open().count(), 1);
        seen.is_restored(&"ann".into());
        assert_eq!(seen.open().count(), 0);
    }

    #[test]
    fn where_the_ledger_was_trimmed_the_snapshot_is_all_there_is() {
        let trimmed = Seen { is_trimmed: true, ..seen(0, &[9]) };
        assert!(trimmed.vouches_for(&"ann".into(), 9, None));
        assert_eq!(trimmed.open().count(), 0);
    }
}
