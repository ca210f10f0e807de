"""The topics of a sample stream: their names, how often each occurs, and who produces it."""

from __future__ import annotations

from ingest.topics import (
    analysis_audio_emotion_scores,
    analysis_context_reasoning_chains,
    analysis_image_face_emotions,
    analysis_text_embedded_emails,
    analysis_text_embedded_twitter,
    device_sensor_accelerometer,
    device_sensor_gps,
    media_audio_voice_segments,
    media_image_vision_annotations,
    media_text_word_timestamps,
    task_url_processed_content,
    task_url_processed_twitter_archived,
)

ACCELEROMETER = device_sensor_accelerometer.TOPIC.name
GPS = device_sensor_gps.TOPIC.name
WORDS = media_text_word_timestamps.TOPIC.name
VOICE = media_audio_voice_segments.TOPIC.name
VISION = media_image_vision_annotations.TOPIC.name
EMOTIONS = analysis_audio_emotion_scores.TOPIC.name
FACES = analysis_image_face_emotions.TOPIC.name
REASONING = analysis_context_reasoning_chains.TOPIC.name
CONTENT = task_url_processed_content.TOPIC.name
EMAILS = analysis_text_embedded_emails.TOPIC.name
LIKES = analysis_text_embedded_twitter.TOPIC.name
ARCHIVED = task_url_processed_twitter_archived.TOPIC.name

SHARES = {
    ACCELEROMETER: 0.51,
    GPS: 0.36,
    WORDS: 0.03,
    VOICE: 0.015,
    VISION: 0.015,
    EMOTIONS: 0.012,
    FACES: 0.008,
    REASONING: 0.005,
    CONTENT: 0.005,
    EMAILS: 0.01,
    LIKES: 0.015,
    ARCHIVED: 0.015,
}
SENSORS = frozenset({ACCELEROMETER, GPS})
EVERY = frozenset(SHARES)
PRODUCERS = {
    WORDS: b"transcriber/4.2",
    VOICE: b"voice-detector/1.9",
    VISION: b"vision-annotator/4.0",
    EMOTIONS: b"emotion-recogniser/2.0",
    FACES: b"face-reader/3.0",
    REASONING: b"reasoner/1.3",
    CONTENT: b"url-reader/2.2",
    EMAILS: b"mail-embedder/1.4",
    LIKES: b"tweet-embedder/1.4",
    ARCHIVED: b"url-archiver/3.1",
}
"""What they call themselves in a header. Sensors send none."""
