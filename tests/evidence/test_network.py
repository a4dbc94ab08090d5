import numpy as np
import pytest
import torch

from scripts.evidence.ensemble import EvidenceEnsemble, agreed
from scripts.evidence.network import CLAMP_MM, LOGIT_PER_MM, EvidenceNet
from scripts.training.evidence.patches import Example, draw_patch
from scripts.training.evidence.training import train_evidence

SMALL = (4, 4, 8, 8, 8, 4)


def sphere_example(side: int = 36) -> Example:
    """A bright ball, its true distances, and drafts that are the same ball shifted and blown up."""
    index = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1) * 3.0
    truth = np.linalg.norm(index - 52.0, axis=-1) - 24.0
    draft = np.linalg.norm(index - [60.0, 52.0, 52.0], axis=-1) - 28.0
    image = (truth < 0) * 0.7 + 0.1

    def tensor(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.clip(-20, 20))[None].half()

    return Example(tensor(image), tensor(truth), [tensor(draft)], [tensor(draft)], tensor(truth))


def made_ensemble(members: int) -> EvidenceEnsemble:
    torch.manual_seed(0)
    return EvidenceEnsemble([EvidenceNet(["ball"], features=SMALL) for _ in range(members)], {"seed": 0}).eval()


def test_save_and_load_give_the_same_networks(tmp_path):
    ensemble = made_ensemble(2)
    ensemble.save(tmp_path / "evidence.safetensors")
    again = EvidenceEnsemble.load(tmp_path / "evidence.safetensors")
    inputs = torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 16, 16, 16), torch.rand(1, 1, 16, 16, 16)
    assert torch.allclose(ensemble(*inputs), again(*inputs), atol=2e-2)
    assert again.structures == ["ball"] and again.card == {"seed": 0} and not again.training


def test_the_least_sure_member_speaks_and_contradictions_say_nothing():
    ensemble = made_ensemble(3)
    for member, logits in zip(ensemble.members, ([2.0, -3.0, 1.0], [5.0, -1.0, -4.0], [3.0, -9.0, 2.0]), strict=True):
        member.forward = lambda *_, given=logits: torch.tensor(given)
    assert agreed(ensemble(None, None, None)).tolist() == [2.0, -1.0, 0.0]
    alone = made_ensemble(1)
    alone.members[0].forward = lambda *_: torch.tensor([2.0, -3.0, 0.0])
    assert agreed(alone(None, None, None)).tolist() == [2.0, -3.0, 0.0]


def test_networks_of_other_structures_are_no_ensemble():
    with pytest.raises(ValueError, match="same structures"):
        EvidenceEnsemble([EvidenceNet(["ball"], features=SMALL), EvidenceNet(["cube"], features=SMALL)])


def test_missing_image_is_read_as_missing():
    network = EvidenceNet(["ball"], features=SMALL).eval()
    distance = torch.rand(1, 1, 16, 16, 16)
    blind = network(torch.full_like(distance, torch.nan), distance, distance)
    assert blind.isfinite().all()
    assert not torch.allclose(blind, network(torch.zeros_like(distance), distance, distance))


def test_silent_network_repeats_the_mask():
    network = EvidenceNet(["ball"], features=SMALL).eval()
    for parameter in network.net.final_conv.parameters():
        torch.nn.init.zeros_(parameter)
    mask = torch.linspace(-9, 9, 16**3).view(1, 1, 16, 16, 16)
    logits = network(torch.zeros_like(mask), mask, mask)
    assert torch.allclose(logits, -LOGIT_PER_MM * mask)


def test_patches_keep_distances_and_image_together():
    """Bright is inside, dark outside, wherever the patch lies and however it is turned; distances stay distances."""
    example, rng = sphere_example(), np.random.default_rng(0)
    withheld, sizes = 0, set()
    for _ in range(30):
        image, mask, context, truth = draw_patch(example, 24, rng)
        assert image.shape == mask.shape == context.shape == truth.shape == (1, 24, 24, 24)
        assert all(part.isfinite().all() and part.abs().max() <= CLAMP_MM for part in (mask, context, truth))
        sizes.add(int((truth < 0).sum()))
        if image.isnan().all():
            withheld += 1
            continue
        seen = image.isfinite()
        assert image[seen & (truth < -4)].mean() > image[seen & (truth > 4)].mean() + 0.3
        slope = torch.stack(torch.gradient(truth[0])).norm(dim=0)[(truth[0].abs() < 8) & seen[0]]
        assert slope.numel() == 0 or abs(slope.median() - 3.0) < 0.2  # a step of 3 mm changes the distance by 3 mm
    assert 2 <= withheld <= 15 and len(sizes) > 20


def test_patches_hold_masks_between_draft_and_truth():
    example, rng = sphere_example(), np.random.default_rng(1)
    shares = []
    for _ in range(60):
        _, mask, context, truth = draw_patch(example, 24, rng)
        assert torch.equal(mask, context)  # draft and context are the same here, and so must be their shares
        shares.append(float((mask != truth).float().mean()))
    assert min(shares) == 0.0 and max(shares) > 0.5


@pytest.mark.slow
def test_training_learns_to_move_the_mask_to_the_image():
    torch.manual_seed(0)
    network = EvidenceNet(["ball"], features=SMALL)
    losses = train_evidence([sphere_example()], network, steps=100, batch=1, side=32, learning_rate=5e-3)
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])
    example = sphere_example()
    with torch.no_grad():
        logits = network(
            *(part[None, :, :32, :32, :32].float() for part in (example.image, example.drafts[0], example.contexts[0]))
        )
    truth = example.truth[:, :32, :32, :32] < 0
    draft = example.drafts[0][:, :32, :32, :32] < 0
    wrong = int(((logits[0] > 0) != truth).sum())
    assert wrong < 0.2 * int((draft != truth).sum())
