"""Options of a host: none is evaluated."""

import json

from scripts.run.options import Offered


def test_offered_options_are_copied_by_a_host_but_have_no_names_to_write_back():
    shown = {"model_filename": ["model.pt"]}
    shown.update(Offered(organ=["hippocampus"], refine=True))
    assert shown == {"model_filename": ["model.pt"], "organ": ["hippocampus"], "refine": True}
    assert list(Offered(organ=[]).keys()) == [] and json.dumps(shown)
