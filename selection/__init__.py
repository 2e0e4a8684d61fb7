"""Chooses the profile that serves a model on a machine, with a reason for every other one."""

from selection.bounds import CosineBounds, cosine_bounds
from selection.catalogue import model_listing, model_listing_json
from selection.choice import Choice, with_failure
from selection.choose import choose
from selection.fleet import GpuChoice, explain_fleet, is_mixed
from selection.machine.facts import Facts
from selection.machine.facts_file import FactsError, load_facts
from selection.machine.probe import probe
from selection.manifests.catalog import manifest_at, manifest_for, manifests, shipped_models
from selection.manifests.manifest import Manifest, ManifestError, ModelCard, Profile
from selection.manifests.manifest_file import load_manifest
from selection.manifests.nim_manifest import load_nim_manifest
from selection.measurements import (
    Measurement,
    MeasurementKey,
    load_measurements,
    measurement_key,
    store_measurement,
)
from selection.report import listing, listing_json
from selection.story import explain
from selection.verdict import Standing, Verdict

__all__ = [
    "Choice",
    "CosineBounds",
    "Facts",
    "FactsError",
    "GpuChoice",
    "Manifest",
    "ManifestError",
    "Measurement",
    "MeasurementKey",
    "ModelCard",
    "Profile",
    "Standing",
    "Verdict",
    "choose",
    "cosine_bounds",
    "explain",
    "explain_fleet",
    "is_mixed",
    "listing",
    "listing_json",
    "load_facts",
    "load_manifest",
    "load_measurements",
    "load_nim_manifest",
    "manifest_at",
    "manifest_for",
    "manifests",
    "measurement_key",
    "model_listing",
    "model_listing_json",
    "probe",
    "shipped_models",
    "store_measurement",
    "with_failure",
]
