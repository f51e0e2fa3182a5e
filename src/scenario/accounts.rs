//! How accounts must stand at the end of a scenario.

use jiff::Timestamp;

use crate::account::Account;
use crate::account_view::AccountView;
use crate::programme::Programme;
use crate::types::MemberId;

/// A member's account as it must stand; only the facts that are named are compared.
#[derive(Debug)]
pub struct ExpectedAccount {
    /// Whose.
    pub member: MemberId,
    /// Each with its line in the file and its value in its one way to write it.
    pub facts: Vec<(Fact, usize, String)>,
}

/// Something that an account says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fact {
    /// Points that can be spent.
    Available,
    /// Points that are earned but still held.
    Pending,
    /// The level; `none` where the programme has no tiers.
    Tier,
    /// Points earned, ever.
    Earned,
    /// Points that count toward the tier.
    Measured,
}

impl Fact {
    /// Every fact by its name.
    pub(super) const ALL: [(&'static str, Fact); 5] = [
        ("available", Fact::Available),
        ("pending", Fact::Pending),
        ("tier", Fact::Tier),
        ("earned", Fact::Earned),
        ("measured", Fact::Measured),
    ];

    /// Its name in scenarios.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, fact)| *fact == self).map_or("", |(name, _)| name)
    }

    /// What the account says at `now`.
    pub(super) fn of(self, programme: &Programme, account: &Account, now: Timestamp) -> String {
        let view = AccountView::of(programme, account, now);
        let tier = view.tier.as_ref();
        match self {
            Fact::Available => view.available.to_string(),
            Fact::Pending => view.pending.to_string(),
            Fact::Tier => tier.map_or_else(|| "none".to_owned(), |tier| tier.id.to_string()),
            Fact::Earned => account.earned.total.to_string(),
            Fact::Measured => tier.map_or_else(|| "0".to_owned(), |tier| tier.measured.amount.to_string()),
        }
    }
}
