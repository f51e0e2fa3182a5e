//! Who looks on while an event is decided: nobody in a lane, `explain` where somebody asks why an event did
//! not pay. Entries say what was paid or cut; a watch hears of everything that made no entry.

use crate::programme::condition::Failure;
use crate::types::CampaignId;

/// Hears why a rule or a campaign, by its index in the programme, made no entry. What is heard is made only
/// where somebody listens, so that a lane pays nothing for it.
pub trait Watch {
    /// Nothing came of a rule; or of one item of an order, which may cost the rule nothing.
    fn rule(&mut self, _at: usize, _item: Option<usize>, _why: impl FnOnce() -> Unpaid) {}

    /// Nothing came of a campaign.
    fn campaign(&mut self, _at: usize, _why: impl FnOnce() -> Unpaid) {}
}

/// Nobody looks on.
impl Watch for () {}

/// Why nothing came of a rule or a campaign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unpaid {
    /// Its `when` did not hold; with `each: item`, for no item.
    When,
    /// Its `audience` did not hold.
    Audience,
    /// The event is not in its period.
    During,
    /// The base that it multiplies is too small for a point more.
    NoBase,
    /// This campaign of its group paid at least as much.
    Group(CampaignId),
    /// It pays the referrer, by an event of their own.
    Referrer,
    /// It pays with the member's first order.
    Waits,
    /// It pays a referrer, and nobody referred the member.
    NotReferred,
    /// A part of it could not be evaluated on this event, so that it counts as not holding.
    Failed(Part, Failure),
}

/// A part of a rule or a campaign that is evaluated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `when`
    When,
    /// `audience`
    Audience,
    /// `earn.of`
    Of,
    /// `once_per`
    OncePer,
}
