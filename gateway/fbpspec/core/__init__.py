"""Test suites, matchers and reports of fbp-spec. No I/O."""
