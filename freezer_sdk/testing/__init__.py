"""Conformance suites and fault injection for plug-in authors; nothing here needs a test framework."""

from freezer_sdk.testing.compressor_suite import CompressorSuite
from freezer_sdk.testing.compressor_suite import run_suite as run_compressor_suite
from freezer_sdk.testing.faults import METHODS, Call, Fault, FaultyStorage, damage, delay, fail, kill, nothing
from freezer_sdk.testing.mode_suite import ModeSuite
from freezer_sdk.testing.snapshot_suite import SnapshotSuite
from freezer_sdk.testing.storage_suite import StorageSuite
from freezer_sdk.testing.storage_suite import run_suite as run_storage_suite
from freezer_sdk.testing.suite import Result, SuiteFailure

__all__ = [
    "METHODS",
    "Call",
    "CompressorSuite",
    "Fault",
    "FaultyStorage",
    "ModeSuite",
    "Result",
    "SnapshotSuite",
    "StorageSuite",
    "SuiteFailure",
    "damage",
    "delay",
    "fail",
    "kill",
    "nothing",
    "run_compressor_suite",
    "run_storage_suite",
]
