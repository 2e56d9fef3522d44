"""The student and the painter: sizes, ranges, and where the features lie."""

import pytest
import torch

from heirloom import InputError
from heirloom.models.preprocessor import build_preprocessor, rebuild_preprocessor
from heirloom.networks.student_painter import StudentPainter, StudentPainterSettings


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3), (96, 3)])
def test_images_of_any_size_go_through_features_alone(side: int, channels: int) -> None:
    preprocessor = build_preprocessor(
        "student-painter", (channels, side, side), features=5, width=4, painter_width=8
    ).eval()
    x = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    painted = preprocessor(x)
    assert painted.shape == x.shape
    assert 0 <= painted.min() <= painted.max() <= 1
    assert preprocessor.embed(x).shape == (2, 5)
    again = rebuild_preprocessor(preprocessor.describe())
    again.load_state_dict(preprocessor.state_dict())
    assert torch.equal(again.eval()(x), painted)


@pytest.mark.parametrize(("side", "thumbnail"), [(8, 2), (8, 8), (32, 8), (28, 5)])
def test_with_a_thumbnail_the_painter_changes_a_coarse_picture(side: int, thumbnail: int) -> None:
    changes = {"features": 5, "width": 4, "painter_width": 8, "thumbnail": thumbnail}
    preprocessor = build_preprocessor("student-painter", (3, side, side), **changes).eval()
    network = preprocessor.network
    assert isinstance(network, StudentPainter)
    x = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    assert network.encode(x).shape == (2, 5 + 3 * thumbnail**2)
    torch.nn.init.zeros_(network.painter.out.weight)
    torch.nn.init.zeros_(network.painter.out.bias)  # what is painted is nothing: the coarse picture stays
    coarse = torch.nn.functional.adaptive_avg_pool2d(x, thumbnail)
    wanted = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear", align_corners=False)
    assert torch.allclose(preprocessor(x), wanted, atol=1e-6)
    again = rebuild_preprocessor(preprocessor.describe())
    again.load_state_dict(preprocessor.state_dict())
    assert torch.equal(again.eval()(x), preprocessor(x))


def test_features_are_placed_where_the_foundations_lie() -> None:
    network = StudentPainter(StudentPainterSettings(features=3, width=4)).eval()
    features = torch.tensor([[1.0, 2.0, 9.0], [3.0, 2.0, 5.0]])
    network.place(features)
    torch.nn.init.zeros_(network.student.out.weight)
    torch.nn.init.zeros_(network.student.out.bias)
    x = torch.rand(1, 3, 32, 32)
    assert network.encode(x).tolist() == [[2.0, 2.0, 7.0]]  # their mean where the student says nothing
    assert torch.equal(network.student.deviation, features.var(0).mean().sqrt())
    assert torch.equal(network.painter.mean, network.student.mean)


@pytest.mark.parametrize("student", ["resnet10", "resnet18"])
def test_a_smooth_student_has_slopes_that_move_with_the_input(student: str) -> None:
    """Second derivatives along a line: none almost everywhere for ReLU, some for SiLU."""
    x = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    curved = {}
    for activation in ("relu", "silu"):
        changes = {"student": student, "width": 4, "features": 3, "activation": activation}
        network = build_preprocessor("student-painter", (1, 8, 8), **changes).network.double().eval()
        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        slope = torch.autograd.grad(network.encode(x + t * x).sum(), t, create_graph=True)[0]
        curved[activation] = slope.requires_grad and float(torch.autograd.grad(slope, t)[0].abs()) > 1e-12
    assert curved == {"relu": False, "silu": True}


def test_unknown_students_are_refused() -> None:
    with pytest.raises(InputError, match="student must be one of resnet10, resnet18, got vgg"):
        StudentPainter(StudentPainterSettings(student="vgg"))
    with pytest.raises(InputError, match="activation must be one of relu, silu, got tanh"):
        StudentPainter(StudentPainterSettings(activation="tanh"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="thumbnail must be from 0 to the images' own side, got 40"):
        StudentPainter(StudentPainterSettings(thumbnail=40))


@pytest.mark.parametrize("thumbnail", [0, 4])
def test_the_pair_is_one_function_in_16_bits_too(thumbnail: int) -> None:
    """As `evaluate --dtype` converts a saved defence: what the student says is what the painter takes."""
    made = StudentPainter(
        StudentPainterSettings(image_size=8, channels=1, features=5, width=4, thumbnail=thumbnail)
    )
    made.eval().to(torch.bfloat16)
    x = torch.rand(2, 1, 8, 8).to(torch.bfloat16)
    assert made.decode(made.encode(x)).dtype == torch.bfloat16
