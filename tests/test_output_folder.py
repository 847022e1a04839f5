"""A folder belongs to one command with one set of settings, also where earlier builds had fewer flags."""

import pytest

from agssp.errors import InputError
from agssp.output_folder import claim_output


def test_a_run_of_a_build_without_the_flag_goes_on_with_its_default_alone(tmp_path):
    assert claim_output(tmp_path / "a", "evaluate", {"seed": 1}) is False
    assert claim_output(tmp_path / "a", "evaluate", {"seed": 1, "crowds": "auto"}) is True
    with pytest.raises(InputError, match="crowds: there None, now 'objects'"):
        claim_output(tmp_path / "a", "evaluate", {"seed": 1, "crowds": "objects"})
    assert claim_output(tmp_path / "b", "evaluate", {"seed": 1, "crowds": "objects"}) is False
    with pytest.raises(InputError, match="crowds: there 'objects', now 'auto'"):
        claim_output(tmp_path / "b", "evaluate", {"seed": 1, "crowds": "auto"})
