"""A member of a group on librdkafka: peer.py BOOTSTRAP GROUP TOPIC,TOPIC ASSIGNOR [NAME=VALUE ...]

Prints what changes, one line each, and leaves the group in order when its input ends:
    assigned TOPIC/PARTITION,TOPIC/PARTITION    all that it holds now
    seen TOPIC/PARTITION FIRST-LAST,FIRST-LAST  the offsets read so far, in their order, as runs without a gap
    failed WHY
    left
"""

import sys
import threading

from confluent_kafka import Consumer, KafkaException


def main():
    bootstrap, group, topics, assignor, *settings = sys.argv[1:]
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "client.id": "librdkafka",
        "partition.assignment.strategy": assignor,
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 500,
        "heartbeat.interval.ms": 500,
        "log_level": 0,
        **dict(setting.split("=", 1) for setting in settings),
    }
    if config.get("group.protocol") == "consumer":  # these are then the broker's to decide
        for name in ["partition.assignment.strategy", "heartbeat.interval.ms"]:
            del config[name]
    consumer = Consumer(config)
    held, seen, ending = set(), {}, threading.Event()

    def tell_held():
        print("assigned", ",".join(f"{topic}/{partition}" for topic, partition in sorted(held)), flush=True)

    def assigned(_, partitions):
        held.update((one.topic, one.partition) for one in partitions)
        tell_held()

    def revoked(_, partitions):
        held.difference_update((one.topic, one.partition) for one in partitions)
        tell_held()

    def wait_for_end():
        sys.stdin.read()
        ending.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    consumer.subscribe(topics.split(","), on_assign=assigned, on_revoke=revoked, on_lost=revoked)
    while not ending.is_set():
        for message in consumer.consume(500, timeout=0.1):
            if message.error():
                if not message.error().retriable():
                    raise KafkaException(message.error())
                continue
            key = f"{message.topic()}/{message.partition()}"
            runs = seen.setdefault(key, [])
            if runs and runs[-1][1] + 1 == message.offset():
                runs[-1][1] = message.offset()
            else:
                runs.append([message.offset()] * 2)
            changed.add(key)
        while changed:
            key = changed.pop()
            print("seen", key, ",".join(f"{first}-{last}" for first, last in seen[key]), flush=True)
    consumer.close()
    print("left", flush=True)


changed = set()
try:
    main()
except Exception as error:  # the test that reads this wants the reason, whatever it is
    print("failed", " ".join(repr(error).split()), flush=True)
