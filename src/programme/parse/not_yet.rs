//! What the language has and nothing decides yet.

use crate::yaml::{Collector, Place};

/// Each construct and how the refusal calls it. When one is decided, its line goes, and nothing else
/// needs to change for it to be accepted.
const NOT_YET: &[(&str, &str)] = &[
    ("points.hold", "`points.hold` other than P0D"),
    ("points.expire", "`points.expire` other than `never`"),
    ("points.shortfall", "`points.shortfall`"),
    ("points.notice", "`points.notice`"),
    ("tiers.review", "`tiers.review`"),
    ("level.redeem", "`redeem`"),
    ("rule.hold", "`hold`"),
    ("rule.expire", "`expire`"),
    ("redemption.rate", "`redemption.rate`"),
    ("redemption.boosts", "`redemption.boosts`"),
    ("redemption.limits", "`redemption.limits`"),
    ("reward.kind", "a reward of kind `money` or `lottery`"),
    ("reward.stock", "the `stock` of a reward"),
    ("reward.when", "the `when` of a reward"),
];

/// Refuses the construct while it stands in the list.
pub(super) fn refuse(construct: &str, place: &Place, collector: &Collector) {
    if let Some((_, name)) = NOT_YET.iter().find(|(listed, _)| *listed == construct) {
        collector.report(place, format!("{name} is not supported yet"));
    }
}

/// Each construct, and how the refusal calls it.
pub(crate) fn constructs() -> impl Iterator<Item = (&'static str, &'static str)> {
    NOT_YET.iter().copied()
}
