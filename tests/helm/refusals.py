"""What Helm says of values that the chart does not take."""

from __future__ import annotations

import helm_python as helm
import pytest

from tests.helm.chart import Object, render


def refused(values: Object) -> list[str]:
    """The lines that Helm prints, without its own preface."""
    with pytest.raises(helm.HelmError) as raised:
        render(values)
    lines = [line for line in str(raised.value).splitlines() if line.strip()]
    assert "Traceback" not in str(raised.value)
    return [line.removeprefix("- at ") for line in lines if ": " in line and "templates/" not in line]
