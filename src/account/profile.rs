//! What a shop told of a member: when they registered, their birthday, segments and attributes.

use jiff::civil::Date;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::programme::campaign::birthday_in;
use crate::types::{MemberId, Occasion, RuleId};

/// What is known of a member.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// When the member registered, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i64")]
    pub registered: Option<i64>,
    /// Who referred the member, as they said when they registered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "MemberId")]
    pub referrer: Option<MemberId>,
    /// Rules that pay with the first order since the member registered.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub waits: Vec<RuleId>,
    /// When the first of those registered whom the member has referred, in seconds since 1970: who refers is no newcomer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i64")]
    pub refers_since: Option<i64>,
    /// The last year whose birthday and whose anniversary of the registration are over for the member.
    #[serde(skip_serializing_if = "Celebrated::is_nothing", default)]
    pub celebrated: Celebrated,
    /// The day of birth.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "String", extend("format" = "date"))]
    pub birthday: Option<Date>,
    /// Groups that the shop counts the member among.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub segments: Vec<Box<str>>,
    /// Whatever else the shop says of the member.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub attributes: Option<Attributes>,
    /// When the latest of this was said, in seconds since 1970: what comes late must not undo it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i64")]
    pub said: Option<i64>,
}

/// Years of occasions that are over: an occasion comes once a year, also where the shop corrects a birthday.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Celebrated {
    /// Of the birthday. The year in which it was first told counts, where it lay before that or on that day.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i16")]
    pub birthday: Option<i16>,
    /// Of the registration; the year of the registration itself counts.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "i16")]
    pub anniversary: Option<i16>,
}

impl Celebrated {
    #[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The last year of an occasion.
    pub fn last(&self, occasion: Occasion) -> Option<i16> {
        match occasion {
            Occasion::Birthday => self.birthday,
            Occasion::Anniversary => self.anniversary,
        }
    }

    /// An occasion has come.
    pub fn celebrate(&mut self, occasion: Occasion, year: i16) {
        let last = match occasion {
            Occasion::Birthday => &mut self.birthday,
            Occasion::Anniversary => &mut self.anniversary,
        };
        *last = (*last).max(Some(year));
    }
}

/// A JSON object, kept as it was written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Attributes(#[schemars(with = "serde_json::Map<String, serde_json::Value>")] Box<RawValue>);

impl Attributes {
    /// The object, as JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl From<&RawValue> for Attributes {
    fn from(json: &RawValue) -> Self {
        Self(json.to_owned())
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

/// What an event says of a member. What is absent stays as it was.
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProfileUpdate {
    /// Whether the member has registered with this event.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub registered: bool,
    /// Who referred the member; said with a registration.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "MemberId")]
    pub referrer: Option<MemberId>,
    /// Rules that will pay with the first order.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub waits: Vec<RuleId>,
    /// The day of birth.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "String", extend("format" = "date"))]
    pub birthday: Option<Date>,
    /// All groups that the shop counts the member among now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Vec<String>")]
    pub segments: Option<Vec<Box<str>>>,
    /// All that the shop says of the member now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub attributes: Option<Attributes>,
}

impl Profile {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Profile::default()
    }

    /// An order was paid at `at`: rules that waited for the first one have paid with it.
    pub fn ordered(&mut self, at: i64) {
        if !self.waits.is_empty() && self.registered.is_some_and(|registered| registered <= at) {
            self.waits.clear();
        }
    }

    /// Somebody whom the member referred has registered at `registered`.
    pub fn refers(&mut self, registered: i64) {
        self.refers_since = Some(self.refers_since.map_or(registered, |since| since.min(registered)));
    }

    /// Takes in what was said at `at`, in seconds since 1970, a day of the programme's zone.
    pub fn update(&mut self, update: &ProfileUpdate, at: i64, day: Date) {
        if update.registered && self.registered.is_none() {
            self.referrer.clone_from(&update.referrer);
            self.waits.clone_from(&update.waits);
            self.celebrated.celebrate(Occasion::Anniversary, day.year());
        }
        if update.registered {
            // Registered twice is registered since the first time.
            self.registered = Some(self.registered.map_or(at, |before| before.min(at)));
        }
        if self.said.is_some_and(|said| said > at) {
            return;
        }
        self.said = Some(at);
        if let Some(birthday) = update.birthday {
            if self.celebrated.birthday.is_none() {
                let is_over = birthday_in(birthday, day.year()) <= day;
                let year = day.year() - i16::from(!is_over);
                self.celebrated.celebrate(Occasion::Birthday, year);
            }
            self.birthday = Some(birthday);
        }
        if let Some(segments) = &update.segments {
            self.segments.clone_from(segments);
        }
        if let Some(attributes) = &update.attributes {
            self.attributes = Some(attributes.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(names: &[&str]) -> ProfileUpdate {
        ProfileUpdate {
            segments: Some(names.iter().map(|&name| name.into()).collect()),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_said_later_counts_whenever_it_comes() {
        let mut profile = Profile::default();
        profile.update(&segments(&["vip"]), 20, Date::constant(2026, 1, 1));
        profile.update(&segments(&["new"]), 10, Date::constant(2026, 1, 1));
        assert_eq!(profile.segments, [Box::from("vip")]);
        profile.update(&segments(&[]), 30, Date::constant(2026, 1, 1));
        assert!(profile.segments.is_empty());
    }

    #[test]
    fn what_is_not_said_stays_and_a_member_registers_once() {
        let mut profile = Profile::default();
        let birthday = Date::constant(2000, 2, 29);
        let registered = ProfileUpdate { registered: true, birthday: Some(birthday), ..Default::default() };
        profile.update(&registered, 10, Date::constant(2026, 1, 1));
        profile.update(&segments(&["vip"]), 20, Date::constant(2026, 1, 1));
        profile.update(
            &ProfileUpdate { registered: true, ..Default::default() },
            30,
            Date::constant(2026, 1, 1),
        );
        assert_eq!((profile.birthday, profile.registered), (Some(birthday), Some(10)));
    }
}
