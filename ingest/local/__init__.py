"""A real broker and database on this machine, for demo, tests and development. Needs the extra ``[local]``.

::

    commands    ingest stack up | env | down
    keep        a stack that outlives its command
    stack       environment → Docker → wheels
    ├── docker      containers
    ├── kafka       Apache Kafka from wheels       ── jars      what it is made of, pinned
    └── postgres    PostgreSQL from wheels
    process     one server process ── guard, waiting, ports
    errors
"""
