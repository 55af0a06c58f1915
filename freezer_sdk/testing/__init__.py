"""Conformance suites and fault injection for plug-in authors."""
