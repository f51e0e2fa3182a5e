#!/usr/bin/env python3
"""Prints bench/programme.yaml with 99 rules and 50 campaigns more, as JSON, which is YAML.

A third of the rules and half of the campaigns are for orders and have conditions that are evaluated and do not
hold, so that the same points are paid and what is measured is the looking. The others are for other events.
"""
import json

OTHER_EVENTS = ["member.signed_in", "review.posted", "content.shared", "survey.completed"]


def rules():
    yield {"id": "purchase", "on": "order.paid", "earn": {"points": 1, "per": 1.00}}
    for number in range(99):
        rule = {"id": f"rule-{number}", "on": "order.paid", "earn": {"points": 5}}
        if number % 3 == 0:
            rule["when"] = [
                f'data.items.exists(i, i.category == "none-{number}")',
                f"data.amount >= {1_000_000 + number} && data.items.size() > 1",
                f'data.currency == "XX{number}" || member.orders > {1_000_000 + number}',
            ][number // 3 % 3]
        else:
            rule |= {"on": OTHER_EVENTS[number % 4], "when": f'data.channel == "channel-{number}"'}
        yield rule


def campaigns():
    for number in range(50):
        campaign = {"id": f"campaign-{number}", "on": "order.paid", "multiply": 2, "group": f"group-{number % 5}"}
        if number % 2 == 1:
            campaign["on"] = OTHER_EVENTS[number % 4]
        elif number % 4 == 0:
            campaign["audience"] = f"member.orders_in_months(3) >= {1_000_000 + number}"
            campaign["when"] = "data.amount >= 1"
        else:
            campaign["during"] = {"from": f"19{50 + number}-01-01T00:00", "until": f"19{50 + number}-02-01T00:00"}
        yield campaign


levels = [("basic", 0), ("silver", 1000), ("gold", 5000), ("diamond", 20000)]
print(json.dumps({
    "programme": "bench", "timezone": "UTC", "currency": "EUR", "points": {"rounding": "floor"},
    "tiers": {"measure": "earned", "window": "lifetime",
              "levels": [{"id": level, "from": measure} for level, measure in levels]},
    "rules": list(rules()), "campaigns": list(campaigns()),
}, indent=1))
