//! What conditions are asked about: the event, its data and the member as they were before it.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::account::{Account, period_index};
use crate::event::Event;
use crate::programme::condition::{
    Condition, DataValue, EventFacts, Expression, Facts, Failure, MemberFacts,
};
use crate::programme::{Period, Programme};
use crate::rules::tier;

/// The facts of one event. Its data is parsed once, and only where something asks for it; so is what is
/// known of the member put together.
pub(super) struct LazyFacts<'a> {
    programme: &'a Programme,
    account: &'a Account,
    event: &'a Event,
    day: Date,
    data: Option<Option<DataValue<'a>>>,
    member: Option<DataValue<'a>>,
}

impl<'a> LazyFacts<'a> {
    pub(super) fn new(programme: &'a Programme, account: &'a Account, event: &'a Event, day: Date) -> Self {
        Self { programme, account, event, day, data: None, member: None }
    }

    /// Whether a condition holds, for an item of the order where one is named. What is absent holds; one that
    /// cannot be evaluated on this event counts as not holding.
    pub(super) fn holds(
        &mut self,
        condition: Option<&Condition>,
        item: Option<usize>,
    ) -> Result<bool, Failure> {
        let Some(condition) = condition else { return Ok(true) };
        let facts = self.facts(condition.asks_member(), item)?;
        condition.holds(&facts)
    }

    /// The number that an expression comes to.
    pub(super) fn number(
        &mut self,
        expression: &Expression,
        item: Option<usize>,
    ) -> Result<rust_decimal::Decimal, Failure> {
        let facts = self.facts(expression.asks_member(), item)?;
        expression.number(&facts)
    }

    /// The text that an expression comes to.
    pub(super) fn text(&mut self, expression: &Expression) -> Result<String, Failure> {
        let facts = self.facts(expression.asks_member(), None)?;
        expression.evaluate(&facts)
    }

    fn facts(&mut self, asks_member: bool, item: Option<usize>) -> Result<Facts<'_>, Failure> {
        let (event, account) = (self.event, self.account);
        // A number out of range makes data that conditions cannot read.
        let data = self.data.get_or_insert_with(|| serde_json::from_str(&event.data).ok());
        let data = data.as_ref().ok_or(Failure::OutOfRange)?;
        let item = match item {
            None => None,
            Some(at) => match data.field("items") {
                Some(DataValue::List(items)) => Some(items.get(at).ok_or(Failure::NoElement)?),
                _ => return Err(Failure::NoElement),
            },
        };
        let member = if asks_member {
            let (programme, day) = (self.programme, self.day);
            let fields = &*self.member.get_or_insert_with(|| member(programme, account, day));
            let month = period_index(Period::Month, day);
            Some(MemberFacts { fields, activity: &account.activity, month })
        } else {
            None
        };
        let event = EventFacts {
            id: &event.id.id,
            source: &event.id.source,
            event_type: event.kind.as_str(),
            time: event.time,
            subject: None,
        };
        Ok(Facts { event, data, item, member })
    }
}

/// The fields of `member`. What is not known is absent, so that a condition on it does not hold.
fn member<'a>(programme: &'a Programme, account: &'a Account, day: Date) -> DataValue<'a> {
    let number = |value: i64| DataValue::Number(value.into());
    let time = |second: i64| Timestamp::from_second(second).ok().map(DataValue::Time);
    let (profile, activity) = (&account.profile, &account.activity);
    let tier = programme.tiers.as_ref().and_then(|tiers| tiers.levels.get(tier::current(tiers, account)));
    let birthday = profile.birthday.map(|day| DataValue::Text(Cow::Owned(day.to_string())));
    let segments = profile.segments.iter().map(|segment| DataValue::text(segment)).collect();
    let attributes = profile.attributes.as_ref();
    let days_since = activity.last_order.and_then(|last| Timestamp::from_second(last).ok()).map(|last| {
        let last = programme.zone.to_datetime(last).date();
        number((period_index(Period::Day, day) - period_index(Period::Day, last)).into())
    });
    let fields = [
        ("id", Some(DataValue::text(account.member_id.as_str()))),
        ("tier", tier.map(|level| DataValue::text(level.id.as_str()))),
        ("available", Some(number(account.available.0))),
        ("pending", Some(number(account.pending.0))),
        ("registered_at", profile.registered.and_then(time)),
        ("birthday", birthday),
        ("segments", Some(DataValue::List(segments))),
        ("attributes", attributes.and_then(|attributes| serde_json::from_str(attributes.as_str()).ok())),
        ("orders", Some(DataValue::Number(activity.orders.into()))),
        ("spend", Some(DataValue::Number(activity.spend))),
        ("last_order_at", activity.last_order.and_then(time)),
        ("days_since_last_order", days_since),
    ];
    let known = fields.into_iter().filter_map(|(name, value)| Some((Cow::Borrowed(name), value?)));
    DataValue::Object(known.collect())
}
