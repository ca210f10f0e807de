"""The chart, the image and the scripts on a real cluster. Apart from the other tests: ``make cluster-test``.

Kafka and a database are deployed by plain manifests (``manifests/``), the service by Helm alone. What is needed, and
which clusters are refused: docs/deployment/cluster-test.md.
"""
