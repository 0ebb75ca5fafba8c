"""The speed of rendering."""

from __future__ import annotations

import pytest

from noma_semcom_benchmarks import rendering
from noma_semcom_env.scenes.street import StreetScene, render


def test_every_scene_of_a_round_is_rendered_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, str]] = []

    def note(seed: int, side: int, style: str) -> StreetScene:
        asked.append((seed, side, style))
        return render(seed, side, style)

    monkeypatch.setattr(rendering, "render", note)
    assert rendering.images_per_second([5, 6], 64, "crayon") > 0
    assert asked == [(5, 64, "crayon"), *[(5, 64, "crayon"), (6, 64, "crayon")] * rendering.ROUNDS]


def test_the_command_prints_a_row_a_side(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["rendering", "--images", "1"])
    rendering.main()
    printed = capsys.readouterr().out
    for name in ("64", "128", "256", "plain", "crayon"):
        assert name in printed


def test_no_images_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["rendering", "--images", "0"])
    with pytest.raises(SystemExit):
        rendering.main()
    assert "--images 0 must be at least 1" in capsys.readouterr().err
