"""The main job at reduced size: ten sectors, from pixels to one camera."""

from boresight.cli.demo import run


def test_the_demo_passes_at_reduced_size(tmp_path, capsys):
    assert run(tmp_path / "demo", binning=4)
    printed = capsys.readouterr().out
    assert "10 of 10 solved" in printed
    assert (tmp_path / "demo" / "matched_stars.png").stat().st_size > 10_000
    assert len(list((tmp_path / "demo").glob("sector*.fits"))) == 10
