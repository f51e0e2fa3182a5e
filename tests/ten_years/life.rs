//! Ten years of a shop and its members, from a seed.

use jiff::ToSpan;
use serde_json::{Value, json};

use super::calendar::{plus, second_of, text_of};
use super::rng::Rng;

/// What the campaign pays at most in all.
pub const BUDGET: i64 = 60_000;
/// How many mugs there are.
pub const STOCK: i64 = 150;

pub fn programme(expire: &str) -> String {
    format!(
        r#"
programme: decade
timezone: Europe/Berlin
currency: EUR
points: {{expire: {expire}, notice: P30D, shortfall: negative, rounding: floor}}
tiers:
  measure: earned
  window: P12M
  review: {{every: P1Y, grace: P30D, drop: one_level, notice: P30D}}
  levels:
    - {{id: basic, from: 0}}
    - {{id: silver, from: 1000, earn: 1.1, redeem: 1.1}}
    - {{id: gold, from: 3000, earn: 1.25, redeem: 1.2}}
rules:
  - {{id: purchase, on: order.paid, earn: {{points: 1, per: 1.00}}, hold: P14D, limit: {{points: 2500, per: month}}}}
  - {{id: books, on: order.paid, each: item, when: item.category == "books", earn: {{points: 2, per: 1.00}}}}
  - {{id: sign-in, on: member.signed_in, earn: {{points: 5}}, limit: {{times: 1, per: day}}}}
campaigns:
  - {{id: member-day, on: order.paid, during: {{monthly: [8]}}, multiply: 2, budget: {{points: {BUDGET}}}}}
redemption:
  rate: {{points: 100, worth: 1.00}}
  limits: [{{points: 2000, per: day}}, {{share_of_order: 0.5}}]
  rewards:
    - {{id: cash, kind: money}}
    - {{id: mug, kind: goods, points: 500, stock: {STOCK}}}
"#
    )
}

/// An order as its member remembers it: what may still be refunded.
struct Order {
    id: String,
    open: i64,
    /// Name, how many are left, price.
    lines: Vec<(String, i64, i64)>,
}

pub struct Shopper {
    pub name: String,
    /// Things that they do in a year, about.
    pace: usize,
    /// What they spend in an order at most, in cents.
    purse: usize,
    orders: Vec<Order>,
    redemptions: Vec<String>,
    serial: usize,
    is_gone: bool,
}

fn money(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

impl Shopper {
    pub fn new(number: usize, rng: &mut Rng) -> Self {
        let pace = [2, 6, 12, 25, 60][rng.below(5)];
        let purse = [3_000, 10_000, 40_000, 90_000][rng.below(4)];
        Self {
            name: format!("m{number}"),
            pace,
            purse,
            orders: Vec::new(),
            redemptions: Vec::new(),
            serial: 0,
            is_gone: false,
        }
    }

    /// What they do on a day that begins at this second: events in the order in which they arrive, by when they do.
    pub fn day(&mut self, midnight: i64, others: usize, rng: &mut Rng) -> Vec<(i64, Value)> {
        let mut events = Vec::new();
        // Who is gone may still come by, to no avail.
        let pace = if self.is_gone { self.pace.min(8) } else { self.pace };
        while rng.below(365) < pace {
            let at = midnight + rng.below(86_400) as i64;
            for event in self.something(at, others, rng) {
                let late = if rng.chance(80) { rng.below(5 * 86_400) as i64 } else { 0 };
                events.push((at + late, event.clone()));
                if rng.chance(30) {
                    events.push((at + late + rng.below(40 * 86_400) as i64, event));
                }
            }
            if events.len() > 6 {
                break;
            }
        }
        events
    }

    fn something(&mut self, at: i64, others: usize, rng: &mut Rng) -> Vec<Value> {
        self.serial += 1;
        let id = format!("{}-{}", self.name, self.serial);
        let other = format!("m{}", rng.below(others));
        let event = |id: &str, kind: &str, at: i64, mut data: Value| {
            data["member_id"] = self.name.as_str().into();
            json!({"specversion": "1.0", "id": id, "source": "shop", "type": kind, "time": text_of(at), "data": data})
        };
        match rng.below(1_000) {
            0..300 => {
                let (order, data) = self.order(&id, rng);
                let mut events = Vec::new();
                if rng.chance(250) {
                    // Points pay for a part of it, and more than may be now and then.
                    let points = 1 + rng.below(usize::try_from(order.open / 2).unwrap() + 20);
                    let request = json!({"redemption_id": format!("{id}-r"), "reward": "cash", "points": points, "order_id": id, "order_amount": money(order.open)});
                    events.push(event(&format!("{id}-r"), "redemption.requested", at, request));
                }
                events.push(event(&id, "order.paid", at, data));
                if !events[0]["data"]["reward"].is_null() {
                    self.redemptions.push(format!("{id}-r"));
                }
                self.orders.push(order);
                events
            }
            300..420 if !self.orders.is_empty() => {
                let recent = self.orders.len().min(4);
                let place = self.orders.len() - 1 - rng.below(recent);
                let data = refund(&mut self.orders[place], &id, rng);
                vec![event(&id, "order.refunded", at, data)]
            }
            // A refund may be told before its order.
            420..450 => {
                let (mut order, data) = self.order(&id, rng);
                let refund = refund(&mut order, &format!("{id}-f"), rng);
                let events = vec![
                    event(&format!("{id}-f"), "order.refunded", at + 60, refund),
                    event(&id, "order.paid", at, data),
                ];
                self.orders.push(order);
                events
            }
            450..458 => vec![event(
                &id,
                "order.refunded",
                at,
                json!({"refund_id": id, "order_id": "nobody-knows", "amount": "5.00"}),
            )],
            458..640 => vec![event(&id, "member.signed_in", at, json!({}))],
            640..740 => {
                let reward = if rng.chance(500) {
                    json!({"reward": "mug"})
                } else {
                    json!({"reward": "cash", "points": 1 + rng.below(800), "order_id": "o", "order_amount": "9999.00"})
                };
                let mut data = reward;
                data["redemption_id"] = id.as_str().into();
                let events = vec![event(&id, "redemption.requested", at, data)];
                self.redemptions.push(id);
                events
            }
            740..830 => {
                let recent = self.redemptions.len().min(5);
                let redemption = if recent == 0 {
                    "none".to_owned()
                } else {
                    self.redemptions[self.redemptions.len() - 1 - rng.below(recent)].clone()
                };
                vec![event(&id, "redemption.cancelled", at, json!({"redemption_id": redemption}))]
            }
            830..900 => vec![event(
                &id,
                "points.transferred",
                at,
                json!({"transfer_id": id, "to_id": other, "points": 1 + rng.below(200)}),
            )],
            900..960 => {
                let points = rng.below(300) as i64 - 149;
                let points = if points == 0 { 1 } else { points };
                vec![event(
                    &id,
                    "points.adjusted",
                    at,
                    json!({"adjustment_id": id, "points": points, "reason": "r", "by": "kim"}),
                )]
            }
            960..962 if other != self.name => {
                let events = vec![event(&id, "members.merged", at, json!({"into_id": other}))];
                self.is_gone = true;
                events
            }
            962..963 => {
                let events = vec![event(&id, "member.closed", at, json!({}))];
                self.is_gone = true;
                events
            }
            963..964 => vec![event(&id, "member.erased", at, json!({}))],
            _ => vec![event(&id, "member.signed_in", at, json!({"channel": "app"}))],
        }
    }

    fn order(&self, id: &str, rng: &mut Rng) -> (Order, Value) {
        let mut lines = Vec::new();
        let mut items = Vec::new();
        let mut sum = 0;
        for number in 0..=rng.below(3) {
            let (line, many, price) =
                (format!("l{number}"), 1 + rng.below(3) as i64, 100 + rng.below(self.purse / 3) as i64);
            let category = if rng.chance(300) { "books" } else { "toys" };
            items.push(json!({"line_id": line, "sku": "x", "category": category, "quantity": many, "price": money(price)}));
            sum += many * price;
            lines.push((line, many, price));
        }
        let data = json!({"order_id": id, "currency": "EUR", "amount": money(sum), "items": items});
        (Order { id: id.to_owned(), open: sum, lines }, data)
    }
}

/// Some of what is left of an order: a line, some money, or all; at times more than there is.
fn refund(order: &mut Order, id: &str, rng: &mut Rng) -> Value {
    let mut data = json!({"refund_id": id, "order_id": order.id});
    let amount = match rng.below(10) {
        0..4 => {
            let place = rng.below(order.lines.len());
            let (line, many, price) = &mut order.lines[place];
            let returned = 1 + rng.below(usize::try_from((*many).max(1)).unwrap()) as i64;
            *many -= returned.min(*many);
            let amount = returned * *price;
            data["lines"] = json!([{"line_id": line, "quantity": returned, "amount": money(amount)}]);
            amount
        }
        4..7 => 1 + rng.below(usize::try_from(order.open.max(1)).unwrap()) as i64,
        7 => order.open + 1_000,
        _ => order.open,
    };
    order.open = (order.open - amount).max(0);
    data["amount"] = money(amount).into();
    data
}

/// The first moment of a day since the beginning.
pub fn midnight(day: i64) -> i64 {
    plus(second_of("2026-01-01T00:00:00+01:00"), day.days())
}
