//! The words that every module speaks: members, points, buckets, coordinates.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Text that is cloned often and never changed: ids of members, rules, tiers and topics.
macro_rules! shared_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The same text with a count of references of its own: threads that clone one text with every event would wait
            /// for each other's.
            #[must_use]
            pub fn detached(&self) -> Self {
                Self::from(self.as_str())
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

shared_text! {
    /// Who earns. One account each.
    MemberId
}
shared_text! {
    /// A rule of the programme.
    RuleId
}
shared_text! {
    /// A campaign of the programme.
    CampaignId
}
shared_text! {
    /// A level of the programme's tiers.
    TierId
}
shared_text! {
    /// A reward of the programme's catalogue.
    RewardId
}
shared_text! {
    /// A CloudEvents type, such as `order.paid`.
    EventType
}
shared_text! {
    /// A Kafka topic's name.
    TopicName
}

/// Names an event: the same source and id again is the same event.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventId {
    /// The CloudEvents source, a URI reference (and so without spaces).
    #[schema(value_type = String)]
    pub source: Box<str>,
    /// The CloudEvents id, unique within its source.
    #[schema(value_type = String)]
    pub id: Box<str>,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In pieces: with every event's receipt written so, `write!` was seen in profiles.
        f.write_str(&self.source)?;
        f.write_str(" ")?;
        f.write_str(&self.id)
    }
}

/// Loyalty points: whole, signed, and never wrapping.
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(transparent)]
pub struct Points(pub i64);

/// A sum of points left the range of a signed 64-bit number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("points leave the range of a signed 64-bit number")]
pub struct PointsOverflow;

impl Points {
    /// No points.
    pub const ZERO: Points = Points(0);

    /// The sum, or an error where it would wrap.
    pub fn plus(self, other: Points) -> Result<Points, PointsOverflow> {
        self.0.checked_add(other.0).map(Points).ok_or(PointsOverflow)
    }

    /// The difference, or an error where it would wrap.
    pub fn minus(self, other: Points) -> Result<Points, PointsOverflow> {
        self.0.checked_sub(other.0).map(Points).ok_or(PointsOverflow)
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The part of the accounts that one atomic Redis call may touch: `crc16(member) % buckets`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Bucket(pub u16);

/// How many buckets a deployment has. Fixed for its life: a member must stay in one bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Buckets(pub u16);

impl Buckets {
    /// The bucket that a member's account, receipts and outbox live in.
    pub fn of(self, member: &MemberId) -> Bucket {
        self.of_key(member.as_str())
    }

    /// The same of a record's key, which is its member.
    pub fn of_key(self, member: &str) -> Bucket {
        let hash = crc16::State::<crc16::XMODEM>::calculate(member.as_bytes());
        Bucket(hash % self.0.max(1))
    }

    /// Every bucket there is.
    pub fn all(self) -> impl Iterator<Item = Bucket> {
        (0..self.0).map(Bucket)
    }
}

/// One partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl TopicPartition {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (topic, partition) = text.rsplit_once('/')?;
        Some(Self { topic: TopicName::from(topic), partition: partition.parse().ok()? })
    }
}

/// Where a record stands in the log. Written `topic/partition/offset`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Coordinates {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number.
    pub partition: i32,
    /// The record's offset in the partition.
    pub offset: i64,
}

impl Coordinates {
    /// The partition that the record stands in.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }

    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next()?.parse().ok()?;
        let partition = parts.next()?.parse().ok()?;
        Some(Self { topic: TopicName::from(parts.next()?), partition, offset })
    }
}

impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = itoa::Buffer::new();
        for piece in [self.topic.as_str(), "/", digits.format(self.partition), "/"] {
            f.write_str(piece)?;
        }
        f.write_str(digits.format(self.offset))
    }
}

/// The topics that results go to; all different, and none of them an input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outputs {
    /// The ledger: one record an entry.
    pub awards: TopicName,
    /// Changes of tier.
    pub tier_changes: TopicName,
    /// The account after its latest change; compacted.
    pub accounts: TopicName,
    /// What could not be read, byte for byte, and why.
    pub dead_letters: TopicName,
    /// Timers, referrals and whatever else the worker tells itself.
    pub internal: TopicName,
}

impl Outputs {
    /// The same names, for one lane.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self {
            awards: self.awards.detached(),
            tier_changes: self.tier_changes.detached(),
            accounts: self.accounts.detached(),
            dead_letters: self.dead_letters.detached(),
            internal: self.internal.detached(),
        }
    }

    /// Every output with the name of its setting.
    pub fn all(&self) -> [(&'static str, &TopicName); 5] {
        [
            ("awards", &self.awards),
            ("tier_changes", &self.tier_changes),
            ("accounts", &self.accounts),
            ("dead_letters", &self.dead_letters),
            ("internal", &self.internal),
        ]
    }
}

/// What the clock brings once a year.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// The member's birthday.
    Birthday,
    /// The day on which the member registered, in later years.
    Anniversary,
}

impl Occasion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Birthday, Self::Anniversary];

    /// The type of its event.
    pub fn event_type(self) -> &'static str {
        match self {
            Self::Birthday => "member.birthday",
            Self::Anniversary => "member.anniversary",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_read_back_as_written() {
        let written = Coordinates { topic: "a/b.c".into(), partition: 3, offset: 17 };
        assert_eq!(Coordinates::parse(&written.to_string()), Some(written));
        assert_eq!(Coordinates::parse("orders/x/1"), None);
        let partition = TopicPartition { topic: "a/b.c".into(), partition: 3 };
        assert_eq!(TopicPartition::parse(&partition.to_string()), Some(partition));
        assert_eq!(TopicPartition::parse("orders"), None);
    }

    #[test]
    fn a_member_stays_in_its_bucket_and_the_bucket_is_redis_crc16() {
        // 0x31C3 is the check value of CRC-16/XMODEM for "123456789", the one Redis Cluster documents.
        assert_eq!(Buckets(128).of(&"123456789".into()), Bucket(0x31C3 % 128));
    }

    #[test]
    fn points_never_wrap() {
        assert_eq!(Points(i64::MAX).plus(Points(1)), Err(PointsOverflow));
        assert_eq!(Points(i64::MIN).minus(Points(1)), Err(PointsOverflow));
    }
}
