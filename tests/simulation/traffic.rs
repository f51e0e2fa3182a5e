//! What upstream sends in the simulation: orders and sign-ins of few members, so that lanes meet on
//! them, with repeats of every kind and broken records.

use super::rng::Rng;
use super::world::SECOND_FROM;

const NEWCOMERS: usize = 12;

/// Members whose orders are refunded and who redeem and transfer points; their orders are large, and bring no gift.
const SPENDERS: usize = 3;
pub const LARGE: u64 = 1_000;

/// So many refunds there are at most: fewer than may wait in one account.
const MOST_REFUNDS: usize = 8;

pub struct Sent {
    pub payload: String,
    /// Partition and offset, as dead letters name them.
    pub at: String,
    /// What the record means, as the auditor knows it.
    pub meaning: Meaning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    Order {
        event: String,
        order: String,
        member: String,
        amount: u64,
    },
    SignIn {
        event: String,
        member: String,
        day: u32,
    },
    /// A survey, of few, so that the same member answers one again under another event id.
    Survey {
        event: String,
        member: String,
        survey: usize,
    },
    /// Money of an order is given back, in cents.
    Refund {
        refund: String,
        order: String,
        cents: u64,
    },
    /// A member asks for a badge.
    Redemption {
        redemption: String,
    },
    /// A member gives points to another.
    Transfer {
        transfer: String,
    },
    /// Somebody comes, referred by a member.
    Registration {
        member: String,
        referrer: String,
    },
    /// An order that came before, under the same event id with another payload.
    Conflict {
        event: String,
    },
    Skipped,
    Broken,
}

pub fn generate(rng: &mut Rng, records: usize) -> Vec<Sent> {
    let mut sent: Vec<Sent> = Vec::new();
    for number in 0..records {
        let again = (!sent.is_empty() && rng.chance(200)).then(|| rng.below(sent.len()));
        let next = match again {
            Some(at) => repeat(rng, &sent[at], number),
            None if rng.chance(250) => spend(rng, &sent, number),
            None => fresh(rng, number),
        };
        sent.push(next);
    }
    sent
}

fn repeat(rng: &mut Rng, earlier: &Sent, number: usize) -> Sent {
    match &earlier.meaning {
        // The same order under another event id.
        Meaning::Order { order, member, amount, .. } if rng.chance(300) => {
            order_event(&format!("again-{number}"), order, member, *amount)
        }
        // The same event id with another payload.
        Meaning::Order { event, .. } if rng.chance(150) => Sent {
            at: String::new(),
            payload: earlier.payload.replace(r#""currency""#, r#""shipping":1,"currency""#),
            meaning: Meaning::Conflict { event: event.clone() },
        },
        meaning => Sent { at: String::new(), payload: earlier.payload.clone(), meaning: meaning.clone() },
    }
}

fn fresh(rng: &mut Rng, number: usize) -> Sent {
    // Few that everybody meets on, and newcomers, who order before or after they have registered.
    let member = if rng.chance(150) { newcomer(rng) } else { format!("m{}", rng.below(6)) };
    match rng.below(22) {
        20.. => {
            let number = rng.below(NEWCOMERS);
            // Always by the same, so that a registration that comes again is a repeat and not another one.
            let (member, referrer) = (format!("n{number}"), format!("m{}", number % 3));
            let data =
                format!(r#"{{"member_id":"{member}","referrer_id":"{referrer}","birthday":"1990-11-03"}}"#);
            let payload = envelope(&format!("r-{member}"), "member.registered", 1, &data);
            Sent { at: String::new(), payload, meaning: Meaning::Registration { member, referrer } }
        }
        0 => Sent { at: String::new(), payload: "{not json".to_owned(), meaning: Meaning::Broken },
        1 => Sent {
            at: String::new(),
            payload: envelope(
                &format!("x{number}"),
                "page.viewed",
                1,
                &format!(r#"{{"member_id":"{member}"}}"#),
            ),
            meaning: Meaning::Skipped,
        },
        2..4 => {
            let (event, survey) = (format!("v{number}"), rng.below(3));
            let data = format!(r#"{{"member_id":"{member}","survey_id":"{survey}"}}"#);
            let payload = envelope(&event, "survey.completed", 1, &data);
            Sent { at: String::new(), payload, meaning: Meaning::Survey { event, member, survey } }
        }
        4..8 => {
            let (event, day) = (format!("s{number}"), 1 + rng.below(5) as u32);
            let payload =
                envelope(&event, "member.signed_in", day, &format!(r#"{{"member_id":"{member}"}}"#));
            Sent { at: String::new(), payload, meaning: Meaning::SignIn { event, member, day } }
        }
        _ => {
            order_event(&format!("o{number}"), &format!("order-{number}"), &member, 1 + rng.below(400) as u64)
        }
    }
}

/// What a spender does: an order, a refund of one in two parts or a half, a redemption or its cancellation, a transfer.
fn spend(rng: &mut Rng, before: &[Sent], number: usize) -> Sent {
    let member = format!("r{}", rng.below(SPENDERS));
    let orders: Vec<(&String, &String, u64)> = before
        .iter()
        .filter_map(|sent| match &sent.meaning {
            Meaning::Order { order, member, amount, .. } if *amount > LARGE => Some((order, member, *amount)),
            _ => None,
        })
        .collect();
    let refunds = before.iter().filter(|sent| matches!(sent.meaning, Meaning::Refund { .. })).count();
    let of = |kind: &str, data: String, meaning| Sent {
        at: String::new(),
        payload: envelope(&format!("{kind}-{number}"), kind, 1, &data),
        meaning,
    };
    match rng.below(10) {
        0..3 if !orders.is_empty() && refunds < MOST_REFUNDS => {
            let (order, member, amount) = orders[rng.below(orders.len())];
            // One half, or the rest after it, or both at once; sent again under another event id it is the same.
            let part = rng.below(3);
            let (refund, cents) = match part {
                0 => (format!("{order}-half"), amount * 50),
                1 => (format!("{order}-rest"), amount * 50 + 50),
                _ => (format!("{order}-all"), amount * 100 + 50),
            };
            let data = format!(
                r#"{{"member_id":"{member}","order_id":"{order}","refund_id":"{refund}","amount":"{}.{:02}"}}"#,
                cents / 100,
                cents % 100
            );
            of("order.refunded", data, Meaning::Refund { refund, order: order.clone(), cents })
        }
        3..6 => {
            let redemption = format!("x{}", rng.below(6));
            let data =
                format!(r#"{{"member_id":"{member}","redemption_id":"{redemption}","reward":"badge"}}"#);
            of(
                "redemption.requested",
                data,
                Meaning::Redemption { redemption: format!("{member} {redemption}") },
            )
        }
        6 => {
            let data = format!(r#"{{"member_id":"{member}","redemption_id":"x{}"}}"#, rng.below(6));
            of("redemption.cancelled", data, Meaning::Skipped)
        }
        7 => {
            let transfer = format!("t{}", rng.below(8));
            let to = rng.below(SPENDERS);
            let data = format!(
                r#"{{"member_id":"{member}","to_id":"r{to}","transfer_id":"{transfer}","points":{}}}"#,
                1 + rng.below(40)
            );
            of("points.transferred", data, Meaning::Transfer { transfer: format!("{member} {transfer}") })
        }
        // An odd amount: all that a spender does is decided by the first version.
        _ => order_event(
            &format!("o{number}"),
            &format!("order-{number}"),
            &member,
            LARGE + 1 + 2 * rng.below(200) as u64,
        ),
    }
}

fn newcomer(rng: &mut Rng) -> String {
    format!("n{}", rng.below(NEWCOMERS))
}

/// Under the first or the second version of the programme; the same for every repeat of an order.
fn day_of_order(amount: u64) -> u32 {
    if amount.is_multiple_of(2) { SECOND_FROM } else { 1 }
}

fn order_event(event: &str, order: &str, member: &str, amount: u64) -> Sent {
    let data =
        format!(r#"{{"member_id":"{member}","order_id":"{order}","amount":"{amount}.50","currency":"EUR"}}"#);
    let meaning = Meaning::Order {
        event: event.to_owned(),
        order: order.to_owned(),
        member: member.to_owned(),
        amount,
    };
    Sent { at: String::new(), payload: envelope(event, "order.paid", day_of_order(amount), &data), meaning }
}

fn envelope(id: &str, kind: &str, day: u32, data: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"shop","type":"{kind}","time":"2026-11-{day:02}T12:00:00Z","data":{data}}}"#
    )
}
