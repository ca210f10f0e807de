"""The incident's way, as a process of its own: auto-commit, one INSERT and one transaction a message.

Offsets go to the broker on a timer, whether or not rows were written; an error drops the message. It is what the
service replaces, and measured for nothing else.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer
from pydantic import BaseModel
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import create_async_engine

from ingest.topics.analysis_audio_emotion_scores import emotion_scores


class Score(BaseModel):
    device_id: str
    timestamp: datetime
    message_id: str
    schema_version: str = "v1"
    segment_id: str
    predicted_emotion: str
    confidence_score: float
    valence_score: float | None = None
    arousal_score: float | None = None
    dominance_score: float | None = None
    emotion_probabilities: dict[str, Any] | None = None
    audio_features: dict[str, Any] | None = None
    model_version: str | None = None


async def main(topic: str) -> None:
    engine = create_async_engine(
        os.environ["LOOM_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
        connect_args={"server_settings": {"synchronous_commit": "off", "jit": "off"}},
    )
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=os.environ["LOOM_KAFKA_BOOTSTRAP_SERVERS"],
        group_id=os.environ["LOOM_KAFKA_GROUP_ID"],
        auto_offset_reset="earliest",
        enable_auto_commit=True,
    )
    await consumer.start()
    async for message in consumer:
        score = Score.model_validate(json.loads(message.value))
        async with engine.begin() as connection:
            await connection.execute(insert(emotion_scores).values(**score.model_dump()).on_conflict_do_nothing())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
