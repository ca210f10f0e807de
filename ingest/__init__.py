"""loom-ingest: puts what Kafka holds into TimescaleDB, each message exactly once, whatever breaks."""
