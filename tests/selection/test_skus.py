"""GPU models by exact name and PCI id, never by a part of a name."""

import pytest

from selection.machine.facts import Gpu
from selection.machine.skus import SKUS, sku_of


@pytest.mark.parametrize(
    ("name", "pci_id", "sku"),
    [
        ("NVIDIA L4", "27b8:10de", "l4"),
        ("NVIDIA L40S", None, "l40s"),
        ("NVIDIA L40", "26b5:10de", "l40"),
        ("NVIDIA A10", "2236:10de", "a10"),
        ("NVIDIA A10G", "2237:10de", "a10g"),
        ("NVIDIA A100-SXM4-80GB", "20b2:10de", "a100-sxm4-80gb"),
        ("NVIDIA H100 80GB HBM3", "2330:10de", "h100-hbm3-80gb"),
        ("nvidia h100 80gb hbm3", None, "h100-hbm3-80gb"),
        ("NVIDIA H100 NVL", "2321:10de", "h100-nvl"),
        ("A name the driver does not know", "2321:10de", "h100-nvl"),
        ("A name the driver does not know", "2321:1002", None),
        ("NVIDIA L40SX", None, None),
        ("NVIDIA H100", None, None),
        ("NVIDIA H20", None, None),
        ("L4", None, None),
    ],
)
def test_model_of_a_gpu(name: str, pci_id: str | None, sku: str | None) -> None:
    """The whole name decides, then NVIDIA's PCI id; anything else is not a known model."""
    assert sku_of(Gpu(index=0, name=name, pci_id=pci_id)) == sku


def test_mig_slice_is_no_model() -> None:
    """A slice of an H100 is not an H100."""
    assert sku_of(Gpu(index=0, name="NVIDIA H100 80GB HBM3", pci_id="2330:10de", mig_slice="1g.10gb")) is None


def test_names_are_distinct() -> None:
    """Every model is listed once."""
    assert len(set(SKUS)) == len(SKUS) >= 20
