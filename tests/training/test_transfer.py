"""Starting from another organ's prior: other numbers of shapes, other code sizes."""

import pytest
import torch

from scripts.organ.pack import MODELS
from scripts.prior.field import DeformTemplateField
from scripts.prior.prior import ShapePrior
from scripts.training.prior.transfer import find_prior, start_field
from tests.helpers.spheres import sphere_linear
from tests.helpers.tiny_run import workflow

MAKE = {"hidden": 16, "layers": 3, "omega": 12.0, "rank": 2}


def bare(field: DeformTemplateField) -> ShapePrior:
    """A prior with nothing of its own but the field."""
    size, none = field.code_dim + field.hyper_code_dim, torch.zeros(0, 3)
    linear = sphere_linear()
    return ShapePrior(field, linear, none, none, none, 1.0, torch.zeros(size), torch.eye(size), torch.zeros(3, size))


def sdf(field: DeformTemplateField, alpha: torch.Tensor, beta: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return field.sdf(field.weights(beta[None]), alpha[None], points)


@pytest.mark.parametrize("hyper", ["low_rank", "full"])
@pytest.mark.parametrize("sizes", [((5, 4), (3, 2)), ((3, 2), (5, 4)), ((4, 3), (4, 3))], ids=["fewer", "more", "same"])
def test_a_field_of_other_code_sizes_is_the_same_function_of_the_common_ones(hyper, sizes, tmp_path):
    torch.manual_seed(0)
    (old_a, old_b), (new_a, new_b) = sizes
    known = DeformTemplateField(code_dim=old_a, hyper_code_dim=old_b, hyper=hyper, **MAKE)
    with torch.no_grad():
        for value in known.parameters():  # also where a layer starts at 0
            value.add_(0.02 * torch.randn_like(value))
    known = known.half().float()  # as it is stored
    file = bare(known).save(tmp_path / "known.safetensors")
    field = start_field(DeformTemplateField(code_dim=new_a, hyper_code_dim=new_b, hyper=hyper, **MAKE), file)
    common_a, common_b = min(old_a, new_a), min(old_b, new_b)
    codes = torch.randn(common_a), torch.randn(common_b)
    old = [torch.cat([code, torch.zeros(size - len(code))]) for code, size in zip(codes, sizes[0], strict=True)]
    new = [torch.cat([code, torch.zeros(size - len(code))]) for code, size in zip(codes, sizes[1], strict=True)]
    points = torch.rand(30, 3) - 0.5
    torch.testing.assert_close(sdf(field, *new, points), sdf(known, *old, points))
    torch.testing.assert_close(field.template(points), known.template(points))


def test_without_init_the_field_is_left_alone():
    field = DeformTemplateField(**MAKE)
    before = {name: value.clone() for name, value in field.state_dict().items()}
    torch.testing.assert_close(start_field(field, None).state_dict(), before)


def test_another_architecture_is_refused_with_the_options_that_fit(tmp_path):
    file = bare(DeformTemplateField(code_dim=2, hyper_code_dim=2, **MAKE)).save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="--hidden 16 --omega 12.0"):
        start_field(DeformTemplateField(code_dim=2, hyper_code_dim=2, layers=3, rank=2), file)


def test_priors_are_found_by_organ_and_structure(tmp_path):
    heart = MODELS / "thorax" / "heart.safetensors"
    assert find_prior("thorax/heart", "spleen") == heart and find_prior(heart, "") == heart
    assert find_prior("thorax", "aorta") == MODELS / "thorax" / "aorta.safetensors"
    assert find_prior("hippocampus", "spleen") == MODELS / "hippocampus" / "hippocampus.safetensors"
    with pytest.raises(ValueError, match="thorax/<one of oesophagus, heart"):
        find_prior("thorax", "spleen")
    with pytest.raises(ValueError, match="neither a .safetensors file nor an organ"):
        find_prior("unicorn", "horn")
    with pytest.raises(ValueError, match="no such file"):
        find_prior(tmp_path / "a.safetensors", "horn")


def test_training_starts_from_a_committed_prior(bundle_root, organ, tmp_path):
    """Six shapes and codes of five numbers start from the heart's 108 shapes and codes of 48."""
    make = {"hidden": 128, "layers": 5, "warm_up_steps": 0}
    job = workflow(bundle_root, tmp_path, *organ, init="thorax/heart", **make)
    job.initialize()
    network = job.parser.get_parsed_content("field_with_codes")
    heart = ShapePrior.load(MODELS / "thorax" / "heart.safetensors").field
    assert network.alpha.shape == (6, 5) and network.field.code_dim == 5
    points = torch.rand(20, 3) - 0.5
    torch.testing.assert_close(network.field.template(points), heart.template(points))
    torch.testing.assert_close(network.field.hyper.left[1], heart.hyper.left[1])
    torch.testing.assert_close(network.field.hyper.nets[0][0].weight, heart.hyper.nets[0][0].weight[:, :5])
