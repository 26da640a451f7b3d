"""The README's example runs as printed."""

import re
from pathlib import Path


def test_the_example_runs(capsys):
    text = (Path(__file__).parent.parent / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" gradient")[0] for line in printed[:4]] == [
        "BPTT() exact here: True",
        "RTRL() exact here: True",
        "SnAp() exact here: False",
        "EProp() exact here: False",
    ]
    norms = [float(line.rsplit(" ", 1)[1]) for line in printed[:4]]
    assert abs(norms[0] - norms[1]) < 1e-5 * norms[0]
    assert abs(norms[2] - norms[0]) > 1e-5 * norms[0]
    assert "accuracy" in printed[4]
