"""Identifies the GPU model of a device by exact product name or PCI id, never by a part of a name.

A PCI id is listed only if a published list (pci.ids) or a driver's own log gives it; for the others the name
alone decides.
"""

from types import MappingProxyType

from selection.machine.facts import Gpu

#: name in profiles -> exact product names, PCI device ids (vendor 10de)
_SKUS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "v100-sxm2-16gb": (("Tesla V100-SXM2-16GB",), ("1db1",)),
    "v100-sxm2-32gb": (("Tesla V100-SXM2-32GB",), ("1db5",)),
    "t4": (("Tesla T4", "NVIDIA T4"), ("1eb8",)),
    "a100-sxm4-40gb": (("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"), ("20b0",)),
    "a100-sxm4-80gb": (("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"), ("20b2",)),
    "a100-pcie-40gb": (("NVIDIA A100-PCIE-40GB", "A100-PCIE-40GB"), ("20f1",)),
    "a100-pcie-80gb": (("NVIDIA A100 80GB PCIe",), ("20b5",)),
    "a10": (("NVIDIA A10",), ("2236",)),
    "a10g": (("NVIDIA A10G",), ("2237",)),
    "a30": (("NVIDIA A30",), ("20b7",)),
    "rtx-a6000": (("NVIDIA RTX A6000",), ("2230",)),
    "l4": (("NVIDIA L4",), ("27b8",)),
    "l40": (("NVIDIA L40",), ("26b5",)),
    "l40s": (("NVIDIA L40S",), ()),
    "rtx-4090": (("NVIDIA GeForce RTX 4090",), ("2684",)),
    "rtx-6000-ada": (("NVIDIA RTX 6000 Ada Generation",), ("26b1",)),
    "h100-hbm3-80gb": (("NVIDIA H100 80GB HBM3",), ("2330",)),
    "h100-pcie": (("NVIDIA H100 PCIe",), ("2331",)),
    "h100-nvl": (("NVIDIA H100 NVL",), ("2321",)),
    "h200": (("NVIDIA H200",), ()),
    "gh200-480gb": (("NVIDIA GH200 480GB",), ()),
    "b200": (("NVIDIA B200",), ()),
    "rtx-5090": (("NVIDIA GeForce RTX 5090",), ()),
    "gb10": (("NVIDIA GB10",), ("2e12",)),
}

SKUS = tuple(_SKUS)
_BY_NAME = MappingProxyType({name.lower(): sku for sku, (names, _) in _SKUS.items() for name in names})
_BY_PCI_ID = MappingProxyType({f"{pci}:10de": sku for sku, (_, ids) in _SKUS.items() for pci in ids})


def sku_of(gpu: Gpu) -> str | None:
    """The GPU's model, or None if it is unknown.

    A MIG slice has none: what was tuned for the whole GPU does not suit a part of it.
    """
    if gpu.mig_slice:
        return None
    return _BY_NAME.get(gpu.name.lower()) or _BY_PCI_ID.get(gpu.pci_id or "")
