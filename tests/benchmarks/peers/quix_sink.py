"""Quix Streams with its PostgreSQLSink, as a process of its own: run by the peers' Python, which has nothing of ours.

A commit a second serves it best of the settings tried (0, 1 s; every 10,000, 30,000 and 100,000 messages); so do a
deep queue of the client, and neither metadata columns nor changes of the schema.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink

COMMIT_EVERY_S = 1.0
QUEUED_MESSAGES = 200_000


def main(topic: str) -> None:
    database = urlsplit(os.environ["LOOM_DATABASE_URL"])
    application = Application(
        broker_address=os.environ["LOOM_KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=os.environ["LOOM_KAFKA_GROUP_ID"],
        auto_offset_reset="earliest",
        commit_every=0,
        commit_interval=COMMIT_EVERY_S,
        loglevel="WARNING",
        consumer_extra_config={"queued.min.messages": QUEUED_MESSAGES},
        auto_create_topics=False,
    )
    sink = PostgreSQLSink(
        host=database.hostname,
        port=database.port,
        dbname=database.path.lstrip("/"),
        user=database.username,
        password=database.password,
        table_name="analysis_audio_emotion_scores_raw",
        schema_auto_update=False,
        include_metadata=False,
        on_conflict_do_nothing=True,
    )
    messages = application.topic(topic, value_deserializer="json", key_deserializer="str")
    application.dataframe(messages).sink(sink)
    application.run()


if __name__ == "__main__":
    main(sys.argv[1])
