//! A second implementation of the programme of `life.rs`, in plain terms: each member has a flat list of coins of one
//! purpose each. It knows nothing of the crate but the events that were sent and the JSON that was published, and says of
//! every event what must come of it: every entry, every expiry, every reversal, every level and review.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::ToSpan;
use serde_json::Value;

use super::calendar::{day, end_of_month, month, plus, second_of};
use super::life::{BUDGET, STOCK};

const LEVELS: [&str; 3] = ["basic", "silver", "gold"];
const FROM: [i64; 3] = [0, 1_000, 3_000];
/// In percent.
const EARN: [i64; 3] = [100, 110, 125];
const REDEEM: [i64; 3] = [100, 110, 120];
const MOST_OF_A_MONTH: i64 = 2_500;
const MOST_REDEEMED_A_DAY: i64 = 2_000;
const MUG: i64 = 500;
const DEDUPE_WINDOW: i64 = 30 * 86_400;

#[derive(Clone, Copy, Debug)]
pub struct Coins {
    points: i64,
    expires: Option<i64>,
    release: Option<i64>,
    told: bool,
}

impl Coins {
    fn moments(&self) -> (i64, i64) {
        (self.release.unwrap_or(i64::MIN), self.expires.unwrap_or(i64::MAX))
    }
}

#[derive(Clone, Debug)]
struct Held {
    level: usize,
    since: i64,
    until: i64,
    noticed: Option<i64>,
}

#[derive(Clone, PartialEq, Debug)]
enum Closed {
    Left,
    Into(String),
}

#[derive(Debug)]
struct Paid {
    by: String,
    points: i64,
    reversed: i64,
    moments: (Option<i64>, Option<i64>),
    limit: Option<(String, String)>,
    by_line: Vec<i64>,
}

#[derive(Debug)]
struct Line {
    id: String,
    quantity: i64,
    returned: i64,
    refunded: i64,
}

#[derive(Debug)]
struct Order {
    amount: i64,
    refunded: i64,
    at: i64,
    paid: Vec<Paid>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Redemption {
    reward: String,
    points: i64,
    worth: i64,
    coins: Vec<Coins>,
    order: Option<String>,
    returned: i64,
    day: String,
    is_over: bool,
}

#[derive(Debug)]
struct Refund {
    id: String,
    order: String,
    amount: i64,
    lines: Vec<(String, i64, i64)>,
    until: i64,
}

#[derive(Default, Debug)]
pub struct Member {
    coins: Vec<Coins>,
    debt: i64,
    months: BTreeMap<i32, i64>,
    held: Option<Held>,
    /// The levels that were held before, the latest last, with since and until when.
    below: Vec<(usize, i64, i64)>,
    orders: HashMap<String, Order>,
    redemptions: HashMap<String, Redemption>,
    /// Times and points by what is limited and its period.
    used: HashMap<(String, String), (i64, i64)>,
    spent: HashMap<String, Vec<String>>,
    waiting: Vec<Refund>,
    closed: Option<Closed>,
    newest: i64,
}

/// What is on its way between two members.
struct Flying {
    coins: Vec<Coins>,
    owed: i64,
    months: BTreeMap<i32, i64>,
    used: HashMap<(String, String), (i64, i64)>,
    held: Option<Held>,
    is_merge: bool,
}

pub struct Auditor {
    members: BTreeMap<String, Member>,
    seen: HashSet<String>,
    flying: HashMap<String, Vec<Flying>>,
    budget: i64,
    mugs: i64,
    at_end_of_month: bool,
    /// So often each kind of thing has happened, so that a run that proves nothing shows.
    pub tally: BTreeMap<String, u64>,
}

/// What must come of an event.
#[derive(PartialEq, Debug)]
pub enum Verdict {
    Counts(Vec<String>),
    Duplicate,
    Refused,
}

fn cents(value: &Value) -> i64 {
    value.as_str().unwrap().replace('.', "").parse().unwrap()
}

fn share(of: i64, part: i64, whole: i64) -> i64 {
    if whole == 0 { 0 } else { i64::try_from(i128::from(of) * i128::from(part) / i128::from(whole)).unwrap() }
}

/// An entry or a change of level in a line of words; nothing for a note.
pub fn in_words(published: &Value) -> Option<String> {
    let (kind, data) = (published["type"].as_str().unwrap(), &published["data"]);
    let at = second_of(published["time"].as_str().unwrap());
    if kind == "member.noted" {
        return None;
    }
    if kind.starts_with("tier.") {
        let until = data["until"].as_str().map_or(0, second_of);
        let (from, to) = (data["from"].as_str().unwrap(), data["to"].as_str().unwrap());
        return Some(format!("{kind} {from}>{to} of {} until {until} at {at}", data["measure"]));
    }
    let by = ["rule", "tier", "campaign", "redemption", "act"]
        .iter()
        .find_map(|key| Some(format!("{key}:{}", data[key].as_str()?)));
    let declined = data["declined"].as_i64().unwrap_or_default();
    let reason = data["reason"].as_str().unwrap_or("-");
    Some(format!("{kind} {} {} {declined} {reason} at {at}", by.unwrap(), data["points"]))
}

impl Member {
    pub fn available(&self) -> i64 {
        self.coins.iter().filter(|coins| coins.release.is_none()).map(|coins| coins.points).sum::<i64>()
            - self.debt
    }

    pub fn pending(&self) -> i64 {
        self.coins.iter().filter(|coins| coins.release.is_some()).map(|coins| coins.points).sum()
    }

    pub fn level(&self) -> &'static str {
        LEVELS[self.held.as_ref().map_or(0, |held| held.level)]
    }

    /// Points by the moments of their lives, as an account's JSON has them.
    pub fn lots(&self, held: bool) -> BTreeMap<(i64, i64), i64> {
        let mut lots = BTreeMap::new();
        for coins in self.coins.iter().filter(|coins| coins.release.is_some() == held) {
            *lots.entry(coins.moments()).or_default() += coins.points;
        }
        lots
    }

    fn add(&mut self, mut coins: Coins) {
        if coins.release.is_none() {
            let pays = self.debt.min(coins.points);
            self.debt -= pays;
            coins.points -= pays;
        }
        if coins.points == 0 {
            return;
        }
        if let Some(alike) = self.coins.iter().find(|other| other.moments() == coins.moments()) {
            coins.told = alike.told;
        }
        self.coins.push(coins);
    }

    /// Takes coins that `may` be taken, what comes first first.
    fn take(&mut self, points: i64, may: impl Fn(&Coins) -> bool) -> Vec<Coins> {
        let mut places: Vec<usize> = (0..self.coins.len()).filter(|at| may(&self.coins[*at])).collect();
        places.sort_by_key(|at| self.coins[*at].moments());
        let (mut open, mut taken) = (points, Vec::new());
        for at in places {
            let coins = &mut self.coins[at];
            let many = open.min(coins.points);
            if many > 0 {
                taken.push(Coins { points: many, ..*coins });
                coins.points -= many;
                open -= many;
            }
        }
        self.coins.retain(|coins| coins.points > 0);
        taken
    }

    fn measure(&self, month: i32) -> i64 {
        self.months
            .iter()
            .filter(|(other, _)| **other > month - 12 && **other <= month)
            .map(|(_, points)| points)
            .sum()
    }

    fn measure_at_review(&self) -> i64 {
        let until = self.held.as_ref().unwrap().until;
        let at = plus(until, 30.days());
        self.measure(month(until - 1)).max(self.measure(month(at - 1)))
    }

    /// The next thing that falls due: its moment and its place among those of one moment.
    fn next(&self) -> Option<(i64, u8)> {
        let open = || self.coins.iter().filter(|coins| coins.release.is_none());
        let release = self.coins.iter().filter_map(|coins| coins.release).min();
        let expiry = open().filter_map(|coins| coins.expires).min();
        let notice = open().filter(|coins| !coins.told).filter_map(|coins| coins.expires).min();
        let mut review_notice = None;
        let review = self.held.as_ref().filter(|held| held.level > 0 && self.closed.is_none()).map(|held| {
            let at = plus(held.until, 30.days());
            if held.noticed != Some(at) && self.measure_at_review() < FROM[held.level] {
                review_notice = Some(plus(at, -30.days()));
            }
            at
        });
        let all = [release, expiry, notice.map(|expires| plus(expires, -30.days())), review, review_notice];
        all.iter().zip(0..).filter_map(|(moment, place)| Some(((*moment)?, place))).min()
    }

    pub fn next_moment(&self) -> Option<i64> {
        let waiting = self.waiting.iter().map(|refund| refund.until).min();
        self.next().map(|(moment, _)| moment).into_iter().chain(waiting).min()
    }

    fn settle(&mut self, as_of: i64, lines: &mut Vec<String>) {
        while let Some((moment, what)) = self.next().filter(|(moment, _)| *moment <= as_of) {
            self.newest = self.newest.max(if what < 3 { moment } else { self.newest });
            match what {
                0 => {
                    let due =
                        self.take(i64::MAX, |coins| coins.release.is_some_and(|release| release <= moment));
                    let sum: i64 = due.iter().map(|coins| coins.points).sum();
                    lines.push(format!("points.released act:release {sum} 0 - at {moment}"));
                    due.into_iter().for_each(|coins| self.add(Coins { release: None, ..coins }));
                }
                1 => {
                    let is_due = |coins: &Coins| {
                        coins.release.is_none() && coins.expires.is_some_and(|expires| expires <= moment)
                    };
                    let sum: i64 = self.take(i64::MAX, is_due).iter().map(|coins| coins.points).sum();
                    lines.push(format!("points.expired act:expiry {} 0 - at {moment}", -sum));
                }
                2 => {
                    let untold = self.coins.iter().filter(|coins| coins.release.is_none() && !coins.told);
                    let expires = untold.filter_map(|coins| coins.expires).min();
                    self.coins
                        .iter_mut()
                        .filter(|coins| coins.expires == expires)
                        .for_each(|coins| coins.told = true);
                    lines.push(format!("points.expiring act:expiry 0 0 - at {moment}"));
                }
                3 => self.review(lines),
                _ => {
                    let measure = self.measure_at_review();
                    let held = self.held.as_mut().unwrap();
                    let at = plus(held.until, 30.days());
                    held.noticed = Some(at);
                    let level = LEVELS[held.level];
                    lines
                        .push(format!("tier.review-due {level}>{level} of {measure} until {at} at {moment}"));
                }
            }
        }
    }

    fn review(&mut self, lines: &mut Vec<String>) {
        let measure = self.measure_at_review();
        let held = self.held.as_mut().unwrap();
        let (from, at) = (held.level, plus(held.until, 30.days()));
        let deserved = FROM.iter().rposition(|from| *from <= measure).unwrap_or(0);
        held.noticed = None;
        if deserved >= from {
            held.until = plus(held.until, 1.year());
            lines.push(format!("tier.kept {0}>{0} of {measure} until {1} at {at}", LEVELS[from], held.until));
            return;
        }
        (held.level, held.since, held.until) = (deserved.max(from - 1), at, plus(at, 1.year()));
        self.below.clear();
        let until = if held.level == 0 { 0 } else { held.until };
        lines.push(format!(
            "tier.changed {}>{} of {measure} until {until} at {at}",
            LEVELS[from], LEVELS[held.level]
        ));
    }

    fn reach(&mut self, level: usize, until: i64, at: i64, lines: &mut Vec<String>) {
        let measure = self.measure(month(self.newest.max(at)));
        let from = self.held.as_ref().map_or(0, |held| held.level);
        if let Some(held) = self.held.take().filter(|held| held.level > 0) {
            self.below.push((held.level, held.since, held.until));
        }
        self.held = Some(Held { level, since: at, until, noticed: None });
        lines.push(format!(
            "tier.changed {}>{} of {measure} until {until} at {at}",
            LEVELS[from], LEVELS[level]
        ));
    }

    /// Up, as soon as the measure is there.
    fn rise(&mut self, at: i64, lines: &mut Vec<String>) {
        let measure = self.measure(month(self.newest.max(at)));
        let reached = FROM.iter().rposition(|from| *from <= measure).unwrap_or(0);
        if reached > self.held.as_ref().map_or(0, |held| held.level) {
            self.reach(reached, plus(at, 1.year()), at, lines);
        }
    }

    /// Down, where a refund has taken what the level rests on.
    fn fall(&mut self, order_at: i64, before: i64, at: i64, lines: &mut Vec<String>) -> bool {
        let measure = self.measure(month(self.newest.max(at)));
        let Some(held) = self.held.clone().filter(|held| held.since >= order_at && held.level > 0) else {
            return false;
        };
        if measure >= FROM[held.level] || before < FROM[held.level] {
            return false;
        }
        let earlier =
            self.below.iter().filter(|(_, since, _)| *since < order_at).map(|(level, ..)| *level).max();
        let reached = FROM.iter().rposition(|from| *from <= measure).unwrap_or(0);
        let to = reached.max(earlier.unwrap_or(0));
        if to >= held.level {
            return false;
        }
        let known = self.below.iter().rfind(|(level, ..)| *level == to).copied();
        self.below.retain(|(level, since, _)| *level < to && *since < order_at);
        let (since, until) = known.map_or((held.since, held.until), |(_, since, until)| {
            (since, if until > at { until } else { held.until })
        });
        self.held = Some(Held { level: to, since, until, noticed: None });
        let shown = if to == 0 { 0 } else { until };
        lines.push(format!(
            "tier.changed {}>{} of {measure} until {shown} at {at}",
            LEVELS[held.level], LEVELS[to]
        ));
        true
    }
}

impl Auditor {
    pub fn new(at_end_of_month: bool) -> Self {
        Self {
            members: BTreeMap::new(),
            seen: HashSet::new(),
            flying: HashMap::new(),
            budget: BUDGET,
            mugs: STOCK,
            at_end_of_month,
            tally: BTreeMap::new(),
        }
    }

    pub fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// Whose event it is, as they stand.
    pub fn member(&self, event: &Value) -> Option<&Member> {
        self.members.get(event["data"]["member_id"].as_str().unwrap())
    }

    /// What must come of an event.
    pub fn judge(&mut self, event: &Value) -> Verdict {
        let (kind, data) = (event["type"].as_str().unwrap(), &event["data"]);
        let id = format!("{} {}", event["source"], event["id"]);
        let name = data["member_id"].as_str().unwrap().to_owned();
        let key = match kind {
            "order.paid" => Some("order_id"),
            "order.refunded" => Some("refund_id"),
            "redemption.requested" => Some("redemption_id"),
            "points.adjusted" => Some("adjustment_id"),
            "points.transferred" => Some("transfer_id"),
            _ => None,
        };
        let key = key.map(|key| format!("{kind} {name} {}", data[key]));
        if self.seen.contains(&id) || key.as_ref().is_some_and(|key| self.seen.contains(key)) {
            return Verdict::Duplicate;
        }
        let at = second_of(event["time"].as_str().unwrap());
        let mut member = self.members.remove(&name).unwrap_or_default();
        let mut lines = Vec::new();
        let is_refused = !self.count(&name, &mut member, kind, data, at, &mut lines);
        self.members.insert(name, member);
        if is_refused {
            return Verdict::Refused;
        }
        self.seen.insert(id);
        self.seen.extend(key);
        for line in &lines {
            let what: Vec<&str> = line.split(' ').collect();
            let why = if what[0] == "points.declined" { what[4] } else { "" };
            *self.tally.entry(format!("{} {why}", what[0])).or_default() += 1;
        }
        Verdict::Counts(lines)
    }

    /// Whether it counts.
    fn count(
        &mut self,
        name: &str,
        member: &mut Member,
        kind: &str,
        data: &Value,
        at: i64,
        lines: &mut Vec<String>,
    ) -> bool {
        let refund = (kind == "order.refunded" || kind == "refund.waited").then(|| refund(data, at));
        let is_known = refund.as_ref().is_some_and(|refund| member.orders.contains_key(&refund.order));
        if kind == "order.refunded" && member.closed.is_none() && !is_known && member.waiting.len() >= 8 {
            return false;
        }
        member.settle(at, lines);
        // What was bought or redeemed before a merge goes back by what was recorded, and on to who goes on.
        let redemption = data["redemption_id"].as_str().and_then(|id| member.redemptions.get(id));
        let may_be_cancelled =
            redemption.is_some_and(|found| !found.is_over && found.returned < found.points);
        let is_late = matches!(member.closed, Some(Closed::Into(_)))
            && (is_known || kind == "redemption.cancelled" && may_be_cancelled);
        let is_quiet = matches!(kind, "time.came" | "points.received" | "member.erased" | "refund.waited");
        if member.closed.is_some() && !is_quiet && !is_late {
            lines.push(format!("points.declined act:closing 0 0 account_closed at {at}"));
            member.rise(at, lines);
            member.newest = member.newest.max(at);
            return true;
        }
        let before = member.measure(month(member.newest.max(at)));
        let mut fell_at = None;
        let mut over_taken = None;
        let months_before = member.months.clone();
        match kind {
            "time.came" => {}
            "order.paid" => self.order(member, data, at, lines),
            "member.signed_in" => self.sign_in(member, at, lines),
            "order.refunded" | "refund.waited" => {
                let refund = refund.unwrap();
                if kind == "refund.waited" {
                    let many = member.waiting.len();
                    member.waiting.retain(|waiting| waiting.id != refund.id);
                    if member.waiting.len() == many {
                        member.rise(at, lines);
                        return true;
                    }
                }
                if is_known && is_late {
                    self.refund(member, &refund, at, lines);
                } else if is_known {
                    fell_at = Some(member.orders[&refund.order].at);
                    self.refund(member, &refund, at, lines);
                } else if kind == "order.refunded" {
                    member.waiting.push(refund);
                }
            }
            "redemption.requested" => self.redeem(member, data, at, lines),
            "redemption.cancelled" => self.cancel(member, data, at, lines),
            "points.adjusted" => self.adjust(member, data, at, lines),
            "points.transferred" => self.give(name, member, data, at, lines),
            "points.received" => over_taken = self.receive(name, member, data, at, lines),
            "members.merged" => self.merge(name, member, data, at, lines),
            "member.closed" => {
                let sum: i64 = member.coins.drain(..).map(|coins| coins.points).sum();
                if sum > 0 {
                    lines.push(format!("points.expired act:closing {} 0 - at {at}", -sum));
                }
                member.closed = Some(Closed::Left);
            }
            "member.erased" => {}
            other => panic!("{other}"),
        }
        if is_late {
            self.follow(name, member, months_before, at, lines);
        }
        // The clock's event says nothing by itself.
        if kind != "time.came" {
            member.newest = member.newest.max(at);
        }
        if let Some(held) = over_taken
            && held.level > member.held.as_ref().map_or(0, |held| held.level)
        {
            member.reach(held.level, held.until, at, lines);
        }
        if !fell_at.is_some_and(|order_at| member.fall(order_at, before, at, lines)) {
            member.rise(at, lines);
        }
        true
    }

    fn pay(
        at_end_of_month: bool,
        member: &mut Member,
        by: &str,
        (points, cut, why): (i64, i64, &str),
        hold: bool,
        at: i64,
        lines: &mut Vec<String>,
    ) -> (Option<i64>, Option<i64>) {
        let release = hold.then(|| plus(at, 14.days()));
        let expires = expires(at_end_of_month, at);
        if points > 0 {
            let kind = if hold { "points.pending" } else { "points.earned" };
            lines.push(format!("{kind} {by} {points} 0 - at {at}"));
            member.add(Coins { points, expires: Some(expires), release, told: false });
            *member.months.entry(month(at)).or_default() += points;
        }
        if cut > 0 {
            lines.push(format!("points.declined {by} 0 {cut} {why} at {at}"));
        }
        (release, Some(expires))
    }

    fn order(&mut self, member: &mut Member, data: &Value, at: i64, lines: &mut Vec<String>) {
        let level = member.held.as_ref().map_or(0, |held| held.level);
        let at_end_of_month = self.at_end_of_month;
        let amount = cents(&data["amount"]);
        let mut order = Order { amount, refunded: 0, at, paid: Vec::new(), lines: Vec::new() };
        let mut by_line = Vec::new();
        for item in data["items"].as_array().unwrap() {
            let quantity = item["quantity"].as_i64().unwrap();
            let is_book = item["category"] == "books";
            by_line.push(if is_book { quantity * cents(&item["price"]) * 2 / 100 } else { 0 });
            let id = item["line_id"].as_str().unwrap().to_owned();
            order.lines.push(Line { id, quantity, returned: 0, refunded: 0 });
        }
        let mut paid =
            |member: &mut Member, by: &str, points: i64, cut: (i64, &str), hold: bool, limit, by_line| {
                let moments = Self::pay(at_end_of_month, member, by, (points, cut.0, cut.1), hold, at, lines);
                if points > 0 {
                    order.paid.push(Paid { by: by.to_owned(), points, reversed: 0, moments, limit, by_line });
                }
            };
        // One point for each whole unit, held, up to the month's limit.
        let limit = ("purchase".to_owned(), month(at).to_string());
        let used = member.used.entry(limit.clone()).or_default();
        let wanted = amount / 100;
        let purchase = wanted.min((MOST_OF_A_MONTH - used.1).max(0));
        if purchase > 0 {
            *used = (used.0 + 1, used.1 + purchase);
        }
        paid(
            member,
            "rule:purchase",
            purchase,
            (wanted - purchase, "limit_points"),
            true,
            Some(limit),
            Vec::new(),
        );
        let books: i64 = by_line.iter().sum();
        paid(member, "rule:books", books, (0, ""), false, None, by_line);
        let base = purchase + books;
        let bonus = base * (EARN[level] - 100) / 100;
        paid(member, &format!("tier:{}", LEVELS[level]), bonus, (0, ""), purchase > 0, None, Vec::new());
        if day(at).day() == 8 && base > 0 {
            let left = base.min(self.budget);
            self.budget -= left;
            paid(
                member,
                "campaign:member-day",
                left,
                (base - left, "budget"),
                purchase > 0,
                None,
                Vec::new(),
            );
        }
        member.orders.insert(data["order_id"].as_str().unwrap().to_owned(), order);
    }

    fn sign_in(&mut self, member: &mut Member, at: i64, lines: &mut Vec<String>) {
        let used = member.used.entry(("sign-in".to_owned(), day(at).to_string())).or_default();
        if used.0 > 0 {
            lines.push(format!("points.declined rule:sign-in 0 5 limit_times at {at}"));
            return;
        }
        *used = (1, 5);
        let level = member.held.as_ref().map_or(0, |held| held.level);
        let bonus = (format!("tier:{}", LEVELS[level]), 5 * (EARN[level] - 100) / 100);
        for (by, points) in [("rule:sign-in".to_owned(), 5), bonus] {
            Self::pay(self.at_end_of_month, member, &by, (points, 0, ""), false, at, lines);
        }
    }

    fn refund(&mut self, member: &mut Member, refund: &Refund, at: i64, lines: &mut Vec<String>) {
        let mut order = member.orders.remove(&refund.order).unwrap();
        let was_whole = order.refunded >= order.amount;
        let cut = refund.amount.min(order.amount - order.refunded);
        order.refunded += cut;
        for (id, quantity, money) in &refund.lines {
            if let Some(line) = order.lines.iter_mut().find(|line| line.id == *id) {
                line.returned = (line.returned + quantity).min(line.quantity);
                line.refunded += money;
            }
        }
        let whole = order.refunded >= order.amount;
        // What paid for it comes back first, so that it is there for what is taken.
        for id in member.spent.get(&refund.order).cloned().unwrap_or_default() {
            let mut redemption = member.redemptions.remove(&id).unwrap();
            let goal = if whole {
                redemption.points
            } else {
                share(redemption.points, order.refunded, order.amount)
            };
            if !redemption.is_over && goal > redemption.returned {
                give_back(member, &mut redemption, goal, at, lines);
            }
            member.redemptions.insert(id, redemption);
        }
        let named: i64 = order.lines.iter().map(|line| line.refunded).sum::<i64>().min(order.refunded);
        for paid in &mut order.paid {
            let goal = if whole {
                paid.points
            } else if paid.by_line.is_empty() {
                share(paid.points, order.refunded, order.amount)
            } else {
                let of_lines: i64 = order
                    .lines
                    .iter()
                    .zip(&paid.by_line)
                    .map(|(line, points)| share(*points, line.returned, line.quantity))
                    .sum();
                let rest = share(paid.points - of_lines, order.refunded - named, order.amount - named);
                of_lines + rest
            };
            let points = (goal - paid.reversed).max(0);
            if points == 0 && (paid.limit.is_none() || was_whole || !whole) {
                continue;
            }
            paid.reversed += points;
            let own =
                |coins: &Coins| coins.release.is_some() && (coins.release, coins.expires) == paid.moments;
            let mut open = points;
            let mut take = |member: &mut Member, may: &dyn Fn(&Coins) -> bool| {
                open -= member.take(open, may).iter().map(|coins| coins.points).sum::<i64>();
            };
            take(member, &own);
            take(member, &|coins| coins.release.is_some());
            take(member, &|_| true);
            member.debt += open;
            *member.months.entry(month(order.at)).or_default() -= points;
            if let Some(limit) = &paid.limit {
                let used = member.used.entry(limit.clone()).or_default();
                *used = (used.0 - i64::from(whole && !was_whole), used.1 - points);
            }
            if paid.by.starts_with("campaign") {
                self.budget += points;
            }
            lines.push(format!("points.reversed {} {} 0 - at {at}", paid.by, -points));
        }
        if refund.amount > cut || (was_whole && cut == 0) {
            lines.push(format!("points.declined act:refund 0 0 refunded_before at {at}"));
        }
        member.orders.insert(refund.order.clone(), order);
    }

    fn redeem(&mut self, member: &mut Member, data: &Value, at: i64, lines: &mut Vec<String>) {
        let reward = data["reward"].as_str().unwrap().to_owned();
        let level = member.held.as_ref().map_or(0, |held| held.level);
        let points = if reward == "mug" { MUG } else { data["points"].as_i64().unwrap() };
        let order = data["order_id"].as_str().map(str::to_owned);
        // A point is worth a cent, and a part more by the level.
        let worth = if reward == "mug" { 0 } else { points * REDEEM[level] / 100 };
        let of_order = order.as_ref().and_then(|order| member.spent.get(order)).into_iter().flatten();
        let of_order: i64 = of_order.map(|id| member.redemptions[id].worth).sum();
        let limit = ("redemption".to_owned(), day(at).to_string());
        let used = member.used.get(&limit).copied().unwrap_or_default();
        let why = if reward == "cash" && 2 * (of_order + worth) > cents(&data["order_amount"]) {
            Some("share_of_order")
        } else if used.1 + points > MOST_REDEEMED_A_DAY {
            Some("limit_points")
        } else if member.available() < points {
            Some("insufficient_points")
        } else {
            (reward == "mug" && self.mugs == 0).then_some("out_of_stock")
        };
        if let Some(why) = why {
            lines.push(format!("points.declined redemption:{reward} 0 {points} {why} at {at}"));
            return;
        }
        self.mugs -= i64::from(reward == "mug");
        member.used.insert(limit, (used.0 + 1, used.1 + points));
        lines.push(format!("points.redeemed redemption:{reward} {} 0 - at {at}", -points));
        let coins = member.take(points, |coins| coins.release.is_none());
        assert!(
            coins.iter().all(|coins| coins.expires.is_none_or(|expires| expires > at)),
            "spent after expiry"
        );
        let id = data["redemption_id"].as_str().unwrap().to_owned();
        if let Some(order) = &order {
            member.spent.entry(order.clone()).or_default().push(id.clone());
        }
        let day = day(at).to_string();
        member
            .redemptions
            .insert(id, Redemption { reward, points, worth, coins, order, returned: 0, day, is_over: false });
    }

    fn cancel(&mut self, member: &mut Member, data: &Value, at: i64, lines: &mut Vec<String>) {
        let id = data["redemption_id"].as_str().unwrap();
        let Some(mut redemption) = member.redemptions.remove(id) else {
            lines.push(format!("points.declined redemption:unknown 0 0 unknown_redemption at {at}"));
            return;
        };
        if redemption.is_over || redemption.returned == redemption.points {
            lines.push(format!(
                "points.declined redemption:{} 0 0 already_cancelled at {at}",
                redemption.reward
            ));
        } else {
            let all = redemption.points;
            give_back(member, &mut redemption, all, at, lines);
            redemption.is_over = true;
            self.mugs += i64::from(redemption.reward == "mug");
            if let Some(order) = &redemption.order {
                member.spent.get_mut(order).unwrap().retain(|other| other != id);
            }
        }
        member.redemptions.insert(id.to_owned(), redemption);
    }

    fn adjust(&mut self, member: &mut Member, data: &Value, at: i64, lines: &mut Vec<String>) {
        let points = data["points"].as_i64().unwrap();
        lines.push(format!("points.adjusted act:adjustment {points} 0 - at {at}"));
        if points > 0 {
            member.add(Coins {
                points,
                expires: Some(expires(self.at_end_of_month, at)),
                release: None,
                told: false,
            });
            return;
        }
        let mut open = -points;
        for is_held in [false, true] {
            open -= member
                .take(open, |coins| coins.release.is_some() == is_held)
                .iter()
                .map(|coins| coins.points)
                .sum::<i64>();
        }
        member.debt += open;
    }

    fn give(&mut self, name: &str, member: &mut Member, data: &Value, at: i64, lines: &mut Vec<String>) {
        let points = data["points"].as_i64().unwrap();
        let why = if data["to_id"] == name {
            Some("self_transfer")
        } else {
            (member.available() < points).then_some("insufficient_points")
        };
        if let Some(why) = why {
            lines.push(format!("points.declined act:transfer 0 {points} {why} at {at}"));
            return;
        }
        lines.push(format!("points.transferred act:transfer {} 0 - at {at}", -points));
        let coins = member.take(points, |coins| coins.release.is_none());
        let flying = Flying {
            coins,
            owed: 0,
            months: BTreeMap::new(),
            used: HashMap::new(),
            held: None,
            is_merge: false,
        };
        self.flying.entry(format!("t {}", data["transfer_id"])).or_default().push(flying);
    }

    fn merge(&mut self, name: &str, member: &mut Member, data: &Value, at: i64, lines: &mut Vec<String>) {
        let (coins, owed) = empty(member, at, lines);
        let (months, used, held) = (member.months.clone(), member.used.clone(), member.held.clone());
        let flying = Flying { coins, owed, months, used, held, is_merge: true };
        self.flying.entry(format!("m {name}")).or_default().push(flying);
        member.closed = Some(Closed::Into(data["into_id"].as_str().unwrap().to_owned()));
    }

    fn follow(
        &mut self,
        name: &str,
        member: &mut Member,
        before: BTreeMap<i32, i64>,
        at: i64,
        lines: &mut Vec<String>,
    ) {
        let (coins, owed) = empty(member, at, lines);
        let mut months = member.months.clone();
        for (month, points) in before {
            *months.entry(month).or_default() -= points;
        }
        if coins.is_empty() && owed == 0 && months.values().sum::<i64>() == 0 {
            return;
        }
        *self.tally.entry("went on to who goes on".to_owned()).or_default() += 1;
        let flying = Flying { coins, owed, months, used: HashMap::new(), held: None, is_merge: true };
        self.flying.entry(format!("m {name}")).or_default().push(flying);
    }

    /// What arrives must be what left; a level that comes along is given back.
    fn receive(
        &mut self,
        _name: &str,
        member: &mut Member,
        data: &Value,
        at: i64,
        lines: &mut Vec<String>,
    ) -> Option<Held> {
        let transfer = &data["transfer_id"];
        let key = if transfer.is_null() {
            format!("m {}", data["from"].as_str().unwrap())
        } else {
            format!("t {transfer}")
        };
        match &member.closed {
            Some(Closed::Into(_)) if data["hops"].as_i64().unwrap_or_default() < 4 => return None,
            Some(Closed::Left) if !transfer.is_null() && data["bounced"] != true => return None,
            _ => {}
        }
        let lots = data["lots"].as_array().into_iter().flatten();
        let arrived: i64 = lots.map(|lot| lot[0].as_i64().unwrap()).sum();
        let flying = self.flying.get_mut(&key).expect("it was sent");
        let is_it = |flying: &Flying| {
            flying.coins.iter().map(|coins| coins.points).sum::<i64>() == arrived
                && flying.owed == data["owed"].as_i64().unwrap_or_default()
        };
        let place = flying.iter().position(is_it).expect("it was sent like that");
        let Flying { coins, owed, months, used, held, is_merge } = flying.remove(place);
        let sum: i64 = coins.iter().map(|coins| coins.points).sum();
        let act = if is_merge { "merge" } else { "transfer" };
        if sum > 0 {
            lines.push(format!("points.transferred act:{act} {sum} 0 - at {at}"));
        }
        // What expires first pays what is owed first.
        let mut coins = coins;
        coins.sort_by_key(Coins::moments);
        coins.into_iter().for_each(|coins| member.add(coins));
        if owed > 0 {
            lines.push(format!("points.transferred act:{act} {} 0 - at {at}", -owed));
            let taken: i64 =
                member.take(owed, |coins| coins.release.is_none()).iter().map(|coins| coins.points).sum();
            member.debt += owed - taken;
        }
        for (month, points) in months {
            *member.months.entry(month).or_default() += points;
        }
        for (key, (times, points)) in used {
            let mine = member.used.entry(key).or_default();
            *mine = (mine.0 + times, mine.1 + points);
        }
        held
    }
}

/// Takes all that a member has, or owes.
fn empty(member: &mut Member, at: i64, lines: &mut Vec<String>) -> (Vec<Coins>, i64) {
    let coins = std::mem::take(&mut member.coins);
    let (sum, owed) = (coins.iter().map(|coins| coins.points).sum::<i64>(), std::mem::take(&mut member.debt));
    if sum > 0 {
        lines.push(format!("points.transferred act:merge {} 0 - at {at}", -sum));
    }
    if owed > 0 {
        lines.push(format!("points.transferred act:merge {owed} 0 - at {at}"));
    }
    (coins, owed)
}

fn expires(at_end_of_month: bool, at: i64) -> i64 {
    let expires = plus(at, 1.year());
    if at_end_of_month { end_of_month(expires) } else { expires }
}

fn refund(data: &Value, at: i64) -> Refund {
    let lines = data["lines"].as_array().into_iter().flatten();
    let line = |line: &Value| {
        (line["line_id"].as_str().unwrap().to_owned(), whole(&line["quantity"]), cents(&line["amount"]))
    };
    Refund {
        id: data["refund_id"].as_str().unwrap().to_owned(),
        order: data["order_id"].as_str().unwrap().to_owned(),
        amount: cents(&data["amount"]),
        lines: lines.map(line).collect(),
        until: at + DEDUPE_WINDOW,
    }
}

/// A whole number, as upstream writes it or as accrual does.
fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// Coins that were spent come back up to `goal`; those that are over by now go at once.
fn give_back(member: &mut Member, redemption: &mut Redemption, goal: i64, at: i64, lines: &mut Vec<String>) {
    let (mut skip, mut open, mut over) = (redemption.returned, goal - redemption.returned, 0);
    lines.push(format!("points.returned redemption:{} {open} 0 - at {at}", redemption.reward));
    let is_all = goal == redemption.points;
    let used = member.used.entry(("redemption".to_owned(), redemption.day.clone())).or_default();
    *used = (used.0 - i64::from(is_all), used.1 - open);
    redemption.returned = goal;
    let mut coins = redemption.coins.clone();
    coins.sort_by_key(Coins::moments);
    for coins in coins {
        let skipped = skip.min(coins.points);
        skip -= skipped;
        let points = open.min(coins.points - skipped);
        open -= points;
        if coins.expires.is_some_and(|expires| expires <= at) {
            over += points;
        } else if points > 0 {
            member.add(Coins { points, ..coins });
        }
    }
    if over > 0 {
        lines.push(format!("points.expired redemption:{} {} 0 - at {at}", redemption.reward, -over));
    }
}
