"""``scripts/monitor-consumer-lag.sh`` tells how things stand, on every way there is; its exit code says it too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.local.ports import free_port
from ingest.local.postgres import query
from tests.scripts.conftest import CONTEXT, READY, Consumer, in_pods, played_kafka, sample
from tests.scripts.programs import Programs, press_ctrl_c
from tests.support.waiting import eventually

SCRIPT = "monitor-consumer-lag.sh"
HEALTHY, ATTENTION, USAGE, UNREACHED, STOPPED = 0, 1, 2, 3, 130


def reasons(out: str) -> list[str]:
    return re.findall(r"^  - (.*)$", out, re.MULTILINE)


def test_a_healthy_consumer_is_shown_from_all_sides(running: Consumer, cluster: Programs) -> None:
    done = cluster.run(SCRIPT, "--group", running.group, **running.variables)
    assert done.code == HEALTHY, done.said
    assert re.search(rf"^  {running.gps} +0 +300 +300 +0  loom-ingest-kafka-", done.out, re.MULTILINE)
    assert "0 messages behind in 15 partitions (HEALTHY), as Kafka has it" in done.out
    assert re.search(r"^   idle +\| +\d+ \|", done.out, re.MULTILINE)
    connections = re.search(r"(\d+) of the consumer, (\d+) of all clients of the server, which takes 300", done.out)
    assert connections and 2 <= int(connections[1]) <= int(connections[2])
    assert re.search(r"^  pods +\| 1$", done.out, re.MULTILINE)
    assert re.search(r"^  messages_processed +\| 300$", done.out, re.MULTILINE)
    assert "Active alerts\n  none\n" in done.out
    assert "3 of 3 ready" in done.out
    assert "12m   120Mi" in done.out
    assert done.out.endswith("Verdict\n  HEALTHY\n")
    assert done.err == ""


@pytest.mark.parametrize("place", ["workstation", "pod"])
def test_through_the_pods_it_is_the_same(place: str, running: Consumer, cluster: Programs) -> None:
    """From a workstation by kubectl's context; in a pod kubectl has none, and needs none."""
    in_pods(cluster, running)
    variables = {}
    if place == "pod":
        no_context = {"code": 1, "err": "error: current-context is not set\n"}
        cluster.on("kubectl", "config current-context", no_context, first=True)
        variables = {"KUBERNETES_SERVICE_HOST": "10.43.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    done = cluster.run(SCRIPT, "--group", running.group, **variables)
    assert done.code == HEALTHY, done.said
    assert f"{running.gps} " in done.out
    assert "as Kafka has it" in done.out
    assert re.search(r"\d+ of the consumer, \d+ of all clients", done.out)
    assert "messages_processed" in done.out
    assert "3 of 3 ready" in done.out


def test_outside_any_cluster_what_answers_decides(running: Consumer, programs: Programs) -> None:
    done = programs.run(SCRIPT, "--group", running.group, **running.variables)
    assert "the cluster was not asked: kubectl is not on the PATH" in done.out
    assert done.code == HEALTHY, done.said


def test_without_kafka_the_lag_is_the_sampled_one(running: Consumer, programs: Programs) -> None:
    done = programs.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=running.database_url)
    assert "Kafka was not asked: kubectl is not on the PATH, and LOOM_KAFKA_BOOTSTRAP_SERVERS is not set" in done.out
    assert re.search(rf"^  {running.gps} +0 +300 +300 +0  \?", done.out, re.MULTILINE)
    assert re.search(r"in 15 partitions \(HEALTHY\), as the consumer sampled it at most \d+ s ago\n", done.out)
    assert done.code == HEALTHY, done.said
    assert done.out.endswith("  HEALTHY\n  The lag is the one that the consumer samples: Kafka was not asked\n")


NO_KAFKA = {"code": 1, "err": 'Error from server (NotFound): deployments.apps "kafka" not found\n'}


def without_kafka(programs: Programs) -> None:
    """The broker is no deployment here; a managed one, for example."""
    programs.on("kubectl", ".*get deployment kafka-to-db-consumer .*BOOTSTRAP_SERVERS.*", {"out": "brokers:9093"})
    programs.on("kubectl", ".*exec deployment/kafka .*", NO_KAFKA)


def test_a_kafka_that_can_not_be_asked_is_no_trouble_while_the_pods_sample_it(
    running: Consumer, cluster: Programs
) -> None:
    without_kafka(cluster)
    done = cluster.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=running.database_url)
    assert done.code == HEALTHY, done.said
    assert '  Kafka did not answer: Error from server (NotFound): deployments.apps "kafka" not found\n' in done.out
    assert "0 messages behind in 15 partitions (HEALTHY), as the consumer sampled it" in done.out
    assert done.out.endswith("  HEALTHY\n  The lag is the one that the consumer samples: Kafka did not answer\n")


@pytest.mark.parametrize("asked", [True, False])
async def test_samples_from_before_the_broker_went_away_are_not_healthy(
    asked: bool, consumer: Consumer, engine: AsyncEngine, programs: Programs
) -> None:
    """No view calls a sample of two minutes stale. Of the other partition there is a new one."""
    if asked:
        programs.stand_in("kubectl")
        programs.on("kubectl", "config current-context", {"out": f"{CONTEXT}\n"})
        for match, out in READY.items():
            programs.on("kubectl", f".*{match}", {"out": out})
        without_kafka(programs)
    sample(consumer, age="2 minutes")
    sample(consumer, partition=8)
    async with engine.connect():  # the pool has a connection: only the sample can be a reason
        done = programs.run(SCRIPT, "--group", consumer.group, LOOM_DATABASE_URL=consumer.database_url)
    assert done.code == ATTENTION, done.said
    [reason] = reasons(done.out)
    problem = "Kafka did not answer" if asked else "Kafka was not asked"
    assert re.fullmatch(rf"{problem}, and samples of the lag are 1[23]\d s old", reason)


def test_without_kafka_the_lag_of_partitions_that_nobody_samples_any_more_counts(
    consumer: Consumer, programs: Programs
) -> None:
    sample(consumer, lag=9_000, log_end_offset=9_100, age="10 minutes")
    sample(consumer, partition=8)
    done = programs.run(SCRIPT, "--group", consumer.group, LOOM_DATABASE_URL=consumer.database_url)
    assert done.code == ATTENTION, done.said
    assert re.search(r"9000 messages behind in 2 partitions \(WARNING\), as .* sampled it at most 60\d s ago", done.out)
    assert "9000 messages behind" in reasons(done.out)


def test_a_kafka_that_can_not_be_asked_is_trouble_without_samples(consumer: Consumer, cluster: Programs) -> None:
    without_kafka(cluster)
    done = cluster.run(SCRIPT, "--group", consumer.group, LOOM_DATABASE_URL=consumer.database_url)
    assert done.code == ATTENTION
    assert "Kafka did not answer" in reasons(done.out)
    assert f"no pod of group {consumer.group} has written a sample of its lag" in done.out


def test_a_lag_that_nobody_can_tell_is_a_reason(consumer: Consumer, programs: Programs) -> None:
    done = programs.run(SCRIPT, "--group", consumer.group, LOOM_DATABASE_URL=consumer.database_url)
    assert done.code == ATTENTION
    assert "the lag is not known" in reasons(done.out)


def test_a_brokers_login_is_taken_from_the_file_that_is_named(
    running: Consumer, programs: Programs, tmp_path: Path
) -> None:
    """Kafka's own command reads it: with a login that this broker does not know, it is refused."""
    properties = tmp_path / "client.properties"
    arguments = (SCRIPT, "--group", running.group, "--command-config", str(properties))
    properties.write_text("client.id=somebody\n")
    assert "(HEALTHY), as Kafka has it" in programs.run(*arguments, **running.variables).out
    properties.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nrequest.timeout.ms=2000\n"
        'sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="a" password="b";\n'
    )
    assert "Kafka did not answer" in programs.run(*arguments, **running.variables).out


def test_in_the_pod_of_kafka_the_file_is_the_pods(running: Consumer, cluster: Programs) -> None:
    played_kafka(cluster)
    cluster.run(
        SCRIPT,
        "--command-config",
        "/etc/kafka/a file",
        "--group",
        running.group,
        LOOM_DATABASE_URL=running.database_url,
    )
    [call] = [call for call in cluster.calls("kubectl") if "exec deployment/kafka" in call]
    assert " --timeout 10000 --command-config /etc/kafka/a file --describe " in call


def test_a_role_that_is_not_told_of_others_sessions_counts_them(running: Consumer, programs: Programs) -> None:
    role = f"watcher_{running.suffix}".replace("-", "_")
    running.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    try:
        running.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        url = urlsplit(running.database_url)
        theirs = f"postgresql://{role}:p@{url.hostname}:{url.port}{url.path}"
        done = programs.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=theirs)
    finally:
        running.sql(f"DROP OWNED BY {role}")
        running.sql(f"DROP ROLE {role}")
    assert done.code == HEALTHY, done.said
    assert "not shown to this role" in done.out
    assert re.search(r"^  [1-9]\d* of the consumer, [1-9]\d* of all clients", done.out, re.MULTILINE)


def test_passwords_are_in_no_command_line_and_no_output(running: Consumer, programs: Programs) -> None:
    done = programs.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=running.database_url)
    password = urlsplit(running.database_url).password
    assert password and done.code == HEALTHY
    assert "-v ON_ERROR_STOP=1" in programs.psql_arguments
    assert password not in programs.psql_arguments + done.said


async def test_a_backlog_nobody_reads_is_named(consumer: Consumer, programs: Programs) -> None:
    await consumer.produce(50)
    consumer.start()
    await consumer.caught_up()
    consumer.stop()
    await consumer.produce(1500)
    done = programs.run(SCRIPT, "--group", consumer.group, **consumer.variables)
    assert done.code == ATTENTION
    assert re.search(rf"^  {consumer.gps} +0 +50 +1550 +1500  -$", done.out, re.MULTILINE), done.out
    assert reasons(done.out) == [
        "1500 messages behind",
        "15 partitions without a consumer",
        "the consumer has no connection to the database",
    ]


async def test_a_group_that_never_was_is_said(consumer: Consumer, programs: Programs) -> None:
    done = programs.run(SCRIPT, "--group", consumer.group, **consumer.variables)
    assert done.code == ATTENTION
    assert f"the broker knows no group {consumer.group}: no consumer has joined it yet" in reasons(done.out)
    assert f"nothing was ever reported of group {consumer.group}" in reasons(done.out)


def test_nothing_that_answers_is_a_code_of_its_own(programs: Programs) -> None:
    programs.stand_in("kubectl")
    programs.on("kubectl", "config current-context", {"out": f"{CONTEXT}\n"})
    programs.on(
        "kubectl",
        ".*",
        {"code": 1, "err": "E1126 10:00:00 memcache.go:265] refused\nThe connection to the server x was refused\n"},
    )
    done = programs.run(
        SCRIPT,
        LOOM_DATABASE_URL=f"postgresql://loom:secret@127.0.0.1:{free_port()}/loom",
        LOOM_KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
    )
    assert done.code == UNREACHED
    assert re.search(r"^  Kafka did not answer: TimeoutException: ", done.out, re.MULTILINE), done.out
    assert re.search(r"^  the database did not answer: connection to server .* refused", done.out, re.MULTILINE)
    assert "\n  the cluster did not answer: The connection to the server x was refused\n" in done.out
    assert "NOTHING COULD BE REACHED" in done.out
    assert "secret" not in done.said


def test_a_database_that_is_down_does_not_hide_the_rest(running: Consumer, programs: Programs) -> None:
    down = f"postgresql://loom:secret@127.0.0.1:{free_port()}/loom"
    done = programs.run(SCRIPT, "--group", running.group, **running.variables | {"LOOM_DATABASE_URL": down})
    assert done.code == ATTENTION
    assert "in 15 partitions (HEALTHY), as Kafka has it" in done.out
    assert done.out.count("not known without the database") == 2
    assert reasons(done.out) == ["the database did not answer"]


def test_a_database_without_the_views_is_told_what_to_do(empty_database_url: str, programs: Programs) -> None:
    done = programs.run(SCRIPT, LOOM_DATABASE_URL=empty_database_url)
    assert done.code == ATTENTION
    assert done.out.count("the monitoring views are not there") == 2
    assert ": alembic upgrade head" in done.out


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"lag": 500, "log_end_offset": 600}, HEALTHY, None),  # WATCH: an alert to MONITOR
        ({"lag": 5000, "log_end_offset": 5100}, ATTENTION, "alerts to INVESTIGATE: 1"),
        ({"lag": 50000, "log_end_offset": 50100}, ATTENTION, "alerts for IMMEDIATE_ACTION: 1"),
        ({"age": "10 minutes"}, ATTENTION, "alerts for IMMEDIATE_ACTION: 1"),  # silent
        ({"lag": None, "current_offset": None}, ATTENTION, "1 partitions without a committed offset"),
    ],
)
async def test_alerts_decide_by_their_urgency(
    changes: dict[str, Any], code: int, reason: str | None, consumer: Consumer, engine: AsyncEngine, programs: Programs
) -> None:
    sample(consumer, **changes)
    async with engine.connect():  # the pool has a connection: only the sample can be a reason
        done = programs.run(SCRIPT, "--group", consumer.group, LOOM_DATABASE_URL=consumer.database_url)
    assert done.code == code, done.said
    assert reason is None or reason in reasons(done.out)
    if changes.get("lag") == 500:
        assert re.search(r"^   MONITOR +\| lag +\| - +\| 500 messages behind \(WATCH\)", done.out, re.MULTILINE)


PODS = "get deployment kafka-to-db-consumer .*readyReplicas.*"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"out": "3|2"}, "2 of 3 pods are ready"),
        ({"out": "3|"}, "0 of 3 pods are ready"),
        ({"out": "0|"}, "the deployment is scaled to 0 pods"),
        ({"out": ""}, "there is no deployment kafka-to-db-consumer in namespace loom-dev"),
        ({"code": 1, "err": "error: You must be logged in\n"}, "the cluster did not answer"),
    ],
)
def test_pods_that_are_not_ready_are_a_reason(
    answer: dict[str, Any], reason: str, running: Consumer, cluster: Programs
) -> None:
    played_kafka(cluster)
    cluster.on("kubectl", f".*{PODS}", answer, first=True)
    done = cluster.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=running.database_url)
    assert (done.code, reasons(done.out)) == (ATTENTION, [reason]), done.said


def test_missing_metrics_make_no_pod_worse(running: Consumer, cluster: Programs) -> None:
    played_kafka(cluster)
    cluster.on("kubectl", ".*top pods.*", {"code": 1, "err": "error: Metrics API not available\n"}, first=True)
    done = cluster.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=running.database_url)
    assert "what they use is not known: error: Metrics API not available" in done.out
    assert done.code == HEALTHY, done.said


def test_another_namespace_is_asked_where_that_is_said(programs: Programs) -> None:
    programs.stand_in("kubectl")
    programs.on("kubectl", "config current-context")
    programs.on("kubectl", "--namespace elsewhere .*")
    done = programs.run(SCRIPT, "--namespace", "elsewhere")
    assert "there is no deployment kafka-to-db-consumer in namespace elsewhere" in reasons(done.out)


def test_kubectl_without_a_context_is_no_way_to_a_cluster(running: Consumer, programs: Programs) -> None:
    programs.stand_in("kubectl")
    programs.on("kubectl", "config current-context", {"code": 1, "err": "error: current-context is not set\n"})
    done = programs.run(SCRIPT, "--group", running.group, LOOM_DATABASE_URL=running.database_url)
    assert "the cluster was not asked: kubectl has no current context" in done.out
    assert done.code == HEALTHY, done.said


@pytest.mark.parametrize(
    "form",
    [
        "postgresql+asyncpg://{user}:{password}@{host}:{port}/{database}",
        "postgresql://{user}:{password}@127.0.0.1:{closed},{host}:{port}/{database}?sslmode=prefer&connect_timeout=3",
        "postgresql:///{database}?user={user}&password={password}&host={host}&port={port}&application_name=a-kafka-b",
        "postgresql://[::1]:{closed},{host}:{port}/{database}?user={user}&password={password}&target_session_attrs=any",
    ],
)
def test_the_url_means_what_it_means_to_libpq(form: str, running: Consumer, programs: Programs) -> None:
    url = urlsplit(running.database_url)
    user, password = f"o'dd {running.suffix} \\x41", "p@s/s:w%41&?=ö \\"
    database = url.path[1:]
    literal = password.replace("'", "''")
    query(running.database_url, f"CREATE ROLE \"{user}\" LOGIN PASSWORD '{literal}' IN ROLE loom")
    try:
        done = programs.run(
            SCRIPT,
            "--group",
            running.group,
            LOOM_DATABASE_URL=form.format(
                user=quote(user, safe=""), password=quote(password, safe=""), host=url.hostname, port=url.port,
                database=database, closed=free_port(),
            ),
        )  # fmt: skip
    finally:
        query(running.database_url, f'DROP ROLE "{user}"')
    assert done.code == HEALTHY, done.said
    assert password not in programs.psql_arguments + done.said


def test_a_watch_goes_on_until_ctrl_c_and_ends_with_the_last_code(running: Consumer, programs: Programs) -> None:
    process = programs.start(SCRIPT, "--group", running.group, "--watch", "1", LOOM_DATABASE_URL=running.database_url)
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if seen.count("Verdict\n  HEALTHY\n") == 2 and line == "\n":  # the second look is over
            break
    done = press_ctrl_c(process)
    assert done.code == HEALTHY, seen + done.said
    assert "; +0 since the last look" in seen
    assert done.err == ""


async def test_ctrl_c_in_the_first_look_ends_at_once(running: Consumer, cluster: Programs) -> None:
    played_kafka(cluster)
    cluster.on("kubectl", ".*get pods.*", {"hold": True}, first=True)
    process = cluster.start(SCRIPT, "--watch", "--group", running.group, LOOM_DATABASE_URL=running.database_url)

    async def held() -> bool:
        return any("get pods" in call for call in cluster.calls("kubectl"))

    await eventually(held)
    assert press_ctrl_c(process).code == STOPPED


def test_colours_are_for_terminals_that_want_them(programs: Programs) -> None:
    assert "\x1b[" in programs.run_in_terminal(SCRIPT).out
    assert "\x1b[" not in programs.run_in_terminal(SCRIPT, NO_COLOR="1").out
    assert "\x1b[" not in programs.run_in_terminal(SCRIPT, TERM="dumb").out
    assert "\x1b[" not in programs.run(SCRIPT).out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--wach"], "unknown: --wach; see --help"),
        (["--group"], "--group needs a value"),
        (["--namespace", "--watch"], "--namespace needs a value"),
        (["--watch", "0"], "--watch takes a whole number of seconds, from 1 on; not '0'"),
        (["--watch", "soon"], "not 'soon'"),
        (["--command-config"], "--command-config needs a value"),
        (["--command-config", "/no/such/file"], "--command-config: can't read /no/such/file"),
    ],
)
def test_a_command_line_without_sense_is_named(arguments: list[str], says: str, programs: Programs) -> None:
    done = programs.run(SCRIPT, *arguments, LOOM_KAFKA_BOOTSTRAP_SERVERS="broker:9092")
    assert (done.code, done.out) == (USAGE, "")
    assert says in done.err
    assert done.err.count("\n") == 1


def test_help_tells_ways_and_codes(programs: Programs) -> None:
    done = programs.run(SCRIPT, "--help")
    assert done.code == 0
    assert "--watch [SECONDS]" in done.out
    assert "exit codes" in done.out
    assert "set -euo" not in done.out
