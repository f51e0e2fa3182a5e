//! The file of a programme, for editors: they complete its keys, show what they mean, and mark what cannot
//! be. These types only describe, in the words of those who write programmes: files are read by
//! [`Programme::parse`](crate::programme::Programme::parse), which says much more of what is wrong.

#![allow(dead_code)] // nobody makes a value of types that only describe

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, json_schema};
use serde_json::{Value, json};

use super::{PROGRAMME, SchemaFile, described, file};
use crate::programme::condition::MAX_LENGTH;

/// A loyalty programme: what earns points, how many, for whom, and what they lead to. `accrual check` says
/// more of what is wrong with it, `accrual test` tries it out.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Programme {
    /// The programme's name. Part of every award's id, so it must not change once members have points.
    #[schemars(extend("examples" = ["shop"]))]
    programme: Id,
    /// Days, months and years begin and end in this IANA time zone.
    #[schemars(extend("examples" = ["Asia/Shanghai", "Europe/Berlin"]))]
    timezone: String,
    /// Every amount is in this currency (ISO 4217).
    #[schemars(extend("pattern" = "^[A-Z]{3}$", "examples" = ["CNY", "EUR"]))]
    currency: String,
    /// From when on this version of the programme decides, by the events' own time: so it is shipped ahead, beside
    /// the one that decides until then. Since ever where left out.
    effective_from: Option<Moment>,
    /// How points are rounded and how long they live.
    points: Option<Points>,
    /// The levels that members rise through, at once when they reach them.
    tiers: Option<Tiers>,
    /// What earns points. Every rule whose event comes, and whose `when` holds, pays.
    #[schemars(length(min = 1, max = 1000))]
    rules: Vec<Rule>,
    /// What changes the pay of rules: for a time, for some members, for some orders.
    #[schemars(length(max = 1000))]
    campaigns: Option<Vec<Campaign>>,
    /// The catalogue of what rules give and points buy.
    redemption: Option<Redemption>,
}

/// How points are rounded and how long they live.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Points {
    /// How long points are pending before they can be spent; P0D, which is not at all, where left out.
    hold: Option<Period>,
    /// When points expire; never where left out.
    expire: Option<Expire>,
    /// How fractions of a point become whole points, once on each entry. `floor` where left out.
    rounding: Option<Rounding>,
    /// What a refund or an adjustment does that finds fewer points than it takes. `negative` where left out.
    shortfall: Option<Shortfall>,
    /// How long before points expire their member is told; not at all where left out.
    #[schemars(extend("examples" = ["P30D"]))]
    notice: Option<SomeTime>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Rounding {
    /// 1.99 points are 1.
    Floor,
    /// 1.5 points are 2.
    HalfUp,
    /// 1.01 points are 2.
    Ceil,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Shortfall {
    /// It takes them all the same: the balance goes below zero, and what is earned next pays for it.
    Negative,
    /// It takes what there is, and an entry says what it could not take.
    Clamp,
}

/// `never`, or when.
#[derive(JsonSchema)]
#[serde(untagged)]
enum Expire {
    Never(Never),
    After(ExpireAfter),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Never {
    Never,
}

/// When points expire.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct ExpireAfter {
    /// How long after they were earned.
    after: SomeTime,
    /// Not before the end of that month or year.
    at: Option<EndOf>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum EndOf {
    /// With the calendar month that the moment lies in.
    EndOfMonth,
    /// With the calendar year.
    EndOfYear,
}

/// The levels that members rise through, and what is measured to reach them.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tiers {
    /// What counts toward a level; points earned where left out.
    measure: Option<Measure>,
    /// Over which time it counts.
    window: Window,
    /// When a level is looked at again; for ever kept where left out.
    review: Option<Review>,
    /// The levels, the lowest first: from 0, and each from more than the one before.
    #[schemars(length(min = 1, max = 100))]
    levels: Vec<Level>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Measure {
    /// Points earned.
    Earned,
    /// Money paid for orders.
    Spend,
}

/// When a level is looked at again, and what follows where too little is measured for it.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{"every": "P1Y", "at": "end_of_year", "grace": "P30D", "notice": "P60D", "drop": "one_level"}]))]
struct Review {
    /// How long a level is kept from when it was reached, or last kept.
    every: SomeTime,
    /// Not before the end of that month or year.
    at: Option<EndOf>,
    /// How far a member falls.
    drop: Drop,
    /// How long after that a member may still make up for what is missing.
    grace: Option<Period>,
    /// How long before the review a member is told who would not pass it; nobody is where left out.
    notice: Option<SomeTime>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Drop {
    /// One level at most.
    OneLevel,
    /// To the level that the measure is enough for.
    ToMeasure,
}

/// A level of membership.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{"id": "silver", "from": 1000, "earn": 1.1}]))]
struct Level {
    /// Its name, as members and conditions (`member.tier == "gold"`) see it.
    id: Id,
    /// The measure from which a member has it; the first level is from 0.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_u64))]
    from: u64,
    /// What points of rules are multiplied by: 1.1 pays 10 more for each 100.
    earn: Option<LevelFactor>,
    /// What the worth of points is multiplied by when they become money: 1.1 makes 10.00 of it 11.00.
    redeem: Option<LevelFactor>,
    /// What it gives beside points; shown to the member.
    #[schemars(length(max = 100), extend("uniqueItems" = true))]
    benefits: Option<Vec<Id>>,
}

/// Pays points for an event. Always on.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["earn"]}, {"required": ["give"]}], "examples" = [
    {"id": "purchase", "on": "order.paid", "earn": {"points": 1, "per": 1.00}},
    {"id": "sign-in", "on": "member.signed_in", "earn": {"points": 5}, "limit": {"times": 1, "per": "day"}},
]))]
struct Rule {
    /// Its name in entries and metrics; no other rule has it.
    id: Id,
    /// The type of the events that it pays for.
    on: EventType,
    /// `item` looks at every item of an order by itself, as `item` in conditions.
    each: Option<Each>,
    /// What must hold for it to pay, in CEL over `event`, `data`, `member` and, with `each: item`, `item`.
    #[schemars(extend("examples" = ["data.amount >= 200", "size(data.text) >= 20"]))]
    when: Option<Condition>,
    /// How much it pays.
    earn: Option<Earn>,
    /// What it never exceeds, one limit or several. The rest is declined, with the reason.
    limit: Option<OneOrMore<Limit>>,
    /// Pays once ever for each text that this comes to, in CEL.
    #[schemars(extend("examples" = ["data.survey_id", "data.order_id + \"/\" + data.product_id"]))]
    once_per: Option<Expression>,
    /// Days in a row and the points more at that length.
    #[schemars(extend("examples" = [{"7": 20, "30": 100}]))]
    streak: Option<Streak>,
    /// Who is paid, where it is not the member of the event.
    to: Option<To>,
    /// What is waited for before it pays.
    after: Option<After>,
    /// A reward of `redemption.rewards` that it gives, beside points or instead of them, once for each event that it
    /// pays for.
    give: Option<Id>,
    /// How long its points are pending before they can be spent, where not as long as the programme says.
    hold: Option<Period>,
    /// When its points expire, where not when the programme says.
    expire: Option<Expire>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Each {
    Item,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum To {
    /// Who invited the member.
    Referrer,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum After {
    /// The member's first paid order.
    FirstOrder,
}

/// How much a rule pays: points each time, or points per amount.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {"of": ["per"]}, "examples" = [{"points": 5}, {"points": 1, "per": 1.00}]))]
struct Earn {
    /// Points each time, or for each `per`.
    points: WholePoints,
    /// The amount that the points are for; of an order what was paid, of an item its price times its quantity.
    per: Option<Money>,
    /// The amount that `per` is for, where it is another one, in CEL.
    #[schemars(extend("examples" = ["data.principal"]))]
    of: Option<Expression>,
}

/// At most so often, or so many points, in a period of the calendar.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["times"]}, {"required": ["points"]}], "examples" = [
    {"times": 1, "per": "day"}, {"points": 100, "per": "month"},
]))]
struct Limit {
    /// How often it pays.
    times: Option<Times>,
    /// How many points it pays.
    points: Option<WholePoints>,
    /// Over which period, in the programme's time zone.
    per: Per,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Per {
    /// From midnight to midnight.
    Day,
    /// From Monday to Sunday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
    /// The member's whole life.
    Ever,
}

#[derive(JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum OneOrMore<T> {
    One(T),
    More(#[schemars(length(max = 8))] Vec<T>),
}

/// Pays more on what rules pay for an event, while it is on. Campaigns add up, unless they share a `group`.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["multiply"]}, {"required": ["add"]}], "examples" = [
    {"id": "birthday", "on": "order.paid", "during": "birthday", "multiply": 2, "group": "best"},
    {"id": "member-day", "on": "order.paid", "during": {"monthly": [8]}, "add": 88, "limit": {"times": 1, "per": "day"}},
]))]
struct Campaign {
    /// Its name in entries and metrics; no other campaign has it.
    id: Id,
    /// The type of the events that it pays for.
    on: EventType,
    /// When it is on, by the event's own time; always where left out.
    during: Option<During>,
    /// What must hold of the event, in CEL.
    #[schemars(extend("examples" = ["data.amount >= 200"]))]
    when: Option<Condition>,
    /// What must hold of the member, as they were before the event, in CEL.
    #[schemars(extend("examples" = ["member.tier in [\"gold\", \"diamond\"]", "member.orders_in_months(3) >= 6"]))]
    audience: Option<Condition>,
    /// What points of rules are multiplied by: 2 pays the same once more.
    multiply: Option<CampaignFactor>,
    /// Points that it adds, whatever rules pay.
    add: Option<WholePoints>,
    /// Of the campaigns with the same `group` only the one that pays most pays.
    group: Option<Id>,
    /// What it never exceeds for a member, one limit or several.
    limit: Option<OneOrMore<Limit>>,
    /// What it never exceeds for all members together.
    budget: Option<Budget>,
}

/// When a campaign is on.
#[derive(JsonSchema)]
#[serde(untagged)]
enum During {
    Birthday(Birthday),
    Days(Days),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Birthday {
    /// On the member's birthday.
    Birthday,
}

/// A period, or days of the week or of the month.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["from", "until"]},
    {"required": ["monthly"], "maxProperties": 1},
    {"required": ["weekly"], "maxProperties": 1},
], "examples" = [{"from": "2026-11-10T20:00", "until": "2026-11-12T00:00"}, {"monthly": [8]}, {"weekly": ["fri"]}]))]
struct Days {
    /// The first moment, in the programme's time zone.
    from: Option<Moment>,
    /// The moment at which it is over.
    until: Option<Moment>,
    /// Days of the month.
    #[schemars(length(min = 1), inner(range(min = 1, max = 31)), extend("uniqueItems" = true))]
    monthly: Option<Vec<u8>>,
    /// Days of the week.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    weekly: Option<Vec<Weekday>>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// What a campaign pays at most to all members together.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// Points in all.
    points: WholePoints,
}

/// What points buy, and the catalogue that rules give out of.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend(
    "dependentRequired" = {"boosts": ["rate"]},
    "if" = {"required": ["rewards"], "properties": {"rewards": {"contains": {"required": ["kind"], "properties": {"kind": {"const": "money"}}}}}},
    "then" = {"required": ["rate"]},
))]
struct Redemption {
    /// What points are worth in money.
    rate: Option<Rate>,
    /// Times at which points are worth something else; of several the one at which they are worth most.
    #[schemars(length(max = 1000))]
    boosts: Option<Vec<Boost>>,
    /// What a member's redemptions do not exceed, all together. What goes over is declined as a whole.
    #[schemars(length(max = 8))]
    limits: Option<Vec<RedemptionLimit>>,
    /// What can be had.
    #[schemars(length(max = 1000))]
    rewards: Option<Vec<Reward>>,
}

/// What points are worth in money.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rate {
    /// So many points …
    points: WholePoints,
    /// … are worth so much money.
    worth: Money,
}

/// A time at which points are worth more.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Boost {
    /// When.
    during: During,
    /// The money that the points of the rate are worth then.
    worth: Money,
}

/// What a member may not exceed: a limit in a period, or a share of an order.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["times", "per"]},
    {"required": ["points", "per"]},
    {"required": ["share_of_order"], "maxProperties": 1},
]))]
struct RedemptionLimit {
    /// How often they redeem.
    times: Option<Times>,
    /// How many points they spend.
    points: Option<WholePoints>,
    /// Over which period, in the programme's time zone.
    per: Option<Per>,
    /// How much of an order can be paid with points: 0.5 is half of it.
    share_of_order: Option<Share>,
}

/// Something that rules give and points buy.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("allOf" = [
    {"if": {"properties": {"kind": {"const": "money"}}},
     "then": {"properties": {"points": false, "worth": false, "stock": false}}, "else": {"required": ["points"]}},
    {"if": {"properties": {"kind": {"const": "lottery"}}}, "then": {"required": ["prizes"]},
     "else": {"properties": {"prizes": false}}},
]))]
struct Reward {
    /// Its name; no other reward has it.
    id: Id,
    /// What it is.
    kind: Kind,
    /// What one costs who redeems it; money is bought at the rate.
    points: Option<WholePoints>,
    /// What one is worth in money, which entries say.
    worth: Option<Money>,
    /// How many there are for all members together, ever.
    stock: Option<Stock>,
    /// Who may redeem it, in CEL over `redemption.requested`.
    #[schemars(extend("examples" = ["member.tier == \"diamond\""]))]
    when: Option<Condition>,
    /// What can be won, in a lottery; one of them without `stock`, which is drawn when the others are gone.
    #[schemars(length(min = 1, max = 1000), extend("contains" = {"not": {"required": ["stock"]}}))]
    prizes: Option<Vec<Prize>>,
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Money off an order, at the rate.
    Money,
    /// A thing.
    Goods,
    /// A coupon.
    Coupon,
    /// A service.
    Service,
    /// A draw for prizes.
    Lottery,
}

/// What can be won in a lottery.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
struct Prize {
    /// Its name; no other prize of the lottery has it.
    id: Id,
    /// How likely it is, beside the weights of the others.
    #[schemars(range(min = 1, max = 1_000_000_000_u32))]
    weight: u32,
    /// Points that are won.
    points: Option<WholePoints>,
    /// How many there are for all members together, ever.
    stock: Option<Stock>,
}

const MOST_POINTS: i64 = 1_000_000_000_000_000;

described!(
    Id,
    json_schema!({
        "description": "1 to 64 letters, digits, `-`, `_` and `.`, the first a letter or digit.",
        // YAML has a name of digits as a number.
        "type": ["string", "number"],
        "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
    })
);
described!(
    EventType,
    json_schema!({
        "description": "An event type: one of those that accrual knows, or any of your own.",
        "anyOf": [
            {"enum": ["order.paid", "member.signed_in", "review.posted", "content.shared", "member.registered",
                "member.updated", "member.birthday", "member.anniversary"]},
            {"type": "string", "pattern": "^[A-Za-z0-9._:/-]{1,128}$"}
        ]
    })
);
described!(
    Condition,
    json_schema!({
        "description": "True or false, in CEL (https://cel.dev); checked by `accrual check`.",
        "type": ["string", "boolean"],
        "pattern": r"\S",
        "maxLength": MAX_LENGTH
    })
);
described!(
    Expression,
    json_schema!({
        "description": "A text or a number, in CEL (https://cel.dev); checked by `accrual check`.",
        "type": "string",
        "pattern": r"\S",
        "maxLength": MAX_LENGTH
    })
);
described!(
    WholePoints,
    json_schema!({"description": "Whole points, at least one.", "type": "integer", "minimum": 1, "maximum": MOST_POINTS})
);
described!(
    Times,
    json_schema!({"description": "A whole number, at least 1.", "type": "integer", "minimum": 1, "maximum": 1_000_000})
);
described!(
    Stock,
    json_schema!({"description": "A whole number.", "type": "integer", "minimum": 0, "maximum": 1_000_000_000})
);
described!(
    Money,
    json_schema!({
        "description": "Money above 0, such as 1.00, in the programme's currency.",
        "type": "number",
        "exclusiveMinimum": 0
    })
);
described!(
    LevelFactor,
    json_schema!({"description": "A factor from 1 to 100, such as 1.25.", "type": "number", "minimum": 1, "maximum": 100})
);
described!(
    CampaignFactor,
    json_schema!({
        "description": "A factor above 1 and at most 100, such as 2.",
        "type": "number",
        "exclusiveMinimum": 1,
        "maximum": 100
    })
);
described!(
    Share,
    json_schema!({
        "description": "A share above 0 and at most 1, such as 0.5.",
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 1
    })
);
described!(
    Period,
    json_schema!({
        "description": "A length of time on the calendar, such as P1Y, P12M, P2W or P30D.",
        "type": "string",
        "pattern": "^P(?=[0-9])([0-9]+Y)?([0-9]+M)?([0-9]+W)?([0-9]+D)?$"
    })
);
described!(
    SomeTime,
    json_schema!({
        "description": "A length of time on the calendar that is not nothing, such as P1Y, P12M, P2W or P30D.",
        "type": "string",
        "pattern": "^P(?=[0-9])(?=.*[1-9])([0-9]+Y)?([0-9]+M)?([0-9]+W)?([0-9]+D)?$"
    })
);
described!(
    Window,
    json_schema!({
        "description": "Whole months, the event's own included, such as P12M; or the member's whole life; or the calendar year.",
        "anyOf": [
            {"enum": ["lifetime", "calendar_year"]},
            {"type": "string", "pattern": "^P(?=[0-9])([0-9]+Y)?([0-9]+M)?$", "examples": ["P12M"]}
        ]
    })
);
described!(
    Moment,
    json_schema!({
        "description": "A date and time in the programme's time zone, such as 2026-11-10T20:00.",
        "type": "string",
        "pattern": r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?$"
    })
);
described!(
    Streak,
    json_schema!({
        "description": "From days in a row, 2 to 3650, to points.",
        "type": "object",
        "minProperties": 1,
        "patternProperties": {"^[1-9][0-9]{0,3}$": {"type": "integer", "minimum": 1, "maximum": MOST_POINTS}},
        "additionalProperties": false
    })
);

pub(super) fn schema() -> SchemaFile {
    let generator = SchemaSettings::draft2020_12().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<Programme>();
    schema.insert("title".to_owned(), "A loyalty programme".into());
    schema.insert(
        "examples".to_owned(),
        json!([{
            "programme": "shop",
            "timezone": "Asia/Shanghai",
            "currency": "CNY",
            "rules": [{"id": "purchase", "on": "order.paid", "earn": {"points": 1, "per": 1.00}}],
        }]),
    );
    schema.ensure_object().values_mut().for_each(leave_out_null);
    file(PROGRAMME, &schema)
}

/// A key that may be left out has, where it is there, a value: what the parser refuses as "has no value".
fn leave_out_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::Array(types)) = fields.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    fields.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(any)) = fields.get_mut("anyOf") {
                any.retain(|one| *one != json!({"type": "null"}));
                if let [Value::Object(only)] = any.as_slice() {
                    let only = only.clone();
                    fields.remove("anyOf");
                    fields.extend(only);
                }
            }
            fields.values_mut().for_each(leave_out_null);
        }
        Value::Array(values) => values.iter_mut().for_each(leave_out_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
