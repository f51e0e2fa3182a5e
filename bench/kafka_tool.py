"""Looks at Kafka from outside, for bench/run: no code of accrual takes part.

kafka_tool.py topics BOOTSTRAP NAME:PARTITIONS[:compact]…   makes topics; the broker stamps their records
kafka_tool.py count BOOTSTRAP TOPIC          committed records, and when the broker got the last of them
kafka_tool.py latency BOOTSTRAP TOPIC EVENTS WARMUP_S   until so many are read: now - event time, in ms
kafka_tool.py due BOOTSTRAP TOPIC LOTS INSTANT      the same before an instant and while so many lots expire from it on
kafka_tool.py versions                       of the clients, as JSON

Prints JSON. Needs bench/requirements.txt.
"""
import calendar
import json
import sys
import time
from array import array

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

# Nothing arrives for so long: the worker does not work any more.
PATIENCE_S = 60


def topics(bootstrap, *wanted):
    new = []
    for text in wanted:
        name, partitions, *compact = text.split(":")
        # The broker's clock, so that a producer's own idea of time plays no part.
        config = {"message.timestamp.type": "LogAppendTime"}
        if compact:
            config["cleanup.policy"] = "compact"
        new.append(NewTopic(name, int(partitions), replication_factor=1, config=config))
    admin = AdminClient({"bootstrap.servers": bootstrap})  # held: it takes its requests with it when it goes
    for made in admin.create_topics(new).values():
        made.result(30)
    time.sleep(1)  # until every partition has its leader
    print("{}")


def reader(bootstrap, topic):
    """A read_committed consumer of the whole topic, in no group, that also tells ends of partitions."""
    consumer = Consumer({
        "bootstrap.servers": bootstrap, "group.id": "bench-reader", "enable.auto.commit": False,
        "isolation.level": "read_committed", "enable.partition.eof": True, "queued.min.messages": 100000,
    })
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in partitions])
    return consumer, set(partitions)


def count(bootstrap, topic):
    consumer, unread = reader(bootstrap, topic)
    records, last_ms, idle = 0, 0, time.monotonic()
    while unread:
        for message in consumer.consume(10000, 0.2):
            idle = time.monotonic()
            if message.error():
                unread.discard(message.partition())
            else:
                records += 1
                last_ms = max(last_ms, message.timestamp()[1])
        if time.monotonic() - idle > PATIENCE_S:
            sys.exit(f"{topic} cannot be read to its end")
    print(json.dumps({"records": records, "last_s": last_ms / 1000}))


def latency(bootstrap, topic, events, warmup):
    consumer, _ = reader(bootstrap, topic)
    print(json.dumps({"ready": True}), flush=True)
    millis, read, began, idle = array("d"), 0, None, time.monotonic()
    seconds = {}
    while read < int(events):
        batch = consumer.consume(1000, 0.01)
        now, clock = time.time(), time.monotonic()
        for message in batch:
            if message.error():
                continue
            read, began, idle = read + 1, began or clock, clock
            if clock - began >= float(warmup):
                millis.append((now - event_time(message.value(), seconds)) * 1000)
        if clock - idle > PATIENCE_S:
            sys.exit(f"{read} of {events} awards came, and then none for {PATIENCE_S} s")
    print(json.dumps(shares(millis)))


def shares(millis):
    ordered = sorted(millis)
    at = lambda share: round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 1) if ordered else None
    return {"measured": len(ordered), "p50": at(0.5), "p99": at(0.99), "p999": at(0.999)}


def due(bootstrap, topic, lots, instant):
    """Latency of live awards before the instant at which so many lots expire, and while they do."""
    consumer, _ = reader(bootstrap, topic)
    instant, seconds, before, meanwhile = float(instant), {}, array("d"), []
    expired, last, idle = 0, 0.0, time.monotonic()
    while True:
        batch = consumer.consume(1000, 0.01)
        now = time.time()
        for message in batch:
            if message.error():
                continue
            idle, award = time.monotonic(), message.value()
            if b'"points.expired"' in award:
                expired, last = expired + 1, now
            elif b'"points.earned"' in award and now - (at := event_time(award, seconds)) < 3600:
                if at >= instant:
                    meanwhile.append((at, (now - at) * 1000))
                elif instant - 20 <= at < instant:
                    before.append((now - at) * 1000)
        if time.monotonic() - idle > (PATIENCE_S if expired < int(lots) else 3):
            break
    meanwhile = array("d", (ms for at, ms in meanwhile if at <= last))
    print(json.dumps({"expired": expired, "expired in s": last - instant,
                      "before": shares(before), "while": shares(meanwhile)}))


def event_time(award, seconds):
    """The award's `time`, which is the event's: 2026-11-22T10:00:00.123Z. Seconds are parsed once each."""
    at = award.index(b'"', award.index(b'"time":') + 7) + 1
    second = award[at:at + 19]
    if second not in seconds:
        seconds[second] = calendar.timegm(time.strptime(second.decode(), "%Y-%m-%dT%H:%M:%S"))
    fraction = award[at + 19:award.index(b"Z", at)]
    return seconds[second] + (float(fraction) if fraction else 0.0)


def versions():
    from importlib.metadata import version
    print(json.dumps({name: version(name) for name in ("confluent-kafka", "redis")}))


if __name__ == "__main__":
    {"topics": topics, "count": count, "latency": latency, "due": due, "versions": versions}[sys.argv[1]](*sys.argv[2:])
