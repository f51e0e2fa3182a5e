//! What is published, described by the very types that it is rendered from and narrowed to what each type has.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{SchemaFile, file, set_type};
use crate::account::Account;
use crate::entry::EntryKind;
use crate::entry::render::{
    CameData, CloudEvent, EntryData, NotedData, OccasionData, ReceivedData, ReferredData, TierData,
    WaitedData,
};
use crate::event::internal::{CAME, RECEIVED, REFERRED, WAITED};

pub(super) fn all() -> impl Iterator<Item = SchemaFile> {
    EntryKind::ALL.into_iter().map(entry).chain(changes_of_level()).chain(internal()).chain([
        output::<NotedData<'static>>(
            "member.noted",
            "What a member did or what was told of them, where no entry says it. On the topic of awards, so that the \
             ledger alone rebuilds an account.",
            |_| {},
        ),
        output::<Account>(
            "account.changed",
            "The account after its latest change, on a compacted topic. Of two the one with the greater \
             version `v` holds.",
            |_| {},
        ),
    ])
}

/// What the entries of a kind have.
struct Has {
    about: &'static str,
    /// The points that they move, where not any.
    points: Option<Value>,
    /// What may pay or take: the keys of an [`Origin`](crate::entry::Origin).
    by: &'static [&'static str],
    /// Of `act` these.
    acts: &'static [&'static str],
    /// What is always there beside what every entry has.
    always: &'static [&'static str],
    /// What may be there.
    sometimes: &'static [&'static str],
}

/// What every entry has.
const EVERY: [&str; 10] = [
    "member_id",
    "points",
    "available",
    "pending",
    "version",
    "day",
    "event",
    "programme",
    "receipts",
    "chain",
];

/// What notes go with entries; the others go by themselves.
const NOTES_OF_ENTRIES: [&str; 5] = ["order", "sign_in", "profile", "celebrated", "referred"];

fn none_moved() -> Value {
    json!({"description": "None were moved.", "const": 0})
}

fn came() -> Value {
    json!({"description": "Points that came.", "type": "integer", "minimum": 1})
}

fn went() -> Value {
    json!({"description": "Points that went, as a number below zero.", "type": "integer", "maximum": -1})
}

fn has(kind: EntryKind) -> Has {
    const PAYS: &[&str] = &["rule", "streak_of", "tier", "campaign", "redemption"];
    match kind {
        EntryKind::Earned => Has {
            about: "Points came, and can be spent.",
            points: Some(came()),
            by: PAYS,
            acts: &[],
            always: &[],
            sometimes: &["of", "factor", "streak", "counts", "expires_at", "noted", "redemption_id"],
        },
        EntryKind::Pending => Has {
            about: "Points came, and are held until `held_until`.",
            points: Some(came()),
            by: PAYS,
            acts: &[],
            always: &["held_until"],
            sometimes: &["of", "factor", "streak", "counts", "expires_at", "noted", "redemption_id"],
        },
        EntryKind::Released => Has {
            about: "Points that were held can be spent.",
            points: Some(json!({"description": "Points that were held.", "type": "integer", "minimum": 1})),
            by: &["act"],
            acts: &["release"],
            always: &["lots"],
            sometimes: &[],
        },
        EntryKind::Declined => Has {
            about: "Points or a reward did not come, or were not taken, and `reason` says why.",
            points: Some(none_moved()),
            by: &["rule", "campaign", "redemption", "act"],
            acts: &["refund", "adjustment", "transfer", "closing"],
            always: &["declined", "reason"],
            sometimes: &[
                "of",
                "streak",
                "reward",
                "noted",
                "order_id",
                "refund_id",
                "redemption_id",
                "quantity",
                "adjustment_id",
                "operator",
                "explanation",
                "transfer_id",
                "counterparty",
            ],
        },
        EntryKind::Granted => Has {
            about: "A member was given a reward of the catalogue. On the topic of awards.",
            points: Some(none_moved()),
            by: &["rule"],
            acts: &[],
            always: &["reward"],
            sometimes: &["streak", "counts", "noted"],
        },
        EntryKind::Redeemed => Has {
            about: "Points bought something.",
            points: Some(went()),
            by: &["redemption"],
            acts: &[],
            always: &["reward", "lots", "redemption_id"],
            sometimes: &["counts", "order_id", "quantity", "worth", "prizes"],
        },
        EntryKind::Returned => Has {
            about: "Points that had bought something came back, with the moments at which they expire.",
            points: Some(came()),
            by: &["redemption"],
            acts: &[],
            always: &["lots", "redemption_id"],
            sometimes: &["counts", "order_id", "refund_id", "whole"],
        },
        EntryKind::Reversed => Has {
            about: "Points were taken back, because what they were paid for was refunded.",
            points: Some(json!({
                "description": "Points that went, as a number below zero; 0 where only what limits counted goes back.",
                "type": "integer",
                "maximum": 0
            })),
            by: &["rule", "tier", "campaign"],
            acts: &[],
            always: &["order_id", "refund_id"],
            sometimes: &["lots", "counts", "whole"],
        },
        EntryKind::Expiring => Has {
            about: "Points will expire, and their member is told.",
            points: Some(none_moved()),
            by: &["act"],
            acts: &["expiry"],
            always: &["lots", "expires_at"],
            sometimes: &[],
        },
        EntryKind::Expired => Has {
            about: "Points expired, or ended with their account.",
            points: Some(went()),
            by: &["act"],
            acts: &["expiry", "closing"],
            always: &["lots"],
            sometimes: &[],
        },
        EntryKind::Adjusted => Has {
            about: "An operator gave or took points.",
            points: None,
            by: &["act"],
            acts: &["adjustment"],
            always: &["adjustment_id", "operator", "explanation"],
            sometimes: &["lots", "expires_at"],
        },
        EntryKind::Transferred => Has {
            about: "Points went to another member, or came from one. Without `transfer_id` two accounts became one.",
            points: None,
            by: &["act"],
            acts: &["transfer", "merge"],
            always: &["counterparty"],
            sometimes: &["lots", "transfer_id"],
        },
    }
}

fn entry(kind: EntryKind) -> SchemaFile {
    let Has { about, points, by, acts, always, sometimes } = has(kind);
    output::<EntryData<'static>>(kind.event_type(), about, |schema| {
        let Some(entry) = definition::<EntryData<'static>>(schema) else { return };
        if let Some(required) = entry.get_mut("required").and_then(Value::as_array_mut) {
            required.extend(always.iter().map(|name| Value::from(*name)));
        }
        if let Some(properties) = entry.get_mut("properties").and_then(Value::as_object_mut) {
            properties.retain(|name, _| {
                [EVERY.as_slice(), always, sometimes].iter().any(|known| known.contains(&name.as_str()))
            });
            properties.extend(points.map(|points| ("points".to_owned(), points)));
            if let (EntryKind::Declined, Some(reward)) = (kind, properties.get_mut("reward")) {
                reward["description"] = "The reward that was not given.".into();
            }
        }
        if let Some(origins) = entry.get_mut("oneOf") {
            keep(origins, |origin| has_property(origin, by));
        }
        of(schema, "/$defs/Act/oneOf", |act| is_one_of(act, acts));
        of(schema, "/$defs/Note/oneOf", |note| has_property(note, &NOTES_OF_ENTRIES));
        if kind == EntryKind::Granted {
            // Money and draws are bought.
            of(schema, "/$defs/RewardKind/oneOf", |kind| is_one_of(kind, &["coupon", "goods", "service"]));
        }
    })
}

fn changes_of_level() -> impl Iterator<Item = SchemaFile> {
    let kinds: [(&str, &str, &[&str], &[&str]); 3] = [
        ("tier.changed", "A member has another level.", &["reached", "refunded", "review"], &[]),
        ("tier.kept", "At a review a member kept the level, which is both `from` and `to`.", &["kept"], &[]),
        (
            "tier.review-due",
            "A review comes, `until` which the member has the level; as things stand they would not keep it.",
            &["review_due"],
            &["until"],
        ),
    ];
    kinds.into_iter().map(|(kind, about, reasons, always)| {
        output::<TierData<'static>>(kind, about, |schema| {
            of(schema, "/$defs/TierWhy/oneOf", |reason| is_one_of(reason, reasons));
            let Some(data) = definition::<TierData<'static>>(schema) else { return };
            if let Some(required) = data.get_mut("required").and_then(Value::as_array_mut) {
                required.extend(always.iter().map(|name| Value::from(*name)));
            }
        })
    })
}

/// What accrual tells itself.
fn internal() -> [SchemaFile; 6] {
    [
        output::<ReferredData<'static>>(
            REFERRED,
            "The member, who referred a newcomer, is to be paid for it. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<OccasionData<'static>>(
            "member.birthday",
            "The member's birthday has come. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<OccasionData<'static>>(
            "member.anniversary",
            "The day on which the member registered has come again. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<CameData<'static>>(
            CAME,
            "Something of the member's has fallen due: points are released or expire, or a level is looked at. On the \
             internal topic, by accrual alone.",
            |_| {},
        ),
        output::<WaitedData<'static>>(
            WAITED,
            "A refund that waits for its order is looked at once more. On the internal topic, by accrual alone.",
            |_| {},
        ),
        output::<ReceivedData<'static>>(
            RECEIVED,
            "Points are on their way to the member from another. On the internal topic, by accrual alone.",
            |_| {},
        ),
    ]
}

/// The definition of a type.
fn definition<D: JsonSchema>(schema: &mut Schema) -> Option<&mut Map<String, Value>> {
    schema.pointer_mut(&format!("/$defs/{}", D::schema_name())).and_then(Value::as_object_mut)
}

/// Keeps of the alternatives at a place those that are meant.
fn of(schema: &mut Schema, place: &str, is_meant: impl Fn(&Value) -> bool) {
    if let Some(alternatives) = schema.pointer_mut(place) {
        keep(alternatives, is_meant);
    }
}

fn keep(alternatives: &mut Value, is_meant: impl Fn(&Value) -> bool) {
    if let Some(alternatives) = alternatives.as_array_mut() {
        alternatives.retain(is_meant);
    }
}

/// Whether it is an object with one of these properties.
fn has_property(object: &Value, names: &[&str]) -> bool {
    names.iter().any(|name| object.pointer(&format!("/properties/{name}")).is_some())
}

/// Whether it is one of these words.
fn is_one_of(word: &Value, words: &[&str]) -> bool {
    word.get("const").and_then(Value::as_str).is_some_and(|word| words.contains(&word))
}

/// The schema of an output whose `data` is a `D`; `narrow` says what only this type has.
fn output<D: JsonSchema + Serialize>(
    kind: &str,
    about: &str,
    narrow: impl FnOnce(&mut Schema),
) -> SchemaFile {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<CloudEvent<'static, D>>();
    schema.insert("title".to_owned(), kind.into());
    let envelope = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let description = format!("{about} {envelope}");
    schema.insert("description".to_owned(), description.into());
    set_type(&mut schema, json!({"const": kind}));
    narrow(&mut schema);
    file(&format!("output/{kind}.json"), &schema)
}
