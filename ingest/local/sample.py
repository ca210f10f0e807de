"""A stream that looks like Loom's, made from a seed: for the demo, tests and benchmarks. Pure: no clock, no I/O.

Sensors are by far the most; AI results, likes with embeddings and archived tweets come between. About one message in
a hundred is bad, in every way that producers have found so far (:mod:`ingest.local.sample_faults`); some are
delivered again, some late.

>>> now = datetime(2026, 1, 1, tzinfo=UTC)
>>> [message.topic for message in stream(3, seed=1, now=now)]
['device.sensor.gps.raw', 'device.sensor.gps.raw', 'device.sensor.gps.raw']
"""

from __future__ import annotations

import heapq
import json
import math
import random
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

from ingest.local import sample_faults
from ingest.topics import analysis_audio_emotion_scores as emotions
from ingest.topics import analysis_text_embedded_twitter as likes
from ingest.topics import device_sensor_gps as gps
from ingest.topics import task_url_processed_twitter_archived as archived

GPS, EMOTIONS, LIKES, ARCHIVED = (module.TOPIC.name for module in (gps, emotions, likes, archived))
SHARES = {GPS: 0.88, EMOTIONS: 0.06, LIKES: 0.03, ARCHIVED: 0.03}
BAD = 0.01
AGAIN = 0.02
"""Share of messages that are a redelivery of an earlier one: a producer that retried."""
LATE = 0.01
"""Share of messages that others overtake."""
LATE_BY = (5, 400)
"""By how many messages they are overtaken."""

STEP = timedelta(milliseconds=10)
"""Between two messages' timestamps."""

Headers: TypeAlias = tuple[tuple[str, bytes], ...]


class SampleMessage(NamedTuple):
    """One message to be produced, and what should become of it."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers
    fault: str | None
    """What is bad about it, as :data:`ingest.local.sample_faults.FAULTS` names it; None for a good one."""
    row_key: tuple[str, ...]
    """The key of the row that a good one belongs to: two messages with the same one are one row."""
    timestamp: datetime
    """The message's own time: of a last-wins row, the newest prevails."""


def stream(count: int, *, seed: int, now: datetime) -> Iterator[SampleMessage]:
    """Exactly ``count`` messages, the same ones for the same arguments; their times end at ``now``.

    Messages of one key are to be produced in this order, to one partition.
    """
    return _Stream(random.Random(seed), now - count * STEP).take(count)


@dataclass
class _Device:
    name: str
    nested: bool
    """Its app is an old one, which nests the values under ``data``."""
    latitude: float
    longitude: float
    bearing: float


@dataclass
class _Tweet:
    tweet_id: str
    trace_id: str
    author: str
    text: str


class _Stream:
    def __init__(self, rng: random.Random, begin: datetime) -> None:
        self._rng = rng
        self._time = begin
        self._devices = [
            _Device(name, number % 2 == 1, 52.52 + rng.gauss(0, 0.03), 13.405 + rng.gauss(0, 0.05), rng.uniform(0, 360))
            for number, name in enumerate(DEVICES)
        ]
        self._makers = {GPS: self._gps, EMOTIONS: self._emotion, LIKES: self._like, ARCHIVED: self._archived}
        self._faults = list(sample_faults.FAULTS)
        self._next_fault = len(self._faults)
        self._to_be_liked: list[_Tweet] = []
        """Tweets whose archived page came before the like."""
        self._to_be_archived: list[_Tweet] = []
        self._liked: deque[_Tweet] = deque(maxlen=200)

    def take(self, count: int) -> Iterator[SampleMessage]:
        rng = self._rng
        late: list[tuple[int, int, SampleMessage]] = []
        recent: deque[SampleMessage] = deque(maxlen=500)
        made = 0
        for position in range(count):
            if late and (late[0][0] <= position or count - position <= len(late)):
                message = heapq.heappop(late)[2]
            elif recent and rng.random() < AGAIN:
                yield rng.choice(recent)
                continue
            else:
                message = self._make()
                made += 1
                if rng.random() < LATE and count - position > len(late) + 1:
                    heapq.heappush(late, (position + rng.randint(*LATE_BY), made, message))
                    message = self._make()
            if message.fault is None:
                recent.append(message)
            yield message

    def _make(self) -> SampleMessage:
        rng = self._rng
        self._time += STEP
        time = self._time + STEP * (rng.random() * 0.9)
        if rng.random() >= BAD:
            (topic,) = rng.choices(list(SHARES), list(SHARES.values()))
            return self._good(topic, time)
        # In turn rather than by chance: a short stream has them all, too.
        if self._next_fault >= len(self._faults):
            rng.shuffle(self._faults)
            self._next_fault = 0
        fault = self._faults[self._next_fault]
        self._next_fault += 1
        # Roots: by their shares alone, all but the sensors' would be too rare to be seen.
        possible = {name: math.sqrt(share) for name, share in SHARES.items() if name in fault.topics}
        (topic,) = rng.choices(list(possible), list(possible.values()))
        good = self._good(topic, time)
        return good._replace(value=fault.spoil(good.value, topic, rng), fault=fault.name)

    def _good(self, topic: str, time: datetime) -> SampleMessage:
        key, row_key, fields = self._makers[topic](time)
        headers: Headers = () if topic == GPS else (("producer", PRODUCERS[topic]),)
        value = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        return SampleMessage(topic, key.encode(), value, headers, None, row_key, time)

    def _gps(self, time: datetime) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        rng = self._rng
        device = rng.choice(self._devices)
        speed = abs(rng.gauss(1.4, 0.4))
        device.bearing = (device.bearing + rng.gauss(0, 8)) % 360
        # A degree of latitude is 111 km.
        device.latitude += math.cos(math.radians(device.bearing)) * speed * 0.1 / 111_000
        device.longitude += math.sin(math.radians(device.bearing)) * speed * 0.1 / 68_000
        values: dict[str, Any] = {
            "latitude": round(device.latitude, 7),
            "longitude": round(device.longitude, 7),
            "altitude": round(34 + rng.gauss(0, 2), 1),
            "accuracy": round(abs(rng.gauss(4, 2)) + 1, 1),
            "speed": round(speed, 2),
            "bearing": round(device.bearing, 1),
        }
        fields = self._head(device.name, time)
        return device.name, (device.name, fields["timestamp"]), fields | ({"data": values} if device.nested else values)

    def _emotion(self, time: datetime) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        rng = self._rng
        device = rng.choice(DEVICES)
        weights = [rng.expovariate(1) for _ in EMOTION_NAMES]
        chances = {name: round(weight / sum(weights), 4) for name, weight in zip(EMOTION_NAMES, weights, strict=True)}
        fields = self._head(device, time) | {
            "segment_id": f"seg-{rng.getrandbits(32):08x}",
            "predicted_emotion": max(chances, key=lambda name: chances[name]),
            "confidence_score": max(chances.values()),
            "valence_score": round(rng.uniform(-1, 1), 3),
            "arousal_score": round(rng.uniform(-1, 1), 3),
            "dominance_score": round(rng.uniform(-1, 1), 3),
            "emotion_probabilities": chances,
            "audio_features": {"pitch_hz": round(rng.gauss(180, 40), 1), "energy_db": round(rng.gauss(-22, 5), 1)},
            "model_version": "emotion-large-2",
        }
        return device, (device, fields["message_id"], fields["segment_id"], fields["timestamp"]), fields

    def _like(self, time: datetime) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        rng = self._rng
        if self._to_be_liked and rng.random() < 0.5:
            tweet = self._to_be_liked.pop(rng.randrange(len(self._to_be_liked)))
        elif self._liked and rng.random() < 0.15:
            tweet = rng.choice(self._liked)  # embedded anew: last one wins
        else:
            tweet = self._tweet()
            self._to_be_archived.append(tweet)
        self._liked.append(tweet)
        vector = [rng.gauss(0, 1) for _ in range(384)]
        length = math.sqrt(sum(each * each for each in vector))
        fields = self._head(rng.choice(DEVICES), time) | {
            "trace_id": tweet.trace_id,
            "tweet_id": tweet.tweet_id,
            "liked_at": _iso(time - timedelta(seconds=rng.randint(1, 90))),
            "tweet_url": f"https://x.com/{tweet.author}/status/{tweet.tweet_id}",
            "tweet_text": tweet.text,
            "author_username": tweet.author,
            "embedding": [round(each / length, 6) for each in vector],
            "embedding_model": "all-MiniLM-L6-v2",
            "embedding_timestamp": _iso(time),
        }
        return tweet.tweet_id, (tweet.tweet_id,), fields

    def _archived(self, time: datetime) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        rng = self._rng
        if self._to_be_archived and rng.random() < 0.5:
            tweet = self._to_be_archived.pop(rng.randrange(len(self._to_be_archived)))
        else:
            tweet = self._tweet()
            self._to_be_liked.append(tweet)
        page = f"https://x.com/{tweet.author}/status/{tweet.tweet_id}"
        fields = self._head(rng.choice(DEVICES), time) | {
            "trace_id": tweet.trace_id,
            "tweet_id": tweet.tweet_id,
            "url": page,
            "extraction_timestamp": _iso(time),
            "processing_duration_ms": rng.randint(900, 8000),
            "processor_version": "archiver-3.1",
        }
        if rng.random() < 0.1:
            return tweet.tweet_id, (tweet.tweet_id,), fields | {"error_message": "the page was gone (404)"}
        fields |= {
            "screenshot_path": f"archive/{tweet.tweet_id}.png",
            "screenshot_size_bytes": rng.randint(40_000, 900_000),
            "screenshot_dimensions": {"width": 1280, "height": rng.randint(600, 4000)},
            "extracted_text": tweet.text,
            "extracted_links": [page],
            "extracted_media": [],
        }
        return tweet.tweet_id, (tweet.tweet_id,), fields

    def _head(self, device: str, time: datetime) -> dict[str, Any]:
        message_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        return {"device_id": device, "message_id": message_id, "timestamp": _iso(time), "schema_version": "v1"}

    def _tweet(self) -> _Tweet:
        rng = self._rng
        text = f"{rng.choice(OPENINGS)} {rng.choice(THINGS)} {rng.choice(ENDINGS)}"
        return _Tweet(str(rng.randrange(10**17, 10**18)), f"{rng.getrandbits(64):016x}", rng.choice(AUTHORS), text)


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="microseconds")


DEVICES = (
    "phone-ada", "phone-grace", "phone-edsger", "phone-barbara",
    "watch-ada", "watch-grace", "laptop-ada", "laptop-edsger",
)  # fmt: skip
EMOTION_NAMES = ("calm", "joy", "surprise", "sadness", "anger", "fear")
PRODUCERS = {
    EMOTIONS: b"emotion-recogniser/2.0",
    LIKES: b"tweet-embedder/1.4",
    ARCHIVED: b"url-archiver/3.1",
}
AUTHORS = ("naturecam", "oldmaps", "slowcooking", "nightsky", "typefaces", "benchnotes", "tidepools")
OPENINGS = ("Nobody told me about", "Today's favourite:", "A short thread on", "I keep coming back to", "Look at")
THINGS = ("the bridges of Königsberg", "sourdough 🍞", "a 1932 tram map", "jellyfish at low tide", "the letter ß")
ENDINGS = ("and it made my day", "— worth every minute", "as seen from the night train", "(with pictures)", "again")
