"""The good messages of a sample stream: of each topic one after the other, with what they have in common. Pure."""

from __future__ import annotations

import math
import random
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from ingest.local.sample_results import RESULTS
from ingest.local.sample_topics import ACCELEROMETER, ARCHIVED, EMAILS, GPS, LIKES, WORDS

Made: TypeAlias = tuple[str, tuple[str, ...], dict[str, Any]]
"""A message's key in Kafka, the key of its row, and its fields."""


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


@dataclass
class _Sentence:
    """What somebody says, word by word."""

    device: str
    message_id: str
    speaker: str
    words: list[str]
    said: int = 0


@dataclass
class _Email:
    trace_id: str
    sender: str
    subject: str


class Messages:
    """Makes messages; remembers where devices are, which words come next, which tweets and emails there were."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._devices = [
            _Device(name, number % 2 == 1, 52.52 + rng.gauss(0, 0.03), 13.405 + rng.gauss(0, 0.05), rng.uniform(0, 360))
            for number, name in enumerate(DEVICES)
        ]
        self._makers = {
            ACCELEROMETER: self._acceleration,
            GPS: self._gps,
            WORDS: self._word,
            EMAILS: self._email,
            LIKES: self._like,
            ARCHIVED: self._archived,
        }
        self._sentence: _Sentence | None = None
        self._emails: deque[_Email] = deque(maxlen=200)
        self._to_be_liked: list[_Tweet] = []
        """Tweets whose archived page came before the like."""
        self._to_be_archived: list[_Tweet] = []
        self._liked: deque[_Tweet] = deque(maxlen=200)

    def make(self, topic: str, time: datetime) -> Made:
        """The next message of a topic, of that time."""
        if topic in self._makers:
            return self._makers[topic](time)
        result = RESULTS[topic]
        fields = self._head(self._rng.choice(DEVICES), time)
        fields |= result.make(self._rng, time)
        identity = (fields[result.identity],) if result.identity else ()
        return fields["device_id"], (fields["device_id"], fields["timestamp"], fields["message_id"], *identity), fields

    def _acceleration(self, time: datetime) -> Made:
        rng = self._rng
        device = rng.choice(DEVICES)
        fields = self._head(device, time) | {
            "x": round(rng.gauss(0, 0.6), 4),
            "y": round(rng.gauss(0, 0.6), 4),
            "z": round(rng.gauss(9.81, 0.4), 4),
        }
        return device, (device, fields["timestamp"]), fields

    def _gps(self, time: datetime) -> Made:
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

    def _word(self, time: datetime) -> Made:
        rng = self._rng
        sentence = self._sentence
        if sentence is None or sentence.said == len(sentence.words):
            words = f"{rng.choice(OPENINGS)} {rng.choice(THINGS)} {rng.choice(ENDINGS)}".split()
            sentence = _Sentence(rng.choice(DEVICES), self._message_id(), f"speaker-{rng.randint(1, 3)}", words)
            self._sentence = sentence
        number = sentence.said
        sentence.said += 1
        fields = self._head(sentence.device, time) | {
            "message_id": sentence.message_id,
            "word_sequence": number,
            "word_text": sentence.words[number],
            "start_time_ms": number * 400,
            "end_time_ms": number * 400 + rng.randint(90, 390),
            "confidence_score": round(rng.uniform(0.5, 1), 3),
            "speaker_id": sentence.speaker,
        }
        return sentence.device, (sentence.device, fields["timestamp"], sentence.message_id, str(number)), fields

    def _email(self, time: datetime) -> Made:
        rng = self._rng
        if self._emails and rng.random() < 0.15:
            email = rng.choice(self._emails)  # embedded anew: last one wins
        else:
            email = _Email(f"{rng.getrandbits(64):016x}", rng.choice(AUTHORS), f"{rng.choice(OPENINGS)} …")
            self._emails.append(email)
        fields = self._head(rng.choice(DEVICES), time) | {
            "trace_id": email.trace_id,
            "subject": email.subject,
            "sender_email": f"{email.sender}@example.org",
            "recipient_email": "ada@example.org",
            "body_text": f"{email.subject} {rng.choice(THINGS)}",
            "folder": "INBOX",
            "email_source": "imap",
            "embedding": self._embedding(),
            "embedding_model": "all-MiniLM-L6-v2",
            "embedding_timestamp": _iso(time),
        }
        return email.trace_id, (email.trace_id,), fields

    def _like(self, time: datetime) -> Made:
        rng = self._rng
        if self._to_be_liked and rng.random() < 0.5:
            tweet = self._to_be_liked.pop(rng.randrange(len(self._to_be_liked)))
        elif self._liked and rng.random() < 0.15:
            tweet = rng.choice(self._liked)  # embedded anew: last one wins
        else:
            tweet = self._tweet()
            self._to_be_archived.append(tweet)
        self._liked.append(tweet)
        fields = self._head(rng.choice(DEVICES), time) | {
            "trace_id": tweet.trace_id,
            "tweet_id": tweet.tweet_id,
            "liked_at": _iso(time - timedelta(seconds=rng.randint(1, 90))),
            "tweet_url": f"https://x.com/{tweet.author}/status/{tweet.tweet_id}",
            "tweet_text": tweet.text,
            "author_username": tweet.author,
            "embedding": self._embedding(),
            "embedding_model": "all-MiniLM-L6-v2",
            "embedding_timestamp": _iso(time),
        }
        return tweet.tweet_id, (tweet.tweet_id,), fields

    def _archived(self, time: datetime) -> Made:
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
        return {
            "device_id": device,
            "message_id": self._message_id(),
            "timestamp": _iso(time),
            "schema_version": "v1",
        }

    def _message_id(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _embedding(self) -> list[float]:
        vector = [self._rng.gauss(0, 1) for _ in range(384)]
        length = math.sqrt(sum(each * each for each in vector))
        return [round(each / length, 6) for each in vector]

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
AUTHORS = ("naturecam", "oldmaps", "slowcooking", "nightsky", "typefaces", "benchnotes", "tidepools")
OPENINGS = ("Nobody told me about", "Today's favourite:", "A short thread on", "I keep coming back to", "Look at")
THINGS = ("the bridges of Königsberg", "sourdough 🍞", "a 1932 tram map", "jellyfish at low tide", "the letter ß")
ENDINGS = ("and it made my day", "— worth every minute", "as seen from the night train", "(with pictures)", "again")
