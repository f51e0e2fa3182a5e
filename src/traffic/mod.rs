//! What a shop's systems send: orders, sign-ins, reviews, shares, registrations and surveys, with
//! repeats and broken records among them. The same settings give the same records, byte for byte.
//!
//! Knows no clock: whoever asks for a record says when it happened. Half a million records a second
//! and more, because the JSON is written by hand into one buffer.

mod events;
mod fault;
mod json;
mod rng;

use std::collections::VecDeque;

use self::events::{Happened, Occasion, Writer};
use self::fault::Fault;
use self::rng::Rng;

/// What the traffic is like.
#[derive(Clone, PartialEq, Debug)]
pub struct TrafficSettings {
    /// Other traffic, and other event ids, for another number.
    pub seed: u64,
    /// How many members there are in the end; at least one. One in five of them registers on the way.
    pub members: u64,
    /// The share of events (0 to 1) that the hottest hundredth of the members has.
    pub hot_share: f64,
    /// The share of records (0 to 0.5) that say again what an earlier one said.
    pub duplicates: f64,
    /// The share of records (0 to 1) that cannot be counted.
    pub broken: f64,
    /// Nothing but orders.
    pub orders_only: bool,
    /// ISO 4217 code of all amounts.
    pub currency: String,
}

impl Default for TrafficSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            members: 10_000,
            hot_share: 0.2,
            duplicates: 0.01,
            broken: 0.001,
            orders_only: false,
            currency: "CNY".to_owned(),
        }
    }
}

/// The kinds of topic that a shop has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ShopTopic {
    /// `order.paid`.
    Orders,
    /// `member.signed_in`.
    SignIns,
    /// `review.posted`.
    Reviews,
    /// `content.shared`.
    Shares,
    /// `member.registered` and `survey.completed`.
    Members,
}

impl ShopTopic {
    /// Every kind.
    pub const ALL: [ShopTopic; 5] =
        [ShopTopic::Orders, ShopTopic::SignIns, ShopTopic::Reviews, ShopTopic::Shares, ShopTopic::Members];

    /// The topic's name in the examples.
    pub fn name(self) -> &'static str {
        match self {
            ShopTopic::Orders => "shop.orders",
            ShopTopic::SignIns => "shop.sign-ins",
            ShopTopic::Reviews => "shop.reviews",
            ShopTopic::Shares => "shop.shares",
            ShopTopic::Members => "shop.members",
        }
    }
}

/// What a record is to its receiver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Nature {
    /// Something happened.
    Fresh,
    /// It came before: the same bytes, or the same order or review under another event id.
    Repeat,
    /// It cannot be counted.
    Broken,
}

/// One record to send. Borrowed, because the next one is written over it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent<'a> {
    /// Where it goes.
    pub topic: ShopTopic,
    /// The member: the key.
    pub key: &'a str,
    /// The record's value, a `CloudEvent` in structured mode unless it is broken.
    pub payload: &'a [u8],
    /// What it is.
    pub nature: Nature,
}

/// A repeat that is still to come.
#[derive(Clone, Debug)]
struct Later {
    /// The number of the record that it comes as, at the earliest.
    due: u64,
    topic: ShopTopic,
    key: String,
    payload: Vec<u8>,
}

/// A repeat comes after at most so many other records.
const LATEST_REPEAT: u64 = 2_000;

/// Of so many orders and reviews that are repeated, one comes under another event id.
const REPEATS_A_NEW_ID: u64 = 4;

/// A shop's traffic. Never ends.
#[derive(Clone, Debug)]
pub struct Traffic {
    settings: TrafficSettings,
    rng: Rng,
    writer: Writer,
    /// Records so far.
    number: u64,
    /// Members that there are by now.
    joined: u64,
    repeats: VecDeque<Later>,
    key: String,
    payload: Vec<u8>,
}

impl Traffic {
    /// Traffic from its beginning.
    pub fn new(settings: TrafficSettings) -> Self {
        let mut rng = Rng::new(settings.seed);
        // Event ids of two seeds must not meet, or the second traffic would be taken for a repeat.
        let writer = Writer::new(rng.next(), &settings.currency);
        let members = settings.members.max(1);
        let newcomers = if settings.orders_only { 0 } else { members / 5 };
        Self {
            rng,
            writer,
            number: 0,
            joined: members - newcomers,
            repeats: VecDeque::new(),
            key: String::with_capacity(16),
            payload: Vec::with_capacity(1_024),
            settings: TrafficSettings { members, ..settings },
        }
    }

    /// The next record, of something that happens at this time (milliseconds since 1970). A repeat
    /// keeps the time that it had.
    pub fn next(&mut self, at_ms: i64) -> Sent<'_> {
        let number = self.number;
        self.number += 1;
        if self.repeats.front().is_some_and(|later| later.due <= number)
            && let Some(later) = self.repeats.pop_front()
        {
            self.key = later.key;
            self.payload = later.payload;
            return self.sent(later.topic, Nature::Repeat);
        }
        let happened = self.happens();
        let member = self.member(happened);
        json::member(&mut self.key, member);
        self.payload.clear();
        if self.rng.chance(self.settings.broken) {
            let fault = self.rng.pick(&Fault::ALL);
            let on = Occasion { member: &self.key, number, at_ms, fault };
            self.writer.order(&mut self.payload, &mut self.rng, on);
            fault.spoil(&mut self.payload);
            return self.sent(ShopTopic::Orders, Nature::Broken);
        }
        self.write(happened, number, at_ms);
        let topic = happened.topic();
        // Of all records, not of the fresh ones, the share is `duplicates`.
        let share = self.settings.duplicates.clamp(0.0, 0.5);
        if self.rng.chance(share / (1.0 - share)) {
            self.repeat_later(happened, number);
        }
        self.sent(topic, Nature::Fresh)
    }

    fn sent(&self, topic: ShopTopic, nature: Nature) -> Sent<'_> {
        Sent { topic, key: &self.key, payload: &self.payload, nature }
    }

    /// What a shop sees: of a thousand events 700 orders.
    fn happens(&mut self) -> Happened {
        if self.settings.orders_only {
            return Happened::Order;
        }
        match self.rng.below(1_000) {
            0..700 => Happened::Order,
            700..850 => Happened::SignIn,
            850..910 => Happened::Review,
            910..970 => Happened::Share,
            970..990 if self.joined < self.settings.members => Happened::Registration,
            970..990 => Happened::SignIn,
            _ => Happened::Survey,
        }
    }

    fn member(&mut self, happened: Happened) -> u64 {
        if happened == Happened::Registration {
            self.joined += 1;
            return self.joined - 1;
        }
        let hottest = (self.settings.members / 100).max(1);
        let among = if self.rng.chance(self.settings.hot_share) { hottest } else { self.joined };
        self.rng.below(among)
    }

    fn write(&mut self, happened: Happened, number: u64, at_ms: i64) {
        let Self { writer, payload, rng, key, joined, .. } = self;
        let on = Occasion { member: key, number, at_ms, fault: Fault::None };
        match happened {
            Happened::Order => writer.order(payload, rng, on),
            Happened::SignIn => writer.sign_in(payload, on),
            Happened::Review => writer.review(payload, rng, on),
            Happened::Share => writer.share(payload, rng, on),
            Happened::Registration => {
                // The newcomer is the last who joined; any other may have invited them.
                let others = joined.saturating_sub(1);
                let invited = others > 0 && rng.chance(0.5);
                writer.registration(payload, on, invited.then(|| rng.below(others)));
            }
            Happened::Survey => writer.survey(payload, rng, on),
        }
    }

    /// What upstream repeats, it repeats as it was, or after a retry of its own under another event id.
    fn repeat_later(&mut self, happened: Happened, number: u64) {
        let mut payload = self.payload.clone();
        let has_business_key = matches!(happened, Happened::Order | Happened::Review);
        if has_business_key && self.rng.below(REPEATS_A_NEW_ID) == 0 {
            events::give_new_id(&mut payload);
        }
        let due = number + 1 + self.rng.below(LATEST_REPEAT);
        self.repeats.push_back(Later { due, topic: happened.topic(), key: self.key.clone(), payload });
    }
}

#[cfg(test)]
mod tests;
